//! What the admin listener says is so, and it says it whatever clients do.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::{
    ANYWHERE, Admin, Connector, Gateway, Http2, Origin, Pair, Subscriber, client_config,
    one_channel, until, until_async, within,
};

const DOCUMENTATION: &str = include_str!("../../docs/admin.md");

/// A gateway with one channel, these lines in its table, and an admin listener.
async fn gateway_with(lines: &str, origin: &Origin) -> (Gateway, Admin) {
    let gateway = Gateway::with(&format!("{lines}\n{ANYWHERE}"), origin).await;
    let admin = Admin::of(&gateway).await;
    (gateway, admin)
}

fn of_channel(name: &str) -> String {
    format!("{name}{{channel=\"events\"}}")
}

/// What the documentation lists in the first column of its tables, as far as it begins like this.
fn documented(is_meant: impl Fn(&str) -> bool) -> BTreeSet<&'static str> {
    let rows = DOCUMENTATION
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next())
        .filter(|name| is_meant(name))
        .collect()
}

#[tokio::test]
async fn subscribers_that_come_and_go_are_counted() {
    let origin = Origin::start().await;
    let (gateway, admin) = gateway_with("max_subscribers = 3", &origin).await;
    let mut subscribers: Vec<Subscriber> = Vec::new();
    for n in 0..3 {
        subscribers.push(gateway.subscribe().await);
        admin
            .until(&[
                (&of_channel("ssecast_subscribers"), f64::from(n + 1)),
                (&of_channel("ssecast_connects_total"), f64::from(n + 1)),
                ("ssecast_connections", f64::from(n + 1)),
            ])
            .await;
    }
    // The fourth is refused, and never a subscriber.
    gateway.subscribe().await.expect_end().await;
    origin.send("id: 1\ndata: a\n\n").await;
    for subscriber in &mut subscribers {
        subscriber.expect_event("a").await;
    }
    subscribers.truncate(1);
    let reason = |name: &str, key: &str, value: &str| {
        format!("{name}{{channel=\"events\",{key}=\"{value}\"}}")
    };
    let left = reason("ssecast_disconnects_total", "reason", "client-left");
    let refused = reason("ssecast_refusals_total", "reason", "max-subscribers");
    let live = reason("ssecast_replays_total", "outcome", "live");
    admin
        .until(&[
            (&of_channel("ssecast_subscribers"), 1.0),
            (&of_channel("ssecast_connects_total"), 3.0),
            ("ssecast_connections", 1.0),
            (&left, 2.0),
            (&refused, 1.0),
            (&live, 3.0),
            (&of_channel("ssecast_upstream_events_total"), 1.0),
            (&of_channel("ssecast_upstream_connects_total"), 1.0),
            (&of_channel("ssecast_log_events"), 1.0),
            (&reason("ssecast_upstream_state", "state", "open"), 1.0),
            (&reason("ssecast_upstream_state", "state", "waiting"), 0.0),
        ])
        .await;
    // What one asks for that was away.
    let mut resumed = gateway.resume_after("1").await;
    let mut unknown = gateway.resume_after("who?").await;
    unknown.events_through("a").await;
    origin.send("id: 2\ndata: b\n\n").await;
    resumed.expect_event("b").await;
    let complete = reason("ssecast_replays_total", "outcome", "complete");
    let lost = reason("ssecast_replays_total", "outcome", "unknown");
    admin
        .until(&[
            (&complete, 1.0),
            (&lost, 1.0),
            (&of_channel("ssecast_resets_total"), 1.0),
        ])
        .await;
    // The upstream fails.
    origin.newest().await.close();
    let broke = reason("ssecast_upstream_failures_total", "reason", "stream-broke");
    admin
        .until(&[
            (&broke, 1.0),
            (&of_channel("ssecast_upstream_connects_total"), 2.0),
            (&of_channel("ssecast_gaps_total"), 0.0),
        ])
        .await;
}

