//! What a log still knows of events that it has evicted: per event type, the number of the newest.
//!
//! So a subscriber that wants only some types, all of them rare, has missed nothing as long as none
//! of *its* events was evicted after the last one that it has seen, however many others were.
//!
//! What it knows is bounded. Where it does not know which type an event had, the event counts for
//! every type: then a subscriber is told of a loss that it may not have had, and never the reverse.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::GAP_NOTICE;
use super::id::Seq;
use super::view::Selection;
use crate::memory::{Budget, Held, WhatFor};
use crate::sse;

/// What an event counts for when it is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u16);

/// What is known of the evicted events of a log.
#[derive(Debug)]
pub(super) struct Forgotten {
    budget: Budget,
    /// Whether types are told apart.
    tells_types: bool,
    /// Those that were; in a box, because most logs have none.
    types: Option<Box<Types>>,
    /// The newest that counts for every type.
    any: Seq,
    /// The newest of all, but notices that nobody misses.
    event: Seq,
}

#[derive(Debug)]
struct Types {
    numbers: HashMap<Arc<str>, u16>,
    /// By number.
    list: Vec<EventType>,
    /// Counts the names.
    held: Held,
}

#[derive(Debug)]
struct EventType {
    name: Arc<str>,
    n_retained: usize,
    /// The newest that was evicted.
    evicted: Seq,
}

/// The same as a value that outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ForgottenTypes<'a> {
    any: u64,
    event: u64,
    #[serde(borrow)]
    types: Vec<(&'a str, u64)>,
}

/// Types that are told apart.
const MAX_TYPES: usize = 256;

/// Longest name of a type that is told apart.
const MAX_TYPE_BYTES: usize = 128;

impl Kind {
    /// A notice that is out of date once another one follows.
    const STATE: Self = Self(0);
    /// What any subscriber would miss.
    pub(super) const ANY: Self = Self(1);
    const N_FIXED: u16 = 2;

    fn number(self) -> Option<usize> {
        self.0.checked_sub(Self::N_FIXED).map(usize::from)
    }

    /// Whether a subscriber that did not get it has missed something.
    pub(super) fn is_missed(self) -> bool {
        self != Self::STATE
    }

    /// The kind of a notice of a gateway: that of a loss is a loss if it is missed.
    pub(super) fn of_notice(block: &[u8]) -> Self {
        /// In a log it is from an origin that is a gateway: we tell it to single clients.
        const RESET_NOTICE: &[u8] = b"ssecast.reset";
        let event_type = sse::event_type_of(block);
        if event_type == GAP_NOTICE.as_bytes() || event_type == RESET_NOTICE {
            Self::ANY
        } else {
            Self::STATE
        }
    }
}

