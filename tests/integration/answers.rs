//! Short answers: what a client is told that gets no stream, and that it is told in HTTP.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Client, Connector, DEADLINE, End, Gateway, Head, Item, Origin, within};

const LISTEN: &str = "[listen.public]\naddress = \"127.0.0.1:0\"\n";

/// A gateway with two paths, one of which is two channels by host.
async fn gateway_of_hosts(origins: [&Origin; 3]) -> Gateway {
    let [any, one, two] = origins.map(Origin::url);
    Gateway::with_config(&format!(
        "{LISTEN}
        [channels.any]
        path = \"/events\"
        upstream = \"{any}\"
        [channels.one]
        path = \"/events\"
        host = \"one.test\"
        upstream = \"{one}\"
        [channels.two]
        path = \"/events\"
        host = [\"two.test\", \"zwei.test\"]
        upstream = \"{two}\"\n"
    ))
    .await
}

async fn ask(gateway: &Gateway, request: &str) -> (Head, String) {
    gateway.connect().await.ask(request).await
}

/// Asserts that a connection is good for another request.
async fn assert_usable(client: &mut Client) {
    let (head, _) = client.ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        head.status, 404,
        "another request on the connection: {}",
        head.text
    );
}

#[tokio::test]
async fn an_unknown_path_is_404_and_names_no_paths() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for path in [
        "/",
        "/events/",
        "/Events",
        "/events%2F",
        "/events/../events",
        "/%",
        "/%zz",
        "//events",
    ] {
        let (head, body) = ask(&gateway, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(head.status, 404, "{path}: {}", head.text);
        assert_eq!(body, "nothing is here\n", "{path}");
        assert_eq!(
            head.field("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
}

#[tokio::test]
async fn an_unknown_path_names_the_paths_if_it_is_configured_to() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(
        &format!(
            "[channels.another]\npath = \"/another\"\nupstream = \"{}\"\n\
             [server]\nunknown_path = \"list\"",
            origin.url()
        ),
        &origin,
    )
    .await;
    let (head, body) = ask(&gateway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(
        (head.status, body.as_str()),
        (404, "nothing is here; event streams: /another, /events\n")
    );
}

#[tokio::test]
async fn another_method_is_405_with_allow_and_leaves_the_connection_usable() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = gateway.connect().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        let request =
            format!("{method} /events HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        let (head, body) = client.ask(request).await;
        assert_eq!(head.status, 405, "{method}: {}", head.text);
        assert_eq!(head.field("allow"), Some("GET, HEAD, OPTIONS"), "{method}");
        assert!(body.contains("GET, HEAD, OPTIONS"), "{method}: {body}");
    }
    assert_usable(&mut client).await;
}

#[tokio::test]
async fn only_an_accept_that_excludes_event_streams_and_json_is_406() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for excluding in [
        "text/html",
        "application/problem+json",
        "text/event-stream;q=0, text/*",
        "image/*",
    ] {
        let request = format!("GET /events HTTP/1.1\r\nHost: a\r\nAccept: {excluding}\r\n\r\n");
        let (head, _) = ask(&gateway, &request).await;
        assert_eq!(head.status, 406, "{excluding}: {}", head.text);
    }
    for fine in [
        "",
        "Accept:\r\n",
        "Accept: */*\r\n",
        "Accept: text/*\r\n",
        "Accept: text/html, */*;q=0.1\r\n",
        "Accept: text/html\r\nAccept: Text/Event-Stream\r\n",
    ] {
        let mut client = gateway.connect().await;
        client
            .send(format!("GET /events HTTP/1.1\r\nHost: a\r\n{fine}\r\n"))
            .await;
        assert_eq!(client.into_subscriber().await.head.status, 200, "{fine}");
    }
}

#[tokio::test]
async fn a_client_that_wants_json_gets_a_problem_document() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for (request, status, title) in [
        ("GET /x HTTP/1.1\r\nHost: a\r\n", 404, "Not Found"),
        (
            "POST /events HTTP/1.1\r\nHost: a\r\n",
            405,
            "Method Not Allowed",
        ),
        ("GET /events HTTP/1.1\r\nHost: a\r\n", 406, "Not Acceptable"),
        ("GET /events HTTP/1.1\r\n", 400, "Bad Request"),
    ] {
        for accept in ["application/json", "application/problem+json"] {
            if (status, accept) == (406, "application/json") {
                // That is what the channel has, as JSON.
                continue;
            }
            let (head, body) = ask(&gateway, &format!("{request}Accept: {accept}\r\n\r\n")).await;
            assert_eq!(head.status, status, "{}", head.text);
            assert_eq!(head.field("content-type"), Some("application/problem+json"));
            let start = format!(r#"{{"title":"{title}","status":{status},"detail":""#);
            assert!(
                body.starts_with(&start) && body.ends_with("\"}\n"),
                "{body}"
            );
        }
    }
}

#[tokio::test]
async fn a_malformed_request_is_400_and_ends_the_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for malformed in [
        "GET\r\n\r\n",
        "GET /events\r\n\r\n",
        "GET /events HTTP/1.1 x\r\nHost: a\r\n\r\n",
        "GET /events HTTP/3.7\r\nHost: a\r\n\r\n",
        "G ET /events HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /ev\x01ents HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n",
    ] {
        let mut client = gateway.connect().await;
        client.send(malformed).await;
        let head = client.head().await;
        assert_eq!(head.status, 400, "{malformed:?}: {}", head.text);
        client.body(&head).await;
        client.rest().await;
    }
    gateway.subscribe().await;
}

