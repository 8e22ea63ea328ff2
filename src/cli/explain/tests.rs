//! What `ssecast explain` says of requests, to the letter.

use std::fs;

use super::*;

const FILE: &str = r#"
[listen.public]
address = "127.0.0.1:0"

[channels.rooms]
path = "/rooms/{room}/events"
key = { query = ["lang", "token"], headers = ["Authorization"] }
upstream = ["http://10.0.0.1:3000/rooms/{room}/events?app=1&key=s3cret", "http://10.0.0.2:3000/rooms/{room}/events?app=1&key=s3cret"]
upstream_headers = { X-Client = "s3cret" }
access = "public"

[channels.prices]
path = "/prices"
upstream = "http://10.0.0.1:3000/prices"

[channels.scores]
path = "/scores"
select_events = true
upstream = "http://10.0.0.1:3000/scores"

[proxies.api]
path = "/api/{user}/{*rest}"
host = "a.example"
upstream = ["http://10.0.0.1:3000/v2/{*rest}", "http://10.0.0.2:3000"]
upstream_host = "upstream"
upstream_headers = { X-Version = "2" }
upgrade = []

[proxies.web]
path = "/web/{*rest}"
upstream = "https://10.0.0.3"
forwarded = "none"

[bundles.all]
path = "/all"
channels = ["scores", "prices"]
select_events = true
"#;

fn explain(urls: &[&str], headers: &[&str]) -> (String, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, FILE).expect("it is written");
    let finished = run(&Explain {
        urls: urls.iter().map(|&url| url.to_owned()).collect(),
        headers: headers.iter().map(|&field| field.to_owned()).collect(),
        config: file.path().to_owned(),
    });
    (finished.output, finished.complaint)
}

#[test]
fn what_a_proxy_refuses_is_told() {
    for path in ["x/../y", "%2e%2E", "x%00"] {
        let (output, complaint) = explain(&[&format!("http://b.example/web/{path}")], &[]);
        assert_eq!(output, "");
        assert!(
            complaint.contains("400, at the proxy `web`: the path has a"),
            "{complaint}"
        );
    }
}

