//! A reload: from a file that may have changed to a gateway that does what it says.
//!
//! **Build, Swap, Stop.** What can fail comes first and changes nothing: the file is read and
//! validated, new addresses are bound, certificates loaded. Then one pointer is swapped, and requests
//! are answered by the new routes. Only then is stopped what is gone. What a change touches is told in
//! `docs/reload.md`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::admin::BoundAdmin;
use super::channels::Retired;
use super::limits::Capacity;
use super::listeners::Prepared;
use super::proxies::end_tunnels;
use super::triggers::Trigger;
use super::{App, RunError, limits, routes, service, upstream_tls_errors};
use crate::admin::ReloadOutcome;
use crate::channel::{Channel, Departure};
use crate::config::diff::{Change, Diff, ProxyChange, UpstreamChange};
use crate::config::{
    self, Config, Diagnostics, ListenTls, Loaded, SelectEvents, Severity, Sources,
};
use crate::delivery::{ShardHandle, spread_goodbyes};
use crate::http::Current;
use crate::net::tls::Reread;
use crate::proxy::Proxy;
use crate::proxy::tunnel::Farewell;
use crate::systemd;

/// A reload that is under way.
#[derive(Debug)]
pub(super) struct Reload {
    trigger: Trigger,
    begin: Instant,
}

/// What became of a reload.
#[derive(Debug)]
enum Outcome {
    /// Everything is as the file says.
    Applied,
    /// These keys wait for a restart; the rest is as the file says.
    NeedsRestart(Vec<&'static str>),
    /// Nothing has changed but the log, which says why.
    Rejected(String),
    /// There was nothing to do.
    Unchanged,
}

/// All that a new configuration needs and that may not be had.
struct Built {
    capacity: Capacity,
    listeners: Prepared,
    admin: Vec<BoundAdmin>,
}

/// An editor takes a file away for a moment before the new one is there.
const ABSENCE: Duration = Duration::from_millis(100);
const MOST_ABSENCES: u32 = 10;

/// How long after the last goodbye of a removed channel its upstream is given up in any case.
const GRACE: Duration = Duration::from_secs(2);

impl Reload {
    /// Begins one, and tells systemd if somebody has asked for it.
    pub(super) fn begin(trigger: Trigger) -> Self {
        if trigger == Trigger::Signal {
            systemd::reloading();
        }
        Self {
            trigger,
            begin: Instant::now(),
        }
    }

    /// Reads the file, on a thread that may wait for a disk. If it is wrong, says what it leads to.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time: it only reads.
    pub(super) async fn load(&self, file: &Path) -> Result<Loaded, (Diagnostics, Sources)> {
        for _ in 0..MOST_ABSENCES {
            if self.trigger == Trigger::Signal || file.exists() {
                break;
            }
            sleep(ABSENCE).await;
        }
        let path = file.to_owned();
        let load = move || Config::load(&path).map_err(|wrong| (wrong, Sources::of(&path)));
        let loaded = tokio::task::spawn_blocking(load).await;
        // It was not cancelled, so it has panicked: the log says where.
        loaded.unwrap_or_else(|_panic| {
            let message = "reading the file broke; this is a bug, please report it";
            let advice = "the log says where; the file may be fine";
            let diagnostics = Diagnostics::unreadable(file, message, advice);
            Err((diagnostics, Sources::default()))
        })
    }
}

impl App {
    /// Does what the file says now, if it can be done.
    pub(super) async fn reload(
        &mut self,
        loaded: Result<Loaded, (Diagnostics, Sources)>,
        reload: &Reload,
    ) {
        let &Reload { trigger, begin } = reload;
        let was_rejected = self.rejection().is_some();
        let outcome = match loaded {
            Ok(loaded) => self.follow(loaded, trigger).await,
            Err((diagnostics, sources)) => {
                self.use_renewed_certificates();
                self.rejected = sources;
                let summary = summary(&diagnostics);
                if !self.is_told(trigger, &summary) {
                    tell(&diagnostics);
                }
                Outcome::Rejected(summary)
            }
        };
        let is_news = match &outcome {
            Outcome::Applied | Outcome::NeedsRestart(_) => true,
            Outcome::Rejected(message) => !self.is_told(trigger, message),
            // That a mistake was taken back is news.
            Outcome::Unchanged => trigger == Trigger::Signal || was_rejected,
        };
        self.conclude(&outcome, (is_news, begin.elapsed()));
        if is_news {
            systemd::ready(&service::status(&self.gateway, &self.facts));
        }
    }

