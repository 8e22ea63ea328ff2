//! What becomes of clients that are too far behind, by the policy of their channel: whatever it is,
//! they get events in order, each once, and are told how many they did not get.

mod crowd;

use crate::support::{
    ANYWHERE, Admin, Connector, End, Event, Gateway, Http2, Item, Origin, Pair, Subscriber,
    Windows, one_channel, trusting_config,
};

/// A client that the kernel can't hide.
const SMALL: u32 = 4096;

/// Much less than what a test sends.
const SKIP: &str = "lag = { limit = \"32KiB\", then = \"skip\" }\nwrite_timeout = \"off\"";

const EVENT_BYTES: usize = 4096;

/// How a client is connected.
#[derive(Debug, Clone, Copy)]
enum Over {
    Http1,
    Http10,
    Http2,
    Tls,
}

/// A client that reads only when a test does, with what it depends on.
struct Slow {
    sub: Subscriber,
    _connection: Option<Http2>,
}

impl Slow {
    async fn connect(gateway: &Gateway, over: Over) -> Self {
        let connector = Connector::default().receive_buffer(SMALL);
        let mut connection = None;
        let mut sub = match over {
            Over::Http1 => {
                let client = connector.connect(gateway).await;
                client.subscribe("/events", "").await
            }
            Over::Http10 => {
                let mut client = connector.connect(gateway).await;
                client.send("GET /events HTTP/1.0\r\n\r\n").await;
                client.into_subscriber().await
            }
            Over::Http2 => {
                let windows = Windows {
                    stream: SMALL,
                    ..Windows::default()
                };
                let client = Http2::with_windows(gateway, windows).await;
                let sub = client.subscribe().await;
                connection = Some(client);
                sub
            }
            Over::Tls => {
                let config = trusting_config();
                let address = gateway.address();
                let connecting = connector.connect_over_tls(address, "gateway.test", &config);
                let (client, _) = connecting.await;
                client.subscribe("/events", "").await
            }
        };
        // Before that it may be on its way still.
        assert!(matches!(sub.next_item().await, Item::Retry(_)));
        Self {
            sub,
            _connection: connection,
        }
    }
}

fn data(n: usize) -> String {
    format!("{n}-{}", "x".repeat(EVENT_BYTES))
}

fn number(event: &Event) -> usize {
    let digits = event.data.split('-').next().unwrap_or_default();
    let number = digits.parse();
    number.unwrap_or_else(|_| panic!("a number: {event:?}"))
}

/// Sends events in step with a reader, which must get every one of them.
async fn send(origin: &Origin, reader: &mut Subscriber, events: std::ops::Range<usize>) {
    for n in events {
        let data = data(n);
        origin.send(format!("id: {n}\ndata: {data}\n\n")).await;
        reader.expect_event(&data).await;
    }
}

/// The number in a gap's notice.
fn missed(gap: &Event, reason: &str) -> usize {
    assert_eq!((gap.event_type.as_str(), &gap.id), ("ssecast.gap", &None));
    let digits = gap.data.strip_prefix("{\"missed\":");
    let digits = digits.and_then(|rest| rest.strip_suffix(&format!(",\"reason\":\"{reason}\"}}")));
    let missed = digits.and_then(|digits| digits.parse().ok());
    missed.unwrap_or_else(|| panic!("not a gap for {reason}: {gap:?}"))
}

/// Checks that events follow each other from `first` on, or are told to be missed; returns how many
/// were missed, and the number of the next.
fn account(events: &[Event], first: usize) -> (usize, usize) {
    let (mut n_missed, mut next) = (0, first);
    for event in events {
        if event.event_type.is_empty() {
            assert_eq!(number(event), next, "after {n_missed} missed");
            next += 1;
        } else {
            let missed = missed(event, "lag");
            assert!(missed > 0);
            n_missed += missed;
            next += missed;
        }
    }
    (n_missed, next)
}

async fn config_with_tls(origin: &Origin, lines: &str, pair: &Pair) -> Gateway {
    let config = one_channel(&origin.url(), lines);
    let with_tls = config.replacen("\n\n", &format!("\ntls = {}\n\n", pair.table()), 1);
    Gateway::with_config(&with_tls).await
}

