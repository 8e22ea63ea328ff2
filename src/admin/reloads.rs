//! What became of reloads, for those who ask.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::count::Counter;

/// What became of reloads. Whoever reloads notes it here.
#[derive(Debug)]
pub struct Reloads {
    counts: [Counter; ReloadOutcome::ALL.len()],
    state: Mutex<State>,
}

/// What became of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Everything is as the file says.
    Applied,
    /// Some of what has changed needs a restart; the rest is as the file says.
    NeedsRestart,
    /// The file is wrong, and everything as it was.
    Rejected,
    /// The file says nothing new.
    Unchanged,
}

/// The last reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastReload {
    /// What became of it.
    pub outcome: ReloadOutcome,
    /// When it ended.
    pub at: SystemTime,
    /// What there is to say about it: what is wrong, which keys need a restart.
    pub message: String,
}

#[derive(Debug)]
struct State {
    last: Option<LastReload>,
    /// When the file was right last; the start counts.
    success_at: SystemTime,
}

impl Reloads {
    pub(super) fn new(started_at: SystemTime) -> Self {
        Self {
            counts: Default::default(),
            state: Mutex::new(State {
                last: None,
                success_at: started_at,
            }),
        }
    }

    /// Notes what became of a reload.
    pub fn note(&self, outcome: ReloadOutcome, message: impl Into<String>) {
        self.count(outcome).add(1);
        let at = SystemTime::now();
        let mut state = self.lock();
        if outcome != ReloadOutcome::Rejected {
            state.success_at = at;
        }
        state.last = Some(LastReload {
            outcome,
            at,
            message: message.into(),
        });
    }

    /// How many there were with this outcome.
    pub fn n(&self, outcome: ReloadOutcome) -> u64 {
        self.count(outcome).value()
    }

    /// The last one; `None`: there was none.
    pub fn last(&self) -> Option<LastReload> {
        self.lock().last.clone()
    }

    /// When the file was right last.
    pub fn success_at(&self) -> SystemTime {
        self.lock().success_at
    }

    fn count(&self, outcome: ReloadOutcome) -> &Counter {
        let [applied, needs_restart, rejected, unchanged] = &self.counts;
        match outcome {
            ReloadOutcome::Applied => applied,
            ReloadOutcome::NeedsRestart => needs_restart,
            ReloadOutcome::Rejected => rejected,
            ReloadOutcome::Unchanged => unchanged,
        }
    }

    /// Recovers from poison: nothing in here can panic halfway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReloadOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [
        Self::Applied,
        Self::NeedsRestart,
        Self::Rejected,
        Self::Unchanged,
    ];

    /// The outcome's name, as it is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NeedsRestart => "needs-restart",
            Self::Rejected => "rejected",
            Self::Unchanged => "unchanged",
        }
    }
}
