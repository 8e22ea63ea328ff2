//! Views beside a model that knows what every client must get: in any order of appends, evictions,
//! restarts and views that are made, that end and that are made anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::cursor::Cursor;
use super::{Recipe, Selection, Tagging, ViewWriter};
use crate::config::{History, Ids, Notices};
use crate::log::id::Seq;
use crate::log::testing::{Read, Silent, append, read, read_chunked, roomy, wire_bytes};
use crate::log::{Batch, Feed, Log, Replay, Writer};
use crate::memory::Budget;
use crate::sse::Event;

const NAMES: [&str; 3] = ["a", "b", "c"];
const TYPES: [&str; 4] = ["", "price", "trade", "rare"];

#[derive(Debug, Clone)]
enum Step {
    Advance,
    Append {
        source: usize,
        event_type: usize,
        id: Id,
        n: usize,
    },
    BeginEpoch(usize),
    /// A client comes, and is the one of this number.
    Come {
        client: usize,
        takes_tip: bool,
    },
    Gap(usize),
    Go(usize),
    Restart,
    State(usize),
    /// A client reads so many events.
    Take(usize, usize),
    ViewEnds,
    Wait(u64),
}

#[derive(Debug, Clone, Copy)]
enum Id {
    Few,
    None,
    Unique,
}

#[derive(Debug, Clone)]
struct Plan {
    limits: History,
    view_limits: History,
    n_sources: usize,
    types: Vec<usize>,
    max_pending_bytes: usize,
}

struct Source {
    log: Log,
    writer: Writer,
    /// All entries that there ever were: which must be told to whom has not seen it.
    said: Vec<Said>,
}

#[derive(Debug, Clone)]
struct Said {
    data: String,
    is_selected: bool,
}

struct World {
    plan: Plan,
    now: Instant,
    sources: Vec<Source>,
    view: Option<(Log, ViewWriter)>,
    clients: Vec<Client>,
    n_resets: usize,
}

#[derive(Default)]
struct Client {
    connection: Option<Connection>,
    last_id: Option<String>,
    /// The next entry of each source when it got its last id; `None`: any.
    saved: Vec<Option<usize>>,
    next: Vec<Option<usize>>,
}

