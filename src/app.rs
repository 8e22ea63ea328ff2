//! The process: what is started in which order, and how it ends.
//!
//! Listeners are bound first, because that is what fails; then the channels start, so that their
//! upstreams are on the way before the first client is accepted.
//!
//! **Every Task Has An Owner**: upstreams and connections belong to a shard's runtime and end with it,
//! accept loops to the caller's.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::channel::{Channel, Counters, Departure, Dialer};
use crate::config::{Config, ListenAddress};
use crate::delivery::{Delivery, ShardHandle};
use crate::http::{Gateway, Page, Routes, Seen, serve_connection};
use crate::net::client_tls::{ClientTls, ClientTlsError};
use crate::net::gather::Gather;
use crate::net::listener::Listener;
use crate::net::permit::{Admission, Permits, REFUSALS_AT_ONCE};

/// A gateway that is ready: its upstreams connect and its listeners are bound.
#[derive(Debug)]
pub struct App {
    delivery: Delivery,
    gateway: Arc<Gateway>,
    listeners: Vec<Listener>,
    channels: Vec<Channel>,
    permits: Permits,
}

/// Why a gateway could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address of a listener can't be had.
    #[error(
        "can't listen on {address} (listener `{name}`): {cause}{}",
        advice(cause, address)
    )]
    Listen {
        /// The listener's name.
        name: String,
        /// The address, as it was written.
        address: ListenAddress,
        /// What the kernel says.
        cause: io::Error,
    },
    /// No runtime for the thread that accepts.
    #[error("can't start: {0}")]
    Runtime(io::Error),
    /// A delivery thread broke, with all its subscribers, or an upstream. The log says how.
    #[error("a part of the gateway broke, as the log says; this is a bug, please report it")]
    ShardBroke,
    /// Signals can't be watched.
    #[error("can't watch for signals: {0}")]
    Signals(io::Error),
    /// No threads, no reactor or no poll.
    #[error("can't start the delivery threads: {0}")]
    Threads(#[from] io::Error),
    /// A file of a channel's `upstream_tls` can't be used.
    #[error("the channel `{channel}`: {cause}")]
    UpstreamTls {
        /// The channel's name.
        channel: String,
        /// Which file, and what is wrong with it.
        cause: Box<ClientTlsError>,
    },
    /// Not even the reserve fits into the limit.
    #[error(
        "at most {limit} descriptors are allowed, which {n_channels} channels use up; \
         raise the limit (ulimit -n, or LimitNOFILE= of the systemd unit)"
    )]
    TooFewDescriptors {
        /// The limit on open descriptors.
        limit: u64,
        /// How many channels there are.
        n_channels: usize,
    },
}

/// Descriptors that are never given to subscribers: for listeners, name look-ups, the log, the
/// reserve of refusals.
const RESERVED_DESCRIPTORS: usize = 64 + REFUSALS_AT_ONCE;

/// Descriptors of a shard's reactor.
const SHARD_DESCRIPTORS: usize = 4;

/// Descriptors of a gather: its poll, and the copies that are registered.
const GATHER_DESCRIPTORS: usize = 2;