#[tokio::test]
async fn a_slow_client_skips_to_the_head_and_is_told_how_many_it_missed() {
    for over in [Over::Http1, Over::Http10, Over::Http2, Over::Tls] {
        let origin = Origin::start().await;
        let pair = Pair::new(&["gateway.test"]);
        let (gateway, mut reader) = if matches!(over, Over::Tls) {
            let gateway = config_with_tls(&origin, SKIP, &pair).await;
            let (client, _) = Connector::default()
                .connect_over_tls(gateway.address(), "gateway.test", &trusting_config())
                .await;
            (gateway, client.subscribe("/events", "").await)
        } else {
            let gateway = Gateway::with(SKIP, &origin).await;
            let reader = gateway.subscribe().await;
            (gateway, reader)
        };
        let mut slow = Slow::connect(&gateway, over).await;
        let (mut n_missed, mut next) = (0, 0);
        for round in 1..=3 {
            // It stalls, and is woken.
            let last = round * 100;
            send(&origin, &mut reader, next.max(last - 100)..last).await;
            let reading = async {
                let mut events = Vec::new();
                // The last that was sent is skipped, too, if it does not come before the gap.
                loop {
                    let event = slow.sub.next_event().await;
                    events.push(event);
                    let (_, next) = account(&events, next);
                    if next >= last {
                        return events;
                    }
                }
            };
            let events = reading.await;
            let (missed, reached) = account(&events, next);
            assert!(missed > 20, "{over:?}: {missed} in round {round}");
            n_missed += missed;
            next = reached;
            assert_eq!(next, last, "{over:?}: in round {round}");
        }
        // It is as live as all others.
        send(&origin, &mut reader, next..next + 5).await;
        for n in next..next + 5 {
            slow.sub.expect_event(&data(n)).await;
        }
        assert!(n_missed < 300);
        let line = &gateway.logged(1, &["WARN", "too slow"]).await[0];
        assert!(line.contains("policy=\"skip\""), "{line}");
    }
}

/// Keys of the events of [`send_prices`].
const N_SYMBOLS: usize = 7;

const CONFLATE: &str = "lag = { limit = \"32KiB\", then = \"conflate\" }\nconflate_by = \"/symbol\"\n\
                        write_timeout = \"off\"";

fn price(n: usize) -> String {
    let padding = "x".repeat(EVENT_BYTES);
    format!(
        r#"{{"symbol":"s{}","price":{n},"padding":"{padding}"}}"#,
        n % N_SYMBOLS
    )
}

/// Sends the prices of several symbols in turn, in step with a reader.
async fn send_prices(origin: &Origin, reader: &mut Subscriber, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let price = price(n);
        origin.send(format!("id: {n}\ndata: {price}\n\n")).await;
        reader.expect_event(&price).await;
    }
}

/// What a client knows of prices.
#[derive(Debug, Default)]
struct Prices {
    of: [Option<usize>; N_SYMBOLS],
    n_events: usize,
    n_missed: usize,
    last_id: Option<String>,
}

impl Prices {
    /// Takes an event, which must be newer than those before, or a gap, which must be told before it
    /// shows.
    fn take(&mut self, event: &Event) {
        if event.event_type == "ssecast.gap" {
            self.n_missed += missed(event, "conflated");
            return;
        }
        let n: usize = event
            .id
            .as_deref()
            .expect("an id")
            .parse()
            .expect("a number");
        assert_eq!(event.data, price(n));
        let known = self.of.iter().flatten().max();
        assert!(known.is_none_or(|known| *known < n), "{n} after {self:?}");
        assert!(
            n - self.n_events <= self.n_missed,
            "{n} is not told: {self:?}"
        );
        self.of[n % N_SYMBOLS] = Some(n);
        self.n_events += 1;
        self.last_id.clone_from(&event.id);
    }

    fn after(n: usize) -> [Option<usize>; N_SYMBOLS] {
        std::array::from_fn(|symbol| (0..n).rev().find(|n| n % N_SYMBOLS == symbol))
    }
}

#[tokio::test]
async fn a_slow_client_gets_the_newest_of_each_key_and_is_told_how_many_were_superseded() {
    for over in [Over::Http1, Over::Http10, Over::Http2] {
        let origin = Origin::start().await;
        let gateway = Gateway::with(CONFLATE, &origin).await;
        let mut reader = gateway.subscribe().await;
        let mut slow = Slow::connect(&gateway, over).await;
        let mut prices = Prices::default();
        for round in 1..=3 {
            let last = round * 100;
            send_prices(&origin, &mut reader, last - 100..last).await;
            while prices.n_events + prices.n_missed < last {
                prices.take(&slow.sub.next_event().await);
            }
            assert_eq!(prices.of, Prices::after(last), "{over:?}, round {round}");
        }
        assert!(prices.n_missed > 60, "{over:?}: {prices:?}");
        // It is as live as all others.
        send_prices(&origin, &mut reader, 300..303).await;
        for n in 300..303 {
            slow.sub.expect_event(&price(n)).await;
        }
    }
}

