//! How much of a body is moved before the thread's other tasks have their turn.
//!
//! Where origin and client are both fast, there is always more to read and room to write it: one large
//! answer would have the thread until a buffer is full, and sixty of them would make the subscribers of
//! channels wait for a tenth of a second (**Fair Turns**).

use std::task::{Context, Poll};

/// What a turn has moved.
#[derive(Debug, Default)]
pub(super) struct Turn {
    n_bytes: usize,
}

/// Bytes of a turn: some 50 µs of work. Half as many cost a tenth of the throughput in turns.
const TURN_BYTES: usize = 128 * 1024;

impl Turn {
    /// Pending when the turn is over. Then the task is woken at once, to go to the end of the queue.
    pub(super) fn poll_more(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.n_bytes < TURN_BYTES {
            return Poll::Ready(());
        }
        self.end();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Notes a piece of the body.
    pub(super) fn note(&mut self, n_bytes: usize) {
        self.n_bytes = self.n_bytes.saturating_add(n_bytes);
    }

    /// Ends it: there is nothing to move, so that others have theirs in any case.
    pub(super) fn end(&mut self) {
        self.n_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_turn_ends_after_so_many_bytes_and_the_next_begins_by_itself() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let mut turn = Turn::default();
        for n in 1..=3 {
            turn.note(TURN_BYTES - 1);
            assert!(turn.poll_more(&cx).is_ready());
            turn.note(1);
            assert!(turn.poll_more(&cx).is_pending());
            assert_eq!(woken.0.load(Ordering::Relaxed), n, "it is not forgotten");
        }
        turn.note(TURN_BYTES - 1);
        turn.end();
        turn.note(TURN_BYTES - 1);
        assert!(turn.poll_more(&cx).is_ready(), "it had to wait between");
    }
}
