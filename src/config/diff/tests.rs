use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop};
use proptest::proptest;
use proptest::sample::select;

use super::*;

/// One line of a channel, and what a change of it touches.
const LINES: &[(&str, Touched)] = &[
    (
        "host = \"a.example\"",
        touched(true, false, UpstreamChange::None),
    ),
    (
        "refuse = \"503\"",
        touched(true, false, UpstreamChange::None),
    ),
    (
        "access = \"public\"",
        touched(true, false, UpstreamChange::None),
    ),
    (
        "cors = { origins = \"*\" }",
        touched(true, false, UpstreamChange::None),
    ),
    ("max_views = 9", touched(true, false, UpstreamChange::None)),
    (
        "select_events = true",
        touched(true, true, UpstreamChange::None),
    ),
    (
        "ready = \"connected\"",
        touched(true, false, UpstreamChange::None),
    ),
    (
        "heartbeat = \"1s\"",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "heartbeat_form = \"event:idle\"",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "retry = { max = \"9s\" }",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "cursor_on_connect = true",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "lag = { limit = \"9KiB\" }",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "lag = { events = 9, age = \"9s\", then = \"skip\" }",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "write_timeout = \"9s\"",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "end = \"clean\"",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "max_subscribers = 9",
        touched(false, true, UpstreamChange::None),
    ),
    (
        "history = { events = 9 }",
        touched(false, true, UpstreamChange::Follow),
    ),
    (
        "notices = \"all\"",
        touched(false, true, UpstreamChange::Follow),
    ),
    (
        "ids = \"gateway\"",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "connect_timeout = \"9s\"",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "response_timeout = \"9s\"",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "idle_timeout = \"9s\"",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "backoff = { max = \"9s\" }",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "max_redirects = 9",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "max_line_bytes = \"9KiB\"",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "max_event_bytes = \"9KiB\"",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "same_source = true",
        touched(false, false, UpstreamChange::Follow),
    ),
    (
        "coalesce = \"9ms\"",
        touched(false, false, UpstreamChange::Reconnect),
    ),
    (
        "upstream_http = \"2\"",
        touched(false, false, UpstreamChange::Reconnect),
    ),
    (
        "upstream_headers = { X-A = \"b\" }",
        touched(false, false, UpstreamChange::Reconnect),
    ),
];

#[expect(clippy::fn_params_excessive_bools, reason = "a row of a table")]
const fn touched(routing: bool, delivery: bool, upstream: UpstreamChange) -> Touched {
    Touched {
        routing,
        delivery,
        upstream,
    }
}

fn parse(text: &str) -> Config {
    let loaded = Config::parse("test.toml", text);
    loaded
        .unwrap_or_else(|errors| panic!("{text}\n{errors}"))
        .config
}

fn channel(name: &str, lines: &str) -> String {
    format!("[channels.{name}]\npath = \"/{name}\"\nupstream = \"http://127.0.0.1:9/\"\n{lines}\n")
}

const LISTENER: &str = "[listen.public]\naddress = \"127.0.0.1:0\"\n";

/// A configuration of a few channels, listeners and keys of the process.
fn configs() -> impl Strategy<Value = Config> {
    let line = select(LINES).prop_map(|(line, _)| line);
    let channels = prop::collection::btree_map(0..4_u8, line, 1..4);
    let address = select(&["127.0.0.1:0", "127.0.0.1:81", "[::1]:0", "unix:/run/a.sock"][..]);
    let listeners = vec(prop::collection::btree_set(address, 1..3), 1..3);
    let server = vec(any::<bool>(), 2);
    (channels, listeners, server).prop_map(|(channels, listeners, server)| {
        let mut text = "[server]\n".to_owned();
        for (is_there, line) in server
            .into_iter()
            .zip(["threads = 3", "max_connections = 3"])
        {
            text += if is_there { line } else { "" };
            text += "\n";
        }
        // One address belongs to one listener.
        let mut seen = std::collections::BTreeSet::new();
        for (number, addresses) in listeners.iter().enumerate() {
            let fresh: Vec<_> = addresses
                .iter()
                .filter(|address| address.ends_with(":0") || seen.insert(**address))
                .collect();
            if !fresh.is_empty() || number == 0 {
                text += &format!("[listen.l{number}]\naddress = {fresh:?}\n");
            }
        }
        for (name, line) in channels {
            text += &channel(&format!("c{name}"), line);
        }
        parse(&text)
    })
}

