//! A timer for deadlines that are nearly always met.
//!
//! To arm a timer for each request, and to disarm it, costs more than all else that is done about
//! time. This one stays armed for the earliest deadline that it was given, and is moved only when
//! it fires too early.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is kept from deadline to deadline.
#[derive(Debug, Default)]
pub struct Patience {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Ready at `deadline`.
    pub fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            // It has no part in the task's budget: an upstream that floods uses that up each time, and
            // would be waited for for ever.
            let mut timer = unconstrained(sleep.as_mut());
            if Pin::new(&mut timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