/// Every event that reaches a client is one count of the histogram, whether it went to the crowd or
/// to somebody slow, as a whole or bit by bit.
#[tokio::test]
async fn every_delivered_event_has_a_latency() {
    const N_EVENTS: usize = 200;
    let origin = Origin::start().await;
    let lines = "heartbeat = \"off\"\nlag = { limit = \"4MiB\" }";
    let (gateway, admin) = gateway_with(lines, &origin).await;
    let mut quick = [gateway.subscribe().await, gateway.subscribe().await];
    let connector = Connector::default().receive_buffer(4096);
    let slow = connector.connect(&gateway).await;
    let mut slow = slow.subscribe("/events", "").await;
    // HTTP/1.0: without chunks.
    let mut old = gateway.connect().await;
    old.send("GET /events HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n")
        .await;
    let mut old = old.into_subscriber().await;
    admin
        .until(&[(&of_channel("ssecast_subscribers"), 4.0)])
        .await;
    let data = "x".repeat(4096);
    for n in 0..N_EVENTS {
        origin.send(format!("data: {n}-{data}\n\n")).await;
        for subscriber in &mut quick {
            subscriber.expect_event(&format!("{n}-{data}")).await;
        }
    }
    let behind = of_channel("ssecast_subscribers_behind");
    until_async("the slow client to be behind", async || {
        let metrics = admin.metrics().await;
        let lag = metrics.value(&of_channel("ssecast_lag_bytes"));
        if metrics.value(&behind) >= 1.0 && lag > 100_000.0 {
            Ok(())
        } else {
            Err(format!("{lag} bytes"))
        }
    })
    .await;
    let last = format!("{}-{data}", N_EVENTS - 1);
    assert_eq!(slow.events_through(&last).await.len(), N_EVENTS);
    assert_eq!(old.events_through(&last).await.len(), N_EVENTS);
    let delivered = f64::from(u16::try_from(N_EVENTS * 4).expect("a small number"));
    let metrics = admin
        .until(&[
            (
                &of_channel("ssecast_delivery_latency_seconds_count"),
                delivered,
            ),
            (&of_channel("ssecast_delivered_events_total"), delivered),
            (&of_channel("ssecast_replayed_events_total"), 0.0),
            (&behind, 0.0),
            (&of_channel("ssecast_lag_bytes"), 0.0),
        ])
        .await;
    let sum = metrics.value(&of_channel("ssecast_delivery_latency_seconds_sum"));
    assert!(sum > 0.0 && sum < delivered * 10.0, "{sum}");
    let infinite = "ssecast_delivery_latency_seconds_bucket{channel=\"events\",le=\"+Inf\"}";
    assert!((metrics.value(infinite) - delivered).abs() < 0.1);
    // A replay is delivered too, but its age is not a latency.
    let mut resumed = gateway.resume_after("nobody knows").await;
    assert_eq!(resumed.events_through(&last).await.len(), N_EVENTS + 1);
    let replayed = f64::from(u16::try_from(N_EVENTS).expect("a small number"));
    admin
        .until(&[
            (
                &of_channel("ssecast_delivery_latency_seconds_count"),
                delivered,
            ),
            (
                &of_channel("ssecast_delivered_events_total"),
                delivered + replayed,
            ),
            (&of_channel("ssecast_replayed_events_total"), replayed),
        ])
        .await;
}

