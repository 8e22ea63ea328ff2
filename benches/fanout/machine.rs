//! The machine: its processors, its limits, its name.
//!
//! Two processors are used, whatever there is: one for the server under test and nothing else, one
//! for everything that drives it. On a machine with one they are the same, and the numbers mean little.

use std::fs;
use std::process::Command;
use std::thread;

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use rustix::thread::CpuSet;
use rustix::thread::sched_getaffinity;
use rustix::thread::sched_setaffinity;

/// Which processor does what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// For the server under test alone.
    pub(crate) server: usize,
    /// For the origin, the load clients and the bench itself.
    pub(crate) load: usize,
}

impl Layout {
    /// The first two processors that this process may use.
    pub(crate) fn of_this_machine() -> Self {
        let allowed = sched_getaffinity(None).unwrap();
        let mut processors = (0..CpuSet::MAX_CPU).filter(|n| allowed.is_set(*n));
        let server = processors.next().unwrap();
        Self {
            server,
            load: processors.next().unwrap_or(server),
        }
    }
}

/// Keeps the calling thread, and what it starts from now on, on one processor.
pub(crate) fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).unwrap();
}

/// Lifts the soft limit of open descriptors to the hard one and tells it.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

/// One line that says on what the numbers were made.
pub(crate) fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores ({model}), Linux {}, commit {}",
        kernel.trim(),
        commit()
    )
}

/// The commit of the working tree, with a mark if files differ from it.
fn commit() -> String {
    Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output()
        .ok() // no git, no name
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}
