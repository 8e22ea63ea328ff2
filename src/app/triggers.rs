//! What makes a gateway look at its file again: SIGHUP, and changes of the files.
//!
//! Directories are watched, not files: an editor puts another file in the place of the old one, and
//! Kubernetes another link. What happens to one of the files, or to any name in their directories,
//! is a reason to look; looking is cheap, and what has not changed is not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Why a gateway looks at its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// A file may have changed.
    Files,
    /// Somebody has asked for it.
    Signal,
}

/// What makes a gateway look at its file again.
#[derive(Debug)]
pub(super) struct Triggers {
    hangup: Signal,
    files: Files,
}

/// The files that are watched.
#[derive(Debug)]
struct Files {
    /// `None`: the system lets nothing be watched, which the log says.
    watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
    names: Arc<Mutex<Names>>,
    /// The directories that are watched, without links in their paths. Their inodes are: a directory
    /// that takes the place of another must be watched anew.
    directories: BTreeMap<PathBuf, Inode>,
}

/// Tells a directory from another of the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

/// Whose contents matter.
#[derive(Debug, Default)]
struct Names {
    files: BTreeSet<PathBuf>,
}

/// How long nothing must happen before a change is looked at: an editor, or a program that writes
/// many files, is through by then.
const SETTLED: Duration = Duration::from_millis(150);

/// A change is looked at after this even if more happens all the time.
const LONGEST_SETTLING: Duration = Duration::from_secs(2);

/// Links on the way to a file that are followed; the kernel follows no more either (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

impl Triggers {
    /// Watches for SIGHUP, and nothing else yet.
    ///
    /// # Errors
    ///
    /// If signals can't be watched.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            files: Files::new(),
        })
    }

    /// Watches these files, and any file in these directories, and nothing else.
    pub(super) fn watch(&mut self, files: &[PathBuf], directories: &[PathBuf]) {
        self.files.watch(files, directories);
    }

    /// The next reason to look. A burst of changes is one reason.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, but for a change that has not settled: it is forgotten.
    pub(super) async fn next(&mut self) -> Trigger {
        tokio::select! {
            _ = self.hangup.recv() => return Trigger::Signal,
            () = self.files.changed.notified() => {}
        }
        let latest = Instant::now() + LONGEST_SETTLING;
        loop {
            let until = latest.min(Instant::now() + SETTLED);
            tokio::select! {
                _ = self.hangup.recv() => return Trigger::Signal,
                more = timeout_at(until, self.files.changed.notified()) => {
                    if more.is_err() {
                        return Trigger::Files;
                    }
                }
            }
        }
    }
}

impl Files {
    fn new() -> Self {
        let changed = Arc::<Notify>::default();
        let names = Arc::<Mutex<Names>>::default();
        let (tell, known) = (Arc::clone(&changed), Arc::clone(&names));
        let watcher =
            notify::recommended_watcher(move |event: notify::Result<Event>| match event {
                Ok(event)
                    if matters(
                        &event,
                        &known.lock().unwrap_or_else(PoisonError::into_inner),
                    ) =>
                {
                    tell.notify_one();
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "watching files failed");
                    // Something may have been missed.
                    tell.notify_one();
                }
            });
        let watcher = watcher.inspect_err(complain).ok();
        Self {
            watcher,
            changed,
            names,
            directories: BTreeMap::new(),
        }
    }

    fn watch(&mut self, files: &[PathBuf], directories: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut wanted: BTreeSet<PathBuf> =
            directories.iter().filter_map(|one| real(one)).collect();
        let mut names = BTreeSet::new();
        for path in files.iter().chain(directories) {
            for step in steps(path) {
                let Some((directory, name)) = step.parent().zip(step.file_name()) else {
                    continue;
                };
                if let Some(directory) = real(directory) {
                    names.insert(directory.join(name));
                    wanted.insert(directory);
                }
            }
        }
        self.names
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .files = names;
        let wanted: BTreeMap<PathBuf, Inode> = wanted
            .into_iter()
            .filter_map(|directory| {
                let inode = inode(&directory)?;
                Some((directory, inode))
            })
            .collect();
        self.directories.retain(|directory, inode| {
            let is_kept = wanted.get(directory) == Some(inode);
            // The directory itself may be gone.
            if !is_kept && let Err(error) = watcher.unwatch(directory) {
                let directory = directory.display();
                tracing::debug!(%directory, %error, "was not watched any more");
            }
            is_kept
        });
        for (directory, inode) in wanted {
            if self.directories.contains_key(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.directories.insert(directory, inode);
                    // What has changed since the file was read, nobody has told.
                    self.changed.notify_one();
                }
                Err(error) => complain(&error),
            }
        }
    }
}

/// Whether something may have changed that is watched.
fn matters(event: &Event, names: &Names) -> bool {
    let is_known = || event.paths.iter().any(|path| names.files.contains(path));
    match event.kind {
        // Names come and go: it may be a link on the way to a file.
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
            true
        }
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(_) => {
            is_known() || event.paths.iter().any(|path| is_included(path))
        }
        EventKind::Access(_) => false,
        // Among them: events were lost.
        EventKind::Any | EventKind::Other => true,
    }
}

/// Whether a file may be one that another includes.
fn is_included(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

/// The links on the way that a path leads, of its directories too, and where it ends.
fn steps(path: &Path) -> Vec<PathBuf> {
    let mut steps = Vec::new();
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        let mut ancestors: Vec<&Path> = at.ancestors().collect();
        ancestors.reverse();
        let followed = ancestors.into_iter().find_map(|link| {
            let target = std::fs::read_link(link).ok()?;
            let target = link.parent()?.join(target);
            // The link is a part of the path.
            let rest = at.strip_prefix(link).ok()?;
            let next = if rest.as_os_str().is_empty() {
                target
            } else {
                target.join(rest)
            };
            Some((link.to_owned(), next))
        });
        let Some((link, next)) = followed else {
            break;
        };
        steps.push(link);
        at = next;
    }
    steps.push(at);
    steps
}

/// The path without links; `None`: it is not there.
fn real(directory: &Path) -> Option<PathBuf> {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    directory.canonicalize().ok()
}

fn inode(directory: &Path) -> Option<Inode> {
    let about = directory.metadata().ok()?;
    Some(Inode {
        device: about.dev(),
        number: about.ino(),
    })
}

fn complain(error: &notify::Error) {
    tracing::warn!(
        %error,
        advice = "send SIGHUP after a change; if there are too many watches, raise fs.inotify.max_user_watches",
        "files can't be watched"
    );
}