#[test]
fn what_a_request_is_for_is_told_without_secrets() {
    let url =
        "https://a.example/rooms/caf%C3%A9/events?x=1&token=s3cret&lang=en&last_event_id=7#top";
    let fields = [
        "Authorization: Bearer s3cret",
        "Cookie: id=s3cret",
        "Accept: text/event-stream",
    ];
    let (output, complaint) = explain(&[url], &fields);
    assert_eq!(complaint, "");
    assert_eq!(
        output,
        "\
https://a.example/rooms/caf%C3%A9/events?x=1&token=…&lang=en&last_event_id=7#top
  channel    rooms, `/rooms/{room}/events`
  instance   {room} = `café`, lang = `en`, token = …
  upstream   GET http://10.0.0.1:3000/rooms/caf%C3%A9/events?app=1&key=…&lang=en&token=…, or the same at 1 more
  fields     host, accept, accept-encoding, cache-control, user-agent, x-client (upstream_headers), authorization (the client's)
  resumes    after `7`; a new instance asks its upstream to go on there
  ignored    the parameter `x`; the header field `cookie`

"
    );
}

#[test]
fn two_requests_are_compared() {
    let ends_with = |urls: [&str; 2], end: &str| {
        let (output, complaint) = explain(&urls, &[]);
        assert!(output.ends_with(end), "{output}{complaint}");
    };
    ends_with(
        ["/rooms/a/events?lang=en&x=1", "/rooms/%61/events?lang=e%6E"],
        "These collapse: they share an instance, its history and its one upstream connection.\n",
    );
    ends_with(
        ["/rooms/a/events?lang=en", "/rooms/b/events?lang=en&lang=de"],
        "These do not collapse: they are for two instances of a channel.\n  \
         {room}     `a` here, `b` there\n  \
         lang       `en` here, `en` and `de` there\n",
    );
    ends_with(
        ["/rooms/a/events?token=1", "/rooms/a/events"],
        "of a channel.\n  token      … here, absent there\n",
    );
    ends_with(
        ["/prices", "/rooms/a/events"],
        "they are for two channels, `prices` and `rooms`.\n",
    );
    ends_with(
        ["/prices?a=1", "http://any.example/prices"],
        "its one upstream connection.\n",
    );
}

#[test]
fn what_is_asked_of_a_bundle_is_told_and_compared() {
    let asked = [
        "/all?channel=scores,prices",
        "/all?event=goal,end&channel=scores&x=1",
    ];
    let (output, complaint) = explain(&asked, &[]);
    assert_eq!(complaint, "");
    assert_eq!(
        output,
        "\
/all?channel=scores,prices
  channel    all, `/all`
  instance   none: it has views of its channels
  view       all events of `prices` and `scores`; shared by all who ask for these
  upstream   that of `prices` and `scores`, always connected

/all?event=goal,end&channel=scores&x=1
  channel    all, `/all`
  instance   none: it has views of its channels
  view       the event types `end` and `goal` of `scores`; shared by all who ask for these
  upstream   that of `scores`, always connected
  ignored    the parameter `x`

These are for one bundle, and read different events of it:
  channel    `prices` and `scores` here, `scores` there
  event      all here, `end` and `goal` there
"
    );
    let (output, _) = explain(
        &[
            "/all?channel=scores,prices",
            "/all?channel=prices&channel=scores",
        ],
        &[],
    );
    assert!(
        output.ends_with("These are for one bundle, and share a view.\n"),
        "{output}"
    );
    for (query, said) in [
        ("", "which channels? channels here: prices, scores"),
        (
            "?channel=rooms",
            "there is no channel `rooms` here; channels: prices, scores",
        ),
        ("?channel=prices&event=", "event names no event type"),
    ] {
        let (output, complaint) = explain(&[&format!("/all{query}")], &[]);
        assert_eq!(output, "");
        let said = format!("400, at the channel `all`: {said}");
        assert!(complaint.contains(&said), "{complaint}");
    }
}

#[test]
fn what_is_selected_of_a_channel_is_told_where_it_may_be() {
    let (output, complaint) = explain(&["/scores?event=goal", "/scores?channel=x"], &[]);
    let view = "  view       the event types `goal`; shared by all who ask for these\n";
    assert!(output.contains(view), "{output}{complaint}");
    assert!(
        output.contains("  ignored    the parameter `channel`\n"),
        "{output}"
    );
    let compared = "its one upstream connection, and read different events of it:\n  event      `goal` here, all there\n";
    assert!(output.ends_with(compared), "{output}");
    let (output, _) = explain(&["/prices?event=goal"], &[]);
    assert!(
        output.contains("  ignored    the parameter `event`\n"),
        "{output}"
    );
    assert!(!output.contains("view"), "{output}");
}

#[test]
fn what_passes_through_is_told_with_its_upstream() {
    let urls = [
        "https://a.example:8443/api/me/a%2fb?x=1&token=s3cret",
        "/web/",
    ];
    let (output, complaint) = explain(&urls, &[]);
    assert_eq!(complaint, "");
    assert_eq!(
        output,
        "\
https://a.example:8443/api/me/a%2fb?x=1&token=…
  proxy      api, `/api/{user}/{*rest}`
  upstream   http://10.0.0.1:3000/v2/a%2fb?x=1&token=…, or the same at 1 more, by HTTP/1.1
  host       `10.0.0.1:3000`
  fields     via, x-forwarded-for, x-forwarded-proto, x-forwarded-host, x-forwarded-port, forwarded, x-version (upstream_headers), and the client's, but those of its connection
  told       x-forwarded-for `192.0.2.1`, x-forwarded-proto `https`, x-forwarded-host `a.example:8443`, x-forwarded-port `8443`, forwarded `for=192.0.2.1;host=\"a.example:8443\";proto=https`, of a client at 192.0.2.1
  switches   to no other protocol

/web/
  proxy      web, `/web/{*rest}`
  upstream   https://10.0.0.3/web/, by HTTP/1.1
  host       the one that the client asks for
  fields     via, and the client's, but those of its connection
  told       nothing of the client
  switches   to websocket, if it asks for it
  path       as the client writes it, byte for byte

These do not collapse: what passes through (`api`) is asked for each client.
"
    );
    let (output, _) = explain(&["http://a.example/web/x"], &[]);
    assert!(
        output.contains("  host       `a.example`, the one"),
        "{output}"
    );
}

#[test]
fn what_becomes_of_each_header_field_is_told_without_its_value() {
    let url = "http://a.example/api/me/x";
    let fields = [
        "Accept: text/html",
        "Cookie: id=s3cret",
        "Connection: X-Hop",
        "X-Hop: s3cret",
        "X_Forwarded_For: s3cret",
        "X-Forwarded-For: s3cret",
        "X-Version: s3cret",
        "Via: 1.1 other",
        "Upgrade: websocket",
    ];
    let (output, complaint) = explain(&[url], &fields);
    assert_eq!(complaint, "");
    assert_eq!(
        output,
        "\
http://a.example/api/me/x
  proxy      api, `/api/{user}/{*rest}`
  upstream   http://10.0.0.1:3000/v2/x, or the same at 1 more, by HTTP/1.1
  host       `10.0.0.1:3000`
  fields     accept (the client's), cookie (the client's), via (the client's, and ours), x-forwarded-for (not the client's), x-forwarded-proto, x-forwarded-host, x-forwarded-port, forwarded, x-version (upstream_headers)
  withheld   connection, x-hop, x_forwarded_for, upgrade
  told       x-forwarded-for `192.0.2.1`, x-forwarded-proto `http`, x-forwarded-host `a.example`, x-forwarded-port `80`, forwarded `for=192.0.2.1;host=a.example;proto=http`, of a client at 192.0.2.1
  switches   to no other protocol

"
    );
}

#[test]
fn an_offer_to_switch_protocols_goes_on_where_it_may() {
    let offer = [
        "Host: a.example",
        "Connection: Upgrade",
        "Upgrade: WebSocket",
    ];
    let (output, _) = explain(&["/web/chat"], &offer);
    for row in [
        "  host       `a.example`, the one that the client asks for\n",
        "  fields     via, upgrade (the client's), connection (not the client's)\n",
        "  switches   to websocket, if the upstream agrees\n",
    ] {
        assert!(output.contains(row), "{output}");
    }
    assert!(!output.contains("withheld"), "{output}");
}

#[test]
fn what_a_proxy_refuses_for_its_fields_is_told() {
    let circle = ["Via: 1.1 ssecast"; 9];
    for (fields, said) in [
        (&circle[..], "508, at the proxy `web`: the request has come"),
        (
            &["Host: a", "Host: b"],
            "400, at the proxy `web`: the request names two hosts",
        ),
        (&["Host: a b"], "400, at the proxy `web`: the host that"),
        (
            &["Host: a", "Content-Length: x"],
            "400, at the proxy `web`: Content-Length is",
        ),
        (
            &["Host: a", "Transfer-Encoding: gzip"],
            "501, at the proxy `web`: Transfer-",
        ),
    ] {
        let (output, complaint) = explain(&["/web/x"], fields);
        assert_eq!(output, "");
        assert!(complaint.contains(said), "{complaint}");
    }
}

#[test]
fn what_leads_nowhere_is_said() {
    for (url, said) in [
        (
            "/nothing?token=s3cret",
            "error: /nothing?token=…: 404: no channel and no proxy has the path `/nothing` for any host\n",
        ),
        (
            "/rooms/%2e%2e/events",
            "400, at the channel `rooms`: `room` in the path is `.` or `..`",
        ),
        ("rooms/a", "a path that begins with `/`"),
        ("/rooms/é a", "is everything percent-encoded?"),
    ] {
        let (output, complaint) = explain(&[url], &[]);
        assert_eq!(output, "");
        assert!(complaint.contains(said), "{complaint}");
    }
    let (_, complaint) = explain(&["/prices"], &["Authorization Bearer s3cret"]);
    assert_eq!(
        complaint,
        "error: header field 1: write it like `-H 'Name: value'`\n"
    );
}