#[tokio::test]
async fn delivered_bytes_are_those_that_clients_read() {
    let origin = Origin::start().await;
    let (gateway, admin) = gateway_with("heartbeat = \"1s\"", &origin).await;
    let mut client = gateway.connect().await;
    client
        .send("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        .await;
    let mut n_read = client.take_through(b"\r\n\r\n", "the head").await.len();
    origin.send("data: a\n\ndata: b\n\n").await;
    n_read += client.take_through(b"data: b", "the event").await.len();
    n_read += client.take_through(b":\n\r\n", "a heartbeat").await.len();
    let (count, n_read) = (of_channel("ssecast_delivered_bytes_total"), n_read);
    let n_read = f64::from(u16::try_from(n_read).expect("a small number"));
    admin.until(&[(&count, n_read)]).await;
}

#[tokio::test]
async fn readiness_waits_for_upstreams_that_must_be_connected_and_ends_with_the_stop() {
    let mut origin = Origin::start().await;
    origin.go_away();
    let lines = "ready = \"connected\"\nbackoff = { first = \"50ms\", max = \"100ms\" }";
    let other = format!(
        "{lines}\n[channels.other]\npath = \"/other\"\nupstream = \"{}\"\n\
         [server]\ndrain = \"8s\"",
        origin.url()
    );
    let (mut gateway, admin) = gateway_with(&other, &origin).await;
    let body = admin.until_status("/ready", 503).await;
    assert!(
        body.contains("channel `events`") && !body.contains("other"),
        "{body}"
    );
    assert!((admin.metrics().await.value("ssecast_ready")).abs() < 0.1);
    assert_eq!(admin.status().await["ready"], Value::Bool(false));
    // An upstream that is away does not make the process one to be restarted.
    assert_eq!(admin.get("/live").await, (200, "live\n".to_owned()));
    origin.come_back().await;
    assert_eq!(admin.until_status("/ready", 200).await, "ready\n");
    // Once is enough: clients are better off with the history than nowhere.
    origin.go_away();
    let waiting = "ssecast_upstream_state{channel=\"events\",state=\"open\"}";
    admin.until(&[(waiting, 0.0)]).await;
    assert_eq!(admin.get("/ready").await.0, 200);
    let _subscriber = gateway.subscribe().await;
    gateway.signal("TERM");
    assert_eq!(admin.until_status("/ready", 503).await, "stopping\n");
    assert_eq!(admin.status().await["phase"], "stopping");
    assert_eq!(admin.get("/live").await.0, 200);
    admin.until(&[("ssecast_ready", 0.0)]).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code, Some(0));
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let origin = Origin::start().await;
    let (_gateway, admin) = gateway_with("", &origin).await;
    let metrics = admin.metrics().await;
    let families: BTreeSet<&str> = metrics.families().into_iter().collect();
    let is_metric = |name: &str| name.starts_with("ssecast_") || name.starts_with("process_");
    assert_eq!(families, documented(is_metric));
    let (head, _) = admin.ask("GET", "/metrics").await;
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(head.field("content-type"), Some(media_type));
}

/// The fields of a JSON text as the documentation names them, with whether there is nothing in them.
fn fields(value: &Value, name: &str, into: &mut BTreeSet<(String, bool)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let separator = if name.is_empty() { "" } else { "." };
                fields(value, &format!("{name}{separator}{key}"), into);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for value in list {
                fields(value, &format!("{name}[]"), into);
            }
        }
        _ => {
            let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            into.insert((name.to_owned(), is_empty));
        }
    }
}

#[tokio::test]
async fn the_status_tells_every_channel_as_it_is_documented() {
    let origin = Origin::start().await;
    let away = "[channels.away]\npath = \"/away\"\n\
                upstream = \"http://127.0.0.1:1/x?where=here\"\nhost = \"a.example\"\n\
                [proxies.web]\npath = \"/web/{*rest}\"\nhost = \"a.example\"\n\
                upstream = [\"http://127.0.0.1:1\", \"http://127.0.0.2:1/{*rest}\"]\n\
                max_requests = 7";
    let (gateway, admin) = gateway_with(away, &origin).await;
    let mut subscriber = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    subscriber.expect_event("a").await;
    let status = until_async("both upstreams to be told", async || {
        let status = admin.status().await;
        let waits = status["channels"][0]["upstream"]["next_try"].is_string();
        waits.then(|| status.clone()).ok_or(status.to_string())
    })
    .await;
    let (away, events) = (&status["channels"][0], &status["channels"][1]);
    assert_eq!(away["name"], "away");
    assert_eq!(away["hosts"][0], "a.example");
    assert_eq!(away["upstream"]["state"], "waiting");
    let url = away["upstream"]["url"].as_str().expect("a URL");
    assert!(
        url.starts_with("http://127.0.0.1:1/x") && !url.contains("here"),
        "its query is not shown: {url}"
    );
    let error = away["upstream"]["last_error"]["message"].as_str();
    assert!(
        error.is_some_and(|error| error.contains("refused")),
        "{away}"
    );
    let web = &status["proxies"][0];
    assert_eq!(
        (&web["name"], &web["path"]),
        (&"web".into(), &"/web/{*rest}".into())
    );
    assert_eq!(web["upstreams"][1], "http://127.0.0.2:1/{*rest}");
    assert_eq!(
        (&web["requests"], &web["max_requests"]),
        (&0.into(), &7.into())
    );
    assert_eq!(events["name"], "events");
    assert_eq!(events["path"], "/events");
    assert_eq!(events["clients"], 1);
    assert_eq!(events["events"], 1);
    assert_eq!(events["log"]["events"], 1);
    assert!(events["last_event_at"].is_string(), "{events}");
    assert_eq!(events["upstream"]["state"], "open");
    assert_eq!(events["upstream"]["last_error"], Value::Null);
    assert_eq!(status["phase"], "running");
    assert_eq!(status["listeners"][0]["name"], "public");
    assert_eq!(status["listeners"][0]["address"], gateway.address());
    // Nothing that is not documented, and all that is, as far as there is something to tell.
    let mut found = BTreeSet::new();
    fields(&status, "", &mut found);
    let is_field = |name: &str| {
        !name.starts_with('/') && !name.starts_with("ssecast_") && !name.starts_with("process_")
    };
    let documented = documented(is_field);
    for (name, is_empty) in &found {
        let is_known = documented.contains(name.as_str())
            || (*is_empty && documented.iter().any(|one| one.starts_with(name.as_str())));
        assert!(is_known, "docs/admin.md does not tell of {name}");
    }
    for name in documented {
        let is_there = found
            .iter()
            .any(|(found, is_empty)| found == name || (*is_empty && name.starts_with(found)));
        assert!(is_there, "{name} is not in {status:#}");
    }
}