/// Time between two warnings that clients are refused.
const REFUSALS_QUIET: Duration = Duration::from_secs(10);

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
        let max_connections = max_connections(&config, n_shards)?;
        let mut upstreams = Upstreams::default();
        if let Some(error) = upstream_tls_errors(&config, &upstreams.tls).pop() {
            return Err(error);
        }
        let listeners = bind(&config)?;
        let delivery = Delivery::start(n_shards)?;
        let mut routes = Routes::default();
        let mut channels = Vec::with_capacity(config.channels.len());
        for (number, settings) in config.channels.iter().enumerate() {
            let (channel, upstream) = Channel::new(Arc::clone(settings));
            let home = number % n_shards;
            if let Some(shard) = delivery.shards().get(home) {
                let dialer = upstreams.dialer(shard, home, settings.coalesce)?;
                shard.spawn_vital(async move {
                    upstream.run(dialer).await;
                    Ok(())
                });
            }
            routes.add_channel(channel.clone(), home);
            channels.push(channel);
        }
        for (path, page) in pages {
            routes.add_page(path, *page);
        }
        let gateway = Arc::new(Gateway::new(
            config.server,
            routes,
            Arc::clone(delivery.shards()),
        ));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            threads = n_shards,
            channels = channels.len(),
            max_connections,
            "started"
        );
        for listener in &listeners {
            tracing::info!(address = %listener.address(), "listening");
        }
        Ok(Self {
            delivery,
            gateway,
            listeners,
            channels,
            permits: Permits::new(max_connections),
        })
    }

    /// Accepts until `stop` is ready.
    ///
    /// # Errors
    ///
    /// If a delivery thread broke: whoever supervises the process should start it anew.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let mut accepting = JoinSet::new();
        for listener in self.listeners.drain(..) {
            let (gateway, permits) = (Arc::clone(&self.gateway), self.permits.clone());
            accepting.spawn(accept(listener, gateway, permits));
        }
        let channels = self.channels.clone();
        accepting.spawn(evict(channels));
        let outcome = tokio::select! {
            () = stop => Ok(()),
            () = self.delivery.broken() => Err(RunError::ShardBroke),
        };
        accepting.shutdown().await;
        outcome
    }

    /// Ends every stream at the end of its event. Blocks, for two seconds at most.
    pub fn stop(self) {
        let n_subscribers: usize = self.channels.iter().map(Channel::n_subscribers).sum();
        tracing::info!(subscribers = n_subscribers, "stopping");
        self.delivery.stop();
        let sum = |count: fn(&Counters) -> u64| -> u64 {
            self.channels
                .iter()
                .map(|channel| count(channel.counters()))
                .sum()
        };
        tracing::info!(
            events = sum(|counters| counters.events.value()),
            clients = sum(|counters| counters.arrivals.value()),
            lagged = sum(|counters| counters.departures(Departure::Lagged).value()),
            refused = sum(|counters| counters.refusals.value()),
            gaps = sum(|counters| counters.gaps.value()),
            resets = sum(|counters| counters.resets.value()),
            upstream_failures = sum(|counters| counters.upstream_failed.value()),
            "stopped"
        );
    }

    /// The channels, in the order of the configuration.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// The addresses that were bound.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.listeners.iter().map(Listener::address)
    }
}

/// Runs a gateway until SIGTERM or SIGINT.
///
/// `start` is called inside the runtime whose thread will accept. What it gives besides the gateway
/// is kept until the gateway has stopped.
///
/// # Errors
///
/// What `start` says, and if the system gives no runtime or no signals, or a delivery thread broke.
pub fn run_until_signal<C, E: From<RunError>>(
    start: impl FnOnce() -> Result<(App, C), E>,
) -> Result<(), E> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let (app, companion, outcome) = runtime.block_on(async {
        let stop = stop_signal().map_err(RunError::Signals)?;
        let (mut app, companion) = start()?;
        let outcome = app.run(stop).await;
        Ok::<_, E>((app, companion, outcome))
    })?;
    app.stop();
    drop(companion);
    Ok(outcome?)
}

/// Ready when the process is asked to stop.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// What upstreams share.
#[derive(Default)]
struct Upstreams {
    tls: Arc<ClientTls>,
    /// By shard and window.
    gathers: HashMap<(usize, Duration), Gather>,
}

impl Upstreams {
    /// How a channel of this shard reaches its origin.
    fn dialer(
        &mut self,
        shard: &ShardHandle,
        number: usize,
        coalesce: Duration,
    ) -> io::Result<Dialer> {
        let tls = Arc::clone(&self.tls);
        if coalesce.is_zero() {
            return Ok(Dialer { tls, gather: None });
        }
        let gather = match self.gathers.entry((number, coalesce)) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let (gather, driver) = Gather::new(coalesce)?;
                shard.spawn_vital(driver.run());
                entry.insert(gather).clone()
            }
        };
        Ok(Dialer {
            tls,
            gather: Some(gather),
        })
    }
}

