//! Several channels on one connection, in front of an origin each.

use serde_json::Value;

use crate::support::{ANYWHERE, Admin, Event, Gateway, Origin, Subscriber, until_async};

struct World {
    a: Origin,
    b: Origin,
    gateway: Gateway,
}

impl World {
    async fn new(bundle: &str, server: &str) -> Self {
        let (a, b) = (Origin::start().await, Origin::start().await);
        let config = Self::config((&a, &b), bundle, server);
        let gateway = Gateway::with_config(&config).await;
        Self { a, b, gateway }
    }

    fn config((a, b): (&Origin, &Origin), bundle: &str, server: &str) -> String {
        format!(
            "[server]\ndrain = \"0s\"\n{server}\n[listen.public]\naddress = \"127.0.0.1:0\"\n\
             [channels.a]\npath = \"/a\"\nupstream = \"{}\"\n\
             [channels.b]\npath = \"/b\"\nupstream = \"{}\"\n\
             [bundles.all]\npath = \"/all\"\nchannels = [\"b\", \"a\"]\n{bundle}\n",
            a.url(),
            b.url()
        )
    }

    async fn subscribe(&self, query: &str, last_event_id: Option<&str>) -> Subscriber {
        let field = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n"));
        let client = self.gateway.connect().await;
        client
            .subscribe(&format!("/all?{query}"), &field.unwrap_or_default())
            .await
    }

    /// Sends some events of both, in turns and at once.
    async fn say(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let block = |name: &str| {
                format!(
                    "event: t{}\nid: {number}\ndata: {name} {number}\n\n",
                    number % 2
                )
            };
            let (a, b) = (block("a"), block("b"));
            tokio::join!(self.a.send(a), self.b.send(b));
        }
    }
}

/// The events of each channel in `events`, in order.
fn of(channel: &str, events: &[Event]) -> Vec<String> {
    let all = events.iter().map(|event| event.data.clone());
    all.filter(|data| data.starts_with(channel)).collect()
}

fn expected(channel: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers
        .map(|number| format!("{channel} {number}"))
        .collect()
}

async fn take(sub: &mut Subscriber, n: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..n {
        events.push(sub.next_event().await);
    }
    events
}

#[tokio::test]
async fn a_client_gets_the_events_of_its_channels_and_resumes_in_all_of_them() {
    const N: usize = 30;
    let world = World::new("select_events = true", "").await;
    let mut both = world.subscribe("channel=a&channel=b", None).await;
    let mut same = world.subscribe("channel=b,a", None).await;
    let mut one = world.subscribe("channel=b", None).await;
    let mut odd = world.subscribe("channel=a,b&event=t1", None).await;
    world.say(0..N).await;
    let events = take(&mut both, 2 * N).await;
    for channel in ["a", "b"] {
        assert_eq!(of(channel, &events), expected(channel, 0..N));
    }
    assert_eq!(take(&mut same, 2 * N).await, events, "they share a view");
    assert_eq!(of("b", &take(&mut one, N).await), expected("b", 0..N));
    let odd = take(&mut odd, N).await;
    assert!(odd.iter().all(|event| event.event_type == "t1"), "{odd:?}");
    for (n, event) in events.iter().enumerate().take(2 * N - 1) {
        let mut again = world.subscribe("channel=b,a", event.id.as_deref()).await;
        let rest = take(&mut again, 2 * N - n - 1).await;
        assert_eq!(rest, events[n + 1..], "after {event:?}");
    }
}

#[tokio::test]
async fn a_cut_in_one_process_goes_on_in_the_next() {
    let home = tempfile::TempDir::new().expect("a directory");
    let state = format!("state = \"{}\"", home.path().display());
    let mut world = World::new("", &state).await;
    let mut both = world.subscribe("channel=a,b", None).await;
    world.say(0..10).await;
    let events = take(&mut both, 20).await;
    world.gateway.signal("TERM");
    let ended = world.gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let config = World::config((&world.a, &world.b), "", &state);
    world.gateway = Gateway::with_config(&config).await;
    for (n, event) in events.iter().enumerate().step_by(3) {
        let mut again = world.subscribe("channel=a,b", event.id.as_deref()).await;
        let rest = take(&mut again, 19 - n).await;
        let had = &events[..=n];
        for channel in ["a", "b"] {
            let all = [of(channel, had), of(channel, &rest)].concat();
            assert_eq!(all, expected(channel, 0..10), "after {event:?}");
        }
    }
}