/// Wherever it is cut: it resumes by its last id, and ends with the same state as all others.
#[tokio::test]
async fn who_is_cut_in_the_middle_of_the_newest_events_resumes_without_a_loss() {
    // Also of events that the history has no more.
    for history in ["history = { events = 1000 }", "history = { events = 3 }"] {
        let origin = Origin::start().await;
        let gateway = Gateway::with(&format!("{CONFLATE}\n{history}"), &origin).await;
        let mut reader = gateway.subscribe().await;
        for n_more in 0..N_SYMBOLS {
            let (first, last) = (n_more * 100, (n_more + 1) * 100);
            let mut slow = Slow::connect(&gateway, Over::Http1).await;
            send_prices(&origin, &mut reader, first..last).await;
            let mut prices = Prices {
                n_missed: first,
                ..Prices::default()
            };
            while prices.n_missed == first {
                prices.take(&slow.sub.next_event().await);
            }
            for _ in 0..n_more {
                prices.take(&slow.sub.next_event().await);
            }
            drop(slow);
            let last_id = prices.last_id.expect("some events came");
            let mut resumed = gateway.resume_after(&last_id).await;
            let mut of = prices.of;
            let mut known: usize = last_id.parse().expect("a number");
            let mut is_reset = false;
            while known < last - 1 {
                let event = resumed.next_event().await;
                if event.event_type == "ssecast.reset" {
                    // What follows is the whole state.
                    assert!(event.data.contains("\"latest\""), "{event:?}");
                    (of, known, is_reset) = ([None; N_SYMBOLS], 0, true);
                    continue;
                }
                let n: usize = event.id.expect("an id").parse().expect("a number");
                let follows = n == known + 1 || (is_reset && n >= known);
                assert!(follows, "{n} after {known}");
                known = n;
                of[n % N_SYMBOLS] = Some(n);
            }
            assert_eq!(
                of,
                Prices::after(last),
                "after {n_more} of the newest events"
            );
        }
    }
}

#[tokio::test]
async fn the_limit_may_be_a_number_of_events_or_an_age() {
    for limit in ["events = 20", "age = \"10ms\""] {
        let origin = Origin::start().await;
        let keys = format!("lag = {{ {limit}, then = \"skip\" }}");
        let gateway = Gateway::with(&keys, &origin).await;
        let mut reader = gateway.subscribe().await;
        let mut slow = Slow::connect(&gateway, Over::Http1).await;
        // Less than `lag.limit`.
        send(&origin, &mut reader, 0..200).await;
        let mut events = Vec::new();
        while account(&events, 0).1 < 200 {
            events.push(slow.sub.next_event().await);
        }
        let (n_missed, next) = account(&events, 0);
        assert!(n_missed > 20, "{limit}: {n_missed}");
        assert_eq!(next, 200, "{limit}");
    }
}

#[tokio::test]
async fn within_every_limit_nothing_is_skipped() {
    let origin = Origin::start().await;
    let keys = "lag = { limit = \"2MiB\", events = 250, age = \"1h\", then = \"skip\" }";
    let gateway = Gateway::with(keys, &origin).await;
    let mut reader = gateway.subscribe().await;
    let mut slow = Slow::connect(&gateway, Over::Http1).await;
    send(&origin, &mut reader, 0..200).await;
    for n in 0..200 {
        slow.sub.expect_event(&data(n)).await;
    }
}

#[tokio::test]
async fn who_is_cut_after_a_gap_resumes_by_id_and_gets_what_it_had_missed() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(SKIP, &origin).await;
    let mut reader = gateway.subscribe().await;
    let mut slow = Slow::connect(&gateway, Over::Http1).await;
    send(&origin, &mut reader, 0..200).await;
    let mut last_id = None;
    let gap = loop {
        let event = slow.sub.next_event().await;
        match event.id {
            Some(id) => last_id = Some(id),
            None => break event,
        }
    };
    assert!(missed(&gap, "lag") > 20);
    drop(slow);
    let last_id = last_id.expect("some events came");
    let first: usize = last_id.parse().expect("a number");
    let mut resumed = gateway.resume_after(&last_id).await;
    for n in first + 1..200 {
        resumed.expect_event(&data(n)).await;
    }
}

