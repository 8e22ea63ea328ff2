//! Gateways without a file.

use super::*;

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
