//! The log beside a model that keeps everything and looks everything up by scanning.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::testing::{Read, event, read_chunked, wire_bytes};
use super::super::{Follows, Log, Replay, Start, Wish, Writer, push_chunk};
use crate::config::{History, Ids, Join, OnGap};
use crate::sse::{Event, encode_event};

/// What happens to the log.
#[derive(Debug, Clone)]
enum Step {
    BeginEpoch,
    Commit,
    Event {
        id: Id,
        content: usize,
        size: usize,
    },
    Evict,
    Notice,
    /// The process ends, and its successor begins with what it left.
    Restart {
        max_bytes: usize,
    },
    SetIds(Ids),
    SetLimits(History),
    Wait(Duration),
}

/// The id that the origin gives.
#[derive(Debug, Clone, Copy)]
enum Id {
    /// The next of a counter.
    Counted,
    Empty,
    /// One of a few: it comes again.
    Few(usize),
    None,
    /// One that no counter makes, and that comes once.
    Unique,
}

/// An event of the past.
#[derive(Debug, Clone)]
struct Past {
    /// Where it ends in the wire stream.
    end: u64,
    origin_id: Option<String>,
    /// Whether subscribers got it with the origin's id, or with ours.
    shows: Shows,
    read: Read,
    /// Events with the same origin id have the same era if the log knew of the one when the other
    /// came.
    era: usize,
}

/// The id that an event has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    None,
    Origins,
    Ours,
}

struct Model {
    limits: History,
    ids: Ids,
    /// Every epoch that there was, the present one last.
    epochs: Vec<String>,
    /// All that was ever committed.
    past: Vec<Past>,
    /// Not committed yet.
    pending: Vec<Past>,
    /// How many of `past` are no longer retained.
    n_gone: usize,
    /// Ends and times of the batches in memory.
    batches: VecDeque<(u64, Instant)>,
    /// Where the batches in memory begin.
    floor: u64,
    n_eras: usize,
    /// Ids of the head that were given, and after how many events.
    heads: Vec<(String, usize)>,
}

/// What the model expects of a resuming subscriber.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    After(u64),
    /// The whole history.
    Whole(Replay),
}

