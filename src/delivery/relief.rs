//! Keeps the process within its memory budget: what is given up, in which order.
//!
//! ```text
//!   limit crossed ─▶ oldest history of channels that nobody reads ─▶ of the others
//!                 ─▶ what slow subscribers keep, and until that is free: no newcomers
//! ```
//!
//! Between two crossings nothing here runs. Logs bound themselves meanwhile: one that appends while
//! the limit is exceeded gives up as much of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::ShardHandle;
use crate::channel::Channel;
use crate::memory::Budget;

/// Evicts across channels whenever the budget is exceeded; never ends.
///
/// `channels` gives those that there are.
///
/// # Cancel safety
///
/// May be dropped at any time, if it is begun again.
pub async fn keep_within(
    budget: &Budget,
    shards: &[ShardHandle],
    channels: impl Fn() -> Vec<Channel>,
) -> ! {
    let mut quiet_until = Instant::now();
    // Who did this before may have been dropped in the middle of it, and what it was told nobody tells
    // again. So the level counts, and what was noted of it.
    loop {
        if !budget.is_exceeded() {
            if budget.set_exhausted(false) {
                let used = budget.used();
                tracing::info!(used, "there is memory for new clients again");
            }
            budget.crossed().await;
        }
        let evicted = evict(budget, &channels()).await;
        if quiet_until <= Instant::now() {
            quiet_until = Instant::now() + QUIET;
            tracing::warn!(
                evicted,
                used = budget.used(),
                limit = budget.limit(),
                "[server] memory is reached: the oldest history is given up"
            );
        }
        if !budget.is_exceeded() {
            continue;
        }
        // There is no history left, but much may be on its way through the shards right now.
        sleep(DELIVERY_PAUSE).await;
        evict(budget, &channels()).await;
        if budget.is_exceeded() {
            run_out(budget, shards, &channels).await;
        }
    }
}

/// Time between two warnings that history is given up.
const QUIET: Duration = Duration::from_secs(10);

/// How long events may take that no log has any more, but subscribers have yet to get.
const DELIVERY_PAUSE: Duration = Duration::from_millis(100);

/// How often to look whether there is room again.
const RECHECK: Duration = Duration::from_secs(1);

/// How much is given up of one log before the next oldest is looked for.
const STEP_BYTES: usize = 64 * 1024;

/// Steps before other tasks of the thread have their turn.
const STEPS_AT_ONCE: usize = 32;

/// There is no history left: newcomers are refused, and who is far behind has to come back, until
/// the rest is within the limit.
async fn run_out(budget: &Budget, shards: &[ShardHandle], channels: &impl Fn() -> Vec<Channel>) {
    if !budget.set_exhausted(true) {
        tracing::error!(
            used = budget.used(),
            limit = budget.limit(),
            "[server] memory is reached and there is no history left to give up: \
             new clients are refused and slow ones disconnected"
        );
    }
    while budget.is_exceeded() {
        for shard in shards {
            shard.relieve();
        }
        sleep(RECHECK).await;
        evict(budget, &channels()).await;
    }
}

