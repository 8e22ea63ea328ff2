//! The log beside a model that keeps everything and looks everything up by scanning.

mod checks;
mod truth;

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use self::checks::{check, check_own_ids};
use self::truth::Model;
use crate::config::{History, Ids};
use crate::log::testing::event;
use crate::log::{Log, Writer};
use crate::sse::Event;

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