impl Forgotten {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            budget: budget.clone(),
            tells_types: false,
            types: None,
            any: Seq(0),
            event: Seq(0),
        }
    }

    /// Tells types apart from now on, or no longer. What was appended before counts for every type
    /// then.
    pub(super) fn tell_types(&mut self, tells_types: bool) {
        self.tells_types = tells_types;
    }

    /// The kind of an event of the origin's that is appended.
    pub(super) fn note_appended(&mut self, block: &[u8]) -> Kind {
        if !self.tells_types {
            return Kind::ANY;
        }
        let name = sse::event_type_of(block);
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_told(name)) else {
            return Kind::ANY;
        };
        let types = self.types.as_ref();
        let known = types.and_then(|types| types.numbers.get(name).copied());
        let Some(number) = known.or_else(|| self.number(name)) else {
            return Kind::ANY;
        };
        if let Some(known) = self.of_number(usize::from(number)) {
            known.n_retained += 1;
        }
        Kind(Kind::N_FIXED + number)
    }

    /// Notes that an event is gone.
    pub(super) fn note_evicted(&mut self, kind: Kind, seq: Seq) {
        if !kind.is_missed() {
            return;
        }
        self.event = seq;
        let number = kind.number();
        match number.and_then(|number| self.of_number(number)) {
            Some(known) => {
                known.n_retained = known.n_retained.saturating_sub(1);
                known.evicted = seq;
            }
            None => self.any = seq,
        }
    }

    /// The newest evicted event that a subscriber with this selection would miss; 0: there is none.
    pub(super) fn newest(&self, selection: &Selection) -> Seq {
        let Some(types) = selection.types() else {
            return self.event;
        };
        let known = types.iter().filter_map(|name| {
            let types = self.types.as_ref()?;
            let number = types.numbers.get(name.as_ref())?;
            types.list.get(usize::from(*number))
        });
        known.map(|one| one.evicted).fold(self.any, Seq::max)
    }

    fn of_number(&mut self, number: usize) -> Option<&mut EventType> {
        self.types.as_mut()?.list.get_mut(number)
    }

    /// The number of a new type; `None`: there are too many.
    fn number(&mut self, name: &str) -> Option<u16> {
        let name: Arc<str> = name.into();
        let fresh = EventType {
            name: Arc::clone(&name),
            n_retained: 0,
            evicted: Seq(0),
        };
        let types = self.types.get_or_insert_with(|| {
            Box::new(Types {
                numbers: HashMap::new(),
                list: Vec::new(),
                held: self.budget.hold(WhatFor::Events, 0),
            })
        });
        let number = if types.list.len() < MAX_TYPES {
            types.list.push(fresh);
            types.list.len() - 1
        } else {
            let unused = types.list.iter_mut().enumerate();
            let unused = unused.filter(|(_, one)| one.n_retained == 0);
            let (number, oldest) = unused.min_by_key(|(_, one)| one.evicted)?;
            let gone = std::mem::replace(oldest, fresh);
            self.any = self.any.max(gone.evicted);
            types.numbers.remove(&gone.name);
            number
        };
        let number = u16::try_from(number).ok()?;
        types.numbers.insert(name, number);
        types.held.resize(types.footprint());
        Some(number)
    }

    /// What outlives the process.
    pub(super) fn export(&self) -> ForgottenTypes<'_> {
        let types = self.types.iter().flat_map(|types| &types.list);
        let types = types.filter(|one| one.evicted > Seq(0));
        ForgottenTypes {
            any: self.any.0,
            event: self.event.0,
            types: types.map(|one| (&*one.name, one.evicted.0)).collect(),
        }
    }

    /// Begins with what an earlier log knew, before its events are appended.
    pub(super) fn restore(&mut self, left: &ForgottenTypes<'_>) {
        self.any = Seq(left.any);
        self.event = Seq(left.event);
        for (name, evicted) in left.types.iter().take(MAX_TYPES) {
            let number = Some(*name).filter(|name| self.tells_types && is_told(name));
            match number.and_then(|name| self.number(name)) {
                Some(number) => {
                    if let Some(known) = self.of_number(usize::from(number)) {
                        known.evicted = Seq(*evicted);
                    }
                }
                None => self.any = self.any.max(Seq(*evicted)),
            }
        }
    }
}

impl Types {
    fn footprint(&self) -> usize {
        const EACH: usize = size_of::<EventType>() + 2 * size_of::<(Arc<str>, u16)>() + 16;
        let names = self.list.iter().map(|one| one.name.len());
        names.sum::<usize>() + self.list.len() * EACH
    }
}

impl ForgottenTypes<'_> {
    /// Whether a log whose oldest event has the number `first` could have left that.
    pub(super) fn is_plausible(&self, first: u64) -> bool {
        let numbers = self.types.iter().map(|(_, evicted)| *evicted);
        let mut numbers = numbers.chain([self.any, self.event]);
        numbers.all(|evicted| evicted < first)
    }
}

