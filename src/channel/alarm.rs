//! A timer of a task that may wait for long, and need not: in a box, so that one that does not wait
//! has none, and no larger than its pointer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes a task at a time that may change.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// `None`: it was not set yet.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    pub(super) fn at(until: Instant) -> Self {
        Self {
            sleep: Some(Box::pin(sleep_until(until))),
        }
    }

    /// Sets it to this time, unless it is earlier already; returns the time.
    pub(super) fn set_earlier(&mut self, latest: Instant) -> Instant {
        let set = self.sleep.as_ref().map(|sleep| sleep.deadline());
        let until = set.map_or(latest, |set| set.min(latest));
        self.set(until);
        until
    }

    /// Ready at this time, which it is set to.
    pub(super) fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.set(until);
        self.poll(cx)
    }

    /// Ready at the time that it is set to; never, if it is not.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    fn set(&mut self, until: Instant) {
        match &mut self.sleep {
            Some(sleep) if sleep.deadline() == until => {}
            Some(sleep) => sleep.as_mut().reset(until),
            None => *self = Self::at(until),
        }
    }
}
