//! Contents of any size in memory of one size.

use std::env;

use http::{Response, StatusCode};

use super::{PAIRS, World};
use crate::support::{Checker, Pattern, Speaks, nothing, request};

/// Far more than all buffers on the way, and little enough for a build that is not optimized. The
/// environment asks for more: `FLOW_BYTES`.
fn n_bytes() -> u64 {
    let asked = env::var("FLOW_BYTES").ok();
    asked.map_or(48 << 20, |n| n.parse().expect("FLOW_BYTES is a number"))
}

/// What the gateway may need more than it has had before.
const MEMORY: usize = 12 << 20;

async fn upload(pair: (Speaks, Speaks), content: Pattern) {
    let n_bytes = n_bytes();
    let mut world = World::new(pair, "").await;
    let before = world.gateway.resident_bytes();
    let answer = world.caller.send(request("PUT", "/file"), content);
    let answer = tokio::spawn(answer);
    let mut exchange = world.backend.exchange().await;
    let mut checker = Checker::default();
    checker
        .read(&mut exchange.content)
        .await
        .expect("all of it");
    assert_eq!(checker.n_bytes, n_bytes);
    let peak = world.gateway.peak_resident_bytes();
    exchange.answer(Response::builder().status(201), nothing());
    let answer = answer.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert!(peak < before + MEMORY, "{peak} bytes after {before}");
}

async fn download(pair: (Speaks, Speaks), content: Pattern) {
    let n_bytes = n_bytes();
    let mut world = World::new(pair, "").await;
    let before = world.gateway.resident_bytes();
    let answer = tokio::spawn(world.caller.send(request("GET", "/file"), nothing()));
    let exchange = world.backend.exchange().await;
    exchange.answer(Response::builder(), content);
    let mut answer = answer.await.expect("no panic").expect("an answer");
    let mut checker = Checker::default();
    checker.read(answer.body_mut()).await.expect("all of it");
    assert_eq!(checker.n_bytes, n_bytes);
    let peak = world.gateway.peak_resident_bytes();
    assert!(peak < before + MEMORY, "{peak} bytes after {before}");
}

#[tokio::test]
async fn a_large_content_goes_up_in_constant_memory() {
    for pair in PAIRS {
        upload(pair, Pattern::new(n_bytes())).await;
    }
}

#[tokio::test]
async fn a_large_content_comes_down_in_constant_memory() {
    for pair in PAIRS {
        download(pair, Pattern::new(n_bytes())).await;
    }
}

#[tokio::test]
async fn a_large_content_in_chunks_goes_both_ways() {
    let pair = (Speaks::Http1, Speaks::Http1);
    upload(pair, Pattern::new(n_bytes()).without_length()).await;
    download(pair, Pattern::new(n_bytes()).without_length()).await;
}
