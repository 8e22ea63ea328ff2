//! What a log must be after what was done to it, told without any of its means.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::config::{History, Ids};
use crate::log::testing::Read;
use crate::log::{Replay, push_chunk};
use crate::sse::{Event, encode_event};

/// An event of the past.
#[derive(Debug, Clone)]
pub(super) struct Past {
    /// Where it ends in the wire stream.
    pub(super) end: u64,
    pub(super) origin_id: Option<String>,
    /// Whether subscribers got it with the origin's id, or with ours.
    pub(super) shows: Shows,
    pub(super) read: Read,
    /// Events with the same origin id have the same era if the log knew of the one when the other
    /// came.
    pub(super) era: usize,
}

/// The id that an event has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    None,
    Origins,
    Ours,
}

pub(super) struct Model {
    pub(super) limits: History,
    pub(super) ids: Ids,
    /// Every epoch that there was, the present one last.
    pub(super) epochs: Vec<String>,
    /// All that was ever committed.
    pub(super) past: Vec<Past>,
    /// Not committed yet.
    pub(super) pending: Vec<Past>,
    /// How many of `past` are no longer retained.
    pub(super) n_gone: usize,
    /// Ends and times of the batches in memory.
    pub(super) batches: VecDeque<(u64, Instant)>,
    /// Where the batches in memory begin.
    pub(super) floor: u64,
    pub(super) n_eras: usize,
    /// Ids of the head that were given, and after how many events.
    pub(super) heads: Vec<(String, usize)>,
}

/// What the model expects of a resuming subscriber.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expected {
    After(u64),
    /// The whole history.
    Whole(Replay),
}