    /// Builds what is new, swaps, and stops what is gone.
    async fn follow(&mut self, loaded: Loaded, trigger: Trigger) -> Outcome {
        self.sources = loaded.sources;
        self.rejected = Sources::default();
        let mut config = loaded.config;
        let diff = Diff::between(&self.config, &config);
        // Its addresses may have changed.
        let is_kept = |name: &str| tls_of(name, &self.config) == tls_of(name, &config);
        let certificates = self.listeners.reread(is_kept);
        if diff.is_empty() {
            return match certificates {
                Reread::Failed => Outcome::Rejected("a certificate can't be used".to_owned()),
                Reread::Replaced => Outcome::Applied,
                Reread::Unchanged => Outcome::Unchanged,
            };
        }
        tell(&loaded.warnings);
        let built = match self.build(&config, &diff) {
            Ok(built) => built,
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let message = errors.join("; ");
                if !self.is_told(trigger, &message) {
                    for error in &errors {
                        tracing::error!("{error}");
                    }
                }
                self.use_renewed_certificates();
                self.rejected.files = config.tls_files();
                return Outcome::Rejected(message);
            }
        };
        if trigger == Trigger::Files {
            // From here on it is news, of which the end is told, too.
            systemd::reloading();
        }
        log_diff(&diff);
        // What waits for a restart stays as it is, and differs from the file at the next reload too.
        config.server.threads = self.config.server.threads;
        config.server.state = self.config.server.state.clone();
        self.apply(config, &diff, built).await;
        if diff.restart.is_empty() {
            Outcome::Applied
        } else {
            Outcome::NeedsRestart(diff.restart)
        }
    }

    /// What was wrong at the last reload, if it was rejected.
    fn rejection(&self) -> Option<String> {
        let last = self.facts.reloads().last()?;
        (last.outcome == ReloadOutcome::Rejected).then_some(last.message)
    }

    /// Whether this was wrong the last time, too, and nobody asks: something happened beside the file.
    fn is_told(&self, trigger: Trigger, message: &str) -> bool {
        trigger == Trigger::Files && self.rejection().as_deref() == Some(message)
    }

    /// A renewed certificate need not wait for a file that is put right.
    fn use_renewed_certificates(&self) {
        if self.listeners.reread(|_| true) == Reread::Replaced {
            tracing::info!("renewed certificates are used all the same");
        }
    }

    /// Gets all that may not be had. What is bound is given up again if there are errors.
    fn build(&self, config: &Config, diff: &Diff) -> Result<Built, Vec<RunError>> {
        let errors = upstream_tls_errors(config, &self.tls);
        if !errors.is_empty() {
            return Err(errors);
        }
        let alone = |error: RunError| {
            let ours = self.listeners.addresses().chain(self.admin.addresses());
            vec![error.explained(ours)]
        };
        Ok(Built {
            capacity: limits::capacity(config).map_err(alone)?,
            listeners: self.listeners.prepare(&diff.places).map_err(alone)?,
            admin: self.admin.prepare(&config.admin.addresses).map_err(alone)?,
        })
    }

