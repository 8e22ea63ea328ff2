//! The gathers of one thread: one per window, for as long as somebody uses it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::gather::{Driver, Gather, WeakGather};

/// The gathers of one thread.
#[derive(Clone)]
pub struct Gathers {
    shared: Arc<Shared>,
}

struct Shared {
    by_window: Mutex<HashMap<Duration, WeakGather>>,
    /// Runs a driver on the thread.
    spawn: Box<dyn Fn(Driver) + Send + Sync>,
}

impl Gathers {
    /// None yet. `spawn` is given the driver of each, and runs it on the thread of its sockets.
    pub fn new(spawn: impl Fn(Driver) + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                by_window: Mutex::default(),
                spawn: Box::new(spawn),
            }),
        }
    }

    /// The gather of this window; `None` for no window: such sockets wake their readers themselves.
    /// It ends when the last who has it, and the last socket in it, are gone.
    ///
    /// # Errors
    ///
    /// If the kernel gives no poll.
    pub fn of(&self, window: Duration) -> io::Result<Option<Gather>> {
        if window.is_zero() {
            return Ok(None);
        }
        let by_window = &self.shared.by_window;
        let mut by_window = by_window.lock().unwrap_or_else(PoisonError::into_inner);
        by_window.retain(|_, gather| gather.is_used());
        if let Some(gather) = by_window.get(&window).and_then(WeakGather::upgrade) {
            return Ok(Some(gather));
        }
        let (gather, driver) = Gather::new(window)?;
        by_window.insert(window, gather.downgrade());
        drop(by_window);
        (self.shared.spawn)(driver);
        Ok(Some(gather))
    }
}

impl std::fmt::Debug for Gathers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gathers")
            .field("by_window", &self.shared.by_window)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    /// Gathers whose drivers run here, and the drivers.
    fn gathers() -> (Gathers, Arc<Mutex<JoinSet<io::Result<()>>>>) {
        let drivers = Arc::new(Mutex::new(JoinSet::new()));
        let running = Arc::clone(&drivers);
        let gathers = Gathers::new(move |driver| {
            running.lock().expect("no poison").spawn(driver.run());
        });
        (gathers, drivers)
    }

    #[tokio::test]
    async fn a_gather_is_shared_while_it_is_used_and_ends_with_its_last_user() {
        let (gathers, drivers) = gathers();
        assert!(gathers.of(Duration::ZERO).expect("no poll").is_none());
        let window = Duration::from_millis(5);
        let of = || gathers.of(window).expect("a poll").expect("a gather");
        let (first, second) = (of(), of());
        assert_eq!(drivers.lock().expect("no poison").len(), 1);
        drop((first, second));
        let mut ended = std::mem::take(&mut *drivers.lock().expect("no poison"));
        let driver = tokio::time::timeout(Duration::from_secs(5), ended.join_next());
        let driver = driver.await.expect("the driver ends").expect("a driver");
        assert!(matches!(driver, Ok(Ok(()))), "{driver:?}");
        let _third = of();
        assert_eq!(drivers.lock().expect("no poison").len(), 1, "another one");
    }
}