struct Connection {
    feed: Arc<Feed>,
    at: u64,
    unread: VecDeque<Read>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let source = |_| {
            let (log, writer) = Log::new(plan.limits.clone(), Ids::Fill);
            log.tell_types(true);
            Source {
                log,
                writer,
                said: Vec::new(),
            }
        };
        Self {
            sources: (0..plan.n_sources).map(source).collect(),
            plan,
            now: Instant::now(),
            view: None,
            clients: (0..3).map(|_| Client::default()).collect(),
            n_resets: 0,
        }
    }

    fn selection(&self) -> Selection {
        Selection::of(
            self.plan
                .types
                .iter()
                .map(|number| TYPES[*number].to_owned()),
        )
    }

    fn step(&mut self, step: &Step) {
        self.now += Duration::from_millis(1);
        let n_sources = self.sources.len();
        match *step {
            Step::Advance => self.advance(),
            Step::Append {
                source,
                event_type,
                id,
                n,
            } => {
                for _ in 0..n {
                    self.push(source % n_sources, event_type, id);
                }
                // Some writers look at the clock long before they append. So a view that is made anew
                // merges in another order.
                let earlier = Duration::from_millis(5 * (source % n_sources) as u64);
                let at = self.now.checked_sub(earlier).unwrap();
                self.sources[source % n_sources].writer.commit(at);
            }
            Step::BeginEpoch(source) => {
                self.sources[source % n_sources]
                    .writer
                    .begin_epoch(self.now);
            }
            Step::Come { client, takes_tip } => self.come(client, takes_tip),
            Step::Gap(source) => self.notice(source % n_sources, "ssecast.gap"),
            Step::Go(client) => self.go(client),
            Step::Restart => self.restart(),
            Step::State(source) => self.notice(source % n_sources, "ssecast.upstream"),
            Step::Take(client, n) => {
                self.take(client, n);
            }
            Step::ViewEnds => self.end_view(),
            Step::Wait(seconds) => self.now += Duration::from_secs(seconds),
        }
    }

    fn push(&mut self, source: usize, event_type: usize, id: Id) {
        let is_selected = self.selection().has(
            if event_type == 0 {
                "message"
            } else {
                TYPES[event_type]
            }
            .as_bytes(),
        );
        let Source { writer, said, .. } = &mut self.sources[source];
        let data = format!("{source}:{}", said.len());
        let id = match id {
            Id::Few => Some("again".to_owned()),
            Id::None => None,
            Id::Unique => Some(format!("own {data}")),
        };
        writer.push(&Event {
            event_type: TYPES[event_type],
            data: &data,
            id: id.as_deref(),
        });
        said.push(Said { data, is_selected });
    }

    fn notice(&mut self, source: usize, event_type: &str) {
        let Source { writer, said, .. } = &mut self.sources[source];
        let data = format!("{source}:{}", said.len());
        writer.push_notice(event_type, &data);
        writer.commit(self.now);
        let is_selected = event_type == "ssecast.gap";
        said.push(Said { data, is_selected });
    }

    fn view(&mut self) -> &mut (Log, ViewWriter) {
        let selection = self.selection();
        self.view.get_or_insert_with(|| {
            let sources = NAMES.iter().zip(&self.sources);
            let sources: Vec<_> = sources.map(|(name, source)| (*name, &source.log)).collect();
            let recipe = Recipe {
                sources: &sources,
                selection,
                tagging: Tagging::None,
                notices: Notices::Losses,
                limits: self.plan.view_limits.clone(),
                max_pending_bytes: self.plan.max_pending_bytes,
            };
            let (log, mut writer) =
                recipe.make(|| Box::new(Silent), &Budget::unlimited(), self.now);
            while writer.advance() == super::Progress::More {}
            (log, writer)
        })
    }

    fn advance(&mut self) {
        if let Some((_, writer)) = &mut self.view {
            while writer.advance() == super::Progress::More {}
        }
    }

    fn end_view(&mut self) {
        for client in 0..self.clients.len() {
            self.go(client);
        }
        self.view = None;
    }

    /// The next process has what this one has left.
    fn restart(&mut self) {
        self.end_view();
        for source in &mut self.sources {
            let (log, mut writer) = Log::new(self.plan.limits.clone(), Ids::Fill);
            log.tell_types(true);
            source.log.export(usize::MAX, self.now, |retained| {
                let restored = writer.restore(&retained, Duration::ZERO, self.now);
                restored.expect("what a log left");
            });
            (source.log, source.writer) = (log, writer);
        }
    }

    fn come(&mut self, client: usize, takes_tip: bool) {
        if self.clients[client].connection.is_some() {
            return;
        }
        let now = self.now;
        let last_id = self.clients[client].last_id.clone();
        // What a request waits for: that the view has all that its client may have seen.
        self.view();
        self.advance();
        let (log, writer) = self.view();
        let (feed, _) = log.attach(Box::new(Silent), usize::MAX);
        let start = log.start(last_id.as_deref(), now);
        let read_so_far: Vec<_> = (writer.taps.iter())
            .map(|tap| Some(usize::try_from(tap.read.0).unwrap()))
            .collect();
        let mut unread: VecDeque<Read> = start.ahead.iter().flat_map(|one| read(one)).collect();
        let wire: Vec<u8> = (start.batches.iter())
            .flat_map(|batch| Batch::chunked_from(batch, start.at))
            .copied()
            .collect();
        unread.extend(read_chunked(&wire));
        let at = start.batches.last().map_or(start.at, |last| last.end());
        let retained: Vec<&str> = unread.iter().map(|one| one.data.as_str()).collect();
        match &start.replay {
            Replay::Fresh => {
                let tip = start.tip;
                assert_eq!(last_id, None);
                let client = &mut self.clients[client];
                client.next = read_so_far;
                client.saved.clone_from(&client.next);
                client.last_id = tip.filter(|_| takes_tip);
            }
            Replay::Complete => {
                let client = &mut self.clients[client];
                client.next.clone_from(&client.saved);
            }
            Replay::Expired | Replay::Unknown => {
                // Only if something is really gone that it has not seen.
                let is_gone = |(source, next): (&Source, &Option<usize>)| {
                    let missing = source.said.get(next.unwrap_or(0)..).unwrap_or_default();
                    let mut missing = missing.iter().filter(|said| said.is_selected);
                    missing.any(|said| !retained.contains(&said.data.as_str()))
                };
                let mut sources = self.sources.iter().zip(&self.clients[client].saved);
                assert!(sources.any(is_gone), "nothing is gone: {:?}", start.replay);
                let client = &mut self.clients[client];
                client.next = vec![None; self.sources.len()];
                self.n_resets += 1;
            }
        }
        self.clients[client].connection = Some(Connection { feed, at, unread });
    }

    fn go(&mut self, client: usize) {
        if let (Some(connection), Some((log, _))) =
            (self.clients[client].connection.take(), &self.view)
        {
            log.detach(&connection.feed);
        }
    }

    /// A client reads; returns whether there was anything.
    fn take(&mut self, client: usize, n: usize) -> bool {
        let Some(connection) = &mut self.clients[client].connection else {
            return false;
        };
        let mut batches = VecDeque::new();
        connection.feed.take(&mut batches);
        for batch in batches {
            if batch.end() > connection.at {
                assert_eq!(batch.start(), connection.at, "a seam");
                connection.at = batch.end();
                connection
                    .unread
                    .extend(read_chunked(batch.chunked_from(batch.start())));
            }
        }
        let n = n.min(connection.unread.len());
        let events: Vec<Read> = connection.unread.drain(..n).collect();
        for event in &events {
            self.receive(client, event);
        }
        n > 0
    }

    fn receive(&mut self, client: usize, event: &Read) {
        let client = &mut self.clients[client];
        if let Some(id) = &event.id {
            client.last_id = Some(id.clone());
        }
        if event.data.contains("view-overrun") {
            for (source, next) in NAMES.iter().zip(&mut client.next) {
                let named = format!(r#""channel":"{source}""#);
                if self.sources.len() == 1 || event.data.contains(&named) {
                    *next = None;
                }
            }
            return;
        }
        let (source, index) = event.data.split_once(':').expect("our data");
        let (source, index): (usize, usize) = (source.parse().unwrap(), index.parse().unwrap());
        let said = &self.sources[source].said;
        assert!(said[index].is_selected, "{event:?} is not selected");
        if let Some(next) = client.next[source] {
            assert!(
                next <= index,
                "{event:?} comes twice or too late, after {next}"
            );
            let skipped = said[next..index].iter().find(|said| said.is_selected);
            assert!(skipped.is_none(), "{skipped:?} is missing before {event:?}");
        }
        client.next[source] = Some(index + 1);
        if event.id.is_some() {
            client.saved.clone_from(&client.next);
        }
    }

    /// In the end everybody has everything.
    fn check_end(&mut self) {
        self.advance();
        for client in 0..self.clients.len() {
            while self.take(client, 100) {}
            if self.clients[client].connection.is_none() {
                continue;
            }
            for (source, next) in self.sources.iter().zip(&self.clients[client].next) {
                let Some(next) = next else { continue };
                let missing = source.said[*next..].iter().find(|said| said.is_selected);
                assert!(missing.is_none(), "client {client} never got {missing:?}");
            }
        }
    }
}

