//! The world of a wire test: an [`Origin`] and clients that the test scripts, and between them the
//! gateway's binary.
//!
//! Every wait has a deadline and says what it waited for. Nothing here sleeps for a fixed time.

mod admin;
mod backend;
mod caller;
mod client;
pub(crate) mod frames;
mod gateway;
mod http2;
mod origin;
mod pair;
mod pattern;
mod server;

use std::future::Future;
use std::net::Ipv4Addr;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, interval, timeout};

pub(crate) use self::admin::{ANYWHERE, Admin};
pub(crate) use self::backend::{Backend, nothing, piece};
pub(crate) use self::caller::{Caller, pieces, request};
pub(crate) use self::client::{Body, Client, Connector, End, Event, Head, Item, Subscriber};
pub(crate) use self::gateway::{Ended, Gateway, field, logged_time, one_channel, with_proxy};
pub(crate) use self::http2::{Http2, Windows};
pub(crate) use self::origin::{Answer, Origin, OriginConnection, event_stream};
pub(crate) use self::pair::{Pair, client_config, table, trusting_config};
pub(crate) use self::pattern::{Checker, Pattern};
pub(crate) use self::server::{Server, Speaks};

/// Only a failure reaches it, however busy the machine is.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// An address of this machine for an origin that comes back at its port. Clients connect from
/// 127.0.0.1 and other origins listen elsewhere, so nobody takes the port while it is away.
pub(crate) fn own_address() -> Ipv4Addr {
    static N_GIVEN: AtomicU32 = AtomicU32::new(0);
    // Other tests run beside this process, which begin elsewhere.
    let number = process::id().wrapping_mul(4096) + N_GIVEN.fetch_add(1, Ordering::Relaxed);
    let [_, b, c, d] = number.to_be_bytes();
    Ipv4Addr::new(127, 128 | (b & 63), c, d)
}

/// Waits for `future`; if it takes too long, fails with what was awaited, and `came` says what came
/// instead.
pub(crate) async fn within<T>(
    what: &str,
    future: impl Future<Output = T>,
    came: impl FnOnce() -> String,
) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for {what}; instead: {}", came()),
    }
}

/// Looks at a level until it is there: `look` gives it, or says what there is instead.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    let mut looks = interval(Duration::from_millis(5));
    loop {
        looks.tick().await;
        match look() {
            Ok(level) => return level,
            Err(instead) if Instant::now() >= deadline => {
                panic!("waited {DEADLINE:?} for {what}; instead: {instead}")
            }
            Err(_) => {}
        }
    }
}

/// Looks at a level until it is there, where a look takes a while.
pub(crate) async fn until_async<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    let mut looks = interval(Duration::from_millis(5));
    loop {
        looks.tick().await;
        match look().await {
            Ok(level) => return level,
            Err(instead) => assert!(
                Instant::now() < deadline,
                "waited {DEADLINE:?} for {what}; instead: {instead}"
            ),
        }
    }
}

/// Asks again and again until the answer is yes.
pub(crate) async fn until_true(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let mut looks = interval(Duration::from_millis(5));
    loop {
        looks.tick().await;
        if ask().await {
            return;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
    }
}
