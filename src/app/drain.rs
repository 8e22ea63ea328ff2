//! How a gateway that is asked to stop says goodbye to its subscribers.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::App;
use super::proxies::end_tunnels;
use crate::channel::{Channel, Departure};
use crate::delivery::spread_goodbyes;
use crate::proxy::tunnel::Farewell;

/// How long after its deadline a drain may take to notice that all are gone, on a busy machine.
const GRACE: Duration = Duration::from_secs(2);

impl App {
    /// Says goodbye to all subscribers over the time that the configuration gives, and takes no more.
    /// The upstreams go on meanwhile, and what they bring is delivered to those who are still there.
    /// Those of removed channels, who were told before, have their time too: `retiring` says goodbye
    /// to them. Requests that were passed on may be answered meanwhile.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; goodbyes go on as long as the shards do.
    pub(super) async fn drain(&self, retiring: &mut JoinSet<()>) {
        let drain = self.gateway.current().server.drain;
        let deadline = Instant::now() + drain;
        // Before anybody is told: who asks because of that finds them closed.
        for source in self.channels.sources() {
            source.close(deadline);
        }
        let channels = self.channels.all();
        let n_subscribers: usize = channels.iter().map(Channel::n_subscribers).sum();
        let channels: Vec<Channel> = self.channels.sources().flat_map(|one| one.all()).collect();
        tracing::info!(subscribers = n_subscribers, ?drain, "stopping");
        self.gateway.stop.begin(deadline);
        if drain.is_zero() {
            return;
        }
        let shards = self.delivery.shards();
        let goodbyes = spread_goodbyes(shards, &channels, Departure::Stopped, deadline);
        let tunnels = end_tunnels(self.proxies.all_with_tunnels(), Farewell::Stopped, deadline);
        let all = async {
            tokio::join!(goodbyes, tunnels);
            while retiring.join_next().await.is_some() {}
        };
        let passed = self.gateway.stop.all_passed();
        let (left, passed) = tokio::join!(
            timeout_at(deadline + GRACE, all),
            timeout_at(deadline, passed)
        );
        if left.is_err() {
            tracing::warn!("some subscribers were still there when all should have left");
        }
        if passed.is_err() {
            let connections = self.gateway.stop.n_passing();
            tracing::warn!(connections, "some requests that were passed on are cut");
        }
    }
}
