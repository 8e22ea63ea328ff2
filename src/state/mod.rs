//! The state directory: what a process leaves to its successor, so that a restart is no loss.
//!
//! The file is read once, at the start, and is gone then; a new one is written as the last thing of a
//! stop. So it is never older than the process before, and a process that crashes leaves none
//! (docs/decisions/0016-state-for-the-successor.md).
//!
//! Nothing here keeps a gateway from starting: a file that can't be used is put aside, and told.

mod format;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

#[cfg(any(test, fuzzing))]
pub use self::format::fuzz_state;
use self::format::{Encoder, Unusable, decode, parse};
use crate::channel::{Channel, Heirlooms, Legacy, rules_of};
use crate::config::{self, Key};
use crate::memory::{Budget, Held, WhatFor};

/// A directory that belongs to this process, for as long as it lives.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Locked, so that of two processes with one directory only one uses it.
    _lock: File,
}

/// What the predecessor left, by the channel's name.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Since it was written.
    age: Duration,
    file: Vec<u8>,
    records: HashMap<String, Range<usize>>,
    /// Those of instances on demand, by the channel's name and what its keys are made of.
    instances: HashMap<(String, u32), HashMap<Key, Range<usize>>>,
}

/// What the instances of one channel left.
struct Estate {
    age: Duration,
    records: HashMap<Key, Vec<u8>>,
    /// Invariant: the sum of the lengths of the records.
    n_bytes: usize,
    /// Counts them.
    held: Held,
}

/// Histories that are written, together: a stop must not take long. If they are larger, each channel
/// gets a fair share, of its newest events.
const MAX_HISTORY_BYTES: usize = 256 * 1024 * 1024;

/// A file that is larger is not read: what is written besides the histories is far less than they.
const MAX_FILE_BYTES: u64 = 4 * MAX_HISTORY_BYTES as u64;

const FILE: &str = "state";
/// Until it is complete.
const NEW_FILE: &str = "state.new";
/// A file that could not be used, for who wants to know why.
const REFUSED_FILE: &str = "state.refused";
const LOCK_FILE: &str = "lock";

/// Of nobody else's interest: events may be private.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

impl StateDirectory {
    /// Opens a directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// If it can't be used, or another process uses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE).create(path)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path.join(LOCK_FILE))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::Error(error) => error,
            fs::TryLockError::WouldBlock => io::Error::other("another process uses it"),
        })?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Takes what the predecessor left, and makes sure that nobody takes it again: a later process
    /// that is not the next would not know what happened in between.
    pub fn take(&self) -> Inheritance {
        let file = self.path.join(FILE);
        let read = match read(&file) {
            Ok(None) => return Inheritance::default(),
            Ok(Some(bytes)) => inherit(bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let file = file.display();
        let error = match read {
            Ok(inheritance) => match self.remove(FILE) {
                Ok(()) => return inheritance,
                Err(error) => format!("it can't be removed: {error}"),
            },
            Err(error) => error,
        };
        tracing::warn!(
            %file,
            error,
            advice = "clients that come back are told that their history is incomplete",
            "the state of the process before is not used"
        );
        if let Err(error) = fs::rename(self.path.join(FILE), self.path.join(REFUSED_FILE)) {
            tracing::warn!(%file, %error, "it could not be put aside");
        }
        Inheritance::default()
    }

    /// Leaves what the channels retain. They are at their end.
    ///
    /// # Errors
    ///
    /// If it can't be written; nothing is left then.
    pub fn leave<'a>(&self, channels: impl Iterator<Item = &'a Channel>) -> io::Result<()> {
        let channels: Vec<&Channel> = channels.collect();
        let left = self.write(&channels).and_then(|()| {
            fs::rename(self.path.join(NEW_FILE), self.path.join(FILE))?;
            self.sync()
        });
        if left.is_err()
            && let Err(error) = self.remove(NEW_FILE)
        {
            tracing::debug!(%error, "an incomplete file is left");
        }
        left
    }

    fn write(&self, channels: &[&Channel]) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(self.path.join(NEW_FILE))?;
        let sizes = channels.iter().map(|one| one.log().size().held_bytes);
        let share = fair_share(sizes.collect(), MAX_HISTORY_BYTES);
        let now = Instant::now();
        let out = BufWriter::new(file);
        let mut encoder = Encoder::begin(out, SystemTime::now(), channels.len())?;
        for channel in channels {
            channel.leave(share, now, |legacy| encoder.push_channel(legacy))?;
        }
        let mut out = encoder.finish();
        out.flush()?;
        out.get_ref().sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))?;
        self.sync()
    }

    /// Makes names that were given or taken last through a power failure.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Inheritance {
    /// What the instances of a channel left, if its keys mean the same; `None`: nothing. It counts to
    /// `budget`.
    pub fn of_instances(
        &self,
        settings: &config::Channel,
        budget: &Budget,
    ) -> Option<Box<dyn Heirlooms>> {
        let place = (settings.name.clone(), rules_of(settings));
        let records = self.instances.get(&place)?.iter();
        let records: HashMap<Key, Vec<u8>> = records
            .filter_map(|(key, range)| {
                let record = self.file.get(range.clone())?;
                Some((key.clone(), record.to_vec()))
            })
            .collect();
        let n_bytes = records.values().map(Vec::len).sum();
        Some(Box::new(Estate {
            age: self.age,
            records,
            n_bytes,
            held: budget.hold(WhatFor::Events, n_bytes),
        }))
    }

    /// What a channel left, and how long ago.
    pub fn of(&self, name: &str) -> Option<(Legacy<'_>, Duration)> {
        // It could be read when it was checked.
        let record = self.file.get(self.records.get(name)?.clone())?;
        let legacy = parse(record).ok()?;
        Some((legacy, self.age))
    }
}

