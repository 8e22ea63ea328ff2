//! Channels from templates: an instance for each key that somebody asks for, each with one upstream.

use futures_util::future::join_all;

use crate::support::{
    ANYWHERE, Admin, Answer, End, Gateway, Head, Http2, Item, Origin, OriginConnection, Subscriber,
    event_stream,
};

/// A gateway with the channel `rooms`, these lines in its table, and what may follow it.
async fn rooms(lines: &str, origin: &Origin) -> Gateway {
    Gateway::with_config(&config(lines, origin)).await
}

fn config(lines: &str, origin: &Origin) -> String {
    let address = origin.address();
    format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\
         [channels.rooms]\npath = \"/rooms/{{room}}/events\"\n\
         upstream = \"http://{address}/rooms/{{room}}/events\"\n\
         backoff = {{ first = \"10ms\", max = \"20ms\" }}\n{lines}\n{ANYWHERE}\n"
    )
}

async fn subscribe(gateway: &Gateway, path: &str) -> Subscriber {
    subscribe_with(gateway, path, "").await
}

async fn subscribe_with(gateway: &Gateway, path: &str, fields: &str) -> Subscriber {
    gateway.connect().await.subscribe(path, fields).await
}

/// Asks as an `EventSource` does, and returns the head and the content of a short answer.
async fn ask(gateway: &Gateway, target: &str) -> (Head, String) {
    let mut client = gateway.connect().await;
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    client.ask(request).await
}

/// The connection to the origin that asked for this target.
async fn asked_for(origin: &Origin, target: &str) -> OriginConnection {
    let mut number = 1;
    loop {
        let connection = origin.connection(number).await;
        if connection.target() == target {
            return connection;
        }
        number += 1;
    }
}

/// Waits until a metric of the channel has this value.
async fn until_metric(gateway: &Gateway, name: &str, value: u32) {
    let name = if name.contains('{') {
        name.to_owned()
    } else {
        format!("{name}{{channel=\"rooms\"}}")
    };
    let admin = Admin::of(gateway).await;
    admin.until(&[(&name, f64::from(value))]).await;
}

fn status(code: u16) -> Answer {
    let text = format!("HTTP/1.1 {code} No\r\nContent-Length: 0\r\n\r\n");
    Answer::RawAndClose(text.into_bytes())
}

#[tokio::test]
async fn each_value_has_a_stream_of_its_own() {
    let origin = Origin::start().await;
    let gateway = rooms("", &origin).await;
    assert_eq!(origin.n_connections(), 0, "nobody has asked");
    let mut one = subscribe(&gateway, "/rooms/one/events").await;
    let mut two = subscribe(&gateway, "/rooms/two%20b/events").await;
    let mut one_again = subscribe(&gateway, "/rooms/%6Fne/events?any=query").await;
    let (to_one, to_two) = (
        asked_for(&origin, "/rooms/one/events").await,
        asked_for(&origin, "/rooms/two%20b/events").await,
    );
    to_one.send("data: for one\n\n").await;
    to_two.send("data: for two\n\n").await;
    one.expect_event("for one").await;
    one_again.expect_event("for one").await;
    two.expect_event("for two").await;
    assert_eq!(origin.n_connections(), 2);
}

