//! Goodbyes that are spread over a time, so that those who are told to come back do not come back
//! together.
//!
//! Everyone has a slot; the slots follow each other evenly, and who has which is chance. There is no
//! timer per subscriber: a shard looks whose slot has come. While it goes on, events are delivered as
//! ever to those who are still there.

use std::collections::HashSet;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::inbox::SubscriberKey;
use super::{Arrival, Ending, Handover, ShardHandle, push_framed, random_time};
use crate::channel::{Channel, Departure, RefusedBy};
use crate::sse;

/// An order to a shard: the subscribers of these channels leave, one after another.
#[derive(Debug)]
pub(super) struct Parting {
    /// By identity.
    pub(super) channels: HashSet<usize>,
    pub(super) departure: Departure,
    /// When nobody is left.
    pub(super) deadline: Instant,
    /// Dropped when that is so.
    pub(super) _done: oneshot::Sender<()>,
}

/// A parting that is under way on a shard.
#[derive(Debug)]
pub(super) struct Goodbyes {
    pub(super) parting: Parting,
    /// Those who have not left yet, the next one last. A key may be out of date.
    waiting: Vec<SubscriberKey>,
    begin: Instant,
    /// From one slot to the next.
    pace: Duration,
    n_all: usize,
    /// Where in its slot everybody leaves, so that shards do not keep step.
    phase: f64,
}

/// Of the time before the deadline, this much is left to those who have a slot late and are slow to
/// take their goodbye; less, where the whole time is short.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// What those have at least whose slot a busy shard comes to late.
const LEAST_GRACE: Duration = Duration::from_millis(250);

/// When those come back who were told goodbye: so long after the deadline, each at another time.
const RETURN: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);

/// Ends the streams of these channels until `deadline`, evenly and in random order, each at the end of
/// an event. Newcomers are refused from now on. Ready when the last is gone.
pub async fn spread_goodbyes(
    shards: &[ShardHandle],
    channels: &[Channel],
    departure: Departure,
    deadline: Instant,
) {
    // Before the shards are told: who is admitted later finds the channel closed.
    for channel in channels {
        channel.close(deadline);
    }
    let partings: Vec<oneshot::Receiver<()>> = shards
        .iter()
        .map(|shard| {
            let (done, is_done) = oneshot::channel();
            shard.inbox.part(Parting {
                channels: channels.iter().map(Channel::identity).collect(),
                departure,
                deadline,
                _done: done,
            });
            is_done
        })
        .collect();
    for is_done in partings {
        // An error says that the other end is gone, which is what is waited for.
        if is_done.await.is_err() {}
    }
}

/// After which time a client is told to come back that is sent away before `deadline`.
pub fn return_time(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()) + random_time(&RETURN)
}

/// Sends away who comes too late: the head of an answer and when to come back. Must be called on the
/// shard's thread.
pub(super) fn refuse(arrival: Arrival, deadline: Instant) {
    let mut bytes = arrival.head;
    let mut retry = Vec::new();
    sse::encode_retry(&mut retry, return_time(deadline));
    push_framed(&mut bytes, &retry, arrival.framing);
    arrival.channel.counters().refusals(RefusedBy::Stop).add(1);
    let (socket, places) = (arrival.socket, arrival.places);
    let socket = match socket {
        Handover::Http2(body) => {
            if body.try_write(std::iter::once(bytes.as_slice())).is_ok() {
                body.end(Ending::CutOnceSent);
            }
            return;
        }
        Handover::SameShard(socket) => Ok(socket),
        Handover::OtherShard(socket) => socket.bind(),
    };
    // It ends soon, or with the thread's runtime. A new socket can't be written to at once.
    drop(tokio::spawn(async move {
        let write = async {
            let mut socket = socket?;
            socket.write_all(&bytes).await?;
            socket.flush().await
        };
        if let Ok(Err(error)) = timeout(LAST_GRACE, write).await {
            tracing::debug!(%error, "a refused client left before it was told");
        }
        drop(places);
    }));
}

