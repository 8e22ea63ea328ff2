//! A waker that swallows the wake-ups that a poll causes itself.
//!
//! The halves of a client connection wake each other whenever they exchange something. Both are
//! polled by one task, until neither has anything for the other; so these wake-ups would only make
//! that task run once more, for nothing, at every event.
//!
//! ```text
//!   Idle ──begin──▶ Polling ──wake──▶ Woken        a wake in Idle wakes the task
//!     ▲               │  ▲             │
//!     └────finish─────┘  └──────look───┘           what woke may be new: look again
//! ```

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Stands between the parts of a connection and the task that polls them.
pub(super) struct Damper {
    state: AtomicU8,
    /// The task.
    outer: Mutex<Waker>,
}

const IDLE: u8 = 0;
const POLLING: u8 = 1;
const WOKEN: u8 = 2;

impl Damper {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(IDLE),
            outer: Mutex::new(Waker::noop().clone()),
        })
    }

    /// A poll by the task of `outer` begins.
    pub(super) fn begin(&self, outer: &Waker) {
        let mut known = self.lock();
        if !known.will_wake(outer) {
            known.clone_from(outer);
        }
        drop(known);
        self.state.store(POLLING, Ordering::Release);
    }

    /// Everything is about to be looked at: what woke so far is seen by that.
    pub(super) fn look(&self) {
        self.state.store(POLLING, Ordering::Release);
    }

    /// Ends the poll; false if something woke since the last look, and must be looked at first.
    pub(super) fn finish(&self) -> bool {
        self.state
            .compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Waker> {
        self.outer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Damper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken =
            self.state
                .compare_exchange(POLLING, WOKEN, Ordering::AcqRel, Ordering::Acquire);
        if woken == Err(IDLE) {
            let outer = self.lock().clone();
            outer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_a_wake_between_polls_wakes_the_task() {
        let count = Arc::new(Count::default());
        let n_wakes = || count.0.load(Ordering::Relaxed);
        let damper = Damper::new();
        let waker = Waker::from(Arc::clone(&damper));
        damper.begin(&Waker::from(Arc::clone(&count)));
        waker.wake_by_ref();
        assert!(!damper.finish(), "something woke: look again");
        damper.look();
        assert!(damper.finish());
        assert_eq!(n_wakes(), 0);
        waker.wake_by_ref();
        assert_eq!(n_wakes(), 1);
    }
}
