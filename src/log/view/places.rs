//! Which entry of a view's log is which entry of its sources: the index that a resuming subscriber is
//! placed by.
//!
//! The order in which a view merges its sources is its own, and a view that is made anew may merge the
//! same events in another order. So a subscriber may have seen an event that comes later here than one
//! that it has not seen; then it gets the latter ahead of the wire stream, by itself.

use std::collections::VecDeque;

use crate::log::id::Seq;
use crate::log::replay::Replay;
use crate::memory::{Budget, Held, WhatFor};

/// The places of all retained entries of a view's log.
#[derive(Debug)]
pub(in crate::log) struct Places {
    /// By the source's index.
    strands: Vec<Strand>,
    /// The id of a subscriber that has everything.
    tip: String,
    /// Counts the strands.
    held: Held,
}

/// The entries of one source.
#[derive(Debug)]
struct Strand {
    /// In order of both numbers.
    retained: VecDeque<Place>,
    /// The newest entry that is neither retained nor without loss for who has not seen it.
    lost: Seq,
    /// What of the source is in the view, or was left out of it.
    read: Seq,
}

/// Where an entry is from, and where it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct Place {
    pub(in crate::log) source: usize,
    /// Its number in the source's log.
    pub(in crate::log) from: Seq,
    /// Its number in the view's.
    pub(in crate::log) seq: Seq,
    /// Whether who did not get it has missed something.
    pub(in crate::log) is_missed: bool,
}

/// Where a subscriber goes on.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::log) struct Found {
    /// The first entry that it gets from the wire stream.
    pub(in crate::log) start: Seq,
    /// Earlier entries that it has not seen, each with its source, in order.
    pub(in crate::log) ahead: Vec<(usize, Seq)>,
}

/// Entries that a subscriber is given ahead of the wire stream. Two orders of the same events differ
/// only where events came at the same time; what is further apart, nobody was ever given.
const MOST_AHEAD: usize = 256;

impl Places {
    /// Of sources of which these are the newest entries that are lost.
    pub(in crate::log) fn new(lost: impl Iterator<Item = Seq>, budget: &Budget) -> Self {
        let strands = lost.map(|lost| Strand {
            retained: VecDeque::new(),
            lost,
            read: Seq(0),
        });
        Self {
            strands: strands.collect(),
            tip: String::new(),
            held: budget.hold(WhatFor::Events, 0),
        }
    }

    /// Notes entries that were appended, and forgets those before `first`, the oldest retained one.
    pub(in crate::log) fn extend(&mut self, places: impl Iterator<Item = Place>, first: Seq) {
        for place in places {
            if let Some(strand) = self.strands.get_mut(place.source) {
                strand.retained.push_back(place);
            }
        }
        self.forget(first);
        let capacity = self.strands.iter().map(|one| one.retained.capacity());
        self.held
            .resize(capacity.sum::<usize>() * size_of::<Place>());
    }

    /// Notes how far the sources are read, and the id of who has everything.
    pub(in crate::log) fn set_tip(&mut self, read: impl Iterator<Item = Seq>, tip: String) {
        for (strand, read) in self.strands.iter_mut().zip(read) {
            strand.read = read;
        }
        self.tip = tip;
    }

    pub(in crate::log) fn tip(&self) -> &str {
        &self.tip
    }

    /// Forgets the entries before `first`.
    pub(in crate::log) fn forget(&mut self, first: Seq) {
        for strand in &mut self.strands {
            while let Some(place) = strand.retained.pop_front() {
                if place.seq >= first {
                    strand.retained.push_front(place);
                    break;
                }
                if place.is_missed {
                    strand.lost = place.from;
                }
            }
        }
    }

    /// Where a subscriber goes on that has of each source all up to an entry; `None`: it has never
    /// asked for that source, and gets it from where it is in the others.
    pub(in crate::log) fn find(&self, seen: &[Option<Seq>], first: Seq) -> Result<Found, Replay> {
        let mut start = first;
        for (strand, seen) in self.strands.iter().zip(seen) {
            let Some(seen) = *seen else { continue };
            if seen < strand.lost {
                return Err(Replay::Expired);
            }
            if seen > strand.read {
                // Of another log, or of the future. What this view will append is not to come twice.
                return Err(Replay::Unknown);
            }
            let last = strand.n_until(seen).checked_sub(1);
            if let Some(last) = last.and_then(|last| strand.retained.get(last)) {
                start = start.max(last.seq.next());
            }
        }
        let mut ahead = Vec::new();
        for (source, (strand, seen)) in self.strands.iter().zip(seen).enumerate() {
            let Some(seen) = *seen else { continue };
            let missing = strand.retained.range(strand.n_until(seen)..);
            let early = missing.take_while(|place| place.seq < start);
            ahead.extend(early.take(MOST_AHEAD + 1).map(|place| (source, place.seq)));
        }
        if ahead.len() > MOST_AHEAD {
            return Err(Replay::Unknown);
        }
        ahead.sort_unstable_by_key(|(_, seq)| *seq);
        Ok(Found { start, ahead })
    }
}

impl Strand {
    /// How many of the retained entries a subscriber has that has seen this one.
    fn n_until(&self, seen: Seq) -> usize {
        self.retained.partition_point(|place| place.from <= seen)
    }
}
