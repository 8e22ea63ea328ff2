//! The stop of the gateway, as its connections and its readiness see it.

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Whether the gateway stops, and until when.
#[derive(Debug, Default)]
pub struct Stop {
    deadline: watch::Sender<Option<Instant>>,
    /// Connections that pass requests on.
    passing: TaskTracker,
}

impl Stop {
    /// Tells everybody that the gateway stops, and that its last subscriber leaves until `deadline`.
    pub fn begin(&self, deadline: Instant) {
        self.deadline.send_replace(Some(deadline));
    }

    /// Notes a connection that passes requests on, as long as this is held. Once the gateway stops, it
    /// lasts until its last answer is sent.
    pub(super) fn passing(&self) -> TaskTrackerToken {
        self.passing.token()
    }

    /// How many connections pass requests on, or have.
    pub fn n_passing(&self) -> usize {
        self.passing.len()
    }

    /// Waits until all requests that were passed on are answered, once the gateway stops.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn all_passed(&self) {
        self.passing.close();
        self.passing.wait().await;
    }

    /// When the last subscriber leaves; `None`: the gateway does not stop.
    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.borrow()
    }

    /// Ready once the gateway stops.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn begun(&self) {
        let mut deadline = self.deadline.subscribe();
        // An error says that the sender is gone; it is `self`.
        if deadline.wait_for(Option::is_some).await.is_err() {}
    }
}
