//! What is meant by what is written.

use super::*;

#[test]
fn a_thousand_channels_are_read() {
    let channels: String = (0..1000)
        .map(|i| format!("[channels.c{i}]\npath = \"/{i}\"\nupstream = \"http://127.0.0.1/\"\n"))
        .collect();
    assert_eq!(
        parse(&format!("{MINIMAL}{channels}")).config.channels.len(),
        1001
    );
}

#[test]
fn a_channel_inherits_key_by_key() {
    let text = "
        [defaults]
        history = { events = 10, age = \"none\" }
        heartbeat = \"20s\"
        upstream_headers = { X-A = \"a\", X-B = \"b\" }
        cors = { origins = \"*\" }
        [channels.other]
        path = \"/other\"
        upstream = \"http://127.0.0.1:3000/events\"
        history.bytes = \"8MiB\"
        heartbeat = \"off\"
        upstream_headers = { X-C = \"c\" }
        cors.origins = []
    ";
    let config = parse(&format!("{MINIMAL}{text}")).config;
    let [events, other] = &config.channels[..] else {
        panic!("two channels")
    };
    assert_eq!(
        events.history,
        History {
            events: 10,
            bytes: 4 << 20,
            age: None
        }
    );
    assert_eq!(
        other.history,
        History {
            events: 10,
            bytes: 8 << 20,
            age: None
        }
    );
    assert_eq!(events.heartbeat.interval, Some(Duration::from_secs(20)));
    assert_eq!(other.heartbeat.interval, None);
    let names = |channel: &Channel| {
        channel
            .upstream
            .headers
            .iter()
            .map(|(name, _)| name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(events), ["x-a", "x-b"]);
    assert_eq!(names(other), ["x-c"]);
    assert_eq!(
        events.cors.as_ref().map(|cors| &cors.origins),
        Some(&Origins::Any)
    );
    assert_eq!(other.cors, None);
}

#[test]
fn every_word_has_its_meaning() {
    let c = channel(
        "upstream_http = \"2\"\nids = \"gateway\"\nheartbeat_form = \"event:ping\"\n\
         cursor_on_connect = true\nnotices = \"all\"\ncoalesce = \"5ms\"\nend = \"clean\"\n\
         refuse = \"503\"\nmax_subscribers = 7\naccess = \"public\"\nhost = [\"A.example\"]\n\
         cors = { origins = [\"HTTPS://App.example:443\"], credentials = true }",
    );
    assert_eq!(c.upstream.http, UpstreamHttp::Two);
    assert_eq!(c.ids, Ids::Gateway);
    assert_eq!(c.heartbeat.form, HeartbeatForm::Event("ping".to_owned()));
    assert_eq!(c.cursor_on_connect, CursorOnConnect::Send);
    assert_eq!(c.notices, Notices::All);
    assert_eq!(c.coalesce, Duration::from_millis(5));
    assert_eq!((c.end, c.refuse), (End::Clean, Refuse::Unavailable));
    assert_eq!(
        (c.max_subscribers, c.access),
        (Some(7), Some(Access::Public))
    );
    assert_eq!(c.hosts, ["a.example"]);
    let origins = Origins::Listed(vec!["https://app.example".to_owned()]);
    assert_eq!(
        c.cors,
        Some(Cors {
            origins,
            credentials: Credentials::Allow
        })
    );
    assert_eq!(channel("ids = \"upstream\"").ids, Ids::Upstream);
    let policies = |keys: &str| {
        let c = channel(keys);
        (c.join, c.on_gap, c.keying().map(|keying| keying.by))
    };
    assert_eq!(policies(""), (Join::Live, OnGap::All, None));
    assert_eq!(policies("join = \"all\"").0, Join::All);
    assert_eq!(policies("join = 10").0, Join::Newest(10));
    assert_eq!(policies("on_gap = \"live\"").1, OnGap::Live);
    let by = Some(ConflateBy::Type);
    assert_eq!(
        policies("join = \"latest\""),
        (Join::Latest, OnGap::Latest, by.clone())
    );
    assert_eq!(
        policies("on_gap = \"latest\""),
        (Join::Live, OnGap::Latest, by)
    );
    let pointer = JsonPointer::parse("/a/b").map(ConflateBy::Pointer);
    assert_eq!(
        policies("join = \"latest\"\non_gap = \"all\"\nconflate_by = \"/a/b\""),
        (Join::Latest, OnGap::All, pointer)
    );
    assert_eq!(channel("notices = \"none\"").notices, Notices::None);
    let server = parse(&format!(
        "{MINIMAL}[server]\nunknown_path = \"list\"\nthreads = 3"
    ))
    .config;
    assert_eq!(server.server.unknown_path, UnknownPath::ListPaths);
    assert_eq!(server.server.threads, Some(3));
}

#[test]
fn a_smaller_history_brings_the_lag_limit_down_by_itself() {
    let c = channel("history.bytes = \"512KiB\"\nmax_event_bytes = \"64KiB\"");
    assert_eq!(c.lag.limit_bytes, 512 << 10);
}

#[test]
fn every_word_of_a_proxy_has_its_meaning() {
    let p = proxy(
        "upstream_http = \"2\"\nupstream_host = \"upstream\"\nforwarded = \"rfc7239\"\n\
         response_timeout = \"off\"\nidle_timeout = \"off\"\ntunnel_idle_timeout = \"off\"\n\
         max_request_bytes = \"1MiB\"\nupgrade = [\"WebSocket\", \"x/1\"]\nheartbeat = \"15s\"\n\
         upstream_headers = { X-Api-Key = \"k\", Accept-Encoding = \"identity\" }\naccess = \"public\"\n\
         host = \"A.example\"\nmax_idle_connections = 0",
    );
    assert_eq!(
        (p.http, p.forwarded),
        (UpstreamHttp::Two, ForwardedFields::Rfc7239)
    );
    assert_eq!(p.upstream_host, UpstreamHost::Upstream);
    assert_eq!(
        (p.header_timeout, p.idle_timeout, p.tunnel_idle_timeout),
        (None, None, None)
    );
    assert_eq!(
        (p.max_request_bytes, p.max_idle_connections),
        (Some(1 << 20), 0)
    );
    assert_eq!(p.upgrade, ["websocket", "x/1"]);
    assert_eq!(p.heartbeat, Some(Duration::from_secs(15)));
    assert_eq!((p.headers.len(), p.access), (2, Some(Access::Public)));
    assert!(
        !format!("{p:?}").contains("\"k\""),
        "a credential is shown: {p:?}"
    );
    assert_eq!(p.hosts, ["a.example"]);
    assert_eq!(proxy("upgrade = []").upgrade, [""; 0]);
    let host = |text: &str| {
        proxy(&format!("upstream_host = {text:?}"))
            .upstream_host
            .clone()
    };
    assert_eq!(host("client"), UpstreamHost::Client);
    let named = UpstreamHost::Named(http::HeaderValue::from_static("app.example:81"));
    assert_eq!(host("app.example:81"), named);
    for (word, forwarded) in [
        ("both", ForwardedFields::Both),
        ("none", ForwardedFields::None),
        ("x-forwarded", ForwardedFields::XForwarded),
    ] {
        assert_eq!(proxy(&format!("forwarded = {word:?}")).forwarded, forwarded);
    }
}

#[test]
fn the_same_path_on_another_host_is_another_channel() {
    let text = "[channels.b]\npath = \"/%65vents\"\nhost = \"b.example\"\n\
                upstream = \"http://127.0.0.1:3000/\"\n";
    assert_eq!(parse(&format!("{MINIMAL}{text}")).config.channels.len(), 2);
    let text = text.replace("host = \"b.example\"\n", "");
    assert!(refused(&format!("{MINIMAL}{text}")).contains("same path and host"));
}
