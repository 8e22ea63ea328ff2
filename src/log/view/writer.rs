//! Writes the log of a view: what its sources have that belongs to it, merged in the order in which it
//! came.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cursor::Cursor;
use super::places::Place;
use super::tap::{Next, Tap};
use super::{Selection, Tagging};
use crate::config::Notices;
use crate::log::batch::{Batch, Position};
use crate::log::forgotten::Kind;
use crate::log::id::{Epoch, Seq};
use crate::log::writer::Writer;
use crate::log::{Ending, Log};
use crate::sse;

/// Reads the sources of a view and appends to its log. **One Writer**, also here.
#[derive(Debug)]
pub struct ViewWriter {
    pub(super) writer: Writer,
    pub(super) taps: Vec<Tap>,
    pub(super) tagging: Tagging,
    pub(super) notices: Notices,
    /// Entries that were encoded and not appended.
    pub(super) places: Vec<Place>,
    /// When the newest of them came; later than that of every batch before.
    pub(super) newest: Instant,
    pub(super) is_over: bool,
    /// How often a source was faster, since somebody asked.
    pub(super) n_lost: u64,
    /// Kept for its capacity.
    pub(super) block: Vec<u8>,
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All that the sources have is read.
    Done,
    /// There is more, but others want their turn.
    More,
}

/// Where entries are from that are given on: their source, and its epoch.
#[derive(Clone, Copy)]
struct Origin {
    source: usize,
    epoch: Epoch,
}

/// Bytes of the sources that are read at once.
const TURN_BYTES: usize = 256 * 1024;

/// Bytes of a batch.
const BATCH_BYTES: usize = 64 * 1024;

/// What came within this time may be one batch.
const BATCH_TIME: Duration = Duration::from_millis(10);

impl ViewWriter {
    /// Appends what is new in the sources, or some of it.
    pub fn advance(&mut self) -> Progress {
        for tap in &mut self.taps {
            tap.pull();
        }
        let mut n_bytes = 0;
        while let Some((source, at)) = self.oldest() {
            if self.writer.pending_bytes() >= BATCH_BYTES || at > self.newest + BATCH_TIME {
                self.commit();
            }
            self.newest = self.newest.max(at);
            match self.taps.get_mut(source).and_then(Tap::next) {
                Some(Next::Entries(batch, from)) => {
                    n_bytes += batch.len();
                    self.read(source, &batch, from);
                }
                Some(Next::Lost) => self.tell_lost(source),
                None => break,
            }
            if n_bytes >= TURN_BYTES {
                self.commit();
                return Progress::More;
            }
        }
        self.commit();
        self.follow_ends();
        Progress::Done
    }

    /// How often a source was faster than the view, so that events are missing, since the last call.
    pub fn take_n_lost(&mut self) -> u64 {
        std::mem::take(&mut self.n_lost)
    }

    /// Follows changed settings.
    pub fn follow(&mut self, notices: Notices, max_pending_bytes: usize) {
        self.notices = notices;
        for tap in &self.taps {
            tap.set_max_pending_bytes(max_pending_bytes);
        }
    }

    /// The source whose next entries came first.
    fn oldest(&mut self) -> Option<(usize, Instant)> {
        let oldest = self.taps.iter_mut().enumerate();
        let oldest = oldest.filter_map(|(source, tap)| Some((source, tap.oldest()?)));
        oldest.min_by_key(|(_, at)| *at)
    }

    fn read(&mut self, source: usize, batch: &Arc<Batch>, from: Position) {
        let Some(tap) = self.taps.get(source) else {
            return;
        };
        // A batch is of one epoch.
        let epoch = tap.log.epoch_of(tap.read.next());
        for (block, end) in batch.payloads_from(from) {
            self.take(Origin { source, epoch }, block, end);
        }
    }

    /// Takes an entry of a source, if it belongs to the view.
    fn take(&mut self, origin: Origin, block: &[u8], end: Position) {
        let n_sources = self.taps.len();
        let Some(tap) = self.taps.get_mut(origin.source) else {
            return;
        };
        let seq = tap.note_read(end);
        tap.mark.move_to(origin.epoch, seq);
        let event_type = sse::event_type_of(block);
        if !tap.selection.has(event_type) {
            return;
        }
        let (fields, id) = sse::split_id(block);
        if id.is_none() && Selection::is_for_all(event_type) {
            let kind = Kind::of_notice(block);
            if self.wants(kind) {
                self.push_notice((origin.source, seq), (fields, kind));
            }
            return;
        }
        let own_id = id.and_then(|id| std::str::from_utf8(id).ok());
        let own_id = own_id.filter(|id| !id.is_empty() && origin.epoch.seq_of(id) != Some(seq));
        tap.mark.set_own_id(own_id, n_sources);
        let place = Place {
            source: origin.source,
            from: seq,
            seq: self.writer.next_seq(),
            is_missed: true,
        };
        self.places.push(place);
        self.block.clear();
        match (self.tagging, self.taps.get(origin.source)) {
            (Tagging::EventType, Some(tap)) if !Selection::is_for_all(event_type) => {
                self.block.extend_from_slice(b"event: ");
                self.block.extend_from_slice(tap.name.as_bytes());
                self.block.push(b':');
                self.block.extend_from_slice(event_type);
                self.block.push(b'\n');
                self.block.extend_from_slice(sse::after_event_type(fields));
            }
            _ => self.block.extend_from_slice(fields),
        }
        let id = self.cursor().encode();
        push_id(&mut self.block, &id);
        self.writer.push_block(&self.block);
    }

