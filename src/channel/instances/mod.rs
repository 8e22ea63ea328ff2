//! A set of channels that are made when somebody asks for them, and go when nobody is left.
//!
//! ```text
//!   absent ──enter──▶ there, with seats ⇄ there, without seats ──linger──▶ absent
//! ```
//!
//! One lock makes all of it free of races: [`Instances::enter`] finds or makes the channel *and* takes
//! the seat under it, and [`Instances::until_left`] looks whether there are seats *and* takes the
//! channel out under it. So of the last that leaves and the first that returns, either the second is
//! seated in what is there, or it makes another after that is gone: never two at once, and never a seat
//! in what nobody writes any more.
//!
//! What a key is, what the channel is told to do and who writes it is not known here.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::{Channel, RefusedBy, Seat};
use crate::config;
use crate::sync::{Mutex, MutexGuard};

/// Channels on demand, by key.
#[derive(Debug)]
pub struct Instances<K> {
    /// A std mutex: no await inside. It is taken once per new subscriber and once per instance that
    /// goes.
    state: Mutex<State<K>>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The channel.
    pub channel: Channel,
    /// The shard of who writes it.
    pub home: usize,
    /// Who writes it, and takes it out of the set in the end.
    pub task: AbortHandle,
}

impl Instance {
    /// About what one takes that has no events and no connection, without its key.
    pub(super) const BYTES_BUT_KEY: usize = 2 * 1024;
}

#[derive(Debug)]
struct State<K> {
    by_key: HashMap<K, Instance>,
    /// Until when all subscribers leave, if there are to be no more.
    closing: Option<Instant>,
}

impl<K> Default for Instances<K> {
    fn default() -> Self {
        let state = State {
            by_key: HashMap::new(),
            closing: None,
        };
        Self {
            state: Mutex::new(state),
        }
    }
}

impl<K: Clone + Eq + Hash> Instances<K> {
    /// Takes a seat in the instance of `key`. If there is none, `make` makes it, unless there are `max`
    /// already; it is called under the lock, so that of all who come in the same moment one makes it.
    ///
    /// # Errors
    ///
    /// By what the newcomer is refused. Nothing was made then.
    pub fn enter<E: From<RefusedBy>>(
        &self,
        key: &K,
        max: usize,
        make: impl FnOnce() -> Result<Instance, E>,
    ) -> Result<(Instance, Seat), E> {
        self.enter_by(key, max, make, |channel| Ok(channel.join()?))
    }

    /// The same, where a seat is had in another way.
    ///
    /// # Errors
    ///
    /// The same.
    pub(super) fn enter_by<E: From<RefusedBy>>(
        &self,
        key: &K,
        max: usize,
        make: impl FnOnce() -> Result<Instance, E>,
        join: impl FnOnce(&Channel) -> Result<Seat, E>,
    ) -> Result<(Instance, Seat), E> {
        let mut state = self.lock();
        if let Some(known) = state.by_key.get(key) {
            let seat = join(&known.channel)?;
            return Ok((known.clone(), seat));
        }
        if state.closing.is_some() {
            return Err(RefusedBy::Stop.into());
        }
        if state.by_key.len() >= max {
            return Err(RefusedBy::MaxInstances.into());
        }
        let made = make()?;
        // Seated or not, its task takes it out when nobody is there.
        state.by_key.insert(key.clone(), made.clone());
        let seat = join(&made.channel)?;
        Ok((made, seat))
    }

    /// Ready when nobody has been in `channel`, which has this key, for as long as its settings say, and
    /// it was taken out; if somebody else took it out, for as long as that, too.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; the channel stays until somebody waits again.
    pub async fn until_left(
        &self,
        key: &K,
        channel: &Channel,
        linger: impl Fn(&config::Channel) -> Duration,
    ) {
        let mut alarm = Alarm::default();
        poll_fn(|cx| self.poll_left(cx, (key, channel), &mut alarm, (&linger, || ()))).await;
    }

    /// The same. `end` ends whoever writes it; it is called under the lock, so that what is made next
    /// finds nothing left of this one.
    pub(super) fn poll_left(
        &self,
        cx: &mut Context<'_>,
        (key, channel): (&K, &Channel),
        alarm: &mut Alarm,
        (linger, end): (impl Fn(&config::Channel) -> Duration, impl FnOnce()),
    ) -> Poll<()> {
        // Before it looks.
        channel.watch_with(cx);
        loop {
            let Some(left_at) = channel.deserted_since() else {
                return Poll::Pending;
            };
            let until = left_at + linger(&channel.settings());
            if until > Instant::now() && alarm.poll_until(until, cx).is_pending() {
                return Poll::Pending;
            }
            let Some(mut state) = self.find(key, channel) else {
                // Somebody else has taken it out.
                if channel.n_subscribers() == 0 {
                    return Poll::Ready(());
                }
                continue;
            };
            if channel.n_subscribers() == 0 {
                end();
                state.forget(key);
                return Poll::Ready(());
            }
        }
    }

    /// Takes `channel` out, which has this key, whoever is there, and ends who writes it. Who asks for
    /// the key from now on gets another.
    pub fn remove(&self, key: &K, channel: &Channel, end: impl FnOnce()) {
        if let Some(mut state) = self.find(key, channel) {
            end();
            state.forget(key);
        }
    }

    /// The lock, if `channel` is the one of this key.
    fn find(&self, key: &K, channel: &Channel) -> Option<MutexGuard<'_, State<K>>> {
        let state = self.lock();
        let known = &state.by_key.get(key)?.channel;
        (known.identity() == channel.identity()).then_some(state)
    }

    /// Takes all of them out, with whoever is there; returns them. Who asks for the key of one from now
    /// on gets another. Each is written until nobody is there.
    pub(super) fn take_out(&self) -> Vec<Channel> {
        let gone = std::mem::take(&mut self.lock().by_key);
        gone.into_values().map(|one| one.channel).collect()
    }

    /// Makes no more, and lets nobody in. Those who are there leave until `deadline`.
    pub fn close(&self, deadline: Instant) {
        let mut state = self.lock();
        state.closing.get_or_insert(deadline);
        for instance in state.by_key.values() {
            instance.channel.close(deadline);
        }
    }

    /// Until when its subscribers leave, if it takes no more.
    pub fn closing(&self) -> Option<Instant> {
        self.lock().closing
    }

    /// Ends all of them, whoever is there.
    pub fn abort(&self) {
        let gone = std::mem::take(&mut self.lock().by_key);
        for instance in gone.values() {
            instance.task.abort();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The instance of a key, if there is one.
    pub fn get(&self, key: &K) -> Option<Instance> {
        self.lock().by_key.get(key).cloned()
    }

    /// All of them, with their keys, in no order.
    pub fn all(&self) -> Vec<(K, Channel)> {
        let state = self.lock();
        let all = state.by_key.iter();
        all.map(|(key, one)| (key.clone(), one.channel.clone()))
            .collect()
    }

    /// Recovers from poison: the table is valid between any two statements that can panic.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> State<K> {
    fn forget(&mut self, key: &K) {
        self.by_key.remove(key);
        // A burst of guesses must not be remembered by the size of the table.
        let (n, capacity) = (self.by_key.len(), self.by_key.capacity());
        if capacity > 4 * n.max(FEW) {
            self.by_key.shrink_to(2 * n);
        }
    }
}

/// Places that a table keeps in any case.
const FEW: usize = 16;