#[tokio::test]
async fn it_answers_what_is_asked_and_says_what_can_be() {
    let origin = Origin::start().await;
    let (_gateway, admin) = gateway_with("", &origin).await;
    for path in ["/", "/live", "/ready", "/metrics", "/status"] {
        let (head, body) = admin.ask("GET", path).await;
        assert_eq!(head.status, 200, "{path}");
        assert!(!body.is_empty());
        let (head, body) = admin.ask("HEAD", path).await;
        assert_eq!((head.status, body.as_str()), (200, ""), "{path}");
        for method in ["POST", "DELETE", "OPTIONS"] {
            let (head, _) = admin.ask(method, path).await;
            assert_eq!(head.status, 405, "{method} {path}");
            assert_eq!(head.field("allow"), Some("GET, HEAD"));
        }
    }
    let (status, body) = admin.get("/favicon.ico").await;
    assert_eq!(status, 404);
    assert!(body.contains("/metrics"), "{body}");
}

#[tokio::test]
async fn it_answers_on_a_unix_socket() {
    let origin = Origin::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin.sock");
    let table = format!("[admin]\naddress = \"unix:{}\"", socket.display());
    let mut gateway = Gateway::with(&table, &origin).await;
    let admin = Admin::of(&gateway).await;
    assert_eq!(admin.get("/ready").await.0, 200);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code, Some(0));
    assert!(!Path::exists(&socket), "the socket's file is gone");
}

#[tokio::test]
async fn it_answers_when_clients_have_every_connection() {
    let origin = Origin::start().await;
    let server = format!("[server]\nmax_connections = 2\n{ANYWHERE}");
    let gateway = Gateway::with(&server, &origin).await;
    let admin = Admin::of(&gateway).await;
    let _standing = [gateway.subscribe().await, gateway.subscribe().await];
    gateway.subscribe().await.expect_end().await;
    let refused = "ssecast_refusals_total{channel=\"events\",reason=\"max-connections\"}";
    admin
        .until(&[
            ("ssecast_connections", 2.0),
            ("ssecast_max_connections", 2.0),
            (
                "ssecast_refused_connections_total{limit=\"max-connections\"}",
                1.0,
            ),
            (refused, 1.0),
        ])
        .await;
    assert_eq!(admin.get("/live").await.0, 200);
}