fn any_limits() -> impl Strategy<Value = History> {
    (0..12_usize, 200..3000_usize, any::<bool>()).prop_map(|(events, bytes, is_aged)| History {
        events,
        bytes,
        age: is_aged.then_some(Duration::from_secs(5)),
    })
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let limits = prop_oneof![2 => any_limits(), 1 => Just(roomy())];
    let view_limits = prop_oneof![1 => any_limits(), 2 => Just(roomy())];
    let types = prop_oneof![
        Just(vec![]),
        Just(vec![3]),
        Just(vec![1, 2]),
        Just(vec![0, 3])
    ];
    let pending = prop_oneof![4 => Just(usize::MAX), 1 => 1..400_usize];
    (limits, view_limits, 1..4_usize, types, pending).prop_map(
        |(limits, view_limits, n_sources, types, max_pending_bytes)| Plan {
            limits,
            view_limits,
            n_sources,
            types,
            max_pending_bytes,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = prop_oneof![Just(Id::Few), Just(Id::None), Just(Id::Unique)];
    let client = 0..3_usize;
    prop_oneof![
        8 => Just(Step::Advance),
        12 => (0..3_usize, 0..TYPES.len(), id, 1..4_usize).prop_map(
            |(source, event_type, id, n)| Step::Append { source, event_type, id, n }
        ),
        1 => (0..3_usize).prop_map(Step::BeginEpoch),
        6 => (client.clone(), any::<bool>()).prop_map(
            |(client, takes_tip)| Step::Come { client, takes_tip }
        ),
        1 => (0..3_usize).prop_map(Step::Gap),
        3 => client.clone().prop_map(Step::Go),
        1 => Just(Step::Restart),
        1 => (0..3_usize).prop_map(Step::State),
        8 => (client, 1..6_usize).prop_map(|(client, n)| Step::Take(client, n)),
        2 => Just(Step::ViewEnds),
        1 => (1..4_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_client_gets_each_event_of_its_selection_once_and_in_order(
        plan in any_plan(),
        steps in vec(any_step(), 1..120),
    ) {
        let mut world = World::new(plan);
        for step in &steps {
            world.step(step);
        }
        world.check_end();
    }
}

#[test]
fn what_a_view_was_too_slow_for_is_told_and_counted() {
    // What the source retains could be read again.
    let history = History {
        events: 1,
        ..roomy()
    };
    let (log, mut writer) = Log::new(history, Ids::Fill);
    let recipe = Recipe {
        sources: &[("a", &log)],
        selection: Selection::all(),
        tagging: Tagging::None,
        notices: Notices::Losses,
        limits: roomy(),
        max_pending_bytes: 1,
    };
    let budget = Budget::unlimited();
    let (view, mut view_writer) = recipe.make(|| Box::new(Silent), &budget, Instant::now());
    for data in ["x", "y", "z"] {
        append(&mut writer, &[(None, data)], Instant::now());
    }
    while view_writer.advance() == super::Progress::More {}
    assert_eq!(view_writer.take_n_lost(), 1);
    assert_eq!(view_writer.take_n_lost(), 0, "each once");
    let start = view.start(Some("?"), Instant::now());
    let events = read_chunked(&wire_bytes(&start));
    assert!(
        events
            .iter()
            .any(|event| event.data.contains("view-overrun")),
        "{events:?}"
    );
}

/// Whoever has seen an id can make others of it.
#[test]
fn no_number_in_an_id_breaks_anything() {
    let (log, mut writer) = Log::new(roomy(), Ids::Fill);
    let recipe = Recipe {
        sources: &[("a", &log)],
        selection: Selection::all(),
        tagging: Tagging::None,
        notices: Notices::All,
        limits: roomy(),
        max_pending_bytes: usize::MAX,
    };
    let budget = Budget::unlimited();
    let (view, mut view_writer) = recipe.make(|| Box::new(Silent), &budget, Instant::now());
    append(&mut writer, &[(None, "x")], Instant::now());
    view_writer.advance();
    let tip = view.start(None, Instant::now()).tip.expect("an id");
    let cursor = Cursor::parse(&tip).expect("one of ours");
    let epoch = cursor.marks[0].epoch();
    for (seq, expected) in [
        (0, Replay::Complete),
        (1, Replay::Complete),
        (2, Replay::Unknown),
        (u64::MAX - 1, Replay::Unknown),
        (u64::MAX, Replay::Unknown),
    ] {
        let mut made = cursor.clone();
        made.marks[0].move_to(epoch, Seq(seq));
        let id = made.encode();
        let start = view.start(Some(id.as_str()), Instant::now());
        assert_eq!(start.replay, expected, "{seq}");
    }
}