/// A reset could take the answer away from a client that has not read it yet.
#[tokio::test]
async fn who_still_sends_when_it_is_answered_is_not_reset() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let body = "x".repeat(300 * 1024);
    let length = body.len();
    for (head, status) in [
        (
            format!("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"),
            404,
        ),
        (
            format!("GET /events HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"),
            400,
        ),
        ("GET /events HTTP/3.7\r\n".to_owned(), 400),
    ] {
        let mut client = gateway.connect().await;
        client.send(&head).await;
        let answer = client.head().await;
        assert_eq!(answer.status, status, "{head:?}: {}", answer.text);
        client.body(&answer).await;
        // More than one segment, and none of it answered.
        client.send(&body).await;
        client.send(&body).await;
        let (rest, end) = client.rest().await;
        assert_eq!((rest, end), (Vec::new(), End::Cut), "{head:?}");
    }
}

#[tokio::test]
async fn a_request_needs_exactly_one_host() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"] {
        for target in ["/events", "/nothing"] {
            let request = format!("GET {target} HTTP/1.1\r\n{hosts}\r\n");
            let (head, body) = ask(&gateway, &request).await;
            assert_eq!(head.status, 400, "{request:?}: {}", head.text);
            assert_eq!(body, "a request needs exactly one Host header field\n");
        }
    }
    let mut client = gateway.connect().await;
    client.send("GET /events HTTP/1.0\r\n\r\n").await;
    client.into_subscriber().await;
}

#[tokio::test]
async fn a_subscription_with_a_body_is_400() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for body in [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut client = gateway.connect().await;
        let (head, text) = client
            .ask(format!("GET /events HTTP/1.1\r\nHost: a\r\n{body}"))
            .await;
        assert_eq!(head.status, 400, "{body:?}: {}", head.text);
        assert_eq!(text, "a request for an event stream must not have a body\n");
        assert_eq!(head.field("connection"), Some("close"), "{}", head.text);
        client.rest().await;
    }
    // A length of none is no body.
    gateway.subscribe_with("Content-Length: 0\r\n").await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_and_a_target_that_is_too_long_414() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nmax_header_bytes = \"128KiB\"", &origin).await;
    let large = "x".repeat(120 * 1024);
    gateway
        .subscribe_with(&format!("X-Large: {large}\r\n"))
        .await;
    for (what, request) in [
        (
            431,
            format!("GET /events HTTP/1.1\r\nHost: a\r\nX-Large: {large}{large}\r\n\r\n"),
        ),
        (
            431,
            format!(
                "GET /events HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X-Many: 1\r\n".repeat(200)
            ),
        ),
        (414, format!("GET /{large} HTTP/1.1\r\nHost: a\r\n\r\n")),
    ] {
        let mut client = gateway.connect().await;
        // The gateway may answer before it was sent everything.
        client.try_send(&request).await.ok();
        assert_eq!(client.head().await.status, what);
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_stream() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        let (head, _) = client.ask("HEAD /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(head.status, 200, "{}", head.text);
        assert_eq!(
            head.field("content-type"),
            Some("text/event-stream"),
            "{}",
            head.text
        );
        assert_eq!(
            head.field("cache-control"),
            Some("no-store, no-transform"),
            "{}",
            head.text
        );
        assert_eq!(head.field("x-accel-buffering"), Some("no"), "{}", head.text);
        assert_eq!(
            head.field("content-length"),
            None,
            "a stream has no length: {}",
            head.text
        );
    }
    assert_usable(&mut client).await;
}

