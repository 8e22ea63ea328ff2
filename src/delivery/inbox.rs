//! What wakes a shard: new batches, sockets that are ready, new subscribers, the end.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::Arrival;
use super::goodbyes::Parting;
use super::pulse::Question;
use crate::channel::Channel;
use crate::log::Outlet;
use crate::sync::{Mutex, MutexGuard};

/// A group's place in its shard.
pub(super) type GroupKey = usize;

/// A subscriber's place in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SubscriberKey {
    pub(super) group: GroupKey,
    pub(super) index: usize,
}

/// Where other threads, and this thread's reactor, leave notes for a shard.
///
/// A key may be out of date when it is read: its owner is gone, or another has its place. So a key
/// is only a hint to look.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
}

/// What was left.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Groups whose feed has something.
    pub(super) dirty: Vec<GroupKey>,
    /// Subscribers whose socket can be read or written.
    pub(super) ready: Vec<SubscriberKey>,
    /// New subscribers.
    pub(super) arrivals: Vec<Arrival>,
    /// Channels whose subscribers leave.
    pub(super) partings: Vec<Parting>,
    /// What others want to know.
    pub(super) questions: Vec<Question>,
    /// Channels with other settings than before.
    pub(super) reconfigured: Vec<Channel>,
    /// Whether to give up those who are far behind.
    pub(super) wants_relief: bool,
    /// Whether to stop.
    pub(super) is_stopping: bool,
}

#[derive(Debug, Default)]
struct State {
    mail: Mail,
    /// The shard has ended: nobody reads what is left here.
    is_closed: bool,
    /// The shard, if it waits.
    waker: Option<Waker>,
}

/// Marks one group of one shard.
pub(super) struct Mark {
    pub(super) inbox: Arc<Inbox>,
    pub(super) group: GroupKey,
}

/// Wakes a shard for one subscriber's socket.
pub(super) struct Bell {
    inbox: Arc<Inbox>,
    key: SubscriberKey,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.dirty.is_empty()
            && self.ready.is_empty()
            && self.arrivals.is_empty()
            && self.partings.is_empty()
            && self.questions.is_empty()
            && self.reconfigured.is_empty()
            && !self.wants_relief
            && !self.is_stopping
    }

    fn clear(&mut self) {
        self.dirty.clear();
        self.ready.clear();
        self.arrivals.clear();
        self.partings.clear();
        self.questions.clear();
        self.reconfigured.clear();
        self.wants_relief = false;
        self.is_stopping = false;
    }
}

impl Inbox {
    /// Exchanges what was left for `mail`, which is cleared; waits until there is something.
    pub(super) fn poll_take(&self, cx: &Context<'_>, mail: &mut Mail) -> Poll<()> {
        mail.clear();
        let mut state = self.lock();
        if state.mail.is_empty() {
            if !state
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        std::mem::swap(&mut state.mail, mail);
        Poll::Ready(())
    }

    pub(super) fn arrive(&self, arrival: Arrival) {
        self.leave(|mail| mail.arrivals.push(arrival));
    }

    pub(super) fn reconfigure(&self, channels: &[Channel]) {
        self.leave(|mail| mail.reconfigured.extend_from_slice(channels));
    }

    pub(super) fn part(&self, parting: Parting) {
        self.leave(|mail| mail.partings.push(parting));
    }

    /// Leaves a question. Those that nobody waits for any more make place, so that a shard that does
    /// not answer does not gather them.
    pub(super) fn ask(&self, question: Question) {
        self.leave(|mail| {
            mail.questions.retain(Question::is_awaited);
            mail.questions.push(question);
        });
    }

    /// Drops what was left, and whatever will be: the shard has ended.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let mail = std::mem::take(&mut state.mail);
        // What it holds may leave notes here as it is dropped.
        drop(state);
        drop(mail);
    }

    /// Asks to give up those who are far behind, because memory has run out.
    pub(super) fn relieve(&self) {
        self.leave(|mail| mail.wants_relief = true);
    }

    pub(super) fn stop(&self) {
        self.leave(|mail| mail.is_stopping = true);
    }

    /// A waker for one subscriber's socket.
    pub(super) fn bell(self: &Arc<Self>, key: SubscriberKey) -> Waker {
        Waker::from(Arc::new(Bell {
            inbox: Arc::clone(self),
            key,
        }))
    }

    fn leave(&self, note: impl FnOnce(&mut Mail)) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        let was_empty = state.mail.is_empty();
        note(&mut state.mail);
        // Who found it empty wakes the shard; the others know that it is awake.
        let waker = if was_empty { state.waker.take() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for Mark {
    fn mark_dirty(&self) {
        self.inbox.leave(|mail| mail.dirty.push(self.group));
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.inbox.leave(|mail| mail.ready.push(self.key));
    }
}

/// Groups by the identity of their channel.
pub(super) type GroupsByChannel = HashMap<usize, GroupKey>;
