//! How much the log is told of failures: some of each second, and how many there were besides. A backend
//! that is away fails every request, and a log that tells each of them tells nobody anything.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What of failures is told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the present period began.
    since: Option<Instant>,
    n_told: u32,
    n_withheld: u64,
}

/// Failures that are told of each proxy in a period.
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

impl Telling {
    /// Whether a failure is told; and if it is, how many were not since the last that was.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now - since >= PERIOD) {
            state.since = Some(now);
            state.n_told = 0;
        }
        if state.n_told >= MOST {
            state.n_withheld += 1;
            return None;
        }
        state.n_told += 1;
        Some(std::mem::take(&mut state.n_withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_summed_up() {
        let telling = Telling::default();
        let now = Instant::now();
        let told = (0..1000).filter_map(|_| telling.admit(now));
        assert_eq!(told.collect::<Vec<_>>(), [0; MOST as usize]);
        assert_eq!(telling.admit(now + PERIOD), Some(990));
        assert_eq!(telling.admit(now + PERIOD), Some(0));
    }
}
