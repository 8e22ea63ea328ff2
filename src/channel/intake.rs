//! Where the events of an origin go: into the log, with what subscribers must be told.

use tokio::time::Instant;

use super::Channel;
use crate::config::{self, Notices};
use crate::log::{GAP_NOTICE, Repeats, Verdict, Writer};
use crate::sse::Event;

/// Where parsed events go.
#[derive(Debug)]
pub(super) struct Intake {
    channel: Channel,
    pub(super) writer: Writer,
    /// While the origin may be repeating what is in the log.
    pub(super) repeats: Option<Repeats>,
    /// Events in a batch are appended at this many bytes, so that a batch is a small part of the
    /// history.
    batch_bytes: usize,
    n_events: u64,
    notices: Notices,
}

/// Why subscribers may miss events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// The origin could not go on where it was.
    NotResumed,
    /// A reload has put another origin in its place.
    OtherSource,
}

const BATCH_BYTES: usize = 64 * 1024;

impl Intake {
    pub(super) fn new(channel: Channel, writer: Writer, settings: &config::Channel) -> Self {
        Self {
            channel,
            writer,
            repeats: None,
            batch_bytes: batch_bytes(settings),
            n_events: 0,
            notices: settings.notices,
        }
    }

    /// Goes by these settings from the next event on.
    pub(super) fn follow(&mut self, settings: &config::Channel) {
        self.batch_bytes = batch_bytes(settings);
        self.notices = settings.notices;
        self.writer.set_ids(settings.ids);
        self.writer.set_keying(settings.keying(), Instant::now());
    }

    /// Takes an event of the origin.
    pub(super) fn receive(&mut self, event: &Event<'_>, now: Instant) {
        if let Some(repeats) = &mut self.repeats {
            match self.writer.judge(repeats, event, now) {
                Verdict::Repeat => {
                    self.channel.counters().repeats.add(1);
                    return;
                }
                Verdict::Undecided => {}
                Verdict::Resumed => self.repeats = None,
                Verdict::Missed => {
                    self.repeats = None;
                    self.tell_gap(Missed::NotResumed, now);
                }
            }
        }
        self.writer.push(event);
        self.n_events += 1;
        if self.writer.pending_bytes() >= self.batch_bytes {
            self.writer.commit(now);
        }
    }

    /// Notes the origin's last event id, when all before it is committed.
    pub(super) fn note_last_event_id(&self, id: &str) {
        self.channel.shared.place.move_to(id);
    }

    /// **Every Loss Is Told**: events may have been missed, nobody knows how many.
    pub(super) fn tell_gap(&mut self, missed: Missed, now: Instant) {
        let is_told = self.notices != Notices::None;
        let (reason, message) = match missed {
            Missed::NotResumed => (
                "upstream-not-resumed",
                "the origin could not go on where it was: subscribers may miss events",
            ),
            Missed::OtherSource => (
                "upstream-changed",
                "another origin has taken over: subscribers may miss events",
            ),
        };
        tracing::warn!(channel = self.channel.name(), is_told, "{message}");
        self.channel.counters().gaps.add(1);
        if is_told {
            let data = format!(r#"{{"missed":"unknown","reason":"{reason}"}}"#);
            self.writer.push_notice(GAP_NOTICE, &data);
            self.writer.commit(now);
        }
    }

    /// Appends a notice for subscribers that want all of them.
    pub(super) fn tell_all(&mut self, event_type: &str, data: &str) {
        if self.notices == Notices::All {
            self.writer.push_notice(event_type, data);
            self.writer.commit(Instant::now());
        }
    }

    /// Appends what one drained read of `n_bytes` brought.
    pub(super) fn commit(&mut self, n_bytes: usize, now: Instant) {
        self.writer.commit(now);
        let counters = self.channel.counters();
        counters.upstream_bytes.add(n_bytes as u64);
        let n_events = std::mem::take(&mut self.n_events);
        if n_events > 0 {
            counters.events.add(n_events);
            counters.last_event_at.is_now();
        }
    }
}

fn batch_bytes(settings: &config::Channel) -> usize {
    BATCH_BYTES.min(settings.history.bytes / 4)
}
