use std::fs;
use std::path::Path;
use std::path::PathBuf;

use proptest::prelude::any;
use proptest::prelude::prop;
use proptest::proptest;

use super::*;
use crate::config::reader::Table as _;
use crate::config::schema::AdminTable;
use crate::config::schema::BackoffTable;
use crate::config::schema::BundleTable;
use crate::config::schema::CertificateTable;
use crate::config::schema::ConnectionRateTable;
use crate::config::schema::CorsTable;
use crate::config::schema::HistoryTable;
use crate::config::schema::Http2Table;
use crate::config::schema::KeyTable;
use crate::config::schema::LagTable;
use crate::config::schema::ListenTable;
use crate::config::schema::NetworkLimitTable;
use crate::config::schema::Place;
use crate::config::schema::ProxyTable;
use crate::config::schema::RetryTable;
use crate::config::schema::ServerTable;
use crate::config::schema::Settings;
use crate::config::schema::UpstreamTlsTable;

const REFERENCE: &str = include_str!("../../config/ssecast.toml");

const MINIMAL: &str = "\
[listen.public]
address = \"127.0.0.1:8080\"
[channels.events]
path = \"/events\"
upstream = \"http://127.0.0.1:3000/events\"
";

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = (fs::read_dir(&folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == extension))
        .collect();
    files.sort();
    files
}

