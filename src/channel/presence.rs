//! Since when nobody is in a channel, and who is told: the one task that a channel has.
//!
//! The task is told by its waker alone, and looks what there is to see: whether subscribers are there,
//! whether the settings are others. So whatever it waits for costs a channel no more than one place
//! for a waker, and no wake-up is lost: whoever changes something does it first and wakes then, and
//! the task leaves its waker first and looks then.

use std::sync::PoisonError;
use std::task::{Context, Waker};

use tokio::time::Instant;

use crate::sync::{Mutex, MutexGuard};

/// When the last subscriber left, and who waits.
#[derive(Debug)]
pub(super) struct Presence {
    /// A blocking mutex: no await inside. It is taken when a last subscriber leaves and when the task
    /// looks, never per delivered event.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left_at: Instant,
    /// The channel's task, if it is not awake already.
    waker: Option<Waker>,
}

impl Presence {
    /// Of a channel in which nobody has been yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                left_at: now,
                waker: None,
            }),
        }
    }

    /// Notes that the last subscriber has left.
    pub(super) fn note_left(&self, now: Instant) {
        let mut state = self.lock();
        state.left_at = now;
        let waker = state.waker.take();
        // Outside of the lock: a waker may run what it likes.
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Lets the task look again.
    pub(super) fn wake(&self) {
        let waker = self.lock().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Wakes this task from now on; for the one that the channel has.
    pub(super) fn watch_with(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        let known = state.waker.as_ref();
        if !known.is_some_and(|known| known.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
    }

    /// When the last subscriber left.
    pub(super) fn left_at(&self) -> Instant {
        self.lock().left_at
    }

    /// Recovers from poison: no field depends on the other.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
