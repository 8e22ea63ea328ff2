//! What others may ask a shard: whether it turns, and how far its subscribers are behind.
//!
//! A question is left in the shard's inbox and answered by the task that delivers, in its turn; so an
//! answer says that the thread's runtime and its delivery both go on, and what it tells is the truth
//! of that moment. Nothing is kept for who may ask.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::ShardHandle;
use crate::channel::Channel;

/// A question to a shard, with the place for its answer.
#[derive(Debug)]
pub(super) enum Question {
    Beat(oneshot::Sender<()>),
    Survey(oneshot::Sender<Survey>),
}

/// What shards know of their subscribers, by the identity of the channel.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    lags: HashMap<usize, Lag>,
}

/// How far subscribers are behind the head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// How many are.
    pub n_behind: usize,
    /// How far the last of them is, in bytes of the wire stream.
    pub max_bytes: u64,
}

/// A shard does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shard {number} does not turn")]
pub struct StuckShard {
    /// Which.
    pub number: usize,
}

impl Question {
    /// Whether somebody waits for the answer.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Beat(answer) => !answer.is_closed(),
            Self::Survey(answer) => !answer.is_closed(),
        }
    }
}

/// Whether every shard turns: each must answer within `timeout`. A shard that has ended does not
/// hang.
///
/// # Errors
///
/// The first that does not answer.
pub async fn beat(shards: &[ShardHandle], timeout: Duration) -> Result<(), StuckShard> {
    ask(shards, timeout, Question::Beat)
        .await
        .map(|_| ())
        .map_err(|(_, stuck)| stuck)
}

/// What the shards know of their subscribers. A shard that does not answer within `timeout` is left
/// out.
pub async fn survey(shards: &[ShardHandle], timeout: Duration) -> Survey {
    let answers = match ask(shards, timeout, Question::Survey).await {
        Ok(answers) | Err((answers, _)) => answers,
    };
    answers.into_iter().flat_map(|survey| survey.lags).collect()
}

/// Asks all shards at once, so that they have the same time.
async fn ask<T>(
    shards: &[ShardHandle],
    timeout: Duration,
    question: fn(oneshot::Sender<T>) -> Question,
) -> Result<Vec<T>, (Vec<T>, StuckShard)> {
    let deadline = Instant::now() + timeout;
    let asked: Vec<oneshot::Receiver<T>> = shards
        .iter()
        .map(|shard| {
            let (answer, awaited) = oneshot::channel();
            shard.inbox.ask(question(answer));
            awaited
        })
        .collect();
    let mut answers = Vec::with_capacity(asked.len());
    let mut stuck = None;
    for (number, awaited) in asked.into_iter().enumerate() {
        match timeout_at(deadline, awaited).await {
            Ok(Ok(answer)) => answers.push(answer),
            // It has ended.
            Ok(Err(_)) => {}
            Err(_) => stuck = stuck.or(Some(StuckShard { number })),
        }
    }
    match stuck {
        None => Ok(answers),
        Some(stuck) => Err((answers, stuck)),
    }
}

impl Survey {
    /// How far the subscribers of a channel are behind.
    pub fn lag(&self, identity: usize) -> Lag {
        self.lags.get(&identity).copied().unwrap_or_default()
    }

    /// How far the subscribers of these channels are behind, taken together.
    pub fn lag_of_all(&self, channels: &[Channel]) -> Lag {
        let lags = channels.iter().map(|channel| self.lag(channel.identity()));
        lags.fold(Lag::default(), |sum, lag| Lag {
            n_behind: sum.n_behind + lag.n_behind,
            max_bytes: sum.max_bytes.max(lag.max_bytes),
        })
    }
}

impl FromIterator<(usize, Lag)> for Survey {
    fn from_iter<I: IntoIterator<Item = (usize, Lag)>>(lags: I) -> Self {
        let mut survey = Self::default();
        for (identity, lag) in lags {
            let sum = survey.lags.entry(identity).or_default();
            sum.n_behind += lag.n_behind;
            sum.max_bytes = sum.max_bytes.max(lag.max_bytes);
        }
        survey
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Delivery;

    /// Long enough for the shards that are not blocked, on a busy machine.
    const SHORT: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_blocked_shard_does_not_beat_and_is_named() {
        let delivery = Delivery::start(3).expect("threads");
        assert_eq!(delivery.beat(LONG).await, Ok(()));
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (tell, is_blocked) = oneshot::channel();
        delivery.shards()[1].spawn(async move {
            tell.send(()).expect("the test waits");
            blocked.recv().expect("the test releases it");
        });
        is_blocked.await.expect("the shard is blocked");
        for _ in 0..2 {
            assert_eq!(delivery.beat(SHORT).await, Err(StuckShard { number: 1 }));
        }
        release.send(()).expect("the shard waits");
        assert_eq!(delivery.beat(LONG).await, Ok(()));
        delivery.stop();
    }

    #[tokio::test]
    async fn a_shard_that_has_ended_is_not_stuck() {
        let delivery = Delivery::start(1).expect("threads");
        let shards = std::sync::Arc::clone(delivery.shards());
        delivery.stop();
        assert_eq!(beat(&shards, LONG).await, Ok(()));
    }

    #[test]
    fn lags_of_shards_are_added() {
        let lag = |n_behind, max_bytes| Lag {
            n_behind,
            max_bytes,
        };
        let survey: Survey = [(1, lag(2, 10)), (2, lag(0, 0)), (1, lag(1, 30))]
            .into_iter()
            .collect();
        assert_eq!(survey.lag(1), lag(3, 30));
        assert_eq!(survey.lag(3), lag(0, 0));
    }
}
