//! The listeners that are bound, and the loops that accept from them.
//!
//! Binding comes first and can fail; [`Listeners::serve`] can't. So a set of listeners is bound as a
//! whole before the first of them accepts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::{AbortHandle, JoinSet};

use super::RunError;
use super::reception::Reception;
use crate::admin;
use crate::config::diff::{Change, Place, PlaceKey, places};
use crate::config::{self, ListenAddress, ProxyProtocol};
use crate::net::listener::Listener;
use crate::net::tls::{Reread, ServerTls};

/// The listeners that accept. Dropping it closes all of them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    running: Vec<Running>,
    /// Owns the accept loops, and what they hold: the listening sockets; and who lets those in that
    /// wait.
    accepting: JoinSet<()>,
    /// Each address has a lane of its own.
    n_lanes: usize,
}

/// A listening socket that nobody accepts from yet.
#[derive(Debug)]
pub(super) struct Bound {
    listener: Listener,
    name: String,
    /// What tells it from the others.
    key: PlaceKey,
    speech: Speech,
}

/// What is new for a reload, and what is gone. Dropping it changes nothing.
#[derive(Debug)]
pub(super) struct Prepared {
    bound: Vec<Bound>,
    /// Addresses whose listener has another name, or speaks otherwise.
    changed: Vec<(PlaceKey, String, Speech)>,
    removed: Vec<PlaceKey>,
}

/// How connections of an address speak; a reload replaces it while the socket stays.
#[derive(Debug)]
pub(super) struct Speech {
    /// Of all addresses of the listener; `None`: in the clear.
    pub(super) tls: Option<Arc<ServerTls>>,
    /// Whether the PROXY protocol comes first.
    pub(super) proxy_protocol: ProxyProtocol,
}

/// One address of one listener that accepts.
#[derive(Debug)]
struct Running {
    name: String,
    /// What tells it from the others.
    key: PlaceKey,
    /// With the port that the kernel chose.
    address: ListenAddress,
    speech: Arc<ArcSwap<Speech>>,
    task: AbortHandle,
}

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

    fn bind(place: &Place, speech: Speech) -> Result<Self, RunError> {
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
            speech,
        })
    }
}

/// How listeners speak TLS: the addresses of one share it.
#[derive(Debug, Default)]
struct Speeches {
    by_name: BTreeMap<String, Arc<ServerTls>>,
}

impl Speeches {
    fn of(&mut self, listener: &config::Listener) -> Result<Speech, RunError> {
        Ok(Speech {
            tls: self.tls_of(listener)?,
            proxy_protocol: listener.proxy_protocol,
        })
    }

    fn tls_of(&mut self, listener: &config::Listener) -> Result<Option<Arc<ServerTls>>, RunError> {
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
    /// Lets those in who wait for their turn, wherever they came.
    pub(super) fn begin(&mut self, reception: Reception) {
        self.accepting.spawn(async { reception.let_in().await });
    }

    /// Accepts from now on.
    pub(super) fn serve(&mut self, bound: Bound, reception: Reception) {
        let address = bound.listener.address().clone();
        let Bound {
            listener,
            name,
            key,
            speech,
        } = bound;
        let scheme = if speech.tls.is_some() {
            "https"
        } else {
            "http"
        };
        tracing::info!(%address, listener = name, scheme, "listening");
        let speech = Arc::new(ArcSwap::from_pointee(speech));
        let spoken = Arc::clone(&speech);
        let lane = self.n_lanes;
        self.n_lanes += 1;
        let task = self
            .accepting
            .spawn(async move { accept(listener, spoken, lane, reception).await });
        self.running.push(Running {
            name,
            key,
            address,
            speech,
            task,
        });
    }

    /// Binds what is new and loads what speaks otherwise.
    ///
    /// # Errors
    ///
    /// The first that can't be had; nothing has changed then.
    pub(super) fn prepare(&self, changes: &[Change<Place>]) -> Result<Prepared, RunError> {
        let known = self
            .running
            .iter()
            .filter_map(|running| Some((running.name.clone(), running.tls()?)));
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
                    let speech = speeches.of(&place.listener)?;
                    prepared.bound.push(Bound::bind(place, speech)?);
                }
                Change::Changed { new, .. } => {
                    let speech = speeches.of(&new.listener)?;
                    let change = (new.key.clone(), new.listener.name.clone(), speech);
                    prepared.changed.push(change);
                }
                Change::Removed(old) => prepared.removed.push(old.key.clone()),
            }
        }
        Ok(prepared)
    }

    /// Accepts where it was prepared, and nowhere else. Connections that were accepted go on.
    pub(super) async fn apply(&mut self, prepared: Prepared, reception: &Reception) {
        for (key, name, speech) in prepared.changed {
            if let Some(running) = self.running.iter_mut().find(|one| one.key == key) {
                running.name = name;
                running.speech.store(Arc::new(speech));
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
        for tls in meant.filter_map(Running::tls) {
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
        let speaking = self.running.iter().filter_map(Running::tls);
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
            tls: running.tls(),
        });
        places.collect()
    }

    /// Stops accepting and closes the sockets; connections that were accepted go on.
    pub(super) async fn close(&mut self) {
        self.running.clear();
        self.accepting.shutdown().await;
    }
}

impl Running {
    fn tls(&self) -> Option<Arc<ServerTls>> {
        self.speech.load().tls.clone()
    }
}

/// Accepts for ever; ends when it is aborted.
async fn accept(listener: Listener, speech: Arc<ArcSwap<Speech>>, lane: usize, to: Reception) -> ! {
    loop {
        let accepted = listener.accept().await;
        to.receive(lane, accepted, &speech.load());
    }
}
