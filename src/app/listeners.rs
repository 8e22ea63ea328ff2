//! The listeners that are bound, and the loops that accept from them.
//!
//! Binding comes first and can fail; [`Listeners::serve`] can't. So a set of listeners is bound as a
//! whole before the first of them accepts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::RunError;
use crate::admin;
use crate::config::diff::{Change, Place, PlaceKey, places};
use crate::config::{self, ListenAddress};
use crate::http::{Gateway, Seen, serve_connection};
use crate::net::listener::Listener;
use crate::net::permit::{Admission, Permits};
use crate::net::tls::{Reread, ServerTls};

/// The listeners that accept. Dropping it closes all of them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    running: Vec<Running>,
    /// Owns the accept loops, and what they hold: the listening sockets.
    accepting: JoinSet<()>,
}

/// A listening socket that nobody accepts from yet.
#[derive(Debug)]
pub(super) struct Bound {
    listener: Listener,
    name: String,
    /// What tells it from the others.
    key: PlaceKey,
    /// Of all addresses of the listener; `None`: in the clear.
    tls: Option<Arc<ServerTls>>,
}

/// What is new for a reload, and what is gone. Dropping it changes nothing.
#[derive(Debug)]
pub(super) struct Prepared {
    bound: Vec<Bound>,
    /// Addresses whose listener has another name, or speaks TLS otherwise.
    changed: Vec<(PlaceKey, String, Option<Arc<ServerTls>>)>,
    removed: Vec<PlaceKey>,
}

/// How connections of an address speak; a reload replaces it while the socket stays.
type Speech = Arc<ArcSwapOption<ServerTls>>;

/// What every accept loop needs.
#[derive(Debug, Clone)]
pub(super) struct Reception {
    pub(super) gateway: Arc<Gateway>,
    pub(super) permits: Permits,
}

/// One address of one listener that accepts.
#[derive(Debug)]
struct Running {
    name: String,
    /// What tells it from the others.
    key: PlaceKey,
    /// With the port that the kernel chose.
    address: ListenAddress,
    /// `None`: in the clear.
    tls: Speech,
    task: AbortHandle,
}

/// Time between two warnings that clients are refused.
const REFUSALS_QUIET: Duration = Duration::from_secs(10);

impl Bound {
    /// Binds every address of these listeners. Must be called inside the runtime that will accept.
    ///
    /// # Errors
    ///
    /// The first address that can't be had; none is bound then.
    pub(super) fn all(listeners: &[config::Listener]) -> Result<Vec<Self>, RunError> {
        let mut speeches = Speeches::default();
        let places = places(listeners);
        places
            .iter()
            .map(|place| Self::bind(place, speeches.of(&place.listener)?))
            .collect()
    }

    fn bind(place: &Place, tls: Option<Arc<ServerTls>>) -> Result<Self, RunError> {
        let (name, address) = (&place.listener.name, &place.key.address);
        let listener = Listener::bind(address).map_err(|cause| RunError::Listen {
            name: name.clone(),
            address: address.clone(),
            cause,
        })?;
        Ok(Self {
            listener,
            name: name.clone(),
            key: place.key.clone(),
            tls,
        })
    }
}

/// How listeners speak TLS: the addresses of one share it.
#[derive(Debug, Default)]
struct Speeches {
    by_name: BTreeMap<String, Arc<ServerTls>>,
}

impl Speeches {
    fn of(&mut self, listener: &config::Listener) -> Result<Option<Arc<ServerTls>>, RunError> {
        let Some(settings) = &listener.tls else {
            return Ok(None);
        };
        if let Some(known) = self.by_name.get(&listener.name)
            && known.settings() == settings
        {
            return Ok(Some(Arc::clone(known)));
        }
        let tls = server_tls(listener)?;
        if let Some(tls) = &tls {
            self.by_name.insert(listener.name.clone(), Arc::clone(tls));
        }
        Ok(tls)
    }
}

/// How a listener speaks TLS; `None`: it does not.
fn server_tls(listener: &config::Listener) -> Result<Option<Arc<ServerTls>>, RunError> {
    let Some(settings) = &listener.tls else {
        return Ok(None);
    };
    let tls = ServerTls::load(&listener.name, settings).map_err(|cause| {
        let name = listener.name.clone();
        RunError::Certificate { name, cause }
    })?;
    tls.announce();
    Ok(Some(Arc::new(tls)))
}

impl Listeners {
    /// Accepts from now on.
    pub(super) fn serve(&mut self, bound: Bound, reception: Reception) {
        let address = bound.listener.address().clone();
        let Bound {
            listener,
            name,
            key,
            tls,
        } = bound;
        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!(%address, listener = name, scheme, "listening");
        let tls = Arc::new(ArcSwapOption::new(tls));
        let speech = Arc::clone(&tls);
        let task = self
            .accepting
            .spawn(async move { accept(listener, speech, reception).await });
        self.running.push(Running {
            name,
            key,
            address,
            tls,
            task,
        });
    }

