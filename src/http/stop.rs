//! The stop of the gateway, as its connections and its readiness see it.

use tokio::sync::watch;
use tokio::time::Instant;

/// Whether the gateway stops, and until when.
#[derive(Debug, Default)]
pub struct Stop {
    deadline: watch::Sender<Option<Instant>>,
}

impl Stop {
    /// Tells everybody that the gateway stops, and that its last subscriber leaves until `deadline`.
    pub fn begin(&self, deadline: Instant) {
        self.deadline.send_replace(Some(deadline));
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
