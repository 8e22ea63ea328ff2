//! From the request to the stream: what the client reads, and how it leaves.

use crate::support::{Gateway, Origin};

#[tokio::test]
async fn an_event_of_the_origin_reaches_a_subscriber() {
    let origin = Origin::start().await;
    let gateway = Gateway::with("heartbeat = \"1s\"", &origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}