impl Model {
    fn new(limits: History, ids: Ids, epoch: String) -> Self {
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

    fn push(&mut self, event: &Event<'_>, is_notice: bool) {
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

    fn commit(&mut self, now: Instant) {
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

    fn evict(&mut self, now: Instant) {
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
    fn evict_to(&mut self, max_bytes: usize) {
        while self.held_bytes() > max_bytes {
            let (end, _) = self.batches.pop_front().expect("something is held");
            self.floor = end;
            let n_below = self.past.iter().filter(|past| past.end <= end).count();
            self.n_gone = self.n_gone.max(n_below);
        }
    }

    /// Positions count anew, from the oldest event that is retained.
    fn restart(&mut self, epoch: String) {
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

    fn epoch(&self) -> &str {
        self.epochs.last().expect("an epoch")
    }

    fn retained(&self) -> &[Past] {
        &self.past[self.n_gone..]
    }

    fn held_bytes(&self) -> usize {
        let head = self.batches.back().map_or(self.floor, |(end, _)| *end);
        usize::try_from(head - self.floor).expect("small")
    }

    fn head(&self) -> u64 {
        self.past.last().map_or(0, |past| past.end)
    }

    /// Where the retained history begins.
    fn tail(&self) -> u64 {
        let before = self.n_gone.checked_sub(1).map(|n| self.past[n].end);
        before.unwrap_or(0)
    }

    fn tip(&self) -> Option<&str> {
        let first = self.n_gone.saturating_sub(1);
        let ids = self.past[first..].iter().rev();
        ids.filter_map(|past| past.read.id.as_deref())
            .find(|id| !id.is_empty())
    }

    /// Where a subscriber goes on that has seen `id`.
    fn expected(&self, id: &str) -> Expected {
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

    fn after(&self, at: u64) -> Vec<Read> {
        let following = self.past.iter().filter(|past| past.end > at);
        following.map(|past| past.read.clone()).collect()
    }
}

fn check(log: &Log, model: &mut Model, now: Instant, strangers: &[&str]) {
    let size = log.size();
    assert_eq!(size.held_bytes, model.held_bytes(), "held bytes");
    assert_eq!(size.n_events, model.retained().len(), "retained events");
    assert!(size.n_events <= model.limits.events, "the limit of events");
    let is_within = size.held_bytes <= model.limits.bytes || model.batches.len() == 1;
    assert!(is_within, "{} bytes are held", size.held_bytes);

    let indexed: HashSet<&str> = model
        .retained()
        .iter()
        .filter_map(|past| past.origin_id.as_deref())
        .collect();
    assert_eq!(log.n_indexed_ids(), indexed.len(), "ids in the index");

    let live = log.start(None, now);
    assert_eq!(live.at, model.head(), "where a new subscriber starts");
    assert!(live.batches.is_empty(), "a new subscriber replays nothing");
    assert_eq!((live.replay, live.follows), (Replay::Fresh, Follows::Live));
    assert_eq!(live.tip.as_deref(), model.tip());

    check_policies(log, model, now);
    check_heads(log, model, now);

    let given = model.past.iter().filter_map(|past| past.read.id.as_deref());
    let origins = model
        .past
        .iter()
        .filter_map(|past| past.origin_id.as_deref());
    let mut asked = HashSet::new();
    for id in given.chain(origins).chain(strangers.iter().copied()) {
        if id.is_empty() || !asked.insert(id) {
            continue;
        }
        let start = log.start(Some(id), now);
        match model.expected(id) {
            Expected::After(at) => {
                assert_eq!(
                    (start.at, &start.replay),
                    (at, &Replay::Complete),
                    "after {id:?}"
                );
            }
            Expected::Whole(replay) => {
                assert_eq!(
                    (start.at, &start.replay),
                    (model.tail(), &replay),
                    "after {id:?}"
                );
            }
        }
        assert_eq!(
            read_chunked(&wire_bytes(&start)),
            model.after(start.at),
            "after {id:?}"
        );
    }
}

/// Who was given the id of the head, at any time, goes on from there exactly.
fn check_heads(log: &Log, model: &mut Model, now: Instant) {
    let head_id = log.read(None, now).head_id.expect("a head");
    let start = log.start(Some(head_id.as_str()), now);
    assert_eq!(
        (start.at, start.replay),
        (model.head(), Replay::Complete),
        "{head_id:?}"
    );
    model.heads.push((head_id, model.past.len()));
    for (id, n_seen) in &model.heads {
        let start = log.start(Some(id.as_str()), now);
        let is_place = id.contains('.');
        let same_id = |past: &&Past| past.origin_id.as_deref() == Some(id);
        if model.past.iter().filter(same_id).count() > 1 {
            // The origin has given it again, and who comes with it may have got it from either.
            continue;
        }
        match start.replay {
            Replay::Complete => {
                let got = read_chunked(&wire_bytes(&start));
                let following = model.past[*n_seen..].iter();
                let following: Vec<Read> = following.map(|past| past.read.clone()).collect();
                assert_eq!(got, following, "after {id:?}");
            }
            Replay::Expired if is_place => assert!(*n_seen < model.n_gone, "{id:?}"),
            _ => assert!(!is_place, "{id:?} is {:?}", start.replay),
        }
    }
}

/// What newcomers get, and those whose id nobody knows, whatever the channel says.
fn check_policies(log: &Log, model: &Model, now: Instant) {
    for n in [1, 2, 5, 1000] {
        let newest = start(log, None, Join::Newest(n), now);
        let retained = model.retained();
        let is_notice = |past: &&Past| past.read.event_type == "ssecast.gap";
        let n_left_out = retained.iter().filter(|past| !is_notice(past)).count();
        let n_left_out = n_left_out.saturating_sub(n);
        let mut events = retained.iter().filter(|past| !is_notice(past));
        let last_left_out = n_left_out.checked_sub(1).and_then(|last| events.nth(last));
        let at = last_left_out.map_or(model.tail(), |past| past.end);
        // Notices right after what is left out tell of nothing that the newcomer knows.
        let (at, got) = (model.after(at), read_chunked(&wire_bytes(&newest)));
        assert!(at.ends_with(&got), "{n} newest: {got:?} of {at:?}");
        let n_events = |events: &[Read]| {
            let of_origin = events.iter().filter(|one| one.event_type != "ssecast.gap");
            of_origin.count()
        };
        assert_eq!(n_events(&got), n_events(&at), "{n} newest");
    }
    for (id, replay) in [(None, Replay::Fresh), (Some("zzz"), Replay::Unknown)] {
        let all = start(log, id, Join::All, now);
        assert_eq!(
            (all.at, all.replay, all.follows),
            (model.tail(), replay, Follows::All)
        );
        assert_eq!(read_chunked(&wire_bytes(&all)), model.after(model.tail()));
        let live = start(log, id, Join::Live, now);
        assert_eq!((live.at, live.replay), (model.head(), replay));
        assert_eq!(live.follows, Follows::Live);
        assert_eq!(live.tip.as_deref(), model.tip());
        // Nobody told the log that somebody wants to know.
        let latest = start(log, id, Join::Latest, now);
        assert_eq!((latest.at, latest.follows), (model.tail(), Follows::All));
    }
}

fn start(log: &Log, last_event_id: Option<&str>, join: Join, now: Instant) -> Start {
    let on_gap = match join {
        Join::All | Join::Newest(_) => OnGap::All,
        Join::Latest => OnGap::Latest,
        Join::Live => OnGap::Live,
    };
    let wish = Wish {
        last_event_id,
        join,
        on_gap,
    };
    log.start(wish, now)
}

/// Our ids, in the order in which they were given.
fn check_own_ids(model: &Model) {
    let ours = model.past.iter().filter(|past| past.shows == Shows::Ours);
    let ids: Vec<&str> = ours.filter_map(|past| past.read.id.as_deref()).collect();
    let numbers = ids.iter().map(|id| {
        let (_, number) = id.rsplit_once('-').expect("an id of ours");
        number.parse::<u64>().expect("a number")
    });
    assert!(numbers.is_sorted_by(|a, b| a < b), "{ids:?}");
}

fn play(limits: History, ids: Ids, steps: &[Step]) {
    let (mut log, mut writer) = Log::new(limits.clone(), ids);
    let mut model = Model::new(limits, ids, writer.epoch_text());
    let mut now = Instant::now();
    let mut n_events = 0_usize;
    for step in steps {
        match step {
            Step::BeginEpoch => {
                writer.begin_epoch(now);
                model.commit(now);
                model.epochs.push(writer.epoch_text());
            }
            Step::Commit => {
                writer.commit(now);
                model.commit(now);
            }
            Step::Event { id, content, size } => {
                n_events += 1;
                push(&mut writer, &mut model, (*id, *content, *size), n_events);
                continue;
            }
            Step::Evict => {
                log.evict(now);
                model.evict(now);
            }
            Step::Notice => {
                writer.push_notice("ssecast.gap", "{}");
                let notice = Event {
                    event_type: "ssecast.gap",
                    data: "{}",
                    id: None,
                };
                model.push(&notice, true);
                continue;
            }
            Step::Restart { max_bytes } => {
                writer.commit(now);
                model.commit(now);
                // What is too old is not handed over.
                model.evict(now);
                model.evict_to(*max_bytes);
                let bytes = exported(&log, *max_bytes, now);
                (log, writer) = restored(&bytes, (&model.limits, model.ids), now);
                model.restart(writer.epoch_text());
            }
            Step::SetIds(ids) => {
                writer.set_ids(*ids);
                model.ids = *ids;
                continue;
            }
            Step::SetLimits(limits) => {
                log.set_limits(limits.clone(), now);
                model.limits = limits.clone();
            }
            Step::Wait(time) => now += *time,
        }
        // A look-up forgets what is too old before it looks.
        log.evict(now);
        model.evict(now);
        let n = model.past.len();
        let strangers = [
            "zzz".to_owned(),
            "999999".to_owned(),
            "0".to_owned(),
            format!("{}-{}", model.epoch(), n + 7),
            format!("{}-0", model.epoch()),
        ];
        // No epoch gave a number of another.
        let others = model.epochs.iter().filter(|epoch| *epoch != model.epoch());
        let others = others.map(|epoch| format!("{epoch}-{}", n + 1));
        let strangers: Vec<String> = strangers.into_iter().chain(others).collect();
        let strangers: Vec<&str> = strangers.iter().map(String::as_str).collect();
        check(&log, &mut model, now, &strangers);
    }
    check_own_ids(&model);
}

/// What a log leaves to the next process.
fn exported(log: &Log, max_bytes: usize, now: Instant) -> Vec<u8> {
    log.export(max_bytes, now, |retained| {
        postcard::to_stdvec(&retained).expect("it can be written")
    })
}

/// The log and the writer of the next process.
fn restored(bytes: &[u8], (limits, ids): (&History, Ids), now: Instant) -> (Log, Writer) {
    let retained = postcard::from_bytes(bytes).expect("it can be read");
    let (log, mut writer) = Log::new(limits.clone(), ids);
    let restored = writer.restore(&retained, Duration::ZERO, now);
    restored.expect("a log's own");
    (log, writer)
}

fn push(
    writer: &mut Writer,
    model: &mut Model,
    (id, content, size): (Id, usize, usize),
    n_events: usize,
) {
    let id = match id {
        Id::Counted => Some(n_events.to_string()),
        Id::Empty => Some(String::new()),
        Id::Few(n) => Some(["a", "b", "7"][n % 3].to_owned()),
        Id::None => None,
        Id::Unique => Some(format!("u{n_events}")),
    };
    let data = format!("{content}{}", "x".repeat(size));
    let event = event(id.as_deref(), &data);
    writer.push(&event);
    model.push(&event, false);
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = prop_oneof![
        3 => Just(Id::Counted),
        1 => Just(Id::Empty),
        3 => (0usize..3).prop_map(Id::Few),
        2 => Just(Id::None),
        1 => Just(Id::Unique),
    ];
    let size = prop_oneof![8 => 0usize..4, 1 => Just(150usize)];
    prop_oneof![
        10 => (id, 0usize..2, size)
            .prop_map(|(id, content, size)| Step::Event { id, content, size }),
        5 => Just(Step::Commit),
        1 => Just(Step::Notice),
        1 => Just(Step::Evict),
        1 => Just(Step::BeginEpoch),
        1 => prop_oneof![Just(usize::MAX), 0usize..300]
            .prop_map(|max_bytes| Step::Restart { max_bytes }),
        1 => any_ids().prop_map(Step::SetIds),
        1 => any_limits().prop_map(Step::SetLimits),
        1 => (1u64..20).prop_map(|seconds| Step::Wait(Duration::from_secs(seconds))),
    ]
}

fn any_limits() -> impl Strategy<Value = History> {
    let events = prop_oneof![Just(0usize), 1usize..6, Just(1000usize)];
    let bytes = prop_oneof![Just(1usize), 50usize..400, Just(1_000_000usize)];
    let age = proptest::option::of((1u64..30).prop_map(Duration::from_secs));
    (events, bytes, age).prop_map(|(events, bytes, age)| History { events, bytes, age })
}

fn any_ids() -> impl Strategy<Value = Ids> {
    prop_oneof![Just(Ids::Fill), Just(Ids::Gateway), Just(Ids::Upstream)]
}

proptest! {
    #[test]
    fn the_log_is_what_the_model_says(
        limits in any_limits(),
        ids in any_ids(),
        steps in vec(any_step(), 0..50),
    ) {
        play(limits, ids, &steps);
    }
}
