//! Proxies that come, go and change while requests are under way.

use super::{Backend, answered, get, one_proxy};
use crate::support::Gateway;

/// Longer than any test: who closes a connection has another reason.
const KEPT: &str = "keep_alive = \"10m\"";

/// A configuration with one proxy for this path.
fn at(path: &str, backend: &Backend) -> String {
    one_proxy(&backend.url(), KEPT).replace("/{*rest}", path)
}

#[tokio::test]
async fn a_proxy_answers_from_when_it_is_added_until_it_is_removed() {
    let backend = Backend::start().await;
    let gateway = Gateway::with_config(&at("/a/{*rest}", &backend)).await;
    let mut client = gateway.connect().await;
    client.send(get("/b/x")).await;
    assert_eq!(answered(&mut client).await.0.status, 404);

    let added = format!(
        "{}\n[proxies.other]\npath = \"/b/{{*rest}}\"\nupstream = \"{}\"\n",
        at("/a/{*rest}", &backend),
        backend.url()
    );
    let log = gateway.reload(&added, "applied").await;
    assert!(log.contains("proxy added"), "{log}");
    client.send(get("/b/x")).await;
    let (mut line, asked) = backend.asked().await;
    assert_eq!(asked.line(), "GET /b/x HTTP/1.1");
    line.answer("here").await;
    assert_eq!(answered(&mut client).await.1, "here");

    let log = gateway.reload(&at("/a/{*rest}", &backend), "applied").await;
    assert!(log.contains("proxy removed"), "{log}");
    client.send(get("/b/x")).await;
    assert_eq!(answered(&mut client).await.0.status, 404);
    // Nobody needs its idle connection any more.
    assert_eq!(line.closed().await, b"");
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing_of_a_proxy() {
    let backend = Backend::start().await;
    let right = one_proxy(&backend.url(), KEPT);
    let gateway = Gateway::with_config(&right).await;
    let mut client = gateway.connect().await;
    client.send(get("/1")).await;
    let (mut line, _) = backend.asked().await;
    line.answer("one").await;
    assert_eq!(answered(&mut client).await.1, "one");
    let twice = format!(
        "{right}\n[proxies.twin]\npath = \"/{{*all}}\"\nupstream = \"{}\"\n",
        backend.url()
    );
    let log = gateway.reload(&twice, "rejected").await;
    assert!(log.contains("lead to the same requests"), "{log}");
    client.send(get("/2")).await;
    // Not even its connection is another one.
    assert_eq!(line.asked().await.line(), "GET /2 HTTP/1.1");
    line.answer("two").await;
    assert_eq!(answered(&mut client).await.1, "two");
}

#[tokio::test]
async fn clients_of_a_channel_do_not_notice_that_a_proxy_changes() {
    let backend = Backend::start().await;
    let origin = crate::support::Origin::start().await;
    let config = |lines: &str| {
        let channel = format!(
            "[channels.events]\npath = \"/events\"\nupstream = \"{}\"\n",
            origin.url()
        );
        format!("{}\n{channel}", one_proxy(&backend.url(), lines))
    };
    let gateway = Gateway::with_config(&config("")).await;
    let mut subscriber = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    subscriber.expect_event("a").await;
    let log = gateway.reload(&config("max_requests = 3"), "applied").await;
    assert!(
        log.contains("proxy changed") && !log.contains("channel changed"),
        "{log}"
    );
    origin.send("data: b\n\n").await;
    subscriber.expect_event("b").await;
}
