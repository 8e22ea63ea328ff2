//! Which host and which path a backend is asked for: what the request says, if it says one thing.

use super::recorder::Recorder;
use super::smuggling::World;
use crate::support::{Gateway, Http2};

fn get(target: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_request_is_for_one_host() {
    let world = World::new().await;
    for fields in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: user@a\r\n",
        "Host: a/x\r\n",
        "Host: a#x\r\n",
        "Host: a?x\r\n",
        "Host: a\\b\r\n",
        "Host: a:x\r\n",
        "Host: a:80:90\r\n",
        "Host: a:99999\r\n",
        "Host: [::1\r\n",
        "Host: a%0d%0aX: y\r\n",
        "Host: a%00\r\n",
        "Host: caf\u{e9}\r\n",
        "Host: \r\n",
        "Host: http://a\r\n",
        "X: y\r\n Host: a\r\n",
        "Host : a\r\n",
    ] {
        world.refuses(&get("/x", fields)).await;
    }
    for host in [
        "a.example",
        "A.Example:8080",
        "[::1]:80",
        "127.0.0.1",
        "a_b",
        "a.",
    ] {
        let seen = world.passes(&get("/x", &format!("Host: {host}\r\n"))).await;
        assert_eq!(seen.fields("host"), [host]);
        assert_eq!(seen.fields("x-forwarded-host"), [host]);
    }
}