fn flipped<T>(changes: Vec<Change<T>>) -> Vec<Change<T>> {
    let flip = |change| match change {
        Change::Added(one) => Change::Removed(one),
        Change::Removed(one) => Change::Added(one),
        Change::Changed { old, new } => Change::Changed { old: new, new: old },
    };
    changes.into_iter().map(flip).collect()
}

proptest! {
    #[test]
    fn nothing_differs_from_itself(config in configs()) {
        proptest::prop_assert!(Diff::between(&config, &config.clone()).is_empty());
    }

    #[test]
    fn the_way_back_is_the_way_there_reversed(a in configs(), b in configs()) {
        let back = Diff::between(&b, &a);
        let there = Diff::between(&a, &b);
        proptest::prop_assert_eq!(there.is_empty(), a == b);
        let reversed = Diff {
            channels: flipped(there.channels),
            places: flipped(there.places),
            ..there
        };
        proptest::prop_assert_eq!(back, reversed);
    }
}

#[test]
fn each_key_of_a_channel_touches_what_it_should() {
    let plain = parse(&format!("{LISTENER}{}", channel("a", "")));
    for (line, expected) in LINES {
        let changed = parse(&format!("{LISTENER}{}", channel("a", line)));
        let diff = Diff::between(&plain, &changed);
        let [Change::Changed { old, new }] = &diff.channels[..] else {
            panic!("{line}: {diff:?}");
        };
        assert_eq!(new.touches(old), *expected, "{line}");
        assert!(diff.places.is_empty() && diff.live.is_empty() && diff.restart.is_empty());
    }
}

#[test]
fn another_url_is_another_source_unless_it_is_said_to_be_the_same() {
    let of = |upstream: &str, line: &str| {
        let text = channel("a", line).replace("http://127.0.0.1:9/", upstream);
        let config = parse(&format!("{LISTENER}{text}"));
        Arc::clone(&config.channels[0])
    };
    let (here, there) = ("http://127.0.0.1:9/", "http://127.0.0.1:10/");
    for (line, expected) in [
        ("", UpstreamChange::OtherSource),
        ("coalesce = \"1ms\"", UpstreamChange::OtherSource),
        ("same_source = false", UpstreamChange::OtherSource),
        ("same_source = true", UpstreamChange::Reconnect),
    ] {
        let change = of(there, line).touches(&of(here, "")).upstream;
        assert_eq!(change, expected, "{line}");
    }
}

#[test]
fn an_address_stays_when_its_listener_is_renamed() {
    let of = |listeners: &str| parse(&format!("{listeners}{}", channel("a", "")));
    let old = of("[listen.a]\naddress = [\"127.0.0.1:81\", \"127.0.0.1:0\"]\n");
    let new = of("[listen.b]\naddress = [\"127.0.0.1:81\", \"127.0.0.1:0\"]\n");
    let places = Diff::between(&old, &new).places;
    let kinds: Vec<_> = places
        .iter()
        .map(|change| match change {
            Change::Added(_) => "added",
            Change::Changed { .. } => "changed",
            Change::Removed(_) => "removed",
        })
        .collect();
    assert_eq!(kinds, ["removed", "added", "changed"], "{places:?}");
}

#[test]
fn keys_of_the_process_are_followed_or_wait() {
    let of = |line: &str| parse(&format!("[server]\n{line}\n{LISTENER}{}", channel("a", "")));
    for (line, live, restart) in [
        ("threads = 3", &[][..], &["server.threads"][..]),
        ("max_connections = 3", &["server.max_connections"], &[]),
        ("memory = \"300MiB\"", &["server.memory"], &[]),
        (
            "handshake_timeout = \"3s\"",
            &["server.handshake_timeout"],
            &[],
        ),
        ("state = \"/var/lib/x\"", &[], &["server.state"]),
        ("drain = \"3s\"", &["server.drain"], &[]),
        ("header_timeout = \"3s\"", &["server.header_timeout"], &[]),
        (
            "max_header_bytes = \"30KiB\"",
            &["server.max_header_bytes"],
            &[],
        ),
        ("unknown_path = \"list\"", &["server.unknown_path"], &[]),
        (
            "http2 = { max_concurrent_streams = 9 }",
            &["server.http2"],
            &[],
        ),
    ] {
        let diff = Diff::between(&of(""), &of(line));
        assert_eq!(
            (&diff.live[..], &diff.restart[..]),
            (live, restart),
            "{line}"
        );
    }
}