    /// Swaps and stops. Nothing in here can fail.
    async fn apply(&mut self, config: Config, diff: &Diff, built: Built) {
        let now = Instant::now();
        let (mut reconfigured, mut retired) = (Vec::new(), Vec::new());
        // Whose views are not what may be asked for any more.
        let mut outdated = Vec::new();
        for change in &diff.channels {
            match change {
                Change::Added(settings) => self.channels.begin(settings),
                Change::Changed { old, new } if new.replaces(old) => {
                    retired.extend(self.channels.remove(&old.name));
                    self.channels.begin(new);
                }
                Change::Changed { old, new } => {
                    reconfigured.extend(self.channels.reconfigure(new, now));
                    let is_other = new.bundle != old.bundle;
                    if is_other
                        || (new.select_events == SelectEvents::Ignore
                            && old.select_events == SelectEvents::Allow)
                    {
                        outdated.push(&new.name);
                    }
                }
                Change::Removed(old) => retired.extend(self.channels.remove(&old.name)),
            }
        }
        let left_proxies = self.follow_proxies(&diff.proxies, config.server.drain);
        let server = &config.server;
        self.gateway.memory.set_limit(server.memory);
        let Capacity {
            connections,
            descriptors,
        } = built.capacity;
        self.reception.permits.set_max(connections, descriptors);
        self.reception
            .permits
            .set_request_bytes(server.max_header_bytes);
        self.gateway.replace(Current {
            server: server.clone(),
            routes: routes((&self.channels, &self.proxies), &self.pages),
        });
        // Nobody is led to them any more; what is under way goes on.
        for proxy in left_proxies {
            proxy.retire();
        }
        self.delivery.reconfigure(&reconfigured);
        // Before anybody is told, and before instances and views are counted: there are no more, then.
        for one in &retired {
            one.source.close(now + server.drain);
        }
        let gone: Vec<Channel> = retired
            .iter()
            .flat_map(|one| one.source.channels())
            .collect();
        let outdated = outdated.into_iter();
        let mut dismissed: Vec<Channel> = outdated
            .flat_map(|name| self.channels.give_up_views(name))
            .collect();
        dismissed.extend(self.channels.views_of(&gone));
        self.retire(retired, now + server.drain);
        self.dismiss(dismissed, now + server.drain);
        self.listeners.apply(built.listeners, &self.reception).await;
        self.facts.set_places(self.listeners.places());
        self.admin
            .apply(&config.admin.addresses, built.admin, &self.facts);
        self.config = config;
    }

    /// Begins what is new of the proxies; returns those that are left behind.
    /// Tunnels of those that are removed end within `drain`, one after another.
    fn follow_proxies(
        &mut self,
        changes: &[Change<Arc<config::Proxy>>],
        drain: Duration,
    ) -> Vec<Arc<Proxy>> {
        let (mut left, mut removed) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Added(settings) => self.proxies.begin(settings),
                Change::Changed { new, .. } => left.extend(self.proxies.reconfigure(new)),
                Change::Removed(old) => removed.extend(self.proxies.remove(&old.name)),
            }
        }
        if !removed.is_empty() {
            let deadline = Instant::now() + drain;
            let ending = end_tunnels(removed.clone(), Farewell::Removed, deadline);
            self.retiring.spawn(ending);
        }
        left.extend(removed);
        left
    }

    /// Lets the subscribers of removed channels leave one after another, and then their upstreams end.
    fn retire(&mut self, retired: Vec<Retired>, deadline: Instant) {
        // Those that have ended need no owner any more.
        while self.retiring.try_join_next().is_some() {}
        if retired.is_empty() {
            return;
        }
        let shards = Arc::clone(self.delivery.shards());
        self.retiring.spawn(say_goodbye(shards, retired, deadline));
    }

    /// Lets the subscribers of these views leave one after another.
    fn dismiss(&mut self, views: Vec<Channel>, deadline: Instant) {
        if views.is_empty() {
            return;
        }
        let shards = Arc::clone(self.delivery.shards());
        self.retiring.spawn(async move {
            let goodbyes = spread_goodbyes(&shards, &views, Departure::Removed, deadline);
            if timeout_at(deadline + GRACE, goodbyes).await.is_err() {
                tracing::warn!("some subscribers were still there when all should have left");
            }
        });
    }

    /// Tells what has come of it, if it is news.
    fn conclude(&self, outcome: &Outcome, (is_news, took): (bool, Duration)) {
        let reload_seconds = took.as_secs_f64();
        if !is_news {
            tracing::debug!(reload_seconds, "reload: nothing has changed");
            return;
        }
        let (noted, message) = match outcome {
            Outcome::Applied => {
                tracing::info!(reload_seconds, "reload applied");
                (ReloadOutcome::Applied, String::new())
            }
            Outcome::NeedsRestart(keys) => {
                let keys = keys.join(", ");
                tracing::warn!(
                    keys,
                    reload_seconds,
                    "reload applied, but these keys wait for a restart"
                );
                (ReloadOutcome::NeedsRestart, keys)
            }
            Outcome::Rejected(message) => {
                tracing::error!(
                    reload_seconds,
                    "reload rejected: everything goes on as it was"
                );
                (ReloadOutcome::Rejected, message.clone())
            }
            Outcome::Unchanged => {
                tracing::info!(reload_seconds, "reload: nothing has changed");
                (ReloadOutcome::Unchanged, String::new())
            }
        };
        self.facts.reloads().note(noted, message);
    }
}

