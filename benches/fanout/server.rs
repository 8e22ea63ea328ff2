//! A server under test, alone on its processor: the gateway or the bare loop.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum as _;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tempfile::TempDir;

use crate::bare::Writes;
use crate::clock;
use crate::clock::Deadline;
use crate::process;
use crate::process::Output;
use crate::process::Place;
use crate::process::Process;
use crate::tls;

/// What a server is started with.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Which one.
    pub(crate) kind: Kind,
    /// Where the origin is.
    pub(crate) origin: SocketAddr,
    /// The group of the origin that it reads.
    pub(crate) group: u32,
    /// How many channels the group has.
    pub(crate) n_channels: u32,
}

/// The two servers, and how they are set up.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// The bare loop.
    Bare {
        /// What one write carries.
        writes: Writes,
        /// The send buffer of each client's socket, if not the kernel's choice.
        send_buffer: Option<usize>,
    },
    /// The gateway.
    Gateway(Setup),
}

/// How the gateway is set up.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Its binary.
    pub(crate) binary: PathBuf,
    /// The `coalesce` of its channels, if not the default.
    pub(crate) coalesce: Option<&'static str>,
    /// What its channels keep, and what becomes of slow clients.
    pub(crate) keeps: &'static str,
    /// How it is spoken to.
    pub(crate) speaks: Speaks,
    /// What its channels are in its configuration.
    pub(crate) channels: Channels,
    /// Where that goes which is for no channel, if anywhere.
    pub(crate) proxies: Option<SocketAddr>,
}

/// How the channels of a group stand in the gateway's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels {
    /// A table for each.
    Literal,
    /// One, of which they are the instances.
    Template,
    /// The same, and they stay for as long as the bench runs, without an upstream: where an origin fails,
    /// it is given up.
    IdleTemplate,
}

