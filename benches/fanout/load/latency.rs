//! The latencies of a window, and what is asked of them.

/// Nanoseconds of a unit: half the memory of nanoseconds, and enough for seven minutes.
const UNIT: u64 = 100;

/// How long events took, in units.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    samples: Vec<u32>,
}

impl Latencies {
    /// Adds one, in nanoseconds.
    pub(super) fn add(&mut self, nanoseconds: u64) {
        self.samples
            .push(u32::try_from(nanoseconds / UNIT).unwrap_or(u32::MAX));
    }

    /// The latency that a share of all does not exceed, in nanoseconds; 0 where there is none.
    pub(super) fn quantile(&mut self, share: f64) -> u64 {
        let Some(last) = self.samples.len().checked_sub(1) else {
            return 0;
        };
        let place = ((last as f64 * share).ceil() as usize).min(last);
        let (_, sample, _) = self.samples.select_nth_unstable(place);
        u64::from(*sample) * UNIT
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.samples.len() as u64
    }
}
