//! The bytes that pass through, in both directions: that they come as they were sent, when they were
//! sent, and no faster than the other side takes them; and that each side learns when the other has
//! gone.

mod continues;
mod faults;
mod gone;
mod limits;
mod sizes;
mod streams;
mod throttle;
mod untouched;

use crate::support::{Backend, Caller, Gateway, Speaks, with_proxy};

/// What the client speaks, and what the origin speaks.
const PAIRS: [(Speaks, Speaks); 4] = [
    (Speaks::Http1, Speaks::Http1),
    (Speaks::Http1, Speaks::Http2),
    (Speaks::Http2, Speaks::Http1),
    (Speaks::Http2, Speaks::Http2),
];

/// A client, the gateway, and an origin.
struct World {
    caller: Caller,
    gateway: Gateway,
    backend: Backend,
}

impl World {
    async fn new((client, origin): (Speaks, Speaks), lines: &str) -> Self {
        let backend = Backend::start(origin).await;
        let version = match origin {
            Speaks::Http1 => "1.1",
            Speaks::Http2 => "2",
        };
        let lines = format!("upstream_http = \"{version}\"\n{lines}");
        let gateway = Gateway::with_config(&with_proxy(&backend.url(), &lines)).await;
        let caller = Caller::connect(&gateway, client).await;
        Self {
            caller,
            gateway,
            backend,
        }
    }
}