impl Model {
    pub(super) fn new(limits: History, ids: Ids, epoch: String) -> Self {
        Self {
            limits,
            ids,
            epochs: vec![epoch],
            past: Vec::new(),
            pending: Vec::new(),
            n_gone: 0,
            batches: VecDeque::new(),
            floor: 0,
            n_eras: 0,
            heads: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, event: &Event<'_>, is_notice: bool) {
        let before = self.pending.last().or(self.past.last());
        let start = before.map_or(0, |past| past.end);
        let n_before = self.past.len() + self.pending.len();
        let ours = format!("{}-{}", self.epoch(), n_before + 1);
        let origin_id = event.id.filter(|id| !id.is_empty());
        let id = match self.ids {
            _ if is_notice => None,
            Ids::Fill => Some(origin_id.unwrap_or(&ours)),
            Ids::Gateway => Some(ours.as_str()),
            Ids::Upstream => event.id,
        };
        let shows = match id {
            Some(id) if id == ours => Shows::Ours,
            Some(id) if !id.is_empty() => Shows::Origins,
            _ => Shows::None,
        };
        let mut block = Vec::new();
        encode_event(&mut block, &Event { id, ..*event });
        let mut chunk = Vec::new();
        push_chunk(&mut chunk, &block);
        self.pending.push(Past {
            end: start + chunk.len() as u64,
            origin_id: origin_id.map(str::to_owned),
            shows,
            read: Read {
                event_type: event.event_type.to_owned(),
                data: event.data.to_owned(),
                id: id.map(str::to_owned),
            },
            era: 0,
        });
    }

    pub(super) fn commit(&mut self, now: Instant) {
        let Some(last) = self.pending.last() else {
            return;
        };
        self.batches.push_back((last.end, now));
        for mut event in std::mem::take(&mut self.pending) {
            let known = self.retained().iter().rev();
            let mut known = known.filter(|past| past.origin_id == event.origin_id);
            event.era = match known.next() {
                Some(past) if event.origin_id.is_some() => past.era,
                _ => {
                    self.n_eras += 1;
                    self.n_eras
                }
            };
            self.past.push(event);
        }
        self.evict(now);
    }

    pub(super) fn evict(&mut self, now: Instant) {
        self.n_gone = self
            .n_gone
            .max(self.past.len().saturating_sub(self.limits.events));
        while let Some(&(end, at)) = self.batches.front() {
            let is_old = self.limits.age.is_some_and(|age| now - at > age);
            let is_much = self.held_bytes() > self.limits.bytes && self.batches.len() > 1;
            let is_unused = self.retained().first().is_none_or(|past| past.end > end);
            if !(is_old || is_much || is_unused) {
                break;
            }
            self.floor = end;
            self.batches.pop_front();
            let n_below = self.past.iter().filter(|past| past.end <= end).count();
            self.n_gone = self.n_gone.max(n_below);
        }
    }

    /// What is more is not left to the successor.
    pub(super) fn evict_to(&mut self, max_bytes: usize) {
        while self.held_bytes() > max_bytes {
            let (end, _) = self.batches.pop_front().expect("something is held");
            self.floor = end;
            let n_below = self.past.iter().filter(|past| past.end <= end).count();
            self.n_gone = self.n_gone.max(n_below);
        }
    }

    /// Positions count anew, from the oldest event that is retained.
    pub(super) fn restart(&mut self, epoch: String) {
        let tail = self.tail();
        for past in &mut self.past {
            past.end = past.end.saturating_sub(tail);
        }
        for (end, _) in &mut self.batches {
            *end -= tail;
        }
        self.floor = 0;
        self.epochs.push(epoch);
    }

    pub(super) fn epoch(&self) -> &str {
        self.epochs.last().expect("an epoch")
    }

    pub(super) fn retained(&self) -> &[Past] {
        &self.past[self.n_gone..]
    }

    pub(super) fn held_bytes(&self) -> usize {
        let head = self.batches.back().map_or(self.floor, |(end, _)| *end);
        usize::try_from(head - self.floor).expect("small")
    }

    pub(super) fn head(&self) -> u64 {
        self.past.last().map_or(0, |past| past.end)
    }

    /// Where the retained history begins.
    pub(super) fn tail(&self) -> u64 {
        let before = self.n_gone.checked_sub(1).map(|n| self.past[n].end);
        before.unwrap_or(0)
    }

    pub(super) fn tip(&self) -> Option<&str> {
        let first = self.n_gone.saturating_sub(1);
        let ids = self.past[first..].iter().rev();
        ids.filter_map(|past| past.read.id.as_deref())
            .find(|id| !id.is_empty())
    }

    /// Where a subscriber goes on that has seen `id`.
    pub(super) fn expected(&self, id: &str) -> Expected {
        let same_id = |past: &Past| past.origin_id.as_deref() == Some(id);
        // What is known: the retained events, and the one before them.
        let newest_gone = self.n_gone.checked_sub(1);
        let known = self.past.iter().rposition(same_id).into_iter();
        let known = known.chain(newest_gone.filter(|n| same_id(&self.past[*n])));
        for n in known.filter(|n| n + 1 >= self.n_gone) {
            let era = self.past[n].era;
            let all: Vec<&Past> = self.past.iter().filter(|past| past.era == era).collect();
            let said = |past: &Past| (past.read.event_type.clone(), past.read.data.clone());
            let has_one_content = all.iter().all(|past| said(past) == said(all[0]));
            let n_retained = self
                .retained()
                .iter()
                .filter(|past| past.era == era)
                .count();
            let is_clear = match all.len() {
                1 => true,
                n => n == n_retained && has_one_content,
            };
            if all.iter().any(|past| past.shows == Shows::Origins) {
                return if is_clear {
                    Expected::After(all[0].end)
                } else {
                    Expected::Whole(Replay::Unknown)
                };
            }
        }
        let newest_gone = newest_gone.map(|n| &self.past[n]);
        let newest_gone = newest_gone.filter(|past| past.shows == Shows::Origins);
        let newest_gone = newest_gone.and_then(|past| past.origin_id.as_deref());
        let number = |id: &str| id.parse::<u64>().ok();
        if let (Some(id), Some(gone)) = (number(id), newest_gone.and_then(number))
            && id < gone
        {
            return Expected::Whole(Replay::Expired);
        }
        let is_ours =
            |past: &Past| past.shows == Shows::Ours && past.read.id.as_deref() == Some(id);
        match self.past.iter().position(is_ours) {
            Some(n) if n + 1 >= self.n_gone => Expected::After(self.past[n].end),
            Some(_) => Expected::Whole(Replay::Expired),
            None => Expected::Whole(Replay::Unknown),
        }
    }

    pub(super) fn after(&self, at: u64) -> Vec<Read> {
        let following = self.past.iter().filter(|past| past.end > at);
        following.map(|past| past.read.clone()).collect()
    }
}