#[test]
fn the_admin_listeners_are_followed() {
    let of = |admin: &str| parse(&format!("{LISTENER}{}{admin}", channel("a", "")));
    let diff = Diff::between(&of(""), &of("[admin]\naddress = \"off\"\n"));
    assert_eq!(
        (&diff.live[..], &diff.restart[..]),
        (&["admin.address"][..], &[][..])
    );
}

/// One line of a proxy, and what a change of it touches.
const PROXY_LINES: &[(&str, ProxyChange)] = &[
    ("", ProxyChange::None),
    ("host = \"a.example\"", ProxyChange::Settings),
    ("upstream_headers = { X-A = \"b\" }", ProxyChange::Settings),
    ("upstream_host = \"upstream\"", ProxyChange::Settings),
    ("forwarded = \"none\"", ProxyChange::Settings),
    ("connect_timeout = \"9s\"", ProxyChange::Settings),
    ("response_timeout = \"off\"", ProxyChange::Settings),
    ("idle_timeout = \"9s\"", ProxyChange::Settings),
    ("max_request_bytes = \"9KiB\"", ProxyChange::Settings),
    ("max_requests = 9", ProxyChange::Settings),
    ("upgrade = []", ProxyChange::Settings),
    ("max_tunnels = 9", ProxyChange::Settings),
    ("tunnel_idle_timeout = \"9s\"", ProxyChange::Settings),
    ("max_idle_connections = 9", ProxyChange::Settings),
    ("keep_alive = \"9s\"", ProxyChange::Settings),
    ("heartbeat = \"9s\"", ProxyChange::Settings),
    ("access = \"public\"", ProxyChange::Settings),
    ("upstream_http = \"2\"", ProxyChange::Connections),
    (
        "upstream_tls = { server_name = \"a.example\" }",
        ProxyChange::Connections,
    ),
];

#[test]
fn a_change_of_a_proxy_touches_its_requests_or_its_connections_too() {
    let upstreams = |urls: &str, path: &str, line: &str| {
        let text = format!("[proxies.api]\npath = \"{path}\"\nupstream = {urls}\n{line}\n");
        parse(&format!("{LISTENER}{text}"))
    };
    let (one, all) = ("\"http://127.0.0.1:9\"", "/{*rest}");
    let old = upstreams(one, all, "");
    let touched = |new: &Config| new.proxies[0].touches(&old.proxies[0]);
    for (line, expected) in PROXY_LINES {
        let new = upstreams(one, all, line);
        assert_eq!(touched(&new), *expected, "{line}");
        let diff = Diff::between(&old, &new);
        assert_eq!(diff.is_empty(), *expected == ProxyChange::None, "{line}");
        assert_eq!(diff.proxies.is_empty(), diff.is_empty(), "{line}");
    }
    for (urls, path, expected) in [
        (one, "/a/{*rest}", ProxyChange::Settings),
        (
            "\"http://127.0.0.1:9/v2/{*rest}\"",
            all,
            ProxyChange::Settings,
        ),
        ("\"https://127.0.0.1:9\"", all, ProxyChange::Connections),
        ("\"http://127.0.0.1:8\"", all, ProxyChange::Connections),
        (
            "[\"http://127.0.0.1:9\", \"http://127.0.0.1:8\"]",
            all,
            ProxyChange::Connections,
        ),
    ] {
        assert_eq!(
            touched(&upstreams(urls, path, "")),
            expected,
            "{urls} {path}"
        );
    }
    let diff = Diff::between(&old, &parse(&format!("{LISTENER}{}", channel("a", ""))));
    assert_eq!(diff.proxies, [Change::Removed(Arc::clone(&old.proxies[0]))]);
}
