//! What the origin says first to an instance, and who waits for it.
//!
//! ```text
//!   unknown ──opens, is over──▶ opened
//!      ├────fails, takes too long──▶ held
//!      └────401, 403, 404, 410──▶ refusal
//! ```
//!
//! A refusal is for those who ask: without it they would get a stream of nothing. Any other failure
//! is the gateway's business, and passes.

use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use http::StatusCode;
use tokio::sync::Notify;

use super::error::UpstreamError;
use super::{Challenges, FirstAnswered, Refused};

/// How the first who ask are answered, once that is known.
#[derive(Debug, Default)]
pub(super) struct FirstAnswer {
    /// What was said, as `answered` reads it.
    state: AtomicU16,
    /// What comes with a refusal. Set before `state` says that it is one; boxed, because hardly an
    /// instance has it.
    challenges: OnceLock<Box<Challenges>>,
    /// Tells those who wait.
    known: Notify,
}

/// Nothing yet.
const UNKNOWN: u16 = 0;
/// That there is nothing to say yet, or nothing that matters to who asks.
const HELD: u16 = 1;
/// An event stream. Any other number is the code of a refusal.
const OPENED: u16 = 2;

impl FirstAnswer {
    /// Of a channel that nobody waits for.
    pub(super) fn not_awaited() -> Self {
        Self {
            state: AtomicU16::new(OPENED),
            ..Self::default()
        }
    }

    /// Whether somebody may wait for it still.
    pub(super) fn is_awaited(&self) -> bool {
        self.state.load(Ordering::Acquire) == UNKNOWN
    }

    /// Whether this failure is an answer for those who wait, so that it is none of the upstream's.
    pub(super) fn is_refusal(&self, error: &UpstreamError) -> bool {
        let UpstreamError::UnexpectedStatus { status, .. } = error else {
            return false;
        };
        self.is_awaited() && refusal(*status).is_some()
    }

    /// The event stream is open, or over.
    pub(super) fn note_stream(&self) {
        self.decide(OPENED);
    }

    /// Nobody shall wait longer.
    pub(super) fn note_silence(&self) {
        self.decide(HELD);
    }

    /// Everybody is refused if that is what this failure says, and gets the stream if not.
    pub(super) fn note_failure(&self, error: &UpstreamError) {
        match error {
            UpstreamError::UnexpectedStatus {
                status, challenges, ..
            } if refusal(*status).is_some() => {
                if *status == StatusCode::UNAUTHORIZED {
                    self.challenges.get_or_init(|| Box::new(challenges.clone()));
                }
                self.decide(status.as_u16());
            }
            _ => self.decide(HELD),
        }
    }

    /// What was said first counts.
    fn decide(&self, state: u16) {
        let is_first =
            self.state
                .compare_exchange(UNKNOWN, state, Ordering::AcqRel, Ordering::Acquire);
        if is_first.is_ok() {
            self.known.notify_waiters();
        }
    }

    /// What those are told who ask, if it is known to be a refusal.
    pub(super) fn refused(&self) -> Option<Refused> {
        let status = of_code(self.state.load(Ordering::Acquire)).refusal()?;
        let challenges = self.challenges.get();
        Some(Refused {
            status,
            challenges: challenges.map(|one| (**one).clone()).unwrap_or_default(),
        })
    }

    /// Waits until it is known.
    pub(super) async fn wait(&self) -> FirstAnswered {
        loop {
            let mut known = pin!(self.known.notified());
            // Before the look, so that nothing is missed after it.
            known.as_mut().enable();
            match self.state.load(Ordering::Acquire) {
                UNKNOWN => known.await,
                OPENED => return FirstAnswered::Opened,
                code => return of_code(code),
            }
        }
    }
}

fn of_code(code: u16) -> FirstAnswered {
    let status = StatusCode::from_u16(code).ok();
    status.and_then(refusal).unwrap_or(FirstAnswered::Held)
}

/// Whether an answer of the origin is meant for who asks, and not for us.
fn refusal(status: StatusCode) -> Option<FirstAnswered> {
    match status {
        StatusCode::UNAUTHORIZED => Some(FirstAnswered::Unauthorized),
        StatusCode::FORBIDDEN => Some(FirstAnswered::Forbidden),
        StatusCode::NOT_FOUND => Some(FirstAnswered::NotFound),
        StatusCode::GONE => Some(FirstAnswered::Gone),
        _ => None,
    }
}

impl FirstAnswered {
    /// What those who ask are told instead of a stream; `None`: they get one.
    pub fn refusal(self) -> Option<StatusCode> {
        match self {
            Self::Held | Self::Opened => None,
            Self::Unauthorized => Some(StatusCode::UNAUTHORIZED),
            Self::Forbidden => Some(StatusCode::FORBIDDEN),
            Self::NotFound => Some(StatusCode::NOT_FOUND),
            Self::Gone => Some(StatusCode::GONE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: u16) -> UpstreamError {
        UpstreamError::UnexpectedStatus {
            status: StatusCode::from_u16(code).expect("a status"),
            retry_after: None,
            challenges: Challenges::default(),
        }
    }

    #[tokio::test]
    async fn what_is_said_first_counts() {
        for code in [401, 403, 404, 410] {
            let answer = FirstAnswer::default();
            answer.note_failure(&failed(code));
            answer.note_stream();
            let status = answer.wait().await.refusal().map(|status| status.as_u16());
            assert_eq!(status, Some(code));
        }
        for code in [400, 402, 405, 429, 500, 503] {
            let answer = FirstAnswer::default();
            answer.note_failure(&failed(code));
            answer.note_failure(&failed(404));
            assert_eq!(answer.wait().await, FirstAnswered::Held, "{code}");
        }
        let answer = FirstAnswer::not_awaited();
        assert_eq!(answer.wait().await, FirstAnswered::Opened);
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let answer = std::sync::Arc::new(FirstAnswer::default());
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let answer = std::sync::Arc::clone(&answer);
                tokio::spawn(async move { answer.wait().await })
            })
            .collect();
        tokio::task::yield_now().await;
        answer.note_failure(&failed(404));
        for one in waiting {
            assert_eq!(one.await.expect("it ends"), FirstAnswered::NotFound);
        }
    }
}