#[tokio::test]
async fn the_host_of_an_absolute_target_goes_before_the_field() {
    let world = World::new().await;
    for (target, line) in [
        ("http://b.example/x?y", "GET /x?y HTTP/1.1"),
        ("http://b.example", "GET / HTTP/1.1"),
        ("http://b.example?y", "GET /?y HTTP/1.1"),
        ("HTTP://b.example/", "GET / HTTP/1.1"),
        ("https://b.example/", "GET / HTTP/1.1"),
    ] {
        let seen = world.passes(&get(target, "Host: a.example\r\n")).await;
        assert_eq!(
            (seen.line(), seen.fields("host")),
            (line, vec!["b.example"])
        );
        assert_eq!(seen.fields("x-forwarded-host"), ["b.example"]);
        assert_eq!(
            seen.fields("x-forwarded-proto"),
            ["http"],
            "it came in the clear"
        );
    }
    for target in [
        "http://user@b.example/",
        "http://user:password@b.example/",
        "http://b.example@c.example/",
        "ftp://b.example/",
        "http:///x",
        "http://",
        "http:/x",
        "b.example/x",
        "http://b.example/../x",
        "http://b%2eexample/",
    ] {
        let outcome = world.outcome(&get(target, "Host: b.example\r\n")).await;
        assert!(outcome.seen.is_empty(), "{target}: {outcome:?}");
        assert!(!outcome.statuses.contains(&200), "{target}: {outcome:?}");
    }
    // Neither asks for a resource.
    for request in [
        "CONNECT b.example:80 HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
        "TRACE /x HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
        "GET b.example:80 HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n",
    ] {
        let outcome = world.outcome(request.as_bytes()).await;
        assert!(outcome.seen.is_empty(), "{request}: {outcome:?}");
        assert!(!outcome.statuses.contains(&200), "{request}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_path_goes_on_byte_for_byte_or_nowhere() {
    let world = World::new().await;
    for path in [
        "/",
        "/x",
        "//x//y//",
        "//evil.example/x",
        "/a%2Fb",
        "/a%2fb%5c",
        "/%7e~",
        "/%61",
        "/%0d%0aX-Smuggled:%20y",
        "/a%20b",
        "/a;b=c;d",
        "/...",
        "/.well-known/x",
        "/a..b",
        "/%252e%252e/x",
        "/%C0%AE%C0%AE/x",
        "/\u{e9}",
        "/a|b{c}",
        "/x?",
        "/x?a=b&a=%00&c=../..&d=%0d%0a&e=%zz&f=?",
        "/x?http://evil.example/",
    ] {
        let seen = world.passes(&get(path, "Host: a\r\n")).await;
        assert_eq!(seen.line(), format!("GET {path} HTTP/1.1"));
        assert_eq!(seen.fields("x-smuggled"), [""; 0]);
    }
    for path in [
        "/..",
        "/.",
        "/../x",
        "/x/../y",
        "/x/./y",
        "/x/..",
        "/%2e%2e/x",
        "/%2E./x",
        "/.%2e",
        "/x/%2e",
        "/x%2f..%2fy",
        "/x%2F%2e%2e%2Fy",
        "/..%2fx",
        "/x\\..\\y",
        "/x%5c..%5cy",
        "/..;/x",
        "/x/..;a=b/y",
        "/..%3b/x",
        "/.;x/y",
        "/%00",
        "/x%00y",
        "/x/%00/..",
        "/%",
        "/%2",
        "/%zz",
        "/x%u0041",
        "/..?x",
        "/%2e%2e?x",
    ] {
        let outcome = world.outcome(&get(path, "Host: a\r\n")).await;
        assert!(outcome.seen.is_empty(), "{path}: {outcome:?}");
        // A path that can't be decoded is the path of nothing.
        let status = if path.contains(['%']) {
            &[400, 404][..]
        } else {
            &[400]
        };
        assert!(
            outcome.statuses.len() == 1 && status.contains(&outcome.statuses[0]),
            "{path}: {outcome:?}"
        );
    }
    // What can't be in a target at all.
    for path in ["/\x01", "/x\x7f", "/x\x0by", "/x\"y<z>", "/x^", "/x`y"] {
        let outcome = world.outcome(&get(path, "Host: a\r\n")).await;
        assert!(outcome.seen.len() <= 1, "{path:?}: {outcome:?}");
        for seen in outcome.seen {
            assert_eq!(seen.line(), format!("GET {path} HTTP/1.1"));
        }
    }
}

#[tokio::test]
async fn what_a_variable_stands_for_stays_in_its_place() {
    let backend = Recorder::start().await;
    let config = format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\n[proxies.sentinel]\npath = \"/sentinel\"\n\
         upstream = \"{url}\"\n\n[proxies.users]\npath = \"/users/{{user}}/img-{{id}}.png/{{*rest}}\"\n\
         upstream = \"{url}/v2/{{*rest}}/of/u.{{user}}/{{id}}\"\n\n[proxies.dots]\n\
         path = \"/dots/{{x}}\"\nupstream = \"{url}/in/.{{x}}\"\n",
        url = backend.url()
    );
    let gateway = Gateway::with_config(&config).await;
    let world = World { backend, gateway };
    for (path, asked) in [
        ("/users/ann/img-7.png/a/b", "/v2/a/b/of/u.ann/7"),
        ("/users/ann/img-7.png/a%2Fb?q=1", "/v2/a%2Fb/of/u.ann/7?q=1"),
        ("/users/a%2fb/img-%37.png/", "/v2//of/u.a%2fb/%37"),
        ("/users/%3fx=y%23/img-1.png/z", "/v2/z/of/u.%3fx=y%23/1"),
        ("/users/%0d%0aX:y/img-1.png/z", "/v2/z/of/u.%0d%0aX:y/1"),
        ("/users/{x}/img-1.png/{*y}", "/v2/{*y}/of/u.{x}/1"),
        ("/users/%7Bid%7D/img-1.png/z", "/v2/z/of/u.%7Bid%7D/1"),
        ("/dots/x", "/in/.x"),
        ("/dots/..x", "/in/...x"),
    ] {
        let seen = world.passes(&get(path, "Host: a\r\n")).await;
        assert_eq!(seen.line(), format!("GET {asked} HTTP/1.1"), "{path}");
    }
    for path in [
        "/users/../img-1.png/z",
        "/users/%2e%2e/img-1.png/z",
        "/users/a/img-1.png/../../../admin",
        "/users/a/img-1.png/%2e%2e%2f%2e%2e%2fadmin",
        "/users/a%2f..%2fb/img-1.png/z",
        "/users/a/img-1.png/%00",
        "/dots/.",
        "/dots/%2e",
        "/dots/.%2fadmin",
        "/dots/;x",
    ] {
        let outcome = world.outcome(&get(path, "Host: a\r\n")).await;
        assert!(outcome.seen.is_empty(), "{path}: {outcome:?}");
        assert!(!outcome.statuses.contains(&200), "{path}: {outcome:?}");
    }
}

#[tokio::test]
async fn over_http2_the_host_and_the_path_are_said_once() {
    let world = World::new().await;
    let client = Http2::connect(&world.gateway).await;
    let (head, _) = client
        .ask("GET", "/a%2fb?c", &[("host", "gateway.test")])
        .await;
    assert_eq!(head.status, 200);
    let (head, _) = client.ask("GET", "/x", &[("host", "other.example")]).await;
    assert_eq!(head.status, 400, "two hosts");
    for path in ["/../x", "/%2e%2e/x", "/x%00", "/a%2f..%2fb"] {
        let (head, _) = client.ask("GET", path, &[]).await;
        assert_eq!(head.status, 400, "{path}");
    }
    let seen = world.seen().await;
    let lines: Vec<&str> = seen.iter().map(|one| one.line()).collect();
    assert_eq!(lines, ["GET /a%2fb?c HTTP/1.1"]);
    assert_eq!(seen[0].fields("host"), ["gateway.test"]);
    assert_eq!(seen[0].fields("via"), ["2 ssecast"]);
}

#[tokio::test]
async fn the_host_that_the_backend_sees_may_be_its_own() {
    for (lines, host) in [
        ("upstream_host = \"upstream\"", None),
        ("upstream_host = \"client\"", Some("a.example")),
        ("upstream_host = \"b.example:81\"", Some("b.example:81")),
    ] {
        let world = World::with(&format!("{lines}\n")).await;
        let own = world.backend.url().trim_start_matches("http://").to_owned();
        let outcome = world
            .outcome(&get("http://a.example/x", "Host: c\r\n"))
            .await;
        assert_eq!(
            outcome.seen[0].fields("host"),
            [host.unwrap_or(&own)],
            "{lines}"
        );
        assert_eq!(
            outcome.seen[0].fields("x-forwarded-host"),
            ["a.example"],
            "{lines}"
        );
    }
}