impl Goodbyes {
    /// Gives everybody of `keys` a slot between now and a little before the deadline.
    pub(super) fn new(parting: Parting, mut keys: Vec<SubscriberKey>, now: Instant) -> Self {
        fastrand::shuffle(&mut keys);
        let span = parting.deadline.saturating_duration_since(now);
        let slots = span - LAST_GRACE.min(span / 10);
        let n_all = keys.len();
        Self {
            parting,
            waiting: keys,
            begin: now,
            pace: slots.div_f64(n_all.max(1) as f64),
            n_all,
            phase: fastrand::f64(),
        }
    }

    /// Whether it is the subscribers of this channel who leave.
    pub(super) fn is_about(&self, channel: &Channel) -> bool {
        self.parting.channels.contains(&channel.identity())
    }

    /// How they leave whose slot has come, and until when.
    pub(super) fn how(&self, now: Instant) -> (Departure, Instant) {
        let Parting {
            departure,
            deadline,
            ..
        } = self.parting;
        (departure, deadline.max(now + LEAST_GRACE))
    }

    /// When the next one leaves.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let n_left = self.n_all - self.waiting.len();
        let slot = n_left as f64 + self.phase;
        (!self.waiting.is_empty()).then(|| self.begin + self.pace.mul_f64(slot))
    }

    /// Somebody whose slot has come.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<SubscriberKey> {
        if self.next_at()? > now {
            return None;
        }
        self.waiting.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parting(deadline: Instant) -> Parting {
        Parting {
            channels: HashSet::new(),
            departure: Departure::Stopped,
            deadline,
            _done: oneshot::channel().0,
        }
    }

    fn keys(n: usize) -> Vec<SubscriberKey> {
        let key = |index| SubscriberKey { group: 0, index };
        (0..n).map(key).collect()
    }

    #[test]
    fn everybody_leaves_once_evenly_and_in_random_order() {
        let begin = Instant::now();
        let span = Duration::from_secs(20);
        let mut goodbyes = Goodbyes::new(parting(begin + span), keys(1000), begin);
        let mut order = Vec::new();
        while let Some(at) = goodbyes.next_at() {
            assert_eq!(goodbyes.next_due(at - Duration::from_nanos(1)), None);
            let slot = Duration::from_millis(19) * u32::try_from(order.len()).expect("few");
            let in_slot = (at - begin).checked_sub(slot).expect("not before its slot");
            assert!(in_slot <= Duration::from_millis(19), "{in_slot:?}");
            order.push(goodbyes.next_due(at).expect("it is time"));
        }
        assert_ne!(order, keys(1000), "in no order");
        order.sort_unstable();
        assert_eq!(order, keys(1000));
    }

    #[test]
    fn without_time_everybody_leaves_at_once() {
        let now = Instant::now();
        let mut goodbyes = Goodbyes::new(parting(now), keys(10), now);
        for _ in 0..10 {
            assert!(goodbyes.next_due(now).is_some());
        }
        assert_eq!((goodbyes.next_due(now), goodbyes.next_at()), (None, None));
        let mut nobody = Goodbyes::new(parting(now + LAST_GRACE), Vec::new(), now);
        assert_eq!((nobody.next_due(now), nobody.next_at()), (None, None));
    }

    #[test]
    fn clients_are_told_to_come_back_after_the_deadline_and_not_together() {
        let deadline = Instant::now() + Duration::from_secs(10);
        let times: Vec<Duration> = (0..100).map(|_| return_time(deadline)).collect();
        let (min, max) = (times.iter().min(), times.iter().max());
        let (min, max) = (*min.expect("some"), *max.expect("some"));
        assert!(min > Duration::from_secs(10) && max < Duration::from_millis(15_001));
        assert!(max - min > Duration::from_secs(2), "{min:?} to {max:?}");
        assert!(return_time(Instant::now()) >= Duration::from_secs(1));
    }
}
