//! How much a request may bring, and how long it may take.

use http::Response;

use super::{PAIRS, World};
use crate::support::{
    Answer, Gateway, Origin, Pattern, Speaks, nothing, pieces, request, with_proxy,
};

#[tokio::test]
async fn a_length_that_is_too_large_is_refused_before_the_origin_is_asked() {
    for client in [Speaks::Http1, Speaks::Http2] {
        let lines = "max_request_bytes = \"10KiB\"";
        let mut world = World::new((client, Speaks::Http1), lines).await;
        let content = Pattern::new(10 * 1024 + 1);
        let answer = world.caller.send(request("POST", "/file"), content).await;
        assert_eq!(answer.expect("an answer").status(), 413);
        assert!(!world.backend.has_more(), "the origin was asked");
    }
}

#[tokio::test]
async fn chunks_that_are_too_many_are_refused_and_the_origin_is_told() {
    for pair in PAIRS {
        let lines = "max_request_bytes = \"10KiB\"";
        let mut world = World::new(pair, lines).await;
        let (client, content) = pieces();
        let answer = tokio::spawn(world.caller.send(request("POST", "/file"), content));
        client.send("some").await;
        let mut exchange = world.backend.exchange().await;
        assert!(exchange.piece().await.expect("a piece").is_ok());
        client.send(vec![b'x'; 10 * 1024]).await;
        let answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 413);
        exchange.breaks_off().await;
    }
}

#[tokio::test]
async fn as_much_as_is_allowed_is_allowed() {
    for content in [
        Pattern::new(10 * 1024),
        Pattern::new(10 * 1024).without_length(),
    ] {
        let lines = "max_request_bytes = \"10KiB\"";
        let mut world = World::new((Speaks::Http1, Speaks::Http1), lines).await;
        let answer = tokio::spawn(world.caller.send(request("POST", "/file"), content));
        let mut exchange = world.backend.exchange().await;
        while let Some(piece) = exchange.piece().await {
            assert!(piece.is_ok());
        }
        exchange.answer(Response::builder().status(201), nothing());
        assert_eq!(
            answer.await.expect("no panic").expect("an answer").status(),
            201
        );
    }
}

#[tokio::test]
async fn a_client_that_stops_sending_is_told_that_it_took_too_long() {
    for pair in PAIRS {
        let mut world = World::new(pair, "idle_timeout = \"200ms\"").await;
        let (client, content) = pieces();
        let answer = tokio::spawn(world.caller.send(request("POST", "/file"), content));
        client.send("some").await;
        let mut exchange = world.backend.exchange().await;
        assert!(exchange.piece().await.expect("a piece").is_ok());
        let answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 408);
        exchange.breaks_off().await;
    }
}

#[tokio::test]
async fn an_origin_that_takes_nothing_is_told_to_the_client() {
    for pair in PAIRS {
        let mut world = World::new(pair, "idle_timeout = \"200ms\"").await;
        let content = Pattern::new(64 << 20);
        let answer = tokio::spawn(world.caller.send(request("POST", "/file"), content));
        let _exchange = world.backend.exchange().await;
        let answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 504);
    }
}

#[tokio::test]
async fn an_origin_that_does_not_answer_is_told_to_the_client() {
    for pair in PAIRS {
        let mut world = World::new(pair, "response_timeout = \"200ms\"").await;
        let answer = tokio::spawn(world.caller.send(request("GET", "/slow"), nothing()));
        let mut exchange = world.backend.exchange().await;
        let answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 504);
        exchange.gone().await;
    }
}

#[tokio::test]
async fn a_length_that_is_too_large_is_answered_although_the_content_comes() {
    let origin = Origin::answering(Answer::Nothing).await;
    let url = format!("http://{}", origin.address());
    let gateway = Gateway::with_config(&with_proxy(&url, "max_request_bytes = \"1KiB\"")).await;
    let mut client = gateway.connect().await;
    let head = "POST /file HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 3000000\r\n\r\n";
    client.send(head).await;
    // It sends on as clients do; the connection may be closed before all of it is out.
    client
        .try_send(vec![b'x'; 1_000_000])
        .await
        .unwrap_or_default();
    assert_eq!(client.head().await.status, 413);
    assert_eq!(origin.n_connections(), 0);
}