#[tokio::test]
async fn where_types_are_prefixed_and_notices_name_their_channel_a_page_can_tell() {
    let world = World::new("event_types = \"prefixed\"\nnotices = \"losses\"", "").await;
    let mut both = world.subscribe("channel=a,b", None).await;
    let a = world.a.stream().await;
    a.send("data: x\n\nevent: price\ndata: y\n\n").await;
    let events = take(&mut both, 2).await;
    let types: Vec<&str> = events.iter().map(|one| one.event_type.as_str()).collect();
    assert_eq!(types, ["a:message", "a:price"]);
    a.finish().await;
    world.a.connection(2).await.send("data: z\n\n").await;
    let gap = both.next_event().await;
    assert_eq!(gap.event_type, "ssecast.gap", "{gap:?}");
    assert!(gap.data.starts_with(r#"{"channel":"a","#), "{gap:?}");
    assert_eq!(both.expect_event("z").await.event_type, "a:message");
}

/// By the name that a client sees it has, a type is one channel's; without, it is that of all.
#[tokio::test]
async fn prefixed_types_are_selected_as_clients_see_them() {
    let world = World::new("event_types = \"prefixed\"\nselect_events = true", "").await;
    let mut one = world.subscribe("channel=a,b&event=a:t1", None).await;
    let mut mixed = world.subscribe("channel=a,b&event=b:t0,t1", None).await;
    world.say(0..4).await;
    let said = |events: Vec<Event>| {
        let events = events.into_iter();
        let said = events.map(|one| format!("{} {}", one.event_type, one.data));
        let mut said: Vec<String> = said.collect();
        said.sort();
        said
    };
    assert_eq!(said(take(&mut one, 2).await), ["a:t1 a 1", "a:t1 a 3"]);
    let taken = take(&mut mixed, 6).await;
    // It has all that it asked for, in whatever order the channels were merged.
    let last = taken.last().and_then(|event| event.id.clone());
    let expected = [
        "a:t1 a 1", "a:t1 a 3", "b:t0 b 0", "b:t0 b 2", "b:t1 b 1", "b:t1 b 3",
    ];
    assert_eq!(said(taken), expected);
    let mut again = world
        .subscribe("channel=a,b&event=b:t1,a:t1", last.as_deref())
        .await;
    world.say(5..6).await;
    assert_eq!(said(take(&mut again, 2).await), ["a:t1 a 5", "b:t1 b 5"]);
}

/// It has clients and views, and no upstream of its own: nothing is waited for, and nothing is told.
#[tokio::test]
async fn what_is_told_of_a_bundle_is_about_its_clients_and_its_views() {
    let server = format!("[defaults]\nready = \"connected\"\n{ANYWHERE}");
    let world = World::new("select_events = true", &server).await;
    let admin = Admin::of(&world.gateway).await;
    let ready = until_async("the gateway to be ready", async || {
        match admin.get("/ready").await {
            (200, _) => Ok(()),
            (_, why) => Err(why),
        }
    });
    ready.await;
    let mut subs = [
        (world.subscribe("channel=a,b", None).await, 6),
        (world.subscribe("channel=b,a", None).await, 6),
        (world.subscribe("channel=a", None).await, 3),
        (world.subscribe("channel=a&event=t1", None).await, 1),
    ];
    world.say(0..3).await;
    for (sub, n) in &mut subs {
        take(sub, *n).await;
    }
    let of = |name: &str| format!("ssecast_{name}{{channel=\"all\"}}");
    let [views, subscribers, connects, delivered, gaps] = [
        "views",
        "subscribers",
        "connects_total",
        "delivered_events_total",
        "gaps_total",
    ]
    .map(of);
    let told = [
        (&*views, 3.0),
        (&*subscribers, 4.0),
        (&*connects, 4.0),
        (&*delivered, 16.0),
        (&*gaps, 0.0),
    ];
    admin.until(&told).await;
    let metrics = admin.metrics().await;
    let of_bundle = metrics
        .text
        .lines()
        .filter(|line| line.contains("channel=\"all\""));
    let of_upstream =
        |line: &&str| line.starts_with("ssecast_upstream_") || line.starts_with("ssecast_log_");
    let untrue: Vec<&str> = of_bundle.filter(of_upstream).collect();
    assert_eq!(untrue, [""; 0]);
    assert!(
        metrics.value(&of("view_log_bytes")) > 100.0,
        "{}",
        metrics.text
    );
    let status = admin.status().await;
    let all = &status["channels"].as_array().expect("channels")[1];
    assert_eq!(
        (&all["name"], &all["clients"]),
        (&"all".into(), &4.into()),
        "{all}"
    );
    assert_eq!(
        (&all["upstream"], &all["log"]),
        (&Value::Null, &Value::Null),
        "{all}"
    );
    assert!(all["view_log_bytes"].as_u64() > Some(100), "{all}");
}

#[tokio::test]
async fn only_channels_that_are_there_may_be_asked_for() {
    for (server, lists) in [("", false), ("unknown_path = \"list\"", true)] {
        let world = World::new("", server).await;
        for query in ["", "?channel=", "?channel=c", "?channel=a,c"] {
            let request = format!("GET /all{query} HTTP/1.1\r\nHost: x\r\n\r\n");
            let (head, body) = world.gateway.connect().await.ask(request).await;
            assert_eq!(head.status, 400, "{query}: {body}");
            assert_eq!(body.contains("a, b"), lists, "{query}: {body}");
        }
    }
}

#[tokio::test]
async fn a_reload_that_takes_a_channel_out_sends_its_clients_back() {
    let world = World::new("", "").await;
    let mut both = world.subscribe("channel=a,b", None).await;
    world.say(0..1).await;
    let last = take(&mut both, 2).await.pop().expect("an event");
    let config = World::config((&world.a, &world.b), "", "").replace("[\"b\", \"a\"]", "[\"a\"]");
    world.gateway.reload(&config, "applied").await;
    both.expect_end().await;
    let mut again = world.subscribe("channel=a", last.id.as_deref()).await;
    world.a.send("data: a more\n\n").await;
    let events = again.events_through("a more").await;
    assert_eq!(events.len(), 1, "{events:?}");
}

/// They ask for the same channels as before; the view that they were sent away from takes nobody.
#[tokio::test]
async fn clients_that_a_reload_sends_back_are_let_in_at_once() {
    let world = World::new("", "").await;
    let mut one = world.subscribe("channel=a", None).await;
    world.a.send("data: before\n\n").await;
    let last = one.expect_event("before").await;
    let config = World::config((&world.a, &world.b), "", "").replace("[\"b\", \"a\"]", "[\"a\"]");
    world.gateway.reload(&config, "applied").await;
    one.expect_end().await;
    let mut again = world.subscribe("channel=a", last.id.as_deref()).await;
    world.a.send("data: after\n\n").await;
    let events = again.events_through("after").await;
    assert_eq!(events.len(), 1, "{events:?}");
}
