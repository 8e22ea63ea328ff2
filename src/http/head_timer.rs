//! The timer for how long hyper waits for a request's head.
//!
//! hyper arms a timer for every request of a connection, and drops it when the head is there, which is
//! at once on a busy connection: to register it and to take it out again costs more than to read the
//! head. Here the runtime's timer stays armed from head to head, and is moved only when it fires too
//! early.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::time::{Instant, sleep_until};

/// A timer of one connection.
#[derive(Clone, Default)]
pub(super) struct HeadTimer {
    /// The runtime's timer, while nobody waits for it.
    armed: Arc<Mutex<Option<Armed>>>,
}

type Armed = Pin<Box<tokio::time::Sleep>>;

/// A wait.
struct Waiting {
    deadline: Instant,
    /// `None` once it is over, or before it is looked at for the first time.
    sleep: Option<Armed>,
    timer: HeadTimer,
}

impl HeadTimer {
    fn lock(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime's timer, armed for this or an earlier time.
    fn arm(&self, deadline: Instant) -> Armed {
        let kept = self.lock().take();
        match kept {
            Some(mut sleep) if sleep.deadline() > deadline => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            Some(sleep) => sleep,
            None => Box::pin(sleep_until(deadline)),
        }
    }
}

#[expect(clippy::disallowed_types, reason = "hyper's terms are std's")]
impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Waiting {
            deadline: deadline.into(),
            sleep: None,
            timer: self.clone(),
        })
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: std::time::Instant) {
        match sleep.as_mut().downcast_mut_pin::<Waiting>() {
            Some(mut waiting) => waiting.deadline = new_deadline.into(),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

impl Sleep for Waiting {}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let deadline = this.deadline;
        let timer = &this.timer;
        let sleep = this.sleep.get_or_insert_with(|| timer.arm(deadline));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // One that has fired is of no use to anybody.
        let sleep = self.sleep.take().filter(|sleep| !sleep.is_elapsed());
        if sleep.is_some() {
            *self.timer.lock() = sleep;
        }
    }
}

impl fmt::Debug for HeadTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeadTimer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_wait_lasts_until_its_own_deadline() {
        let timer = HeadTimer::default();
        let begin = timer.now();
        let after = |millis| begin + Duration::from_millis(millis);
        // Dropped before its time, as when the head is there; it is looked at, so it is armed.
        let mut first = timer.sleep_until(after(20));
        assert!(!is_ready(&mut first).await);
        drop(first);
        assert!(timer.lock().is_some(), "it is kept");
        timer.sleep_until(after(60)).await;
        assert!(
            timer.now() >= after(60),
            "the deadline before is not this one's"
        );
        // One for later is kept, and the next is for sooner.
        let mut late = timer.sleep_until(after(3_600_000));
        assert!(!is_ready(&mut late).await);
        drop(late);
        let mut moved = timer.sleep_until(after(3_600_000));
        timer.reset(&mut moved, after(80));
        moved.await;
        assert!((after(80)..after(60_000)).contains(&timer.now()));
    }

    async fn is_ready(sleep: &mut Pin<Box<dyn Sleep>>) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())).await
    }
}
