//! What one side does not take is not read from the other.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Response;

use super::{PAIRS, World};
use crate::support::{Checker, Pattern, nothing, request, until};

const N_BYTES: u64 = 48 << 20;
/// What kernels, windows and buffers on the way take from a sender although nobody reads: two
/// connections by loopback, each with a few MiB at either end.
const ON_THE_WAY: u64 = 28 << 20;

/// Waits until a sender has come to a halt; returns where.
async fn halted(produced: &AtomicU64) -> u64 {
    let mut last = (0, 0);
    until("the sender to be held up", || {
        let now = produced.load(Ordering::Relaxed);
        last = if now == last.0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        // A fifth of a second without a byte.
        if now > 0 && last.1 >= 40 {
            Ok(now)
        } else {
            Err(format!("{now} bytes"))
        }
    })
    .await
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_the_origin() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let answer = tokio::spawn(world.caller.send(request("GET", "/file"), nothing()));
        let content = Pattern::new(N_BYTES);
        let produced = content.produced();
        let exchange = world.backend.exchange().await;
        exchange.answer(Response::builder(), content);
        let mut answer = answer.await.expect("no panic").expect("an answer");
        let n = halted(&produced).await;
        assert!(n < ON_THE_WAY, "the origin could send {n} bytes");
        let held = world.gateway.resident_bytes();
        assert!(held < 64 << 20, "the gateway has {held} bytes");
        let mut checker = Checker::default();
        checker.read(answer.body_mut()).await.expect("all of it");
        assert_eq!(checker.n_bytes, N_BYTES);
    }
}

#[tokio::test]
async fn an_origin_that_does_not_read_holds_up_the_client() {
    for pair in PAIRS {
        let mut world = World::new(pair, "").await;
        let content = Pattern::new(N_BYTES);
        let produced = content.produced();
        let answer = tokio::spawn(world.caller.send(request("POST", "/file"), content));
        let mut exchange = world.backend.exchange().await;
        let n = halted(&produced).await;
        assert!(n < ON_THE_WAY, "the client could send {n} bytes");
        let mut checker = Checker::default();
        checker
            .read(&mut exchange.content)
            .await
            .expect("all of it");
        assert_eq!(checker.n_bytes, N_BYTES);
        exchange.answer(Response::builder(), nothing());
        assert!(answer.await.expect("no panic").is_ok());
    }
}