    fn wants(&self, kind: Kind) -> bool {
        match self.notices {
            Notices::All => true,
            Notices::Losses => kind.is_missed(),
            Notices::None => false,
        }
    }

    /// Gives a notice of a source on.
    fn push_notice(&mut self, (source, seq): (usize, Seq), (fields, kind): (&[u8], Kind)) {
        let place = Place {
            source,
            from: seq,
            seq: self.writer.next_seq(),
            is_missed: kind.is_missed(),
        };
        self.places.push(place);
        self.block.clear();
        let name = self.taps.get(source).map(|tap| &*tap.name);
        push_notice_fields(
            &mut self.block,
            fields,
            name.filter(|_| self.taps.len() > 1),
        );
        self.block.push(b'\n');
        self.writer.push_notice_block(&self.block);
    }

    /// **Every Loss Is Told**, also when it is the view that was too slow.
    fn tell_lost(&mut self, source: usize) {
        let Some(tap) = self.taps.get(source) else {
            return;
        };
        let (name, seq) = (&tap.name, tap.read);
        self.n_lost += 1;
        tracing::warn!(source = %name, "a view was slower than its source: its subscribers miss events");
        if self.wants(Kind::ANY) {
            const FIELDS: &[u8] =
                b"event: ssecast.gap\ndata: {\"missed\":\"unknown\",\"reason\":\"view-overrun\"}\n";
            self.push_notice((source, seq), (FIELDS, Kind::ANY));
        }
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            marks: self.taps.iter().map(|tap| tap.mark.clone()).collect(),
        }
    }

    fn commit(&mut self) {
        let tip = self.cursor().encode();
        let read: Vec<Seq> = self.taps.iter().map(|tap| tap.read).collect();
        let new = self.places.drain(..);
        self.writer.commit_places(self.newest, |places, first| {
            places.extend(new, first);
            places.set_tip(read.into_iter(), tip);
        });
    }

    /// A view is over when all of its sources are, and goes on when one of them does.
    fn follow_ends(&mut self) {
        let is_over = self.taps.iter().all(|tap| tap.ended == Some(Ending::Over));
        if is_over == std::mem::replace(&mut self.is_over, is_over) {
            return;
        }
        if is_over {
            self.writer.end(Ending::Over, self.newest);
        } else {
            self.writer.reopen();
        }
    }

    /// The log.
    pub fn log(&self) -> &Log {
        self.writer.log()
    }
}

/// Appends the last line of an event, and its end.
pub(in crate::log) fn push_id(block: &mut Vec<u8>, id: &str) {
    block.extend_from_slice(b"id: ");
    block.extend_from_slice(id.as_bytes());
    block.extend_from_slice(b"\n\n");
}

/// Appends the fields of a notice; if a channel is named, with its name as the first member of the
/// data.
fn push_notice_fields(out: &mut Vec<u8>, fields: &[u8], channel: Option<&str>) {
    const OBJECT: &[u8] = b"data: {";
    let data = sse::after_event_type(fields);
    let (Some(channel), Some(members)) = (channel, data.strip_prefix(OBJECT)) else {
        return out.extend_from_slice(fields);
    };
    out.extend_from_slice(
        fields
            .get(..fields.len() - members.len())
            .unwrap_or_default(),
    );
    // Names of channels need no escapes.
    out.extend_from_slice(format!(r#""channel":"{channel}""#).as_bytes());
    if !members.starts_with(b"}") {
        out.push(b',');
    }
    out.extend_from_slice(members);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_its_channel() {
        for (data, expected) in [
            (r#"{"state":"open"}"#, r#"{"channel":"a-b","state":"open"}"#),
            ("{}", r#"{"channel":"a-b"}"#),
            ("[]", "[]"),
        ] {
            let mut out = Vec::new();
            let fields = format!("event: ssecast.upstream\ndata: {data}\n");
            push_notice_fields(&mut out, fields.as_bytes(), Some("a-b"));
            let expected = format!("event: ssecast.upstream\ndata: {expected}\n");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            let mut plain = Vec::new();
            push_notice_fields(&mut plain, fields.as_bytes(), None);
            assert_eq!(plain, fields.as_bytes());
        }
    }
}
