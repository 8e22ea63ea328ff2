//! The process: what is started in which order, what changes while it runs, and how it ends.
//!
//! Listeners are bound first, because that is what fails; then the channels start, so that their
//! upstreams are on the way before the first client is accepted.
//!
//! **Every Task Has An Owner**: upstreams and connections belong to a shard's runtime and end with it,
//! or before by [`channels`]; accept loops belong to [`listeners`].

mod admin;
mod channels;
mod drain;
mod error;
mod launcher;
mod limits;
mod listeners;
mod proxies;
mod reception;
mod reload;
mod service;
mod signals;
mod succession;
mod triggers;

use std::collections::HashSet;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::admin::AdminListeners;
use self::channels::Channels;
pub use self::error::RunError;
pub use self::limits::affordable_connections;
use self::listeners::{Bound, Listeners};
use self::proxies::Proxies;
use self::reception::Reception;
use self::reload::Reload;
pub use self::reload::tell;
use self::signals::Signals;
pub use self::signals::run_until_signal;
use self::triggers::Triggers;
use crate::admin::Facts;
use crate::channel::{Channel, Counters, Departure};
use crate::config::{Config, ListenAddress, Loaded, Sources};
use crate::delivery::{Delivery, keep_within};
use crate::http::{Current, Gateway, Page, Routes};
use crate::memory::Budget;
use crate::net::client_tls::ClientTls;
use crate::net::descriptors::Descriptors;
use crate::net::permit::Permits;
use crate::proxy;
use crate::state::{Inheritance, StateDirectory};
use crate::systemd;

