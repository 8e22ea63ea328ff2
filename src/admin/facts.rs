//! What the admin listener tells about: handles to the parts of the process, and the few facts that
//! no part has for itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::reloads::Reloads;
use crate::channel::Source;
use crate::delivery::{ShardHandle, Survey, survey};
use crate::http::Gateway;
use crate::memory::Budget;
use crate::net::permit::Permits;
use crate::net::tls::{ServerTls, Validity};
use crate::proxy::Proxy;

/// The process, as the admin listener sees it.
#[derive(Debug)]
pub struct Facts {
    gateway: Arc<Gateway>,
    permits: Permits,
    memory: Budget,
    started_at: SystemTime,
    phase: AtomicU8,
    reloads: Reloads,
    /// Where clients connect; replaced as a whole.
    places: ArcSwap<Vec<Place>>,
    /// The last survey, and when it was made.
    surveyed: Mutex<Option<(Instant, Survey)>>,
}

/// An address that was bound.
#[derive(Debug, Clone)]
pub struct Place {
    /// The listener's name.
    pub listener: String,
    /// The address, with the port that the kernel chose.
    pub address: String,
    /// How it speaks TLS; `None`: it does not.
    pub tls: Option<Arc<ServerTls>>,
}

/// What the process is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Running,
    Stopping,
}

/// A survey costs each shard a look at all its subscribers, so there are few, whoever asks.
const SURVEY_INTERVAL: Duration = Duration::from_millis(100);

/// A shard that takes longer is left out of the survey.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(1);

impl Facts {
    /// A process that is starting.
    pub fn new(gateway: Arc<Gateway>, permits: Permits, memory: Budget) -> Self {
        let started_at = SystemTime::now();
        Self {
            gateway,
            permits,
            memory,
            started_at,
            reloads: Reloads::new(started_at),
            phase: AtomicU8::new(Phase::Starting as u8),
            places: ArcSwap::default(),
            surveyed: Mutex::default(),
        }
    }

    /// Tells where clients connect.
    pub fn set_places(&self, places: Vec<Place>) {
        self.places.store(Arc::new(places));
    }

    /// Tells that clients may come.
    pub fn begin_running(&self) {
        self.phase.store(Phase::Running as u8, Ordering::Relaxed);
    }

    /// Tells that no more clients should come.
    pub fn begin_stopping(&self) {
        self.phase.store(Phase::Stopping as u8, Ordering::Relaxed);
    }

    /// What became of reloads.
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// How far subscribers are behind, as it is now or was a moment ago.
    pub(super) async fn survey(&self) -> Survey {
        // Who asks meanwhile waits and gets the same.
        let mut surveyed = self.surveyed.lock().await;
        if let Some((at, survey)) = &*surveyed
            && at.elapsed() < SURVEY_INTERVAL
        {
            return survey.clone();
        }
        let survey = survey(self.shards(), SURVEY_TIMEOUT).await;
        *surveyed = Some((Instant::now(), survey.clone()));
        survey
    }

    pub(super) fn phase(&self) -> Phase {
        let phase = self.phase.load(Ordering::Relaxed);
        [Phase::Starting, Phase::Running]
            .into_iter()
            .find(|known| *known as u8 == phase)
            .unwrap_or(Phase::Stopping)
    }

    /// What the tables of channels have come to, ordered by name.
    pub(super) fn sources(&self) -> Vec<Source> {
        let mut sources = self.gateway.current().routes.sources();
        sources.sort_by(|a, b| a.kind().name().cmp(b.kind().name()));
        sources
    }

    /// The proxies, ordered by name.
    pub(super) fn proxies(&self) -> Vec<Arc<Proxy>> {
        self.gateway.current().routes.proxies().to_vec()
    }

    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub(super) fn shards(&self) -> &[ShardHandle] {
        &self.gateway.shards
    }

    pub(super) fn permits(&self) -> &Permits {
        &self.permits
    }

    pub(super) fn memory(&self) -> &Budget {
        &self.memory
    }

    pub(super) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    pub(super) fn places(&self) -> Arc<Vec<Place>> {
        self.places.load_full()
    }

    /// The certificates that are used now, with the listeners' names. A listener's addresses share
    /// theirs.
    pub(super) fn certificates(&self) -> Vec<(String, Validity)> {
        let places = self.places();
        let mut seen = BTreeSet::new();
        let listeners = places.iter().filter(|place| seen.insert(&place.listener));
        listeners
            .flat_map(|place| {
                let validities = place.tls.iter().flat_map(|tls| tls.validity());
                validities.map(|validity| (place.listener.clone(), validity))
            })
            .collect()
    }
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}