/// How a listener speaks TLS; `None`: there is none of this name, or it speaks in the clear.
fn tls_of<'a>(name: &str, config: &'a Config) -> Option<&'a ListenTls> {
    let listener = config.listeners.iter().find(|one| one.name == name)?;
    listener.tls.as_ref()
}

async fn say_goodbye(shards: Arc<[ShardHandle]>, retired: Vec<Retired>, deadline: Instant) {
    let channels: Vec<Channel> = retired.iter().flat_map(|one| one.source.all()).collect();
    let goodbyes = spread_goodbyes(&shards, &channels, Departure::Removed, deadline);
    if timeout_at(deadline + GRACE, goodbyes).await.is_err() {
        tracing::warn!(
            "some subscribers of removed channels were still there when all should have left"
        );
    }
    for one in &retired {
        one.end();
        let channel = one.source.kind().name();
        tracing::info!(channel, "a removed channel has ended");
    }
}

/// Says in the log what is wrong with a configuration, or may be.
pub fn tell(diagnostics: &Diagnostics) {
    for one in diagnostics {
        let (file, line, column, advice) = (one.file(), one.line(), one.column(), one.advice());
        let message = one.message();
        match one.severity() {
            Severity::Error => {
                tracing::error!(file, line, column, advice, "{message}");
            }
            Severity::Warning => {
                tracing::warn!(file, line, column, advice, "{message}");
            }
        }
    }
}

/// What is wrong, in one line.
fn summary(diagnostics: &Diagnostics) -> String {
    let errors = diagnostics
        .iter()
        .filter(|one| one.severity() == Severity::Error);
    let errors = errors.map(|one| match (one.file(), one.line()) {
        (Some(file), Some(line)) => format!("{file}:{line}: {}", one.message()),
        (Some(file), None) => format!("{file}: {}", one.message()),
        (None, _) => one.message().to_owned(),
    });
    errors.collect::<Vec<_>>().join("; ")
}

/// What changes, channel by channel, and proxy by proxy.
fn log_diff(diff: &Diff) {
    for change in &diff.channels {
        match change {
            Change::Added(new) => tracing::info!(channel = new.name, "channel added"),
            Change::Removed(old) => tracing::info!(channel = old.name, "channel removed"),
            Change::Changed { old, new } if new.replaces(old) => {
                tracing::info!(channel = new.name, "channel replaced");
            }
            Change::Changed { old, new } => {
                let touched = new.touches(old);
                let upstream = match touched.upstream {
                    UpstreamChange::None => "untouched",
                    UpstreamChange::Follow => "follows",
                    UpstreamChange::Reconnect => "reconnects",
                    UpstreamChange::OtherSource => "another source",
                };
                tracing::info!(
                    channel = new.name,
                    routing = touched.routing,
                    delivery = touched.delivery,
                    upstream,
                    "channel changed"
                );
            }
        }
    }
    for change in &diff.proxies {
        match change {
            Change::Added(new) => tracing::info!(proxy = new.name, "proxy added"),
            Change::Removed(old) => tracing::info!(proxy = old.name, "proxy removed"),
            Change::Changed { old, new } => {
                let connections = match new.touches(old) {
                    ProxyChange::None | ProxyChange::Settings => "kept",
                    ProxyChange::Connections => "made anew",
                };
                tracing::info!(proxy = new.name, connections, "proxy changed");
            }
        }
    }
    if !diff.live.is_empty() {
        tracing::info!(keys = diff.live.join(", "), "keys of the process changed");
    }
}