/// Events of the gateway, also of one that is this one's origin, are for every subscriber.
fn is_told(name: &str) -> bool {
    name.len() <= MAX_TYPE_BYTES && !Selection::is_for_all(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(event_type: &str) -> Vec<u8> {
        let mut block = Vec::new();
        let event = sse::Event {
            event_type,
            data: "",
            id: None,
        };
        sse::encode_event(&mut block, &event);
        block
    }

    fn telling() -> Forgotten {
        let mut forgotten = Forgotten::new(&Budget::unlimited());
        forgotten.tell_types(true);
        forgotten
    }

    fn pass(forgotten: &mut Forgotten, event_type: &str, seq: u64) {
        let kind = forgotten.note_appended(&block(event_type));
        forgotten.note_evicted(kind, Seq(seq));
    }

    fn of(types: &[&str]) -> Selection {
        Selection::of(types.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn each_type_has_its_own_newest() {
        let mut forgotten = telling();
        pass(&mut forgotten, "a", 1);
        pass(&mut forgotten, "b", 2);
        pass(&mut forgotten, "", 3);
        assert_eq!(forgotten.newest(&of(&["a"])), Seq(1));
        assert_eq!(forgotten.newest(&of(&["a", "b"])), Seq(2));
        assert_eq!(forgotten.newest(&of(&["message"])), Seq(3));
        assert_eq!(forgotten.newest(&of(&["c"])), Seq(0));
        assert_eq!(forgotten.newest(&Selection::all()), Seq(3));
    }

    #[test]
    fn what_is_not_told_apart_counts_for_all() {
        let mut forgotten = Forgotten::new(&Budget::unlimited());
        pass(&mut forgotten, "a", 1);
        assert_eq!(forgotten.newest(&of(&["b"])), Seq(1));
        forgotten.tell_types(true);
        pass(&mut forgotten, &"x".repeat(MAX_TYPE_BYTES + 1), 2);
        assert_eq!(forgotten.newest(&of(&["b"])), Seq(2));
        pass(&mut forgotten, "ssecast.gap", 3);
        assert_eq!(forgotten.newest(&of(&["b"])), Seq(3));
        forgotten.note_evicted(Kind::of_notice(&block("ssecast.upstream")), Seq(4));
        assert_eq!(forgotten.newest(&Selection::all()), Seq(3));
        forgotten.note_evicted(Kind::of_notice(&block("ssecast.gap")), Seq(5));
        assert_eq!(forgotten.newest(&of(&["b"])), Seq(5));
    }

    /// A type per user must not fill memory, and must not make a loss look like none.
    #[test]
    fn too_many_types_are_taken_together() {
        let mut forgotten = telling();
        let n_types = MAX_TYPES as u64 * 3;
        for seq in 1..=n_types {
            pass(&mut forgotten, &format!("t{seq}"), seq);
        }
        let n_told = forgotten.types.as_ref().map(|types| types.list.len());
        assert_eq!(n_told, Some(MAX_TYPES));
        for seq in 1..=n_types {
            let newest = forgotten.newest(&of(&[&format!("t{seq}")]));
            assert!(newest >= Seq(seq), "{seq}");
        }
        assert!(forgotten.newest(&of(&["other"])) < Seq(n_types - MAX_TYPES as u64 + 1));
        let mut retained = telling();
        for number in 0..MAX_TYPES {
            retained.note_appended(&block(&format!("t{number}")));
        }
        assert_eq!(retained.note_appended(&block("one more")), Kind::ANY);
    }

    #[test]
    fn what_is_known_outlives_the_process() {
        let mut forgotten = telling();
        for (seq, name) in [(1, "a"), (2, "ssecast.gap"), (3, "b"), (4, "a")] {
            pass(&mut forgotten, name, seq);
        }
        let mut next = telling();
        next.restore(&forgotten.export());
        let mut without = Forgotten::new(&Budget::unlimited());
        without.restore(&forgotten.export());
        for selection in [of(&["a"]), of(&["b"]), of(&["c"]), Selection::all()] {
            assert_eq!(next.newest(&selection), forgotten.newest(&selection));
            assert!(without.newest(&selection) >= forgotten.newest(&selection));
        }
        assert!(forgotten.export().is_plausible(5) && !forgotten.export().is_plausible(4));
    }
}