impl Heirlooms for Estate {
    fn take(&mut self, key: &Key, give: &mut dyn FnMut(&Legacy<'_>, Duration)) {
        let Some(record) = self.records.remove(key) else {
            return;
        };
        // It could be read when it was checked.
        if let Ok(legacy) = parse(&record) {
            give(&legacy, self.age);
        }
        self.n_bytes -= record.len();
        self.held.resize(self.n_bytes);
    }
}

/// Reads a file; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    // What is no file may never end, or never begin.
    if !about.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than any that we write"));
    }
    let mut bytes = Vec::new();
    let limited = File::open(path)?.take(MAX_FILE_BYTES);
    io::BufReader::new(limited).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn inherit(file: Vec<u8>) -> Result<Inheritance, Unusable> {
    let contents = decode(&file)?;
    // A clock that was set back says nothing.
    let age = contents.written_at.elapsed().unwrap_or_default();
    let n_events: usize = contents
        .channels
        .iter()
        .map(|(_, one)| one.n_events())
        .sum();
    tracing::info!(
        channels = contents.channels.len(),
        events = n_events,
        ?age,
        "going on from the state of the process before"
    );
    let mut records = HashMap::new();
    let mut instances: HashMap<(String, u32), HashMap<Key, Range<usize>>> = HashMap::new();
    for (range, legacy) in contents.channels {
        let name = legacy.name.to_owned();
        match legacy.key {
            Some(key) => {
                instances
                    .entry((name, key.rules()))
                    .or_default()
                    .insert(key.to_key(), range);
            }
            None => {
                records.insert(name, range);
            }
        }
    }
    Ok(Inheritance {
        age,
        file,
        records,
        instances,
    })
}

/// How much of `total` each may have at most, so that all together have no more than that, and none
/// has less than another unless it wants less.
fn fair_share(mut wanted: Vec<usize>, total: usize) -> usize {
    wanted.sort_unstable();
    let mut left = total;
    let mut n_left = wanted.len();
    for one in wanted {
        let share = left / n_left.max(1);
        if one > share {
            return share;
        }
        left -= one;
        n_left -= 1;
    }
    // All have what they want.
    total
}
