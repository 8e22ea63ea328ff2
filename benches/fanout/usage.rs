//! What a process has used: processor time and memory.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::clock;
use crate::clock::Deadline;

/// Processor time of a process, by thread, in nanoseconds.
///
/// By thread, because that is where the kernel keeps it exact (`schedstat`); the sum in `stat`
/// is in ticks of 10 ms and only used where there is no other.
#[derive(Debug)]
pub(crate) struct CpuTime {
    of_threads: HashMap<u32, u64>,
}

impl CpuTime {
    /// The time used up to now.
    pub(crate) fn of(process: u32) -> Self {
        let mut of_threads = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{process}/task")).expect("process is gone") {
            let entry = entry.unwrap();
            let thread = entry.file_name().to_string_lossy().parse().unwrap();
            // A thread may end between the listing and this line; its last part is lost.
            if let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) {
                of_threads.insert(thread, first_number(&text));
            }
        }
        if of_threads.values().all(|time| *time == 0) {
            of_threads = HashMap::from([(process, ticks(process))]);
        }
        Self { of_threads }
    }

    /// The time used between an earlier look and this one.
    pub(crate) fn since(&self, before: &Self) -> u64 {
        self.of_threads
            .iter()
            .map(|(thread, time)| {
                time.saturating_sub(before.of_threads.get(thread).copied().unwrap_or(0))
            })
            .sum()
    }
}

/// User and system time by `stat`, where the kernel keeps no `schedstat`.
fn ticks(process: u32) -> u64 {
    /// `USER_HZ`, which is 100 on every platform that we know of.
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The second field is the name in parentheses, which may hold blanks.
    let (_, fields) = text.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let user: u64 = fields[11].parse().unwrap();
    let system: u64 = fields[12].parse().unwrap();
    (user + system) * NANOSECONDS_PER_TICK
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(process: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"));
    let (text, field) = match rollup {
        Ok(text) => (text, "Rss:"),
        Err(_) => (
            fs::read_to_string(format!("/proc/{process}/status")).unwrap(),
            "VmRSS:",
        ),
    };
    kibibytes(&text, field) * 1024
}

/// Resident memory once it no longer moves.
pub(crate) fn settled_resident(process: u32) -> u64 {
    /// Looks in a row that must agree.
    const STABLE_LOOKS: u32 = 4;
    /// How far they may lie apart: a page table here, a timer there.
    const SLACK: u64 = 64 * 1024;
    let deadline = Deadline::after(Duration::from_secs(10));
    let mut level = resident(process);
    let mut looks = 0;
    while looks < STABLE_LOOKS && !deadline.is_over() {
        clock::pause(Duration::from_millis(200));
        let next = resident(process);
        looks = if next.abs_diff(level) <= SLACK {
            looks + 1
        } else {
            0
        };
        level = next;
    }
    level
}

/// Bytes in the kernel's slabs: where the sockets of the whole machine are.
pub(crate) fn kernel_slabs() -> u64 {
    kibibytes(&fs::read_to_string("/proc/meminfo").unwrap(), "Slab:") * 1024
}

/// The connections that a server at this port has accepted, and what the kernel holds for their send
/// sides: queued packets with all that belongs to them, by `ss` of iproute2. What the other ends hold,
/// on this machine too, is not in it.
pub(crate) fn send_side(port: u16) -> (u64, u64) {
    let output = Command::new("ss")
        .args(["--tcp", "--memory", "--numeric", "--no-header", "--oneline"])
        .args(["state", "established", &format!("( sport = :{port} )")])
        .output()
        .expect("this case needs the command ss (iproute2)");
    assert!(output.status.success(), "ss failed: {output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    // skmem:(r0,rb131072,t0,tb46080,f4096,w0,o0,bl0,d0)
    let queued = |line: &str| {
        let (_, memory) = line.split_once("skmem:(")?;
        let mut parts = memory.split(',');
        parts.find_map(|part| part.strip_prefix('w')?.parse::<u64>().ok())
    };
    let lines = text.lines().map(|line| queued(line).unwrap_or(0));
    lines.fold((0, 0), |(n, sum), bytes| (n + 1, sum + bytes))
}

/// The number of a line `Field:   123 kB`.
fn kibibytes(text: &str, field: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(field))
        .map_or(0, first_number)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}
