//! What the system knows of the process.

use procfs::process::Process;

/// A look at the process. What the system does not tell is missing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    pub(super) open_descriptors: Option<u64>,
    pub(super) max_descriptors: Option<u64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
}

impl Look {
    pub(super) fn take() -> Self {
        let limits = rlimit::Resource::NOFILE.get();
        let max_descriptors = limits.ok().map(|(soft, _)| soft);
        let Ok(process) = Process::myself() else {
            return Self {
                max_descriptors,
                ..Self::default()
            };
        };
        let stat = process.stat().ok();
        Self {
            // The kernel's own count since Linux 6.2; a list of them before.
            open_descriptors: process.fd_count().ok().map(|n| n as u64),
            max_descriptors,
            resident_bytes: stat.as_ref().map(|stat| stat.rss * procfs::page_size()),
            virtual_bytes: stat.as_ref().map(|stat| stat.vsize),
            cpu_seconds: stat.map(|stat| seconds(stat.utime + stat.stime)),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a number for people: no process has that many ticks"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second().max(1) as f64
}