/// Gives up history, the oldest first and that of channels without subscribers before all other,
/// until there is a little room; returns how many bytes that were.
async fn evict(budget: &Budget, channels: &[Channel]) -> usize {
    // A little more than is needed, so that the next event does not cross the limit again.
    let goal = budget.limit() - budget.limit() / 16;
    let age = |number: usize| {
        let channel = channels.get(number)?;
        let oldest = channel.log().oldest()?;
        Some(Reverse((channel.n_subscribers() > 0, oldest, number)))
    };
    let mut by_age: BinaryHeap<_> = (0..channels.len()).filter_map(age).collect();
    let (mut evicted, mut n_steps) = (0, 0);
    while budget.used() > goal
        && let Some(Reverse((_, _, number))) = by_age.pop()
    {
        let log = channels.get(number).map(Channel::log);
        evicted += log.map_or(0, |log| log.give_up(STEP_BYTES));
        by_age.extend(age(number));
        n_steps += 1;
        if n_steps % STEPS_AT_ONCE == 0 {
            yield_now().await;
        }
    }
    evicted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::channel::Kind;
    use crate::config::Config;
    use crate::log::Writer;
    use crate::log::testing::event;
    use crate::memory::WhatFor;
    use tokio::time::timeout;

    fn channel(budget: &Budget) -> (Channel, Writer) {
        let text = "[listen.public]\naddress = \"127.0.0.1:0\"\n[channels.events]\n\
                    path = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n";
        let config = Config::parse("test.toml", text).expect("a configuration");
        Channel::within(&Kind::new(Arc::clone(&config.config.channels[0])), budget)
    }

    fn append(writer: &mut Writer, n_events: usize, now: Instant) {
        let data = "x".repeat(1000);
        for _ in 0..n_events {
            writer.push(&event(None, &data));
            writer.commit(now);
        }
    }

    fn n_events(channel: &Channel) -> usize {
        channel.log().size().n_events
    }

    #[tokio::test]
    async fn the_oldest_history_goes_first_and_that_of_idle_channels_before_all() {
        let budget = Budget::new(1024 * 1024);
        let mut world: Vec<_> = (0..4).map(|_| channel(&budget)).collect();
        let _seat = world[0].0.join().expect("a seat");
        let begin = Instant::now();
        for (n, (_, writer)) in world.iter_mut().enumerate() {
            append(writer, 200, begin + Duration::from_secs(n as u64));
        }
        let channels: Vec<Channel> = world.iter().map(|(channel, _)| channel.clone()).collect();
        assert!(!budget.is_exceeded());
        let sizes = || channels.iter().map(n_events).collect::<Vec<_>>();
        budget.set_limit(budget.used() - 100_000);
        evict(&budget, &channels).await;
        assert!(!budget.is_exceeded());
        let after = sizes();
        assert!(after[1] < 200, "the oldest that nobody reads: {after:?}");
        assert_eq!((after[0], after[2], after[3]), (200, 200, 200));
        budget.set_limit(300_000);
        evict(&budget, &channels).await;
        let after = sizes();
        assert_eq!((after[0], after[1], after[2]), (200, 0, 0), "{after:?}");
        budget.set_limit(100_000);
        evict(&budget, &channels).await;
        let after = sizes();
        assert!(after[0] < 200 && after[3] == 0, "{after:?}");
        assert!(!budget.is_exceeded());
        budget.set_limit(0);
        evict(&budget, &channels).await;
        assert_eq!(sizes(), [0; 4]);
        assert_eq!(budget.used(), 0, "nothing else is held");
    }

    /// Lets it work until something holds, and drops it then.
    async fn work_until(budget: &Budget, channel: &Channel, holds: impl Fn() -> bool) {
        let looking = async {
            while !holds() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            never = keep_within(budget, &[], || vec![channel.clone()]) => never,
            outcome = timeout(Duration::from_secs(10), looking) => {
                outcome.unwrap_or_else(|_| panic!("{} bytes are used", budget.used()));
            }
        }
    }

    #[tokio::test]
    async fn who_is_dropped_in_the_middle_leaves_the_rest_to_the_next() {
        let budget = Budget::new(1_000_000);
        let (channel, mut writer) = channel(&budget);
        append(&mut writer, 500, Instant::now());
        let held = budget.hold(WhatFor::Connections, 200_000);
        budget.set_limit(100_000);
        work_until(&budget, &channel, || !budget.has_room()).await;
        assert_eq!(n_events(&channel), 0, "there is nothing to give up");
        drop(held);
        append(&mut writer, 50, Instant::now());
        // It is told, and dropped; nobody is told again.
        budget.set_limit(40_000);
        budget.crossed().await;
        assert!(budget.is_exceeded());
        work_until(&budget, &channel, || !budget.is_exceeded()).await;
        let _held = budget.hold(WhatFor::Connections, 200_000);
        assert!(budget.has_room(), "whatever its predecessor found");
    }

    #[tokio::test]
    async fn a_log_that_appends_beyond_the_limit_gives_up_as_much() {
        let budget = Budget::new(100_000);
        let (channel, mut writer) = channel(&budget);
        let (_other, mut other) = self::channel(&budget);
        append(&mut other, 50, Instant::now());
        append(&mut writer, 500, Instant::now());
        // The one beyond it, and what a batch is besides its bytes.
        assert!(budget.used() < 103_000, "{}", budget.used());
        assert!(n_events(&channel) > 30, "{}", n_events(&channel));
    }

    #[tokio::test]
    async fn what_a_reader_keeps_counts_until_it_has_it() {
        let budget = Budget::new(1_000_000);
        let (channel, mut writer) = channel(&budget);
        append(&mut writer, 100, Instant::now());
        let start = channel.log().start(Some("unknown"), Instant::now());
        assert_eq!(start.batches.len(), 100);
        let before = budget.used();
        budget.set_limit(0);
        evict(&budget, std::slice::from_ref(&channel)).await;
        assert_eq!(n_events(&channel), 0);
        assert!(budget.used() * 10 > before * 9, "{}", budget.used());
        drop(start);
        assert_eq!(budget.used(), 0);
    }
}
