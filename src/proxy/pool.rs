//! The connections of one proxy to its endpoints, as one shard has them.
//!
//! Nothing of it crosses threads, so its lock is never contended. Idle connections of HTTP/1.1 wait
//! here for the next request, the one that was used last goes first; those of HTTP/2 are shared. A
//! sweep, which goes on only while there are any, closes those that are idle for too long or that the
//! upstream has closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::endpoints::{Endpoints, Tried};
use super::link::Link;
use super::shared::{Shared, StreamPlace};

/// The connections of one proxy, of one shard.
#[derive(Debug)]
pub(super) struct Pool {
    /// Held by who makes a connection of HTTP/2, by endpoint.
    turns: Box<[tokio::sync::Mutex<()>]>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    endpoints: Endpoints,
    /// By endpoint.
    places: Vec<Place>,
    /// Whether somebody sweeps.
    is_swept: bool,
    /// Nothing is kept any more.
    is_retired: bool,
}

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most idle connections to each endpoint.
    pub(super) max_idle: usize,
    /// How long an idle connection is kept.
    pub(super) keep_alive: Duration,
}

#[derive(Debug, Default)]
struct Place {
    /// Those of HTTP/1.1, the one that was used last at the end.
    #[expect(clippy::vec_box, reason = "each request moves one out and in")]
    idle: Vec<Box<Link>>,
    /// Those of HTTP/2.
    shared: Vec<Shared>,
}

/// The most time from the moment that an upstream closes an idle connection until it is noticed. It
/// is never used, however soon a request comes.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Pool {
    pub(super) fn new(n_endpoints: usize, limits: Limits) -> Self {
        let mut places = Vec::new();
        places.resize_with(n_endpoints, Place::default);
        Self {
            turns: (0..n_endpoints)
                .map(|_| tokio::sync::Mutex::default())
                .collect(),
            state: Mutex::new(State {
                limits,
                endpoints: Endpoints::new(n_endpoints),
                places,
                is_swept: false,
                is_retired: false,
            }),
        }
    }

    /// The endpoint that a request asks which has tried these, within `patience`.
    pub(super) fn choose(&self, tried: Tried, patience: Duration) -> Option<usize> {
        self.lock()
            .endpoints
            .choose(Instant::now(), tried, patience)
    }

    /// Notes that an endpoint could be connected to.
    pub(super) fn worked(&self, place: usize) {
        self.lock().endpoints.worked(place);
    }

    /// Notes that an endpoint could not be connected to.
    pub(super) fn failed(&self, place: usize) {
        self.lock().endpoints.failed(Instant::now(), place);
    }

    /// An idle connection of HTTP/1.1, if there is one that can be used.
    pub(super) fn take(&self, place: usize) -> Option<Box<Link>> {
        let now = Instant::now();
        loop {
            let mut state = self.lock();
            let keep_alive = state.limits.keep_alive;
            let mut link = state.places.get_mut(place)?.idle.pop()?;
            drop(state);
            if now - link.idle_since < keep_alive && link.look() {
                return Some(link);
            }
        }
    }

    /// Takes a connection of HTTP/1.1 back that can take another request.
    pub(super) fn put(self: &Arc<Self>, place: usize, mut link: Box<Link>) {
        link.idle_since = Instant::now();
        let mut state = self.lock();
        let (is_retired, max_idle) = (state.is_retired, state.limits.max_idle);
        let Some(at) = state.places.get_mut(place) else {
            return;
        };
        if is_retired || at.idle.len() >= max_idle {
            return;
        }
        at.idle.push(link);
        self.sweep_from_now(&mut state);
    }

    /// A place on a connection of HTTP/2, if one has room.
    pub(super) fn join(&self, place: usize) -> Option<StreamPlace> {
        let mut state = self.lock();
        let shared = &mut state.places.get_mut(place)?.shared;
        shared.retain(Shared::is_open);
        shared.iter().find_map(Shared::join)
    }

    /// Waits for the turn to make a connection of HTTP/2.
    pub(super) async fn connect_turn(
        &self,
        place: usize,
    ) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        Some(self.turns.get(place)?.lock().await)
    }

    /// Shares a connection of HTTP/2 from now on.
    pub(super) fn share(self: &Arc<Self>, place: usize, connection: Shared) {
        let mut state = self.lock();
        if state.is_retired {
            return;
        }
        if let Some(at) = state.places.get_mut(place) {
            at.shared.push(connection);
            self.sweep_from_now(&mut state);
        }
    }

    /// Keeps so much from now on.
    pub(super) fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
    }

    /// Keeps nothing any more: what is idle is closed, what is in use when it has ended.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.is_retired = true;
        let places = std::mem::take(&mut state.places);
        drop(state);
        // Sockets are closed outside of the lock.
        drop(places);
    }

    fn sweep_from_now(self: &Arc<Self>, state: &mut State) {
        if !std::mem::replace(&mut state.is_swept, true) {
            // It ends with the connections, with the pool, or with the shard's runtime, which owns it.
            drop(tokio::spawn(sweep(Arc::downgrade(self))));
        }
    }

    /// Closes what should not be kept; returns whether anything is left.
    fn sweep(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let mut closed = Vec::new();
        let mut is_any_left = false;
        let keep_alive = state.limits.keep_alive;
        for place in &mut state.places {
            let idle = std::mem::take(&mut place.idle);
            let keeps = |link: &mut Box<Link>| now - link.idle_since < keep_alive && link.look();
            let (kept, gone): (Vec<_>, Vec<_>) = idle
                .into_iter()
                .map(|mut link| (keeps(&mut link), link))
                .partition(|(is_kept, _)| *is_kept);
            place.idle = kept.into_iter().map(|(_, link)| link).collect();
            closed.extend(gone);
            place
                .shared
                .retain_mut(|one| one.is_open() && one.idle_for(now) < keep_alive);
            is_any_left |= !place.idle.is_empty() || !place.shared.is_empty();
        }
        state.is_swept = is_any_left;
        drop(state);
        // Sockets are closed outside of the lock.
        drop(closed);
        is_any_left
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        let Some(interval) = pool
            .upgrade()
            .map(|pool| pool.lock().limits.keep_alive.min(SWEEP_INTERVAL))
        else {
            return;
        };
        sleep(interval).await;
        let goes_on = pool
            .upgrade()
            .is_some_and(|pool| pool.sweep(Instant::now()));
        if !goes_on {
            return;
        }
    }
}