/// Accepts for ever; ends when it is aborted.
async fn accept(listener: Listener, gateway: Arc<Gateway>, permits: Permits) -> ! {
    let mut quiet_until = Instant::now();
    loop {
        let socket = listener.accept().await;
        let acquired = permits.acquire();
        let is_refused = !matches!(acquired, Some((_, Admission::Admitted)));
        if is_refused && quiet_until <= Instant::now() {
            quiet_until = Instant::now() + REFUSALS_QUIET;
            tracing::warn!("max_connections is reached: new clients are refused");
        }
        let Some((permit, admission)) = acquired else {
            // Refusing takes a descriptor too, and there is none to spare.
            tracing::debug!("closed a connection beyond the reserve for refusals");
            continue;
        };
        if let (number, Some(shard)) = gateway.next_shard() {
            let seen = Seen {
                socket,
                permit,
                admission,
                shard: number,
            };
            shard.spawn(serve_connection(Arc::clone(&gateway), seen));
        }
    }
}

/// Lets logs to which nothing is appended forget what is too old.
async fn evict(channels: Vec<Channel>) -> ! {
    let mut ticks = interval(EVICTION_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for channel in &channels {
            channel.log().evict(Instant::now());
        }
    }
}

/// What to do about an address that can't be had.
fn advice(cause: &io::Error, address: &ListenAddress) -> &'static str {
    match (cause.kind(), address) {
        (io::ErrorKind::AddrInUse, _) => {
            "; another process listens there: stop it, or choose another address"
        }
        (io::ErrorKind::AddrNotAvailable, _) => "; this machine does not have that address",
        (io::ErrorKind::PermissionDenied, ListenAddress::Tcp(_)) => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd)"
        }
        (io::ErrorKind::PermissionDenied, ListenAddress::Unix(_)) => {
            "; this user may not create a file there"
        }
        (io::ErrorKind::NotFound, ListenAddress::Unix(_)) => {
            "; create its directory first (RuntimeDirectory= in systemd)"
        }
        _ => "",
    }
}

/// The channels that can't connect over TLS, as far as their files say; of those with the same
/// settings, the first.
pub fn upstream_tls_errors(config: &Config, tls: &ClientTls) -> Vec<RunError> {
    let mut seen = HashSet::new();
    let channels = config.channels.iter();
    let distinct = channels.filter(|channel| seen.insert(&channel.upstream.tls));
    distinct
        .filter_map(|channel| {
            let cause = tls.check(&channel.upstream.tls).err()?;
            Some(RunError::UpstreamTls {
                channel: channel.name.clone(),
                cause: Box::new(cause),
            })
        })
        .collect()
}

fn bind(config: &Config) -> Result<Vec<Listener>, RunError> {
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        for address in &listener.addresses {
            let bound = Listener::bind(address).map_err(|cause| RunError::Listen {
                name: listener.name.clone(),
                address: address.clone(),
                cause,
            })?;
            listeners.push(bound);
        }
    }
    Ok(listeners)
}

/// The limit on downstream connections. The process's limit on descriptors is raised as far as it
/// may be.
fn max_connections(config: &Config, n_shards: usize) -> Result<usize, RunError> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    let n_channels = config.channels.len();
    let windows: HashSet<Duration> = config
        .channels
        .iter()
        .map(|one| one.coalesce)
        .filter(|window| !window.is_zero())
        .collect();
    let per_shard = SHARD_DESCRIPTORS + windows.len() * GATHER_DESCRIPTORS;
    let reserved = RESERVED_DESCRIPTORS + n_shards * per_shard + n_channels;
    let affordable = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_sub(reserved);
    if affordable == 0 {
        return Err(RunError::TooFewDescriptors { limit, n_channels });
    }
    let wanted = config.server.max_connections.unwrap_or(affordable);
    if wanted > affordable {
        tracing::warn!(
            wanted,
            affordable,
            limit,
            "max_connections is more than the limit on descriptors allows"
        );
    }
    Ok(wanted.min(affordable))
}

fn default_threads() -> usize {
    available_parallelism().map_or(1, std::num::NonZero::get)
}