/// A gateway that is ready: its upstreams connect and its listeners are bound.
#[derive(Debug)]
pub struct App {
    delivery: Delivery,
    gateway: Arc<Gateway>,
    /// What the process does at present: what was applied last.
    config: Config,
    /// The file that says it, and what makes us look at it again; `None`: there is none.
    source: Option<Source>,
    /// All that it was read from when it was right last.
    sources: Sources,
    /// What it leads to besides, if it was wrong last: it may be put right there.
    rejected: Sources,
    pages: Vec<(&'static str, Page)>,
    channels: Channels,
    proxies: Proxies,
    /// Owns the goodbyes of removed channels.
    retiring: JoinSet<()>,
    tls: Arc<ClientTls>,
    reception: Reception,
    listeners: Listeners,
    /// Where the state is left to the next process.
    state: Option<StateDirectory>,
    /// Somebody does not want to wait for goodbyes.
    is_hurried: bool,
    /// Answers as long as there is something to tell, also while the process stops.
    admin: AdminListeners,
    facts: Arc<Facts>,
}

/// Where the configuration comes from.
#[derive(Debug)]
struct Source {
    file: PathBuf,
    triggers: Triggers,
}

/// How often logs to which nothing is appended forget what is too old.
const EVICTION_INTERVAL: Duration = Duration::from_secs(10);

impl App {
    /// Starts the threads, the upstreams and the listeners. Must be called inside a runtime, whose
    /// thread will accept.
    ///
    /// # Errors
    ///
    /// If the system gives no threads, descriptors or addresses; nothing is left behind then.
    pub fn start(config: Config, pages: &[(&'static str, Page)]) -> Result<Self, RunError> {
        let n_shards = config.server.threads.unwrap_or_else(default_threads);
        let capacity = limits::capacity(&config)?;
        let descriptors = Descriptors::new(capacity.descriptors);
        let tls = Arc::<ClientTls>::default();
        if let Some(error) = upstream_tls_errors(&config, &tls).pop() {
            return Err(error);
        }
        let bound = Bound::all(&config.listeners)?;
        let mut admin = AdminListeners::default();
        let bound_admin = admin.prepare(&config.admin.addresses)?;
        service::warn_of_unused_sockets(&config);
        let delivery = Delivery::start(n_shards)?;
        let memory = Budget::new(config.server.memory);
        let request_bytes = config.server.max_header_bytes;
        let shards = delivery.shards();
        let mut channels = Channels::new(Arc::clone(shards), &tls, (memory.clone(), &descriptors));
        let state = succession::state_directory(&config.server.state);
        channels.set_inheritance(state.as_ref().map(StateDirectory::take).unwrap_or_default());
        for settings in &config.channels {
            channels.begin(settings);
        }
        // A channel that comes later is another, whatever its name.
        channels.set_inheritance(Inheritance::default());
        let dialer = proxy::Dialer {
            tls: Arc::clone(&tls),
            descriptors: descriptors.clone(),
        };
        let mut proxies = Proxies::new(dialer, n_shards);
        for settings in &config.proxies {
            proxies.begin(settings);
        }
        let current = Current {
            server: config.server.clone(),
            routes: routes((&channels, &proxies), pages),
        };
        let gateway = Arc::new(Gateway::new(current, Arc::clone(shards), memory.clone()));
        let places = (capacity.connections, &descriptors);
        let permits = Permits::within(places, &memory, request_bytes);
        let reception = Reception::new(Arc::clone(&gateway), permits);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            threads = n_shards,
            channels = config.channels.len(),
            proxies = config.proxies.len(),
            max_connections = capacity.connections,
            "started"
        );
        let mut listeners = Listeners::default();
        listeners.begin(reception.clone());
        for bound in bound {
            listeners.serve(bound, reception.clone());
        }
        let facts = Facts::new(Arc::clone(&gateway), reception.permits.clone(), memory);
        let facts = Arc::new(facts);
        facts.set_places(listeners.places());
        admin.apply(&config.admin.addresses, bound_admin, &facts);
        Ok(Self {
            gateway,
            delivery,
            config,
            source: None,
            sources: Sources::default(),
            rejected: Sources::default(),
            pages: pages.to_vec(),
            channels,
            proxies,
            retiring: JoinSet::new(),
            tls,
            reception,
            listeners,
            state,
            is_hurried: false,
            admin,
            facts,
        })
    }

    /// Starts with a configuration that was loaded from this file, and follows the file: looks at it
    /// again on SIGHUP, and when it or one of those that it depends on has changed.
    ///
    /// # Errors
    ///
    /// As [`App::start`], and if signals can't be watched.
    pub fn start_from_file(file: &Path, loaded: Loaded) -> Result<Self, RunError> {
        // First, so that nobody who sees us listen can end us by SIGHUP.
        let source = Source {
            file: file.to_owned(),
            triggers: Triggers::new().map_err(RunError::Signals)?,
        };
        let mut app = Self::start(loaded.config, &[])?;
        app.sources = loaded.sources;
        app.source = Some(source);
        app.watch_files();
        Ok(app)
    }

    /// Watches the files that matter at present.
    fn watch_files(&mut self) {
        let Some(source) = &mut self.source else {
            return;
        };
        let mut files = self.sources.files.clone();
        files.extend(self.listeners.files());
        files.extend_from_slice(&self.rejected.files);
        let directories = [&self.sources, &self.rejected].map(|one| &one.directories[..]);
        source.triggers.watch(&files, &directories.concat());
    }

    /// Does what the file says, each time that somebody should look, until the first signal.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), RunError> {
        let mut source = self.source.take();
        loop {
            let reason = async {
                match &mut source {
                    Some(source) => source.triggers.next().await,
                    None => pending().await,
                }
            };
            let trigger = tokio::select! {
                () = signals.stop() => return Ok(()),
                broken = self.go_on() => return Err(broken),
                trigger = reason => trigger,
            };
            if let Some(known) = source.take() {
                let reload = Reload::begin(trigger);
                // A disk that hangs keeps nothing from going on, and nobody from stopping.
                let loaded = tokio::select! {
                    () = signals.stop() => return Ok(()),
                    broken = self.go_on() => return Err(broken),
                    loaded = reload.load(&known.file) => loaded,
                };
                self.reload(loaded, &reload).await;
                self.source = Some(known);
                self.watch_files();
                source = self.source.take();
            }
        }
    }