#[tokio::test]
async fn without_notices_a_gap_is_counted_and_not_told() {
    let origin = Origin::start().await;
    let keys = format!("{SKIP}\nnotices = \"none\"\n{ANYWHERE}");
    let gateway = Gateway::with(&keys, &origin).await;
    let admin = Admin::of(&gateway).await;
    let mut reader = gateway.subscribe().await;
    let mut slow = Slow::connect(&gateway, Over::Http1).await;
    send(&origin, &mut reader, 0..200).await;
    let reading = tokio::spawn(async move { slow.sub.events_through(&data(200)).await });
    admin
        .until(&[(&by_policy("ssecast_lagged_total", "skip"), 1.0)])
        .await;
    send(&origin, &mut reader, 200..201).await;
    let events = reading.await.expect("the slow client");
    let numbers: Vec<usize> = events.iter().map(number).collect();
    let n_before = numbers.len() - 1;
    assert_eq!(numbers[..n_before], (0..n_before).collect::<Vec<_>>());
    let n_missed = 200 - n_before;
    assert!(n_missed > 20, "{n_missed}");
    let counter = by_policy("ssecast_lag_missed_events_total", "skip");
    let n_missed = u32::try_from(n_missed).expect("few");
    admin.until(&[(&counter, f64::from(n_missed))]).await;
}

#[tokio::test]
async fn what_becomes_of_a_stalled_client_is_decided_by_the_policy_when_it_reads_again() {
    let origin = Origin::start().await;
    let config = |then: &str| {
        let lag = format!("lag = {{ limit = \"32KiB\", then = \"{then}\" }}");
        one_channel(&origin.url(), &lag)
    };
    let gateway = Gateway::with_config(&config("skip")).await;
    let mut reader = gateway.subscribe().await;
    let mut slow = Slow::connect(&gateway, Over::Http1).await;
    send(&origin, &mut reader, 0..200).await;
    gateway.reload(&config("disconnect"), "applied").await;
    // It is live, and it has not left.
    send(&origin, &mut reader, 200..220).await;
    let (events, end) = slow.sub.events_to_end().await;
    assert_eq!(end, End::Cut, "at the end of an event");
    let numbers: Vec<usize> = events.iter().map(number).collect();
    assert_eq!(numbers, (0..events.len()).collect::<Vec<_>>());
    let last = events.last().and_then(|event| event.id.clone());
    let mut resumed = gateway.resume_after(&last.expect("some events")).await;
    for n in events.len()..220 {
        resumed.expect_event(&data(n)).await;
    }
    gateway.logged(1, &["WARN", "reason=\"lagged\""]).await;
}

#[tokio::test]
async fn a_stalled_client_leaves_with_all_others() {
    let mut origin = Origin::start().await;
    let config = format!(
        "[server]\ndrain = \"1s\"\n{}",
        one_channel(&origin.url(), SKIP)
    );
    let mut gateway = Gateway::with_config(&config).await;
    let mut reader = gateway.subscribe().await;
    let mut slow = Slow::connect(&gateway, Over::Http1).await;
    send(&origin, &mut reader, 0..200).await;
    gateway.signal("TERM");
    reader.expect_end().await;
    gateway.ended().await;
    origin.go_away();
    // What the kernel had for it is whole events, as far as they came; and no gap is told, because
    // it may resume.
    let (events, _) = slow.sub.events_to_end().await;
    let numbers: Vec<usize> = events.iter().map(number).collect();
    assert_eq!(numbers, (0..events.len()).collect::<Vec<_>>());
}

/// Each stalls in an event of its own, of which the gateway keeps the rest, and nothing else.
#[tokio::test]
async fn stalled_clients_keep_no_more_than_their_own_event() {
    const N_CLIENTS: usize = 40;
    let origin = Origin::start().await;
    let keys = format!(
        "{SKIP}\nhistory = {{ bytes = \"64KiB\" }}\nmax_event_bytes = \"64KiB\"\n{ANYWHERE}"
    );
    let gateway = Gateway::with(&keys, &origin).await;
    let admin = Admin::of(&gateway).await;
    let mut reader = gateway.subscribe().await;
    let mut stalled = Vec::new();
    for n in 0..N_CLIENTS {
        stalled.push((Slow::connect(&gateway, Over::Http1).await, n * 20));
        send(&origin, &mut reader, n * 20..(n + 1) * 20).await;
    }
    let last = (N_CLIENTS + 40) * 20;
    send(&origin, &mut reader, N_CLIENTS * 20..last).await;
    let held = admin
        .metrics()
        .await
        .value("ssecast_memory_bytes{for=\"events\"}");
    let own = (N_CLIENTS * 2 * EVENT_BYTES) as f64;
    assert!(
        held < 64.0 * 1024.0 * 2.0 + own,
        "{held} bytes of events are held"
    );
    for (mut slow, first) in stalled {
        let mut events = Vec::new();
        while account(&events, first).1 < last {
            events.push(slow.sub.next_event().await);
        }
        assert!(account(&events, first).0 > 20);
    }
}

fn by_policy(name: &str, policy: &str) -> String {
    format!("{name}{{channel=\"events\",policy=\"{policy}\"}}")
}