/// Descriptors run out before `max_connections` does, if it is not told to be smaller.
#[tokio::test]
async fn it_answers_when_clients_have_every_descriptor() {
    let origin = Origin::start().await;
    let config = one_channel(&origin.url(), ANYWHERE);
    let gateway = Gateway::with_descriptors(200, &config).await;
    let admin = Admin::of(&gateway).await;
    let mut clients = Vec::new();
    // Connections that were not accepted yet are in the kernel's queue.
    for _ in 0..250 {
        clients.push(gateway.connect().await);
    }
    let metrics = until_async("connections to be refused", async || {
        let metrics = admin.metrics().await;
        let n = metrics.value("ssecast_refused_connections_total{limit=\"max-connections\"}");
        if n > 0.0 {
            Ok(metrics)
        } else {
            Err("none is".to_owned())
        }
    })
    .await;
    let (open, max) = (
        metrics.value("process_open_fds"),
        metrics.value("process_max_fds"),
    );
    assert!(open < max, "{open} of {max}");
    assert_eq!(admin.get("/live").await.0, 200);
}

#[tokio::test]
async fn who_connects_and_asks_nothing_keeps_nobody_out() {
    let origin = Origin::start().await;
    let (gateway, admin) = gateway_with("", &origin).await;
    let mut silent = Vec::new();
    for n in 0..100 {
        let mut client = admin.connect().await;
        // Some say a little.
        if n % 2 == 0 {
            client.send("GET /metrics HTT").await;
        }
        silent.push(client);
    }
    assert_eq!(admin.get("/live").await.0, 200);
    let mut first = silent.swap_remove(0);
    within("the first to be sent away", first.rest(), || {
        "it stays".to_owned()
    })
    .await;
    let n_open = gateway.n_descriptors();
    assert!(n_open < 80, "{n_open} descriptors");
}

#[tokio::test]
async fn requests_that_are_none_do_no_harm() {
    let origin = Origin::start().await;
    let (_gateway, admin) = gateway_with("", &origin).await;
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for request in [
        "\0\0\0\0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /metrics\r\n\r\n",
        huge.as_str(),
    ] {
        let mut client = admin.connect().await;
        // It may be cut off in the middle.
        if client.try_send(request).await.is_ok() {
            client.rest().await;
        }
    }
    assert_eq!(admin.get("/live").await.0, 200);
    assert!((admin.metrics().await.value("ssecast_panics_total")).abs() < 0.1);
}

#[tokio::test]
async fn a_second_gateway_at_the_same_address_says_what_to_do() {
    let origin = Origin::start().await;
    let (gateway, _admin) = gateway_with("", &origin).await;
    let line = &gateway.logged(1, &["tells metrics"]).await[0];
    let address = crate::support::field(line, "address").expect("an address");
    let table = format!("[admin]\naddress = \"{address}\"");
    let ended = Gateway::fail_to_start(&one_channel(&origin.url(), &table)).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.log.contains(address) && ended.log.contains("another `[admin] address`, or \"off\""),
        "{}",
        ended.log
    );
}