    /// Serves until the first signal, and then says goodbye to the subscribers, one after another.
    /// After a second signal it does not wait for that.
    ///
    /// # Errors
    ///
    /// If a delivery thread broke: whoever supervises the process should start it anew.
    async fn run(&mut self, signals: &mut Signals) -> Result<(), RunError> {
        self.facts.begin_running();
        systemd::ready(&service::status(&self.gateway, &self.facts));
        self.serve(signals).await?;
        let asked_at = Instant::now();
        self.facts.begin_stopping();
        systemd::stopping(&service::status(&self.gateway, &self.facts));
        self.listeners.close().await;
        self.reception.close();
        let mut retiring = std::mem::take(&mut self.retiring);
        tokio::select! {
            () = self.drain(&mut retiring) => {}
            broken = self.go_on() => return Err(broken),
            () = signals.stop_again(asked_at) => {
                tracing::warn!("asked to stop a second time: not waiting for goodbyes");
                self.is_hurried = true;
            }
        }
        Ok(())
    }

    /// What goes on for as long as there are subscribers; ends only when a part of it breaks.
    async fn go_on(&self) -> RunError {
        let gateway = &self.gateway;
        let within_memory = keep_within(&gateway.memory, &gateway.shards, || {
            let current = gateway.current();
            let sources = current.routes.sources().into_iter();
            sources.flat_map(|source| source.all()).collect()
        });
        tokio::select! {
            () = self.delivery.broken() => RunError::ShardBroke,
            never = evict(&self.channels) => never,
            never = service::inform(gateway, &self.facts) => never,
            never = within_memory => never,
        }
    }

    /// Ends every stream that is left at the end of its event, and then the threads. Blocks, for two
    /// seconds at most; not at all after a second signal. Leaves the state, last of all.
    fn stop(self, outcome: &Result<(), RunError>) {
        if !self.is_hurried {
            self.delivery.stop();
        }
        // What is left by a process that is broken may break the next one.
        if let (Some(directory), Ok(())) = (&self.state, outcome) {
            succession::leave(directory, &self.channels);
        }
        let sum = |count: fn(&Counters) -> u64| -> u64 {
            let sources = self.channels.sources();
            sources.map(|one| count(one.kind().counters())).sum()
        };
        tracing::info!(
            events = sum(|counters| counters.events.value()),
            clients = sum(|counters| counters.arrivals.value()),
            lagged = sum(|counters| counters.departures(Departure::Lagged).value()),
            refused = sum(|counters| counters.n_refusals()),
            gaps = sum(|counters| counters.gaps.value()),
            resets = sum(|counters| counters.resets.value()),
            upstream_failures = sum(|counters| counters.failures.sum()),
            "stopped"
        );
    }

    /// The channels, ordered by name; of those on demand, the instances that there are.
    pub fn channels(&self) -> Vec<Channel> {
        self.channels.all()
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.listeners.addresses()
    }
}

/// Where requests lead.
fn routes((channels, proxies): (&Channels, &Proxies), pages: &[(&'static str, Page)]) -> Routes {
    let mut routes = channels.routes(pages);
    routes.add_proxies(&proxies.all());
    routes
}

/// Lets logs to which nothing is appended forget what is too old.
async fn evict(channels: &Channels) -> ! {
    let mut ticks = interval(EVICTION_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        channels.evict(Instant::now());
    }
}

/// The channels and proxies that can't connect over TLS, as far as their files say; of those with the
/// same settings, the first.
pub fn upstream_tls_errors(config: &Config, tls: &ClientTls) -> Vec<RunError> {
    let mut seen = HashSet::new();
    let channels = config.channels.iter();
    let channels = channels.map(|one| ("channel", &one.name, &one.upstream.tls));
    let proxies = config.proxies.iter();
    let proxies = proxies.map(|one| ("proxy", &one.name, &one.tls));
    let distinct = (channels.chain(proxies)).filter(|(_, _, tls)| seen.insert(*tls));
    distinct
        .filter_map(|(what, name, settings)| {
            let cause = tls.check(settings).err()?;
            Some(RunError::UpstreamTls {
                whose: format!("{what} `{name}`"),
                cause: Box::new(cause),
            })
        })
        .collect()
}

fn default_threads() -> usize {
    available_parallelism().map_or(1, std::num::NonZero::get)
}