    /// Binds what is new and loads what speaks otherwise.
    ///
    /// # Errors
    ///
    /// The first that can't be had; nothing has changed then.
    pub(super) fn prepare(&self, changes: &[Change<Place>]) -> Result<Prepared, RunError> {
        let known = self.running.iter().filter_map(|running| {
            let tls = running.tls.load_full()?;
            Some((running.name.clone(), tls))
        });
        let mut speeches = Speeches {
            by_name: known.collect(),
        };
        let mut prepared = Prepared {
            bound: Vec::new(),
            changed: Vec::new(),
            removed: Vec::new(),
        };
        for change in changes {
            match change {
                Change::Added(place) => {
                    let tls = speeches.of(&place.listener)?;
                    prepared.bound.push(Bound::bind(place, tls)?);
                }
                Change::Changed { new, .. } => {
                    let tls = speeches.of(&new.listener)?;
                    let change = (new.key.clone(), new.listener.name.clone(), tls);
                    prepared.changed.push(change);
                }
                Change::Removed(old) => prepared.removed.push(old.key.clone()),
            }
        }
        Ok(prepared)
    }

    /// Accepts where it was prepared, and nowhere else. Connections that were accepted go on.
    pub(super) async fn apply(&mut self, prepared: Prepared, reception: &Reception) {
        for (key, name, tls) in prepared.changed {
            if let Some(running) = self.running.iter_mut().find(|one| one.key == key) {
                running.name = name;
                running.tls.store(tls);
            }
        }
        for bound in prepared.bound {
            self.serve(bound, reception.clone());
        }
        for key in prepared.removed {
            let Some(index) = self.running.iter().position(|one| one.key == key) else {
                continue;
            };
            let gone = self.running.swap_remove(index);
            gone.task.abort();
            // Only what is aborted ends. Its socket, and the path of a unix socket, are gone then.
            self.accepting.join_next().await;
            tracing::info!(address = %gone.address, listener = gone.name, "no longer listening");
        }
    }

    /// Reads the certificates of these listeners again.
    pub(super) fn reread(&self, is_meant: impl Fn(&str) -> bool) -> Reread {
        let mut all = Reread::Unchanged;
        let mut seen: Vec<Arc<ServerTls>> = Vec::new();
        let meant = self.running.iter().filter(|one| is_meant(&one.name));
        for tls in meant.filter_map(|running| running.tls.load_full()) {
            if seen.iter().any(|other| Arc::ptr_eq(other, &tls)) {
                continue;
            }
            all = match (tls.reread(), all) {
                (Reread::Failed, _) | (_, Reread::Failed) => Reread::Failed,
                (Reread::Replaced, _) | (_, Reread::Replaced) => Reread::Replaced,
                (Reread::Unchanged, Reread::Unchanged) => Reread::Unchanged,
            };
            seen.push(tls);
        }
        all
    }

    /// The files of all certificates.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let speaking = self.running.iter().filter_map(|one| one.tls.load_full());
        speaking.flat_map(|tls| tls.files()).collect()
    }

    /// The addresses that were bound.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.running.iter().map(|running| &running.address)
    }

    /// Who is reached where, for the status.
    pub(super) fn places(&self) -> Vec<admin::Place> {
        let places = self.running.iter().map(|running| admin::Place {
            listener: running.name.clone(),
            address: running.address.to_string(),
            tls: running.tls.load_full(),
        });
        places.collect()
    }

    /// Stops accepting and closes the sockets; connections that were accepted go on.
    pub(super) async fn close(&mut self) {
        self.running.clear();
        self.accepting.shutdown().await;
    }
}

/// Accepts for ever; ends when it is aborted.
async fn accept(listener: Listener, tls: Speech, reception: Reception) -> ! {
    let Reception { gateway, permits } = reception;
    let mut quiet_until = Instant::now();
    loop {
        let socket = listener.accept().await;
        let acquired = permits.acquire();
        let is_refused = !matches!(acquired, Some((_, Admission::Admitted)));
        if is_refused && quiet_until <= Instant::now() {
            quiet_until = Instant::now() + REFUSALS_QUIET;
            tracing::warn!("max_connections or memory is reached: new clients are refused");
        }
        let Some((permit, admission)) = acquired else {
            // Refusing takes a descriptor too, and there is none to spare.
            tracing::debug!("closed a connection beyond the reserve for refusals");
            continue;
        };
        if let (number, Some(shard)) = gateway.next_shard() {
            let seen = Seen {
                socket,
                tls: tls.load_full(),
                permit,
                admission,
                shard: number,
            };
            shard.spawn(serve_connection(Arc::clone(&gateway), seen));
        }
    }
}