#[tokio::test]
async fn options_names_the_methods() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = gateway.connect().await;
    let (head, _) = client
        .ask("OPTIONS /events HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(
        (head.status, head.field("allow")),
        (204, Some("GET, HEAD, OPTIONS")),
        "{}",
        head.text
    );
    assert_usable(&mut client).await;
}

#[tokio::test]
async fn a_later_request_of_a_connection_can_subscribe() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = gateway.connect().await;
    assert_usable(&mut client).await;
    client
        .ask("POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    let mut sub = client.subscribe("/events", "").await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_the_last_can_subscribe() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = gateway.connect().await;
    client
        .send(
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\nHEAD /events HTTP/1.1\r\nHost: a\r\n\r\n\
             GET /events HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert_eq!(head.status, 404);
    client.body(&head).await;
    assert_eq!(client.head().await.status, 200);
    let mut sub = client.into_subscriber().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn channels_of_one_path_are_told_apart_by_host() {
    let (any, one, two) = (
        Origin::start().await,
        Origin::start().await,
        Origin::start().await,
    );
    let gateway = gateway_of_hosts([&any, &one, &two]).await;
    let cases = [
        ("/events", "Host: one.test", "one"),
        ("/events", "Host: ONE.Test", "one"),
        ("/events", "Host: one.test:8080", "one"),
        ("/events", "host:two.test", "two"),
        ("/events", "Host: Zwei.test:1", "two"),
        ("/events", "Host: three.test", "any"),
        ("/events", "Host:", "any"),
        ("/events", "Host: [::1]:80", "any"),
        // The target's authority goes before the header field (RFC 9112, 3.2.2).
        ("http://one.test/events", "Host: two.test", "one"),
        ("http://ONE.test:80/events?x", "Host: two.test", "one"),
    ];
    let mut subs = Vec::new();
    for (target, host, channel) in cases {
        let mut client = gateway.connect().await;
        client
            .send(format!("GET {target} HTTP/1.1\r\n{host}\r\n\r\n"))
            .await;
        subs.push((target, host, channel, client.into_subscriber().await));
    }
    any.send("data: any\n\n").await;
    one.send("data: one\n\n").await;
    two.send("data: two\n\n").await;
    for (target, host, channel, mut sub) in subs {
        let event = sub.next_event().await;
        assert_eq!(event.data, channel, "{target} {host}");
    }
}

#[tokio::test]
async fn a_channel_with_hosts_answers_to_no_other() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("host = \"one.test\"", &origin).await;
    let (head, _) = ask(&gateway, "GET /events HTTP/1.1\r\nHost: two.test\r\n\r\n").await;
    assert_eq!(head.status, 404);
    let (head, _) = ask(&gateway, "GET /events HTTP/1.1\r\nHost: xone.test\r\n\r\n").await;
    assert_eq!(head.status, 404);
    let mut client = gateway.connect().await;
    client
        .send("GET /events HTTP/1.1\r\nHost: one.test\r\n\r\n")
        .await;
    client.into_subscriber().await;
}

#[tokio::test]
async fn spellings_of_a_path_are_one_path() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&format!(
        "{LISTEN}[channels.a]\npath = \"/a~b/%c3%A4\"\nupstream = \"{}\"\n",
        origin.url()
    ))
    .await;
    for path in [
        "/a~b/%C3%A4",
        "/a~b/%c3%a4",
        "/a%7Eb/%C3%A4",
        "/%61%7eb/%c3%A4?query=%2F",
        "/a~b/%C3%A4?",
    ] {
        gateway.connect().await.subscribe(path, "").await;
    }
    for path in [
        "/a~b%2F%C3%A4",
        "/a~b/%C3%A4/",
        "/A~b/%C3%A4",
        "/a~b/%25C3%25A4",
    ] {
        let (head, _) = ask(&gateway, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(head.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_client_that_dribbles_its_head_is_closed_while_others_are_served() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nheader_timeout = \"1s\"", &origin).await;
    let mut sub = gateway.subscribe().await;
    let started = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = gateway.connect().await;
        client
            .send("GET /events HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            .await;
        slow.push(client);
    }
    // A byte now and then must not win more time.
    let dribbling = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while let Some(client) = slow.first_mut() {
            ticks.tick().await;
            if client.try_send("x").await.is_err() {
                break;
            }
            origin.send("data: a\n\n").await;
            sub.expect_event("a").await;
        }
    };
    within("the first dribbling client to be closed", dribbling, || {
        "it is not".to_owned()
    })
    .await;
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "closed after {:?}",
        started.elapsed()
    );
    for client in &mut slow {
        client.rest().await;
    }
    gateway.subscribe().await;
    assert!(started.elapsed() < DEADLINE);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_also_after_an_answer() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nheader_timeout = \"1s\"", &origin).await;
    let mut silent = gateway.connect().await;
    let mut idle = gateway.connect().await;
    assert_usable(&mut idle).await;
    let (bytes, _) = silent.rest().await;
    assert_eq!(String::from_utf8_lossy(&bytes), "");
    let (bytes, _) = idle.rest().await;
    assert_eq!(String::from_utf8_lossy(&bytes), "");
}