/// In the clear, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Clear,
    Tls,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
    /// The gateway's configuration, certificate and log.
    files: TempDir,
    certificate: Option<PathBuf>,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub(crate) fn start(processor: usize, task: &Task) -> Self {
        let address = process::free_address();
        let place = Place {
            processor,
            nicer_by: 0,
        };
        let files = TempDir::with_prefix("ssecast-bench-").unwrap();
        let log = log_of(&files);
        let pair = task
            .kind
            .speaks_tls()
            .then(|| tls::Files::write_to(files.path()));
        let mut process = match &task.kind {
            Kind::Bare {
                writes,
                send_buffer,
            } => {
                let writes = writes.to_possible_value().unwrap();
                let mut arguments = vec![
                    "bare".to_owned(),
                    format!("--listen={address}"),
                    format!("--origin={}", task.origin),
                    format!("--group={}", task.group),
                    format!("--channels={}", task.n_channels),
                    format!("--writes={}", writes.get_name()),
                ];
                arguments.extend(send_buffer.map(|size| format!("--send-buffer={size}")));
                Process::start_role(place, &arguments)
            }
            Kind::Gateway(setup) => {
                let path = files.path().join(CONFIGURATION);
                let text = configuration(task, address, setup, pair.as_ref());
                fs::write(&path, text).unwrap();
                let program = [
                    setup.binary.clone().into_os_string(),
                    "serve".into(),
                    "--config".into(),
                    path.into_os_string(),
                ];
                Process::start(place, &program, Output::Log(&log))
            }
        };
        if let Err(reason) = process::wait_until_listening(&mut process, address) {
            panic!(
                "{} did not start: {reason}{}",
                task.kind.name(),
                last_lines(&log)
            );
        }
        Self {
            process,
            address,
            files,
            certificate: pair.map(|pair| pair.certificate),
        }
    }

    /// Changes one channel of the gateway (other bounds of its reconnection time), and asks for it;
    /// returns how long the gateway took, in milliseconds, by its own clock.
    pub(crate) fn reload(&self, change: u32) -> f64 {
        let path = self.files.path().join(CONFIGURATION);
        let text = fs::read_to_string(&path).unwrap();
        let base = text.split(CHANGE).next().unwrap();
        // The last channel is the one that changes: its table is the end of the file.
        let text = format!("{base}{CHANGE}{}s\" }}\n", 10 + change % 50);
        let new = self.files.path().join("new");
        fs::write(&new, text).unwrap();
        let n_before = self.reload_times().len();
        fs::rename(&new, &path).unwrap();
        let pid = Pid::from_raw(self.id().cast_signed()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        let deadline = Deadline::after(Duration::from_secs(10));
        loop {
            if let Some(time) = self.reload_times().get(n_before) {
                return time * 1e3;
            }
            assert!(!deadline.is_over(), "no reload{}", self.last_lines());
            clock::pause(Duration::from_millis(1));
        }
    }

    /// How long each reload took that has changed something, in seconds, as the log says.
    fn reload_times(&self) -> Vec<f64> {
        let log = fs::read_to_string(log_of(&self.files)).unwrap();
        let lines = log.lines().filter(|line| line.contains("reload applied"));
        let times = lines.filter_map(|line| line.split_once("reload_seconds=")?.1.parse().ok());
        times.collect()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its clients must trust, if it speaks TLS.
    pub(crate) fn certificate(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    /// The end of its log, for whom something went wrong with it.
    pub(crate) fn last_lines(&self) -> String {
        last_lines(&log_of(&self.files))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Kind {
    /// The bare loop at its best.
    pub(crate) const BARE: Self = Self::Bare {
        writes: Writes::OfAllThatIsDue,
        send_buffer: None,
    };

    /// Its name in tables and messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Bare { .. } => "the bare loop",
            Self::Gateway(_) => "the gateway",
        }
    }

    fn speaks_tls(&self) -> bool {
        matches!(self, Self::Gateway(setup) if setup.speaks == Speaks::Tls)
    }

    /// Whether it connects to the origin before its first client comes.
    pub(crate) fn connects_eagerly(&self) -> bool {
        match self {
            Self::Bare { .. } => true,
            Self::Gateway(setup) => setup.channels == Channels::Literal,
        }
    }

    /// The group of the origin that it reads: two servers that are measured in turn have two.
    pub(crate) fn group(&self) -> u32 {
        match self {
            Self::Bare { .. } => 1,
            Self::Gateway(setup) => match (setup.speaks, setup.channels) {
                (Speaks::Clear, Channels::Literal) => 0,
                (Speaks::Tls, _) => 2,
                (Speaks::Clear, _) => 3,
            },
        }
    }
}

/// The file of the gateway's configuration.
const CONFIGURATION: &str = "bench.toml";

/// A history and a lag limit that only a rate beyond what the gateway sustains can exceed.
pub(crate) const KEEPS_ALL: &str = r#"
history = { events = 100000, bytes = "16MiB", age = "10m" }
lag = { limit = "16MiB", then = "disconnect" }
"#;

/// What begins the line that a reload changes.
const CHANGE: &str = "retry = { min = \"1s\", max = \"";

/// The gateway's configuration.
///
/// One shard, as the bare loop has one thread. No heartbeats, so that every byte is an event's.
fn configuration(
    task: &Task,
    address: SocketAddr,
    setup: &Setup,
    pair: Option<&tls::Files>,
) -> String {
    let tls = pair.map_or_else(String::new, |pair| {
        let tls::Files { certificate, key } = pair;
        let [certificate, key] = [certificate, key].map(|file| file.display());
        format!("tls = {{ certificate = \"{certificate}\", key = \"{key}\" }}")
    });
    let Setup {
        coalesce,
        keeps,
        channels,
        ..
    } = setup;
    let mut text = format!(
        r#"
[server]
threads = 1
drain = "0s"

[listen.bench]
address = "{address}"
{tls}

[admin]
address = "off"

[defaults]
heartbeat = "off"
{keeps}
ids = "fill"
"#
    );
    if let Some(coalesce) = coalesce {
        writeln!(text, "coalesce = \"{coalesce}\"").unwrap();
    }
    let Task { origin, group, .. } = task;
    if let Some(upstream) = setup.proxies {
        write!(
            text,
            "\n[proxies.rest]\npath = \"/{{*rest}}\"\nupstream = \"http://{upstream}\"\n\
             max_idle_connections = 64\n"
        )
        .unwrap();
    }
    if *channels != Channels::Literal {
        write!(
            text,
            "\n[channels.c]\npath = \"/c{{number}}\"\n\
             upstream = \"http://{origin}/g{group}/c{{number}}\"\nmax_instances = 20000\n"
        )
        .unwrap();
        if *channels == Channels::IdleTemplate {
            text.push_str("linger = \"10h\"\non_status = { 5xx = \"give-up\" }\n");
        }
        return text;
    }
    for number in 0..task.n_channels {
        write!(
            text,
            "\n[channels.c{number}]\npath = \"/c{number}\"\n\
             upstream = \"http://{origin}/g{group}/c{number}\"\n"
        )
        .unwrap();
    }
    text
}

fn log_of(files: &TempDir) -> PathBuf {
    files.path().join("log")
}

/// The end of a log; nothing of an empty one.
fn last_lines(log: &Path) -> String {
    // The bare loop has none, and speaks for itself.
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(10)..];
    if tail.is_empty() {
        return String::new();
    }
    format!("\nThe end of its log:\n{}", tail.join("\n"))
}
