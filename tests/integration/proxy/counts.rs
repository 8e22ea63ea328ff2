//! What the metrics and the status say of requests that pass through.

use super::{answered, get, world};
use crate::support::{ANYWHERE, Admin};

fn of_proxy(name: &str) -> String {
    format!("{name}{{proxy=\"web\"}}")
}

fn labelled(name: &str, key: &str, value: &str) -> String {
    format!("{name}{{proxy=\"web\",{key}=\"{value}\"}}")
}

#[tokio::test]
async fn every_request_is_counted_by_its_status_and_every_failure_by_its_reason() {
    let (backend, gateway, mut client) = world(&format!("max_requests = 1\n{ANYWHERE}")).await;
    let admin = Admin::of(&gateway).await;
    let in_flight = of_proxy("ssecast_proxy_requests_in_flight");
    client.send(get("/1")).await;
    let (mut line, _) = backend.asked().await;
    admin.until(&[(&in_flight, 1.0)]).await;
    assert_eq!(admin.status().await["proxies"][0]["requests"], 1);
    // One is all that may be under way.
    let mut second = gateway.connect().await;
    second.send(get("/2")).await;
    assert_eq!(answered(&mut second).await.0.status, 503);
    line.answer("there").await;
    assert_eq!(answered(&mut client).await.1, "there");
    // The backend ends.
    drop((backend, line));
    client.send(get("/3")).await;
    assert_eq!(answered(&mut client).await.0.status, 502);
    let status = |class| labelled("ssecast_proxy_requests_total", "status", class);
    let reason = |reason| labelled("ssecast_proxy_failures_total", "reason", reason);
    admin
        .until(&[
            (&in_flight, 0.0),
            (&status("2xx"), 1.0),
            (&status("4xx"), 0.0),
            (&status("5xx"), 2.0),
            (&reason("max-requests"), 1.0),
            (&reason("connect-failed"), 1.0),
            (&of_proxy("ssecast_proxy_first_byte_seconds_count"), 1.0),
            ("ssecast_proxies", 1.0),
        ])
        .await;
    let status = admin.status().await;
    assert_eq!(status["proxies"][0]["answers"], 3);
    assert_eq!(status["proxies"][0]["failures"], 2);
}

#[tokio::test]
async fn a_request_that_is_refused_is_counted_as_a_failure_of_its_own() {
    let (_backend, gateway, mut client) = world(ANYWHERE).await;
    let admin = Admin::of(&gateway).await;
    client.send(get("/a/%2e%2e/b")).await;
    assert_eq!(answered(&mut client).await.0.status, 400);
    let reason = labelled("ssecast_proxy_failures_total", "reason", "bad-path");
    let status = labelled("ssecast_proxy_requests_total", "status", "4xx");
    admin.until(&[(&reason, 1.0), (&status, 1.0)]).await;
}