#[tokio::test]
async fn the_header_timeout_does_not_end_a_subscription() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(
        "heartbeat = \"1s\"\n[server]\nheader_timeout = \"1s\"",
        &origin,
    )
    .await;
    let mut sub = gateway.subscribe().await;
    let mut n_heartbeats = 0;
    while n_heartbeats < 3 {
        match sub.next_item().await {
            Item::Comment(_) => n_heartbeats += 1,
            Item::Retry(_) => {}
            other => panic!("waited for heartbeats; {other:?}"),
        }
    }
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn without_a_file_there_is_one_channel_for_any_page() {
    let origin = Origin::start().await;
    let url = origin.url();
    let arguments = [
        "--upstream",
        &url,
        "--path",
        "/x",
        "--listen",
        "127.0.0.1:0",
    ];
    let gateway = Gateway::without_file(&arguments).await;
    let client = Connector::default().connect(&gateway).await;
    let mut sub = client.subscribe("/x", "Origin: https://app.test\r\n").await;
    assert_eq!(sub.head.field("access-control-allow-origin"), Some("*"));
    assert_eq!(sub.head.field("access-control-allow-credentials"), None);
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn a_body_that_does_not_come_does_not_keep_the_connection() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("[server]\nheader_timeout = \"1s\"", &origin).await;
    for request in [
        "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc",
        "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc",
        "POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "GET /events HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
        "HEAD /events HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    ] {
        let mut client = gateway.connect().await;
        let (head, _) = client.ask(request).await;
        assert!(head.status >= 400, "{}", head.text);
        client.rest().await;
    }
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_is_held_back() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut client = Connector::default()
        .receive_buffer(4096)
        .connect(&gateway)
        .await;
    let before = gateway.resident_bytes();
    let many = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let asking = async {
        for _ in 0..2000 {
            client.try_send(&many).await.ok();
        }
    };
    // It blocks: what it would be answered is not kept for it.
    tokio::time::timeout(Duration::from_secs(1), asking)
        .await
        .expect_err("it can ask no more");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "grew by {} KiB", grown / 1024);
    gateway.subscribe().await;
}
