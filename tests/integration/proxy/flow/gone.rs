//! Each side learns at once when the other has gone.

use http::Response;

use super::{PAIRS, World};
use crate::support::{Speaks, nothing, piece, pieces, request};

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_cancels_its_request() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let answer = tokio::spawn(world.caller.send(request("GET", "/slow"), nothing()));
        let mut exchange = world.backend.exchange().await;
        world.caller.leave();
        exchange.gone().await;
        assert!(answer.await.expect("no panic").is_err(), "no answer");
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_its_upload_cancels_its_request() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let (client, content) = pieces();
        let answer = tokio::spawn(world.caller.send(request("POST", "/file"), content));
        client.send("some").await;
        let mut exchange = world.backend.exchange().await;
        assert_eq!(
            exchange.piece().await.expect("a piece").expect("bytes"),
            "some"
        );
        world.caller.leave();
        exchange.breaks_off().await;
        assert!(answer.await.expect("no panic").is_err(), "no answer");
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_answer_cancels_its_request() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let answer = tokio::spawn(world.caller.send(request("GET", "/stream"), nothing()));
        let exchange = world.backend.exchange().await;
        let mut answering = exchange.begin(Response::builder());
        answering.send("some").await;
        let mut answer = answer.await.expect("no panic").expect("an answer");
        let some = piece(answer.body_mut()).await.expect("a piece");
        assert_eq!(some.expect("bytes"), "some");
        drop(answer);
        world.caller.leave();
        answering.gone().await;
    }
}

#[tokio::test]
async fn one_stream_that_is_reset_cancels_one_request() {
    for origin in [Speaks::Http1, Speaks::Http2] {
        let mut world = World::new((Speaks::Http2, origin), "").await;
        let first = tokio::spawn(world.caller.send(request("GET", "/first"), nothing()));
        let mut exchange = world.backend.exchange().await;
        let second = tokio::spawn(world.caller.send(request("GET", "/second"), nothing()));
        let other = world.backend.exchange().await;
        first.abort();
        exchange.gone().await;
        other.answer(Response::builder().status(202), nothing());
        let second = second.await.expect("no panic").expect("an answer");
        assert_eq!(second.status(), 202);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_end_well() {
    for pair in PAIRS {
        for length in [None, Some("1000")] {
            let mut world = World::new(pair, "").await;
            let answer = tokio::spawn(world.caller.send(request("GET", "/file"), nothing()));
            let exchange = world.backend.exchange().await;
            let mut head = Response::builder();
            if let Some(length) = length {
                head = head.header("content-length", length);
            }
            let answering = exchange.begin(head);
            answering.send("some").await;
            let mut answer = answer.await.expect("no panic").expect("an answer");
            let some = piece(answer.body_mut()).await.expect("a piece");
            assert_eq!(some.expect("bytes"), "some");
            answering.cut();
            let rest = piece(answer.body_mut()).await;
            assert!(
                matches!(rest, Some(Err(_))),
                "{length:?}: a clean end: {rest:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_whose_stream_is_reset_does_not_end_well() {
    for client in [Speaks::Http1, Speaks::Http2] {
        let mut world = World::new((client, Speaks::Http2), "").await;
        let answer = tokio::spawn(world.caller.send(request("GET", "/file"), nothing()));
        let exchange = world.backend.exchange().await;
        let answering = exchange.begin(Response::builder());
        answering.send("some").await;
        let mut answer = answer.await.expect("no panic").expect("an answer");
        assert!(piece(answer.body_mut()).await.expect("a piece").is_ok());
        answering.fail().await;
        let rest = piece(answer.body_mut()).await;
        assert!(matches!(rest, Some(Err(_))), "a clean end: {rest:?}");
    }
}

#[tokio::test]
async fn an_origin_that_goes_away_in_an_upload_is_a_bad_gateway() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let (client, content) = pieces();
        let answer = tokio::spawn(world.caller.send(request("POST", "/file"), content));
        client.send("some").await;
        let mut exchange = world.backend.exchange().await;
        assert!(exchange.piece().await.expect("a piece").is_ok());
        exchange.cut();
        let answer = answer.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 502);
    }
}
