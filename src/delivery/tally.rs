//! What a shard counts of a channel while it works, and adds to the channel's counters once a turn.
//!
//! Nothing here is atomic, and a clock is read once per turn: the latency of what a turn has
//! delivered is that at its end, which is at most a turn (a millisecond) too long, and never too
//! short.

use tokio::time::Instant;

use crate::channel::Counters;
use crate::count::LatencyBatch;

/// What was delivered since it was added to the counters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Bytes that sockets took, of everything that is written to subscribers.
    n_bytes: u64,
    /// Events to subscribers that had not caught up: their latency is not the gateway's.
    n_replayed: u64,
    /// Other events, by when they were appended. Neighbours with the same time are one.
    live: Vec<(Instant, u64)>,
    /// Those whose latency is known.
    settled: LatencyBatch,
}

/// Entries of `live` after which their latency is settled at once, so that stragglers with many
/// small batches do not gather any number of them.
const MAX_LIVE: usize = 64;

impl Tally {
    /// Notes bytes that a socket took.
    pub(super) fn note_bytes(&mut self, n: u64) {
        self.n_bytes += n;
    }

    /// Notes events that a subscriber got that was not at the head before.
    pub(super) fn note_replayed(&mut self, n: u64) {
        self.n_replayed += n;
    }

    /// Notes events that were appended at this time.
    pub(super) fn note_live(&mut self, appended_at: Instant, n: u64) {
        match self.live.last_mut() {
            Some((at, sum)) if *at == appended_at => *sum += n,
            _ => {
                if self.live.len() >= MAX_LIVE {
                    self.settle(Instant::now());
                }
                self.live.push((appended_at, n));
            }
        }
    }

    /// Adds all to the counters, at the end of a turn.
    pub(super) fn flush(&mut self, counters: &Counters, now: Instant) {
        self.settle(now);
        let settled = std::mem::take(&mut self.settled);
        let n_live = settled.n_events();
        if n_live > 0 {
            counters.latency.add(&settled);
        }
        let n_replayed = std::mem::take(&mut self.n_replayed);
        for (counter, n) in [
            (&counters.delivered_bytes, std::mem::take(&mut self.n_bytes)),
            (&counters.delivered_events, n_live + n_replayed),
            (&counters.replayed_events, n_replayed),
        ] {
            if n > 0 {
                counter.add(n);
            }
        }
    }

    fn settle(&mut self, now: Instant) {
        for (appended_at, n) in self.live.drain(..) {
            self.settled
                .note(now.saturating_duration_since(appended_at), n);
        }
    }
}