#[tokio::test]
async fn two_thousand_clients_in_one_moment_are_one_upstream() {
    const N: usize = 2000;
    let origin = Origin::answering(Answer::Nothing).await;
    let gateway = rooms("", &origin).await;
    let clients = join_all((0..N).map(|_| gateway.connect())).await;
    // All ask before the origin has said anything.
    let asking = clients.into_iter().map(|mut client| async move {
        client
            .send("GET /rooms/a/events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
            .await;
        client.into_subscriber().await
    });
    let answering = async {
        let connection = origin.connection(1).await;
        connection.send_raw(event_stream("")).await;
        connection
    };
    let (mut subs, connection) = tokio::join!(join_all(asking), answering);
    for n in 0..3 {
        connection.send_raw(format!("data: {n}\n\n")).await;
    }
    let all = subs.iter_mut().map(|sub| async move {
        assert_eq!(sub.head.status, 200);
        for n in 0..3 {
            sub.expect_event(&n.to_string()).await;
        }
    });
    join_all(all).await;
    assert_eq!(origin.n_connections(), 1);
    assert_eq!(origin.newest().await.target(), "/rooms/a/events");
}

#[tokio::test]
async fn a_client_that_comes_back_while_the_instance_lingers_finds_the_history() {
    let origin = Origin::start().await;
    let gateway = rooms("linger = \"1h\"", &origin).await;
    let mut sub = subscribe(&gateway, "/rooms/a/events").await;
    let connection = origin.connection(1).await;
    connection.send("id: 1\ndata: one\n\n").await;
    sub.expect_event("one").await;
    drop(sub);
    gateway.logged(1, &["a subscriber left"]).await;
    // While nobody is there.
    connection.send("id: 2\ndata: two\n\n").await;
    let mut sub = subscribe_with(&gateway, "/rooms/a/events", "Last-Event-ID: 1\r\n").await;
    sub.expect_event("two").await;
    assert_eq!(origin.n_connections(), 1);
}

#[tokio::test]
async fn an_instance_that_nobody_is_in_ends_and_the_next_client_makes_another() {
    let origin = Origin::start().await;
    let gateway = rooms("linger = \"0s\"", &origin).await;
    for n in 1..=3 {
        let mut sub = subscribe(&gateway, "/rooms/a/events").await;
        let connection = origin.connection(n).await;
        connection.send(format!("data: {n}\n\n")).await;
        sub.expect_event(&n.to_string()).await;
        drop(sub);
        connection.closed().await;
    }
    assert_eq!(origin.n_connections(), 3);
    until_metric(&gateway, "ssecast_instances", 0).await;
}

#[tokio::test]
async fn last_leaves_and_first_returns_again_and_again_lose_nothing() {
    const ROUNDS: usize = 300;
    let origin = Origin::answering(Answer::Raw(
        (event_stream("") + "data: hello\n\n").into_bytes(),
    ))
    .await;
    let gateway = rooms("linger = \"0s\"\nhistory = { events = 0 }", &origin).await;
    let visits = (0..4).map(|_| async {
        for _ in 0..ROUNDS {
            let sub = subscribe(&gateway, "/rooms/a/events").await;
            assert_eq!(sub.head.status, 200);
            drop(sub);
        }
    });
    join_all(visits).await;
    until_metric(&gateway, "ssecast_instances", 0).await;
    until_metric(&gateway, "ssecast_subscribers", 0).await;
    // And who stays gets events, from the one upstream that there is.
    let mut sub = subscribe(&gateway, "/rooms/a/events").await;
    origin.newest().await.send_raw("data: last\n\n").await;
    sub.events_through("last").await;
}

#[tokio::test]
async fn what_a_client_sends_beyond_the_key_never_goes_upstream() {
    let origin = Origin::start().await;
    let lines = "key = { query = [\"lang\"], headers = [\"X-Tenant\"] }";
    let gateway = rooms(lines, &origin).await;
    let target = "/rooms/a/events?secret=s3cret&lang=en&last_event_id=7&token=s3cret";
    let fields = "Authorization: Bearer s3cret\r\nCookie: session=s3cret\r\nX-Tenant: t1\r\n\
                  X-Forwarded-For: 10.9.8.7\r\nUser-Agent: s3cret\r\nReferer: http://s3cret/\r\n\
                  Accept-Language: s3cret\r\nOrigin: http://s3cret\r\nCache-Control: max-age=5\r\n";
    let _sub = subscribe_with(&gateway, target, fields).await;
    let connection = origin.connection(1).await;
    assert_eq!(connection.target(), "/rooms/a/events?lang=en");
    assert_eq!(connection.request_field("x-tenant"), Some("t1"));
    assert_eq!(connection.request_field("last-event-id"), Some("7"));
    let request = connection.request();
    for theirs in ["s3cret", "10.9.8.7", "max-age"] {
        assert!(!request.contains(theirs), "{request}");
    }
    let mut names: Vec<String> = request
        .lines()
        .skip(1)
        .filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
        .collect();
    names.sort();
    let ours = [
        "accept",
        "accept-encoding",
        "cache-control",
        "host",
        "last-event-id",
        "user-agent",
        "x-tenant",
    ];
    assert_eq!(names, ours, "{request}");
}

#[tokio::test]
async fn keys_that_differ_are_never_shared_and_keys_that_do_not_always_are() {
    let origin = Origin::start().await;
    let lines = "key = { query = [\"lang\", \"size\"], headers = [\"Authorization\"] }";
    let gateway = rooms(lines, &origin).await;
    let same = [
        ("?lang=en&size=1", ""),
        ("?size=1&lang=en", ""),
        ("?size=1&x=y&lang=%65n", "Cookie: a=b\r\n"),
    ];
    let others = [
        ("?lang=en", ""),
        ("?lang=en&size=", ""),
        ("?lang=en&lang=de&size=1", ""),
        ("?lang=en&size=1", "Authorization: Bearer one\r\n"),
        ("?lang=en&size=1", "Authorization: Bearer two\r\n"),
    ];
    let mut subs = Vec::new();
    for (query, fields) in same.into_iter().chain(others) {
        let path = format!("/rooms/a/events{query}");
        subs.push(subscribe_with(&gateway, &path, fields).await);
    }
    assert_eq!(origin.n_connections(), 1 + others.len());
    // Each gets what is meant for its key, and nothing else.
    for n in 1..=origin.n_connections() {
        let connection = origin.connection(n).await;
        connection.send(format!("data: {n}\n\n")).await;
    }
    for (n, sub) in subs.iter_mut().enumerate() {
        let expected = n.saturating_sub(same.len() - 1) + 1;
        sub.expect_event(&expected.to_string()).await;
    }
    let log = gateway.log();
    assert!(!log.contains("Bearer") && !log.contains("two"), "{log}");
}

#[tokio::test]
async fn what_could_change_the_url_of_the_upstream_is_refused_and_asks_nobody() {
    let origin = Origin::start().await;
    let address = origin.address();
    let more = format!(
        "key.query = [\"lang\"]\n[channels.files]\npath = \"/files/{{*rest}}\"\n\
         upstream = \"http://{address}/files/{{*rest}}\"\n"
    );
    let gateway = rooms(&more, &origin).await;
    let long = format!("/rooms/{}/events", "x".repeat(2000));
    for (target, said) in [
        ("/rooms/../events", "`room` in the path is `.` or `..`"),
        ("/rooms/%2e%2E/events", "`room` in the path is `.` or `..`"),
        (
            "/rooms/a%2Fb/events",
            "has a slash, a backslash or a control character",
        ),
        (
            "/rooms/a%5Cb/events",
            "has a slash, a backslash or a control character",
        ),
        (
            "/rooms/a%00b/events",
            "has a slash, a backslash or a control character",
        ),
        (
            "/rooms/a%0d%0aX:%20y/events",
            "has a slash, a backslash or a control character",
        ),
        ("/rooms/%FF/events", "is not percent-encoded UTF-8"),
        (&long, "is longer than 1024 bytes"),
        (
            "/rooms/a/events?lang=%FF",
            "`lang` is not percent-encoded UTF-8",
        ),
        ("/rooms/a/events?lang=%0A", "`lang` has a"),
        (
            "/files/a/../../etc/passwd",
            "`rest` in the path is `.` or `..`",
        ),
        ("/files/a//b", "`rest` in the path has an empty part"),
        (
            "/files/a%2f..%2fb",
            "has a slash, a backslash or a control character",
        ),
    ] {
        let (head, body) = ask(&gateway, target).await;
        assert_eq!(head.status, 400, "{target}: {body}");
        assert!(body.contains(said), "{target}: {body}");
    }
    for target in [
        "/rooms//events",
        "/rooms/a/b/events",
        "/files/",
        "/rooms/%zz/events",
    ] {
        let (head, _) = ask(&gateway, target).await;
        assert_eq!(head.status, 404, "{target}");
    }
    assert_eq!(origin.n_connections(), 0);
    // And what is special but harmless is encoded.
    let _one = subscribe(&gateway, "/rooms/a%3Fx=1%23&b/events?lang=a%26b%3Dc").await;
    let target = origin.connection(1).await.target().to_owned();
    assert_eq!(target, "/rooms/a%3Fx%3D1%23%26b/events?lang=a%26b%3Dc");
    let _two = subscribe(&gateway, "/files/a/caf%c3%a9/%2525").await;
    let target = origin.connection(2).await.target().to_owned();
    assert_eq!(target, "/files/a/caf%C3%A9/%2525");
}

#[tokio::test]
async fn what_the_origin_refuses_is_passed_on_to_all_who_wait_and_remembered() {
    for code in [401, 403, 404, 410] {
        let origin = Origin::answering(Answer::Nothing).await;
        let gateway = rooms("first_answer = \"30s\"", &origin).await;
        let asking = join_all((0..20).map(|_| ask(&gateway, "/rooms/a/events")));
        let answering = async {
            let connection = origin.connection(1).await;
            // Those who come after the answer are told what was remembered.
            let Answer::RawAndClose(bytes) = status(code) else {
                unreachable!()
            };
            connection.send_raw(bytes).await;
        };
        let (answers, ()) = tokio::join!(asking, answering);
        for (head, body) in answers {
            assert_eq!(head.status, code, "{body}");
            assert_eq!(head.field("cache-control"), Some("no-store"));
        }
        assert_eq!(ask(&gateway, "/rooms/a/events").await.0.status, code);
        assert_eq!(origin.n_connections(), 1, "it was asked once");
        until_metric(&gateway, "ssecast_instances", 0).await;
        let counted = format!("ssecast_first_answers_total{{channel=\"rooms\",answer=\"{code}\"}}");
        until_metric(&gateway, &counted, 1).await;
    }
}

/// Also of what is remembered, and over both versions of HTTP: with 401 come the origin's words on how
/// to say who asks.
#[tokio::test]
async fn challenges_of_the_origin_are_passed_on_with_its_401() {
    let raw = "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\"a\", error=\"invalid_token\"\r\n\
               WWW-Authenticate: Basic realm=\"b\"\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::answering(Answer::RawAndClose(raw.into())).await;
    let gateway = rooms("", &origin).await;
    let expected = [
        "Bearer realm=\"a\", error=\"invalid_token\"",
        "Basic realm=\"b\"",
    ];
    let challenges = |head: &Head| {
        let lines = head.text.lines().filter_map(|line| line.split_once(": "));
        let lines = lines.filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"));
        lines.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let (head, body) = ask(&gateway, "/rooms/a/events").await;
        assert_eq!(head.status, 401, "{body}");
        assert_eq!(challenges(&head), expected, "{}", head.text);
    }
    assert_eq!(origin.n_connections(), 1, "one is remembered");
    let client = Http2::connect(&gateway).await;
    let (head, _) = client.ask("GET", "/rooms/b/events", &[]).await;
    assert_eq!(
        (head.status, challenges(&head)),
        (401, expected.map(str::to_owned).to_vec())
    );
}

#[tokio::test]
async fn guesses_cost_one_request_each_and_leave_no_upstream() {
    let origin = Origin::answering(status(404)).await;
    let gateway = rooms("", &origin).await;
    for n in 0..50 {
        for _ in 0..2 {
            let (head, _) = ask(&gateway, &format!("/rooms/guess-{n}/events")).await;
            assert_eq!(head.status, 404);
        }
    }
    until_metric(&gateway, "ssecast_instances", 0).await;
    assert_eq!(origin.n_connections(), 50);
    // Nor do they fill the log, or look like an origin that is ill.
    assert!(!gateway.log().contains("WARN"), "{}", gateway.log());
    let failures =
        "ssecast_upstream_failures_total{channel=\"rooms\",reason=\"unexpected-status\"}";
    let answers = "ssecast_first_answers_total{channel=\"rooms\",answer=\"404\"}";
    let admin = Admin::of(&gateway).await;
    admin.until(&[(answers, 50.0), (failures, 0.0)]).await;
}

#[tokio::test]
async fn what_is_slow_or_fails_otherwise_holds_clients_with_a_stream() {
    for answer in [Answer::Nothing, status(500), status(429), Answer::Reset] {
        let origin = Origin::answering(answer.clone()).await;
        let lines = "first_answer = \"50ms\"\nresponse_timeout = \"300ms\"";
        let gateway = rooms(lines, &origin).await;
        let mut sub = subscribe(&gateway, "/rooms/a/events").await;
        assert_eq!(sub.head.status, 200, "{answer:?}");
        origin.answer_with(Answer::Chunked);
        origin.stream().await.send("data: at last\n\n").await;
        sub.expect_first_event("at last").await;
    }
}

#[tokio::test]
async fn a_channel_that_is_over_says_so_to_who_asks_for_its_instance() {
    let origin = Origin::answering(status(204)).await;
    let gateway = rooms("", &origin).await;
    assert_eq!(ask(&gateway, "/rooms/a/events").await.0.status, 204);
    assert_eq!(ask(&gateway, "/rooms/a/events").await.0.status, 204);
    assert_eq!(origin.n_connections(), 1);
}

#[tokio::test]
async fn the_first_request_says_where_the_origin_goes_on() {
    let origin = Origin::start().await;
    let gateway = rooms("", &origin).await;
    let mut sub = subscribe_with(&gateway, "/rooms/a/events", "Last-Event-ID: 41\r\n").await;
    let connection = origin.connection(1).await;
    assert_eq!(connection.request_field("last-event-id"), Some("41"));
    connection
        .send("id: 42\ndata: missed\n\nid: 43\ndata: new\n\n")
        .await;
    // No reset, no gap: it has seen what comes before.
    sub.expect_event("missed").await;
    sub.expect_event("new").await;
    // Also who was there before, by the same id.
    let mut other = subscribe_with(&gateway, "/rooms/a/events", "Last-Event-ID: 41\r\n").await;
    assert_eq!(other.next_event().await.data, "missed");
    other.expect_event("new").await;
    // An id of ours is nothing that the origin knows.
    let gateway_id = format!("Last-Event-ID: {}\r\n", gateway_id());
    for (room, field, expected) in [
        ("b", gateway_id.as_str(), None),
        (
            "c",
            "Last-Event-ID: 1732480000000-5\r\n",
            Some("1732480000000-5"),
        ),
        ("d", "Last-Event-ID: \r\n", None),
    ] {
        let _sub = subscribe_with(&gateway, &format!("/rooms/{room}/events"), field).await;
        let connection = asked_for(&origin, &format!("/rooms/{room}/events")).await;
        assert_eq!(
            connection.request_field("last-event-id"),
            expected,
            "{room}"
        );
    }
}

/// An id of the form that gateways give.
fn gateway_id() -> String {
    let now = std::time::SystemTime::now();
    let millis = now.duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let mut n = u64::try_from(millis.as_millis()).expect("a time") << 16;
    let mut digits = Vec::new();
    while n > 0 {
        let digit = u32::try_from(n % 36).expect("a digit");
        digits.push(char::from_digit(digit, 36).expect("a digit"));
        n /= 36;
    }
    let epoch: String = digits.into_iter().rev().collect();
    format!("{epoch}-7")
}

#[tokio::test]
async fn an_origin_that_does_not_go_on_where_it_was_asked_to_is_told() {
    let origin = Origin::start().await;
    let gateway = rooms("", &origin).await;
    let mut sub = subscribe_with(&gateway, "/rooms/a/events", "Last-Event-ID: 41\r\n").await;
    // It counts from the beginning again.
    origin
        .connection(1)
        .await
        .send("id: 1\ndata: one\n\n")
        .await;
    let gap = sub.next_event().await;
    assert_eq!(gap.event_type, "ssecast.gap");
    sub.expect_event("one").await;
}

/// Each with a room of its own, so that every client costs two descriptors.
#[tokio::test]
async fn clients_never_take_the_descriptors_that_their_upstreams_need() {
    let origin = Origin::start().await;
    let config = format!("[server]\nthreads = 1\n{}", config("", &origin));
    let gateway = Gateway::with_descriptors(300, &config).await;
    let mut admitted = Vec::new();
    let mut n_refused = 0;
    for n in 0..200 {
        let mut sub = subscribe(&gateway, &format!("/rooms/{n}/events")).await;
        let before = origin.n_connections();
        let Item::Retry(time) = sub.next_item().await else {
            panic!("a reconnection time")
        };
        // Standing clients were told less than five seconds.
        if time >= 5_000 {
            assert_eq!(sub.next_item().await, Item::End(End::Cut));
            n_refused += 1;
        } else {
            assert_eq!(before, n + 1, "its upstream is there before its first byte");
            admitted.push(sub);
        }
    }
    assert!(n_refused > 0 && admitted.len() > 10, "{n_refused} refused");
    for (n, sub) in admitted.iter_mut().enumerate() {
        let stream = origin.connection(n + 1).await;
        stream.send("data: a\n\n").await;
        sub.expect_event("a").await;
    }
    assert!(!gateway.log().contains("upstream failed"));
}

#[tokio::test]
async fn beyond_max_instances_newcomers_are_told_to_come_back_and_nobody_is_asked() {
    let origin = Origin::start().await;
    let gateway = rooms("max_instances = 2\nlinger = \"0s\"", &origin).await;
    let mut standing = [
        subscribe(&gateway, "/rooms/a/events").await,
        subscribe(&gateway, "/rooms/b/events").await,
    ];
    for n in 0..5 {
        let mut sub = subscribe(&gateway, &format!("/rooms/other-{n}/events")).await;
        assert_eq!(sub.head.status, 200);
        let Item::Retry(time) = sub.next_item().await else {
            panic!("a reconnection time")
        };
        assert!((5_000..=30_000).contains(&time), "{time}");
        assert_eq!(sub.next_item().await, Item::End(End::Cut));
    }
    // Who comes to an instance that is there is welcome.
    let mut third = subscribe(&gateway, "/rooms/a/events").await;
    assert_eq!(origin.n_connections(), 2);
    let refused = "ssecast_refusals_total{channel=\"rooms\",reason=\"max-instances\"}";
    until_metric(&gateway, refused, 5).await;
    origin.connection(1).await.send("data: a\n\n").await;
    origin.connection(2).await.send("data: b\n\n").await;
    standing[0].expect_event("a").await;
    third.expect_event("a").await;
    standing[1].expect_event("b").await;
    // A place that is given back can be had.
    let [_one, two] = standing;
    drop(two);
    until_metric(&gateway, "ssecast_instances", 1).await;
    let _next = subscribe(&gateway, "/rooms/c/events").await;
    assert_eq!(origin.connection(3).await.target(), "/rooms/c/events");
}

#[tokio::test]
async fn requests_that_other_limits_refuse_make_no_instance() {
    let origin = Origin::start().await;
    let config = config("max_subscribers = 1", &origin);
    let gateway = Gateway::with_config(&format!("[server]\nmax_connections = 1\n{config}")).await;
    let _standing = subscribe(&gateway, "/rooms/a/events").await;
    let mut refused = subscribe(&gateway, "/rooms/b/events").await;
    assert!(matches!(refused.next_item().await, Item::Retry(_)));
    assert_eq!(refused.next_item().await, Item::End(End::Cut));
    assert_eq!(origin.n_connections(), 1);
    until_metric(&gateway, "ssecast_instances_made_total", 1).await;
}

#[tokio::test]
async fn a_literal_path_on_demand_asks_nobody_until_somebody_comes() {
    let origin = Origin::start().await;
    let lines = "connect = \"on-demand\"\nlinger = \"0s\"";
    let gateway = Gateway::with(lines, &origin).await;
    assert_eq!(origin.n_connections(), 0);
    let mut sub = gateway.subscribe().await;
    let connection = origin.connection(1).await;
    connection.send("data: a\n\n").await;
    sub.expect_event("a").await;
    drop(sub);
    connection.closed().await;
}

#[tokio::test]
async fn a_reload_reaches_the_instances_and_ends_those_of_another_path() {
    let origin = Origin::start().await;
    let gateway = rooms("", &origin).await;
    let mut sub = subscribe(&gateway, "/rooms/a/events").await;
    let connection = origin.connection(1).await;
    connection.send("id: 1\ndata: one\n\n").await;
    sub.expect_event("one").await;
    // A setting: the instance goes on.
    let log = gateway
        .reload(&config("notices = \"all\"", &origin), "applied")
        .await;
    assert!(log.contains("channel changed"), "{log}");
    connection.send("id: 2\ndata: two\n\n").await;
    sub.expect_event("two").await;
    // Fields that go upstream: the instance asks anew, after its last id.
    let lines = "notices = \"losses\"\nupstream_headers = { X-Client = \"ssecast\" }";
    gateway.reload(&config(lines, &origin), "applied").await;
    let second = origin.connection(2).await;
    assert_eq!(second.request_field("x-client"), Some("ssecast"));
    assert_eq!(second.request_field("last-event-id"), Some("2"));
    second.send("id: 3\ndata: three\n\n").await;
    sub.events_through("three").await;
    // Another key: another channel. Its clients come back.
    let lines = "key.query = [\"lang\"]\n[server]\ndrain = \"200ms\"";
    let log = gateway.reload(&config(lines, &origin), "applied").await;
    assert!(log.contains("channel replaced"), "{log}");
    assert_eq!(sub.expect_end().await, End::Cut);
    second.closed().await;
    let _sub = subscribe(&gateway, "/rooms/a/events?lang=en").await;
    let third = origin.connection(3).await;
    assert_eq!(third.target(), "/rooms/a/events?lang=en");
}

#[tokio::test]
async fn the_histories_of_instances_outlive_a_restart() {
    let origin = Origin::start().await;
    let state = tempfile::tempdir().expect("a directory");
    let server = format!(
        "[server]\nstate = \"{}\"\ndrain = \"0s\"\n",
        state.path().display()
    );
    let lines = "key = { query = [\"lang\"], headers = [\"Authorization\"] }";
    let config = server + &config(lines, &origin);
    let mut gateway = Gateway::with_config(&config).await;
    let secret = "Authorization: Bearer s3cret\r\n";
    let mut a = subscribe(&gateway, "/rooms/a/events?lang=en").await;
    let mut private = subscribe_with(&gateway, "/rooms/a/events?lang=en", secret).await;
    for number in [1, 2] {
        let connection = origin.connection(number).await;
        connection
            .send("id: 1\ndata: one\n\nid: 2\ndata: two\n\n")
            .await;
    }
    a.events_through("two").await;
    private.events_through("two").await;
    gateway.signal("TERM");
    gateway.ended().await;
    let file = std::fs::read(state.path().join("state")).expect("a state");
    let text = String::from_utf8_lossy(&file);
    assert!(text.contains("two") && !text.contains("s3cret"));
    let gateway = Gateway::with_config(&config).await;
    assert_eq!(origin.n_connections(), 2, "nobody has asked yet");
    let id = "Last-Event-ID: 1\r\n";
    let mut a = subscribe_with(&gateway, "/rooms/a/events?lang=en", id).await;
    a.expect_event("two").await;
    let connection = origin.connection(3).await;
    assert_eq!(connection.request_field("last-event-id"), Some("2"));
    connection.send("id: 3\ndata: three\n\n").await;
    a.expect_event("three").await;
    // Another key has another history.
    let _b = subscribe_with(&gateway, "/rooms/b/events?lang=en", id).await;
    let connection = origin.connection(4).await;
    assert_eq!(
        connection.request_field("last-event-id"),
        Some("1"),
        "its seed"
    );
}

#[tokio::test]
async fn a_stop_says_goodbye_to_the_clients_of_all_instances() {
    let origin = Origin::start().await;
    let config = format!("[server]\ndrain = \"500ms\"\n{}", config("", &origin));
    let mut gateway = Gateway::with_config(&config).await;
    let mut subs = Vec::new();
    for n in 0..10 {
        subs.push(subscribe(&gateway, &format!("/rooms/{n}/events")).await);
    }
    gateway.signal("TERM");
    for sub in &mut subs {
        assert_eq!(sub.expect_end().await, End::Cut);
    }
    assert_eq!(gateway.ended().await.code, Some(0));
}

#[tokio::test]
async fn http2_clients_get_instances_and_their_refusals() {
    let origin = Origin::start().await;
    origin.answer_at("/rooms/no/events", status(403));
    let gateway = rooms("", &origin).await;
    let client = Http2::connect(&gateway).await;
    let mut sub = client.subscribe_with("/rooms/a/events", &[]).await;
    origin.connection(1).await.send("data: a\n\n").await;
    sub.expect_event("a").await;
    let (head, _) = client.ask("GET", "/rooms/no/events", &[]).await;
    assert_eq!(head.status, 403);
}

#[tokio::test]
async fn status_and_metrics_tell_of_instances_together() {
    let origin = Origin::start().await;
    let gateway = rooms("", &origin).await;
    let _subs = [
        subscribe(&gateway, "/rooms/a/events").await,
        subscribe(&gateway, "/rooms/b/events").await,
        subscribe(&gateway, "/rooms/b/events").await,
    ];
    until_metric(&gateway, "ssecast_instances", 2).await;
    until_metric(&gateway, "ssecast_subscribers", 3).await;
    let open = "ssecast_upstream_state{channel=\"rooms\",state=\"open\"}";
    until_metric(&gateway, open, 2).await;
    let opened = "ssecast_first_answers_total{channel=\"rooms\",answer=\"opened\"}";
    until_metric(&gateway, opened, 2).await;
    let (_, status) = Admin::of(&gateway).await.get("/status").await;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let rooms = &status["channels"][0];
    assert_eq!(rooms["path"], "/rooms/{room}/events");
    assert_eq!(rooms["instances"]["now"], 2);
    assert_eq!(rooms["instances"]["max"], 10_000);
    assert_eq!(rooms["clients"], 3);
    assert_eq!(rooms["upstream"]["state"], "on-demand");
}

#[tokio::test]
async fn an_instance_without_upstream_and_history_goes_with_its_last_client_and_its_origin_rests() {
    let origin = Origin::answering(status(500)).await;
    let config =
        config("linger = \"1h\"", &origin).replace("10ms\", max = \"20ms", "1h\", max = \"1h");
    let gateway = Gateway::with_config(&config).await;
    for _ in 0..5 {
        let sub = subscribe(&gateway, "/rooms/a/events").await;
        assert_eq!(sub.head.status, 200);
        drop(sub);
        until_metric(&gateway, "ssecast_instances", 0).await;
    }
    assert_eq!(
        origin.n_connections(),
        1,
        "it was not asked again before its time"
    );
    // Another key is another matter.
    let _sub = subscribe(&gateway, "/rooms/b/events").await;
    assert_eq!(origin.connection(2).await.target(), "/rooms/b/events");
}

#[tokio::test]
async fn who_waits_for_the_first_answer_of_an_instance_that_is_removed_is_sent_away() {
    let origin = Origin::answering(Answer::Nothing).await;
    let gateway = rooms("first_answer = \"30s\"", &origin).await;
    let mut client = gateway.connect().await;
    client
        .send("GET /rooms/a/events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        .await;
    origin.connection(1).await;
    // Another key: another channel. Nobody has a stream of this one yet.
    let lines = "key.query = [\"lang\"]\n[server]\ndrain = \"100ms\"";
    gateway.reload(&config(lines, &origin), "applied").await;
    let mut sub = client.into_subscriber().await;
    assert_eq!(sub.head.status, 200);
    assert_eq!(sub.expect_end().await, End::Cut);
}

#[tokio::test]
async fn a_reload_that_mends_the_upstream_ends_the_rest_of_its_instances() {
    let failing = Origin::answering(status(500)).await;
    let well = Origin::start().await;
    let slow = |origin: &Origin| {
        config("linger = \"1h\"", origin).replace("10ms\", max = \"20ms", "1h\", max = \"1h")
    };
    let gateway = Gateway::with_config(&slow(&failing)).await;
    for room in ["a", "b"] {
        drop(subscribe(&gateway, &format!("/rooms/{room}/events")).await);
        until_metric(&gateway, "ssecast_instances", 0).await;
    }
    // One is made anew before the reload, and the other after it.
    let mut a = subscribe(&gateway, "/rooms/a/events").await;
    gateway.reload(&slow(&well), "applied").await;
    let mut b = subscribe(&gateway, "/rooms/b/events").await;
    for (sub, room) in [(&mut a, "a"), (&mut b, "b")] {
        let connection = asked_for(&well, &format!("/rooms/{room}/events")).await;
        connection.send("data: one\n\n").await;
        sub.events_through("one").await;
    }
}

/// A gateway's lines for a state that is left at once, and the directory.
fn with_state() -> (String, tempfile::TempDir) {
    let state = tempfile::tempdir().expect("a directory");
    let path = state.path().display();
    let server = format!("[server]\nstate = \"{path}\"\ndrain = \"0s\"\n");
    (server, state)
}

#[tokio::test]
async fn a_history_outlives_a_restart_where_the_key_is_empty() {
    let origin = Origin::start().await;
    let (server, _state) = with_state();
    let config = server
        + &config("connect = \"on-demand\"\nkey.query = [\"lang\"]", &origin)
            .replace("{room}/", "");
    let mut gateway = Gateway::with_config(&config).await;
    let mut sub = subscribe(&gateway, "/rooms/events").await;
    let connection = origin.connection(1).await;
    connection
        .send("id: 1\ndata: one\n\nid: 2\ndata: two\n\n")
        .await;
    sub.events_through("two").await;
    gateway.signal("TERM");
    gateway.ended().await;
    let gateway = Gateway::with_config(&config).await;
    let mut sub = subscribe_with(&gateway, "/rooms/events", "Last-Event-ID: 1\r\n").await;
    sub.expect_event("two").await;
}

#[tokio::test]
async fn a_history_is_not_given_to_who_means_something_else_by_the_same_values() {
    let origin = Origin::start().await;
    let (server, _state) = with_state();
    let config = server + &config("join = \"all\"", &origin);
    let mut gateway = Gateway::with_config(&config).await;
    let mut sub = subscribe(&gateway, "/rooms/a/events").await;
    origin
        .connection(1)
        .await
        .send("data: of the room\n\n")
        .await;
    sub.expect_event("of the room").await;
    gateway.signal("TERM");
    gateway.ended().await;
    // The values of its keys are users from now on, and one has the name of a room.
    let config = config.replace("/rooms/{room}", "/users/{room}");
    let gateway = Gateway::with_config(&config).await;
    let mut sub = subscribe(&gateway, "/users/a/events").await;
    origin
        .connection(2)
        .await
        .send("data: of the user\n\n")
        .await;
    sub.expect_event("of the user").await;
}

#[tokio::test]
async fn an_id_that_is_gone_is_no_word_on_the_stream() {
    let origin = Origin::answering(Answer::Nothing).await;
    let gateway = rooms("first_answer = \"30s\"", &origin).await;
    let mut client = gateway.connect().await;
    client
        .send(
            "GET /rooms/a/events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\
             Last-Event-ID: 7\r\n\r\n",
        )
        .await;
    let first = origin.connection(1).await;
    assert_eq!(first.request_field("last-event-id"), Some("7"));
    let Answer::RawAndClose(gone) = status(410) else {
        unreachable!()
    };
    first.send_raw(gone).await;
    let second = origin.connection(2).await;
    assert_eq!(second.request_field("last-event-id"), None);
    second.send_raw(event_stream("")).await;
    let mut sub = client.into_subscriber().await;
    assert_eq!(sub.head.status, 200);
    // The client is told that it may have missed something.
    let gap = sub.next_event().await;
    assert_eq!(gap.event_type, "ssecast.gap");
    second.send_raw("data: one\n\n").await;
    sub.expect_event("one").await;
}
