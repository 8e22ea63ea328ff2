//! What the origin is to send, and when each event of it is due.

use std::ops::Range;
use std::time::Duration;

use crate::clock::SECOND;

/// Events of one size for some channels of a group, the same number for each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The group.
    pub(crate) group: u32,
    /// The first of the channels.
    pub(crate) first_channel: u32,
    /// How many channels from there.
    pub(crate) n_channels: u32,
    /// Events of each channel.
    pub(crate) n_events: u64,
    /// Length of an event in bytes, without the framing of its chunk.
    pub(crate) size: usize,
    /// How fast.
    pub(crate) pace: Pace,
}

/// How fast a plan is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// All events of a channel in one write.
    AtOnce,
    /// So many a second on each channel, the channels spread evenly over time.
    PerSecond(f64),
}

impl Plan {
    /// Events of all channels.
    pub(super) fn n_all_events(&self) -> u64 {
        u64::from(self.n_channels) * self.n_events
    }

    /// The channels.
    pub(super) fn channels(&self) -> Range<u32> {
        self.first_channel..self.first_channel + self.n_channels
    }

    /// From the first event to the last.
    pub(super) fn duration(&self) -> Duration {
        Duration::from_nanos(self.due_after(self.n_all_events()))
    }

    /// The channel of the `index`th event.
    pub(super) fn channel_of(&self, index: u64) -> u32 {
        let offset = match self.pace {
            Pace::AtOnce => index / self.n_events,
            Pace::PerSecond(_) => index % u64::from(self.n_channels),
        };
        self.first_channel + u32::try_from(offset).unwrap()
    }

    /// When the `index`th event is due, in nanoseconds after the start.
    pub(super) fn due_after(&self, index: u64) -> u64 {
        match self.pace {
            Pace::AtOnce => 0,
            Pace::PerSecond(rate) => {
                let rate = rate * f64::from(self.n_channels);
                (index as f64 * SECOND as f64 / rate) as u64
            }
        }
    }
}

/// What became of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Played {
    /// The number of the first event of each channel.
    pub(crate) first_seq: u64,
    /// When the first event was written.
    pub(crate) first_sent_at: u64,
    /// Events that were due for a channel without a connection.
    pub(crate) n_unsent: u64,
}
