//! What must hold of every id that a subscriber may come with, for the fuzzer and for the unit tests.
//!
//! The input is a little program: an origin that gives ids of all kinds, look-alikes of ours among
//! them, and subscribers who resume from them. A list of all that was ever sent is the judge.

use tokio::time::Instant;

use super::testing::{Read, read_chunked, wire_bytes};
use super::{Epoch, Log, Replay, Seq, Writer};
use crate::config::{History, Ids};
use crate::memory::Budget;
use crate::sse::Event;

/// Runs the program that `data` is.
///
/// # Panics
///
/// If a subscriber gets anything but the exact continuation, or a history that it is told of.
pub fn fuzz_ids(data: &[u8]) {
    let mut program = Program(data);
    let mut world = World::new(&mut program);
    while let Some(step) = program.byte() {
        world.play(step % 8, &mut program);
    }
    world.commit();
    for id in world.known_ids() {
        world.resume(&id);
    }
}

/// Bytes to make choices from.
struct Program<'a>(&'a [u8]);

struct World {
    log: Log,
    writer: Writer,
    ids: Ids,
    now: Instant,
    /// The name of each epoch, the present one last.
    epochs: Vec<Epoch>,
    /// All that was ever committed.
    past: Vec<Past>,
    /// Not committed yet.
    pending: Vec<Past>,
}

/// An event as the origin gave it, and as it went out.
struct Past {
    origin_id: Option<String>,
    read: Read,
}

impl Program<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn choice(&mut self, n: usize) -> usize {
        usize::from(self.byte().unwrap_or_default()) % n.max(1)
    }

    /// A text without what no id can have.
    fn text(&mut self) -> String {
        let n = self.choice(12).min(self.0.len());
        let (text, rest) = self.0.split_at(n);
        self.0 = rest;
        let text = String::from_utf8_lossy(text);
        text.replace(['\r', '\n', '\0'], "")
    }
}

impl World {
    fn new(program: &mut Program<'_>) -> Self {
        let ids = [Ids::Fill, Ids::Gateway, Ids::Upstream];
        let ids = ids.get(program.choice(3)).copied().unwrap_or(Ids::Fill);
        let (log, writer) = Log::within(limits(program), ids, &Budget::unlimited());
        let epoch = writer.epoch();
        Self {
            log,
            writer,
            ids,
            now: Instant::now(),
            epochs: vec![epoch],
            past: Vec::new(),
            pending: Vec::new(),
        }
    }

    fn play(&mut self, step: u8, program: &mut Program<'_>) {
        match step {
            0 => self.push(None, program),
            1 => {
                let id = program.text();
                self.push(Some(&id), program);
            }
            2 | 3 => {
                let id = self.any_id(program);
                self.push(Some(&id), program);
            }
            4 => self.commit(),
            5 => {
                let id = self.any_id(program);
                self.resume(&id);
            }
            6 => {
                self.commit();
                self.writer.begin_epoch(self.now);
                self.epochs.push(self.writer.epoch());
            }
            _ => {
                self.commit();
                self.log.set_limits(limits(program), self.now);
            }
        }
    }

    /// An id that somebody may make up who has seen ours.
    fn any_id(&self, program: &mut Program<'_>) -> String {
        let epoch = program.choice(self.epochs.len());
        let epoch = self.epochs.get(epoch).map(|epoch| epoch.name());
        let epoch = epoch.unwrap_or_default();
        let known = self.known_ids();
        match program.choice(6) {
            0 => program.text(),
            1 => format!("{epoch}-{}", program.choice(40)),
            2 => format!("{epoch}-{}", u64::MAX - program.choice(3) as u64),
            3 => format!("{epoch}-{}", program.text()),
            _ => {
                let known = known.get(program.choice(known.len()));
                known.cloned().unwrap_or_default()
            }
        }
    }

