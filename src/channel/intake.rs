//! Where the events of an origin go: into the log, with what subscribers must be told.

use tokio::time::Instant;

use super::{Channel, Health, UPSTREAM_NOTICE};
use crate::config::{self, Notices};
use crate::log::{GAP_NOTICE, Repeats, Verdict, Writer};
use crate::sse::Event;

/// Where parsed events go.
#[derive(Debug)]
pub(super) struct Intake {
    channel: Channel,
    pub(super) writer: Writer,
    /// While the origin may be repeating what is in the log.
    pub(super) repeats: Option<Box<Repeats>>,
    /// Events in a batch are appended at this many bytes, so that a batch is a small part of the
    /// history.
    batch_bytes: usize,
    n_events: u64,
    notices: Notices,
    /// What subscribers were told last of the upstream's health.
    told: Option<Health>,
    /// Whether the stream is open after a failure and has not shown yet that it is well.
    is_on_probation: bool,
}

/// Why subscribers may miss events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// The origin could not go on where it was.
    NotResumed,
    /// Subscribers were there before its first stream was.
    OpenedLate,
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
            told: None,
            is_on_probation: false,
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
            Missed::OpenedLate => (
                "upstream-opened-late",
                "the first stream of the origin comes after subscribers: they may miss events",
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

    /// Tells subscribers that want to know it what the upstream is, if that has changed. The
    /// attempts of an outage are not told one by one: they would push the events out of the history.
    pub(super) fn tell_health(&mut self) {
        let status = self.channel.status();
        let health = status.health();
        if self.told.replace(health) != Some(health) && self.notices == Notices::All {
            self.writer.push_notice(UPSTREAM_NOTICE, &status.notice());
            self.writer.commit(Instant::now());
        }
    }

    /// Notes that a stream has opened. After a failure it has yet to show that it is well: an origin
    /// that answers and closes at once is down all the time.
    pub(super) fn begin_stream(&mut self) {
        self.is_on_probation = self.channel.status().health() == Health::Down;
        self.tell_health();
    }

    pub(super) fn is_on_probation(&self) -> bool {
        self.is_on_probation
    }

    /// Notes that the stream is well: it has brought something, or has stayed.
    pub(super) fn note_life(&mut self) {
        if std::mem::take(&mut self.is_on_probation) {
            self.channel.recover();
            self.tell_health();
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