#[tokio::test]
async fn without_a_file_it_is_there_if_it_is_asked_for() {
    let origin = Origin::start().await;
    let url = origin.url();
    let listen = ["--upstream", &url, "--listen", "127.0.0.1:0"];
    let gateway = Gateway::without_file(&listen).await;
    let _subscriber = gateway.subscribe().await;
    assert!(
        !gateway.log().contains("tells metrics"),
        "{}",
        gateway.log()
    );
    let with_admin = [&listen[..], &["--admin", "127.0.0.1:0"]].concat();
    let gateway = Gateway::without_file(&with_admin).await;
    let admin = Admin::of(&gateway).await;
    let metrics = admin.metrics().await;
    assert!(metrics.has(&of_channel("ssecast_subscribers")));
    until("the gateway to say that it tells", || {
        let log = gateway.log();
        if log.contains("tells metrics") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}

#[tokio::test]
async fn certificates_and_streams_over_tls_and_http2_are_told_like_others() {
    let origin = Origin::start().await;
    let pair = Pair::new(&["gateway.test"]);
    let config = format!(
        "[listen.secure]\naddress = \"127.0.0.1:0\"\ntls = {}\n{ANYWHERE}\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{}\"\nheartbeat = \"off\"\n",
        pair.table(),
        origin.url()
    );
    let gateway = Gateway::with_config(&config).await;
    let admin = Admin::of(&gateway).await;
    let http2 = Http2::connect_over_tls(&gateway).await;
    let mut streams = [http2.subscribe().await, http2.subscribe().await];
    let trusting = client_config(&[&pair], &[]);
    let connecting =
        Connector::default().connect_over_tls(gateway.address(), "gateway.test", &trusting);
    let mut plain = connecting.await.0.subscribe("/events", "").await;
    for n in 0..10 {
        origin.send(format!("data: {n}\n\n")).await;
        for subscriber in streams.iter_mut().chain([&mut plain]) {
            subscriber.expect_event(&n.to_string()).await;
        }
    }
    let metrics = admin
        .until(&[
            (&of_channel("ssecast_subscribers"), 3.0),
            // The two streams share theirs.
            ("ssecast_connections", 2.0),
            (&of_channel("ssecast_delivered_events_total"), 30.0),
            (&of_channel("ssecast_delivery_latency_seconds_count"), 30.0),
            (&of_channel("ssecast_subscribers_behind"), 0.0),
        ])
        .await;
    let file = pair.certificate_file();
    let expiry = format!(
        "ssecast_certificate_expiry_timestamp_seconds{{listener=\"secure\",certificate=\"{}\"}}",
        file.display()
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("a clock that is right").as_secs_f64();
    assert!(metrics.value(&expiry) > now, "{}", metrics.text);
    let status = admin.status().await;
    assert_eq!(status["listeners"][0]["tls"], Value::Bool(true));
    let mut found = BTreeSet::new();
    fields(&status["certificates"], "certificates", &mut found);
    let found: BTreeSet<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, documented(|name| name.starts_with("certificates[]")));
}

#[tokio::test]
async fn reloads_are_told_and_a_removed_channel_takes_its_series_along() {
    let origin = Origin::start().await;
    let config = |channels: &[&str], admin: &str| {
        let tables = channels.iter().map(|name| {
            let url = origin.url();
            format!("[channels.{name}]\npath = \"/{name}\"\nupstream = \"{url}\"\n")
        });
        let tables: String = tables.collect();
        format!(
            "[listen.public]\naddress = \"127.0.0.1:0\"\n{tables}[server]\ndrain = \"0s\"\n{admin}\n"
        )
    };
    let gateway = Gateway::with_config(&config(&["events", "other"], ANYWHERE)).await;
    let admin = Admin::of(&gateway).await;
    let other = "ssecast_subscribers{channel=\"other\"}";
    let metrics = admin.metrics().await;
    assert!(metrics.has(other) && metrics.has(&of_channel("ssecast_subscribers")));
    let started = metrics.value("ssecast_last_reload_success_timestamp_seconds");
    assert!((started - metrics.value("process_start_time_seconds")).abs() < 1.0);
    assert_eq!(admin.status().await["last_reload"], Value::Null);

    gateway
        .reload(&config(&["events"], ANYWHERE), "applied")
        .await;
    let applied = "ssecast_reloads_total{outcome=\"applied\"}";
    let rejected = "ssecast_reloads_total{outcome=\"rejected\"}";
    let wanted = [(applied, 1.0), (rejected, 0.0), ("ssecast_channels", 1.0)];
    let metrics = admin.until(&wanted).await;
    assert!(!metrics.text.contains("\"other\""), "{}", metrics.text);
    let success = metrics.value("ssecast_last_reload_success_timestamp_seconds");
    assert!(success > started, "{success} after {started}");
    let status = admin.status().await;
    assert_eq!(status["last_reload"]["outcome"], "applied");
    assert_eq!(status["channels"].as_array().map(Vec::len), Some(1));

    gateway.reload("[listen.public]\n", "rejected").await;
    let metrics = admin.until(&[(applied, 1.0), (rejected, 1.0)]).await;
    let still = metrics.value("ssecast_last_reload_success_timestamp_seconds");
    assert!((still - success).abs() < 0.001, "{still}");
    let status = admin.status().await;
    assert_eq!(status["last_reload"]["outcome"], "rejected");
    let message = status["last_reload"]["message"].as_str();
    assert!(message.is_some_and(|text| !text.is_empty()), "{status:#}");
    // The admin listener moves, too.
    let elsewhere = "[admin]\naddress = \"127.0.0.2:0\"";
    gateway
        .reload(&config(&["events"], elsewhere), "applied")
        .await;
    let line = &gateway.logged(2, &["tells metrics and health"]).await[1];
    let moved = Admin::at(crate::support::field(line, "address").expect("an address"));
    moved.until(&[(applied, 2.0)]).await;
}