    fn push(&mut self, id: Option<&str>, program: &mut Program<'_>) {
        let data = program.choice(3).to_string();
        let seq = Seq((self.past.len() + self.pending.len()) as u64).next();
        let ours = self.epochs.last().map(|epoch| epoch.id(seq));
        let theirs = id.filter(|id| !id.is_empty()).map(str::to_owned);
        let on_wire = match self.ids {
            Ids::Fill => theirs.clone().or(ours),
            Ids::Gateway => ours,
            Ids::Upstream => id.map(str::to_owned),
        };
        self.writer.push(&Event {
            event_type: "",
            data: &data,
            id,
        });
        self.pending.push(Past {
            origin_id: theirs,
            read: Read {
                event_type: String::new(),
                data,
                id: on_wire,
            },
        });
    }

    fn commit(&mut self) {
        self.writer.commit(self.now);
        self.past.append(&mut self.pending);
    }

    /// Every id that was ever on the wire or of the origin, in order.
    fn known_ids(&self) -> Vec<String> {
        let ids = |past: &Past| [past.read.id.clone(), past.origin_id.clone()];
        let mut ids: Vec<String> = self.past.iter().flat_map(ids).flatten().collect();
        ids.retain(|id| !id.is_empty());
        ids.dedup();
        ids
    }

    /// Whether the origin gave one of these an id that we may have given to an event that is gone.
    fn looks_like_ours(&self, id: &str, places: &[usize]) -> bool {
        let is_like = |epoch: &Epoch| epoch.seq_of(id).is_some();
        let is_theirs = |place: &usize| {
            let past = self.past.get(*place);
            past.is_some_and(|past| past.origin_id.as_deref() == Some(id))
        };
        self.epochs.iter().any(is_like) && places.iter().any(is_theirs)
    }

    /// A subscriber comes that has seen `id`.
    fn resume(&self, id: &str) {
        if id.is_empty() {
            return; // says nothing: who has it has seen nothing
        }
        let start = self.log.start(Some(id), self.now);
        let n_gone = self.past.len() - self.log.size().n_events;
        let got = read_chunked(&wire_bytes(&start));
        let after = |n: usize| self.past.iter().skip(n).map(|past| &past.read);
        let has_it = |past: &&Past| past.read.id.as_deref() == Some(id);
        let named = |past: &Past| {
            past.read.id.as_deref() == Some(id) || past.origin_id.as_deref() == Some(id)
        };
        let n_on_wire = self.past.iter().filter(has_it).count();
        let places: Vec<usize> = (0..self.past.len())
            .filter(|place| self.past.get(*place).is_some_and(named))
            .collect();
        if start.replay != Replay::Complete {
            assert!(got.iter().eq(after(n_gone)), "{id:?}: the whole history");
            // Who has seen the event before the oldest has missed nothing.
            let is_there = places.first().is_some_and(|place| place + 1 >= n_gone);
            let is_clear =
                places.len() == 1 && n_on_wire == 1 && !self.looks_like_ours(id, &places);
            assert!(!(is_there && is_clear), "{id:?} is known: {start:?}");
            return;
        }
        assert!(n_on_wire > 0, "nobody has seen {id:?}");
        let retained = places.iter().filter(|place| **place + 1 >= n_gone);
        let place = retained
            .clone()
            .find(|place| got.iter().eq(after(*place + 1)));
        assert!(
            place.is_some(),
            "after {id:?} at {places:?}, {n_gone} gone: {got:?}"
        );
        // Of several that a subscriber saw with this id, any may be meant: they must say the same.
        let said = |place: &usize| self.past.get(*place).map(|past| &past.read.data);
        let mut others = retained
            .filter(|other| **other >= n_gone)
            .filter(|other| self.past.get(**other).is_some_and(|past| has_it(&past)));
        assert!(
            others.all(|other| Some(said(other)) == place.map(said)),
            "{id:?} is ambiguous: {places:?}"
        );
    }
}

fn limits(program: &mut Program<'_>) -> History {
    History {
        events: program.choice(12),
        bytes: if program.choice(4) == 0 { 100 } else { 100_000 },
        age: None,
    }
}