fn parse(text: &str) -> Loaded {
    Config::parse("test.toml", text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// The rendered errors of a text that is refused.
fn refused(text: &str) -> String {
    Config::parse("test.toml", text)
        .expect_err(text)
        .to_string()
}

/// A channel of the minimal file with more settings.
fn channel(settings: &str) -> Arc<Channel> {
    let loaded = parse(&format!("{MINIMAL}{settings}\n"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    Arc::clone(&loaded.config.channels[0])
}

#[test]
fn files_that_we_ship_are_valid_and_give_no_warning() {
    let files = files("config", "toml");
    for file in &files {
        let loaded = Config::load(file).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
    assert_eq!(files.len(), 2);
}

#[test]
fn the_reference_has_every_key() {
    let tables = [
        ServerTable::KEYS,
        ConnectionRateTable::KEYS,
        NetworkLimitTable::KEYS,
        Http2Table::KEYS,
        ListenTable::KEYS,
        CertificateTable::KEYS,
        AdminTable::KEYS,
        Place::KEYS,
        BundleTable::KEYS,
        ProxyTable::KEYS,
        Settings::KEYS,
        UpstreamTlsTable::KEYS,
        BackoffTable::KEYS,
        HistoryTable::KEYS,
        RetryTable::KEYS,
        LagTable::KEYS,
        CorsTable::KEYS,
        KeyTable::KEYS,
    ];
    for key in tables.concat() {
        let is_mentioned = REFERENCE.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            let is_key = |part: &str| part.split(" = ").next() == Some(key);
            is_key(line) || line.split(['{', ',']).any(|part| is_key(part.trim()))
        });
        assert!(is_mentioned, "config/ssecast.toml does not mention `{key}`");
    }
}

#[test]
fn the_reference_tells_the_real_defaults() {
    let mut section = "";
    let mut rest = String::new();
    let mut n_left_out = 0;
    for line in REFERENCE.lines() {
        section = if line.starts_with('[') { line } else { section };
        if matches!(section, "[server]" | "[admin]" | "[defaults]") {
            n_left_out += usize::from(line.starts_with(|c: char| c.is_ascii_lowercase()));
        } else {
            rest.push_str(line);
            rest.push('\n');
        }
    }
    // All but `max_connections`, `connection_rate`, the limits per address and network, `state`,
    // `max_subscribers`, `access` and `connect`, which have none.
    assert_eq!(
        n_left_out,
        ServerTable::KEYS.len() + AdminTable::KEYS.len() + Settings::KEYS.len() - 8
    );
    assert_eq!(parse(&rest).config, parse(REFERENCE).config);
}

/// The example of a proxy in the reference, as it would be without the comments.
fn example_of_a_proxy() -> String {
    let (_, section) = REFERENCE.split_once("# [proxies.api]\n").unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("# "));
    let settings = lines.filter(|line| {
        let key = line.split(" = ").next().unwrap_or_default();
        ProxyTable::KEYS.contains(&key)
    });
    settings.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_reference_tells_the_real_defaults_of_a_proxy() {
    let proxy = |settings: &str| parse(&format!("{LISTENER}[proxies.api]\n{settings}")).config;
    let example = example_of_a_proxy();
    let of_its_own = |line: &&str| {
        ["path", "host", "upstream"]
            .iter()
            .any(|key| line.starts_with(&format!("{key} = ")))
    };
    let least: String = (example.lines().filter(of_its_own))
        .map(|line| format!("{line}\n"))
        .collect();
    // All but `access`, which has none.
    assert_eq!(example.lines().count(), ProxyTable::KEYS.len() - 1);
    assert_eq!(proxy(&least), proxy(&example));
}

#[test]
fn mistakes_are_shown_with_their_place_and_advice() {
    let files = files("tests/data/config/invalid", "toml");
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(file).unwrap();
        let shown = match Config::parse(name, &text) {
            Ok(loaded) => {
                assert!(!loaded.warnings.is_empty(), "{name} is right");
                loaded.warnings.to_string()
            }
            Err(errors) => errors.to_string(),
        };
        let expected_file = file.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected_file, &shown).unwrap();
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if shown != expected {
            wrong.push(format!(
                "==== {name}, expected:\n{expected}\n==== got:\n{shown}"
            ));
        }
    }
    let help = "UPDATE_EXPECT=1 rewrites the expected texts";
    assert!(wrong.is_empty(), "{}\n{help}", wrong.join("\n"));
    // At least those that there were once: they have been found.
    assert!(files.len() >= 40, "files in tests/data/config/invalid");
}

#[test]
fn a_diagnostic_can_be_asked_for_its_parts() {
    let errors = Config::parse("x.toml", "[server]\n  threads = true\n").unwrap_err();
    assert_eq!(
        (errors.n_errors(), errors.n_warnings(), errors.is_empty()),
        (2, 0, false)
    );
    let parts: Vec<_> = (errors.iter())
        .map(|error| (error.severity(), error.file(), error.line(), error.column()))
        .collect();
    let place = |line, column| (Severity::Error, Some("x.toml"), line, column);
    assert_eq!(parts, [place(None, None), place(Some(2), Some(13))]);
    let [_, error] = &errors.iter().collect::<Vec<_>>()[..] else {
        panic!("two errors")
    };
    assert_eq!(
        error.message(),
        "`threads` must be a whole number, not a boolean"
    );
    assert_eq!(error.advice(), "write a whole number, like `100`");
}

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

const LISTENER: &str = "[listen.public]\naddress = \"127.0.0.1:8080\"\n";

fn proxy(settings: &str) -> Arc<Proxy> {
    let least = "[proxies.api]\npath = \"/{*rest}\"\nupstream = \"http://127.0.0.1:3000\"\n";
    let loaded = parse(&format!("{LISTENER}{least}{settings}\n"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert!(loaded.config.channels.is_empty());
    Arc::clone(&loaded.config.proxies[0])
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

#[test]
fn a_file_that_cannot_be_read_is_a_diagnostic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ssecast.toml");
    let shown = |file: &Path| Config::load(file).unwrap_err().to_string();
    assert!(shown(&file).contains("No such file"), "{}", shown(&file));
    assert!(
        shown(folder.path()).contains("name the file in it"),
        "{}",
        shown(folder.path())
    );
    fs::write(&file, b"[server]\nthreads = '\xff'\n").unwrap();
    assert!(
        shown(&file).contains("not UTF-8 (line 2)"),
        "{}",
        shown(&file)
    );
    fs::write(&file, MINIMAL).unwrap();
    assert_eq!(Config::load(&file).unwrap().config, parse(MINIMAL).config);
}

#[test]
fn without_a_file_there_is_one_channel_for_any_page() {
    let options = FileLess {
        upstream: Some("http://127.0.0.1:3000/events"),
        ..FileLess::default()
    };
    let config = Config::for_upstream(options).unwrap();
    let mut same = parse(MINIMAL).config;
    same.admin.addresses.clear();
    let cors = Cors {
        origins: Origins::Any,
        credentials: Credentials::Omit,
    };
    Arc::make_mut(&mut same.channels[0]).cors = Some(cors);
    same.server.drain = Duration::ZERO;
    same.server.state = StateKeeping::Off;
    assert_eq!(config, same);

    let options = FileLess {
        path: Some("/a"),
        listen: Some("[::1]:0"),
        admin: Some("unix:/run/admin.sock"),
        ..options
    };
    let config = Config::for_upstream(options).unwrap();
    assert_eq!(config.channels[0].path, "/a");
    let address = ListenAddress::Tcp("[::1]:0".parse().unwrap());
    assert_eq!(config.listeners[0].addresses, [address]);
    let admin = ListenAddress::Unix(PathBuf::from("/run/admin.sock"));
    assert_eq!(config.admin.addresses, [admin]);
}

#[test]
fn without_a_file_mistakes_are_named_by_their_flags() {
    let options = FileLess {
        upstream: Some("127.0.0.1:3000/events"),
        path: Some("events"),
        listen: Some("8080"),
        ..FileLess::default()
    };
    let errors = Config::for_upstream(options).unwrap_err();
    assert_eq!(errors.n_errors(), 3);
    assert_eq!(
        errors.to_string(),
        "\
error: `--upstream`: a URL begins with `http://` or `https://`
  = help: write `\"http://127.0.0.1:3000/events\"`

error: `--path`: a path begins with `/`
  = help: write `\"/events\"`

error: `--listen`: `\"8080\"` is not an address to listen on
  = help: write `\"127.0.0.1:8080\"` for this machine only, or `\"0.0.0.0:8080\"` for any
"
    );
    for (upstream, message) in [
        ("http://user:s3cret@127.0.0.1/", "user info"),
        ("http://127.0.0.1/?token=s3cret", "looks like a credential"),
    ] {
        let options = FileLess {
            upstream: Some(upstream),
            ..FileLess::default()
        };
        let errors = Config::for_upstream(options).unwrap_err().to_string();
        assert!(
            errors.contains(message) && !errors.contains("s3cret"),
            "{errors}"
        );
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}

#[test]
fn without_a_file_a_whole_backend_passes_through() {
    let config = |upstream, proxy, path| {
        let options = FileLess {
            upstream,
            proxy,
            path,
            ..FileLess::default()
        };
        Config::for_upstream(options).map_err(|errors| errors.to_string())
    };
    let expected = proxy("upstream_host = \"client\"");
    let backend = Some("http://127.0.0.1:3000/");
    let alone = config(None, backend, None).unwrap();
    let as_backend = |config: &Config| {
        let mut one = (*config.proxies[0]).clone();
        assert_eq!(
            std::mem::replace(&mut one.name, "api".to_owned()),
            "backend"
        );
        one
    };
    assert_eq!(as_backend(&alone), *expected);
    assert!(alone.channels.is_empty());
    let off = FileLess {
        proxy: backend,
        admin: Some("off"),
        ..FileLess::default()
    };
    assert_eq!(Config::for_upstream(off).unwrap(), alone);
    let both = config(Some("http://127.0.0.1:3000/x"), backend, Some("/a")).unwrap();
    assert_eq!(
        (as_backend(&both), both.channels[0].path.as_str()),
        ((*expected).clone(), "/a")
    );
    let shown: Vec<String> = both.channels[0].upstream.shown_urls().collect();
    assert_eq!(shown, ["http://127.0.0.1:3000/x"]);
    // One path of the backend is shared.
    let shared = config(None, backend, Some("/events/all")).unwrap();
    let shown: Vec<String> = shared.channels[0].upstream.shown_urls().collect();
    assert_eq!(shown, ["http://127.0.0.1:3000/events/all"]);
    let elsewhere = config(None, Some("https://app.example"), None).unwrap();
    assert_eq!(elsewhere.proxies[0].upstream_host, UpstreamHost::Upstream);
    for (proxy, message) in [
        ("127.0.0.1:3000", "`--proxy`: a URL begins with"),
        ("http://127.0.0.1:3000/app", "write `http://127.0.0.1:3000`"),
        (
            "http://127.0.0.1:3000/?key=s3cret",
            "`--proxy`: a proxy's URL has no query",
        ),
    ] {
        let errors = config(None, Some(proxy), None).unwrap_err();
        assert!(
            errors.contains(message) && !errors.contains("s3cret"),
            "{errors}"
        );
    }
    let taken = config(Some("http://127.0.0.1:3000/"), backend, Some("/{*_all}")).unwrap_err();
    assert!(
        taken.contains("the channel `events` and the proxy `backend`"),
        "{taken}"
    );
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let text = format!("x = {}", "[".repeat(100_000));
    assert!(Config::parse("test.toml", &text).is_err());
    let text = format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Config::parse("test.toml", &text).is_err());
    let text = format!("{} = 1", ["a"; 100_000].join("."));
    assert!(Config::parse("test.toml", &text).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_config(&data);
    }

    #[test]
    fn a_file_with_one_part_replaced_is_read_without_a_panic(
        at in 0..REFERENCE.len(),
        length in 0..40usize,
        part in "[\\[\\]{}=.,\"'#\n\r\t a-z0-9é日\\\\]{0,12}",
    ) {
        let mut data = REFERENCE.as_bytes().to_vec();
        let end = (at + length).min(data.len());
        data.splice(at..end, part.bytes());
        fuzz_config(&data);
    }

    #[test]
    fn any_value_of_any_key_is_read_without_a_panic(key in 0..110usize, value in "\\PC{0,20}") {
        let keys = [Place::KEYS, Settings::KEYS, ProxyTable::KEYS].concat();
        let key = keys[key % keys.len()];
        for value in [value.clone(), format!("{value:?}"), format!("{{ {value} = 1 }}")] {
            fuzz_config(format!("{MINIMAL}{key} = {value}\n").as_bytes());
            let proxy = format!("{LISTENER}[proxies.api]\n{key} = {value}\n");
            fuzz_config(proxy.as_bytes());
        }
    }
}

#[test]
fn the_page_on_reloads_says_for_every_key_what_a_change_of_it_touches() {
    const PAGE: &str = include_str!("../../docs/reload.md");
    let rows: Vec<&str> = PAGE
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let says = |key: &str| rows.iter().any(|row| row.contains(&format!("`{key}`")));
    let with = |table: &str, keys: &[&str]| -> Vec<String> {
        keys.iter().map(|key| format!("{table}{key}")).collect()
    };
    for key in [
        with("", schema::TOP_KEYS),
        with("server.", ServerTable::KEYS),
        with("", Http2Table::KEYS),
        with("admin.", AdminTable::KEYS),
        with("listen.", ListenTable::KEYS),
        with("", CertificateTable::KEYS),
        with("", Place::KEYS),
        with("", Settings::KEYS),
        with("proxies.", ProxyTable::KEYS),
    ]
    .concat()
    {
        assert!(says(&key), "docs/reload.md has no row for `{key}`");
    }
}
