//! The monotonic clock, in nanoseconds.
//!
//! One clock for every process of the bench: `CLOCK_MONOTONIC` counts from the same moment in all of
//! them, so a time stamped by the origin can be subtracted from one taken by a load client.

use std::thread;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::clock_gettime;

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The time now.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap() * SECOND + u64::try_from(time.tv_nsec).unwrap()
}

/// Lets time pass between two looks at a level that nobody announces.
pub(crate) fn pause(time: Duration) {
    let deadline = Deadline::after(time);
    while !deadline.is_over() {
        thread::park_timeout(deadline.remaining());
    }
}

/// The end of a wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: u64,
}

impl Deadline {
    /// A deadline that far from now.
    pub(crate) fn after(time: Duration) -> Self {
        Self {
            at: now() + u64::try_from(time.as_nanos()).unwrap(),
        }
    }

    /// How long is left; zero when it is over.
    pub(crate) fn remaining(self) -> Duration {
        Duration::from_nanos(self.at.saturating_sub(now()))
    }

    /// Whether the time has come.
    pub(crate) fn is_over(self) -> bool {
        now() >= self.at
    }
}
