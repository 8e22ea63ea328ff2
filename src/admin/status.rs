//! `/status`: the process, its channels and its proxies, as JSON.
//!
//! The fields are a promise to those who read them by machine: they are documented in
//! `docs/admin.md`, may get company, and keep their names and meanings. No credential is in them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use humantime::format_rfc3339_millis;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::answer::Told;
use super::facts::{Facts, Place};
use super::process::Look;
use super::{health, panics};
use crate::channel::{self, Channel, Source, Views};
use crate::config;
use crate::delivery::Survey;
use crate::proxy::Proxy;

#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    phase: &'static str,
    ready: bool,
    /// Why not.
    missing: Vec<String>,
    started_at: String,
    pid: u32,
    shards: usize,
    panics: u64,
    connections: Connections,
    descriptors: Descriptors,
    memory: Memory,
    /// `None`: there was none since the start.
    last_reload: Option<ReloadStatus>,
    listeners: Vec<ListenerStatus>,
    certificates: Vec<CertificateStatus>,
    channels: Vec<ChannelStatus>,
    proxies: Vec<ProxyStatus>,
}

#[derive(Debug, Serialize)]
struct Connections {
    open: usize,
    max: usize,
    refused: u64,
    waiting: usize,
}

#[derive(Debug, Serialize)]
struct Descriptors {
    open: Option<u64>,
    max: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Memory {
    counted_bytes: usize,
    max_bytes: usize,
    resident_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ReloadStatus {
    outcome: &'static str,
    at: String,
    message: String,
}

#[derive(Debug, Serialize)]
struct ListenerStatus {
    name: String,
    address: String,
    tls: bool,
}

#[derive(Debug, Serialize)]
struct CertificateStatus {
    listener: String,
    certificate: String,
    not_before: String,
    not_after: String,
}

#[derive(Debug, Serialize)]
struct ChannelStatus {
    name: String,
    path: String,
    hosts: Vec<String>,
    clients: usize,
    clients_behind: usize,
    lag_bytes: u64,
    events: u64,
    last_event_at: Option<String>,
    /// `None`: it is not on demand.
    instances: Option<InstancesStatus>,
    /// Sets of event types, or of channels, that somebody reads right now.
    views: usize,
    /// What they keep for replay.
    view_log_bytes: usize,
    /// `None`: it is a bundle, which has neither log nor upstream.
    log: Option<LogStatus>,
    upstream: Option<UpstreamStatus>,
}

#[derive(Debug, Serialize)]
struct ProxyStatus {
    name: String,
    path: String,
    hosts: Vec<String>,
    /// In their order.
    upstreams: Vec<String>,
    /// Under way right now.
    requests: usize,
    max_requests: usize,
    /// Open right now.
    tunnels: usize,
    max_tunnels: usize,
    answers: u64,
    failures: u64,
    failovers: u64,
}

#[derive(Debug, Serialize)]
struct InstancesStatus {
    now: usize,
    max: usize,
    made: u64,
}

#[derive(Debug, Serialize)]
struct LogStatus {
    events: usize,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct UpstreamStatus {
    /// The one that is asked, or was last.
    url: String,
    url_since: String,
    /// The other ones of the list, in its order.
    others: Vec<String>,
    state: &'static str,
    since: String,
    down_since: Option<String>,
    next_try: Option<String>,
    connects: u64,
    failures: u64,
    last_error: Option<ErrorStatus>,
}

#[derive(Debug, Serialize)]
struct ErrorStatus {
    message: String,
    at: String,
}

/// `/status`
pub(super) async fn tell(facts: &Arc<Facts>) -> Told {
    let survey = facts.survey().await;
    let facts = Arc::clone(facts);
    let json = move || serde_json::to_string_pretty(&Status::of(&facts, &survey));
    // As with metrics: not on the thread that accepts.
    match spawn_blocking(json).await {
        Ok(Ok(json)) => Told {
            status: StatusCode::OK,
            media_type: "application/json",
            body: json + "\n",
        },
        Ok(Err(_)) | Err(_) => Told::broken("the status could not be written\n"),
    }
}

impl Status {
    fn of(facts: &Facts, survey: &Survey) -> Self {
        let (look, permits) = (Look::take(), facts.permits());
        let missing = health::missing(facts);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            phase: facts.phase().name(),
            ready: missing.is_empty(),
            missing,
            started_at: time(facts.started_at()),
            pid: std::process::id(),
            shards: facts.shards().len(),
            panics: panics::count(),
            connections: Connections {
                open: permits.n_admitted(),
                max: permits.max(),
                refused: permits.n_refused_so_far(),
                waiting: facts.gateway().gate.n_waiting(),
            },
            descriptors: Descriptors {
                open: look.open_descriptors,
                max: look.max_descriptors,
            },
            memory: Memory {
                counted_bytes: facts.memory().used(),
                max_bytes: facts.memory().limit(),
                resident_bytes: look.resident_bytes,
            },
            last_reload: facts.reloads().last().map(|last| ReloadStatus {
                outcome: last.outcome.name(),
                at: time(last.at),
                message: last.message,
            }),
            certificates: facts
                .certificates()
                .into_iter()
                .map(|(listener, validity)| CertificateStatus {
                    listener,
                    certificate: validity.certificate.display().to_string(),
                    not_before: time(validity.not_before),
                    not_after: time(validity.not_after),
                })
                .collect(),
            listeners: facts.places().iter().map(ListenerStatus::of).collect(),
            channels: facts
                .sources()
                .iter()
                .map(|source| ChannelStatus::of(source, (facts, survey)))
                .collect(),
            proxies: facts
                .proxies()
                .iter()
                .map(|one| ProxyStatus::of(one))
                .collect(),
        }
    }
}

impl ListenerStatus {
    fn of(place: &Place) -> Self {
        Self {
            name: place.listener.clone(),
            address: place.address.clone(),
            tls: place.tls.is_some(),
        }
    }
}

impl ChannelStatus {
    fn of(source: &Source, (facts, survey): (&Facts, &Survey)) -> Self {
        let (settings, counters) = (source.kind().settings(), source.kind().counters());
        let views = source.kind().views();
        let has_upstream = settings.bundle.is_none();
        let channels = source.channels();
        let lag = survey.lag_of_all(&source.all());
        let sizes = channels.iter().map(|channel| channel.log().size());
        let (events, bytes) = sizes.fold((0, 0), |(events, bytes), size| {
            (events + size.n_events, bytes + size.held_bytes)
        });
        Self {
            name: settings.name.clone(),
            path: settings.path.clone(),
            hosts: settings.hosts.clone(),
            clients: channels.iter().map(Channel::n_subscribers).sum(),
            clients_behind: lag.n_behind,
            lag_bytes: lag.max_bytes,
            events: counters.events.value(),
            last_event_at: counters.last_event_at.time().map(time),
            instances: source.template().map(|template| InstancesStatus {
                now: template.n_instances(),
                max: settings.max_instances,
                made: counters.instances.value(),
            }),
            views: views.map_or(0, Views::len),
            view_log_bytes: views.map_or(0, Views::held_bytes),
            log: has_upstream.then_some(LogStatus { events, bytes }),
            upstream: has_upstream.then(|| UpstreamStatus::of(source, &channels, facts)),
        }
    }
}

impl ProxyStatus {
    fn of(proxy: &Proxy) -> Self {
        let (settings, counters) = (proxy.settings(), proxy.counters());
        Self {
            name: settings.name.clone(),
            path: settings.path.clone(),
            hosts: settings.hosts.clone(),
            upstreams: settings.shown_urls().collect(),
            requests: proxy.n_requests(),
            max_requests: settings.max_requests,
            tunnels: proxy.n_tunnels(),
            max_tunnels: settings.max_tunnels,
            answers: counters.n_answers(),
            failures: counters.n_failures(),
            failovers: counters.failovers.value(),
        }
    }
}

impl UpstreamStatus {
    fn of(source: &Source, channels: &[Channel], facts: &Facts) -> Self {
        let (settings, counters) = (source.kind().settings(), source.kind().counters());
        let status = source.eager().map(Channel::status);
        let in_use = status.as_ref().map_or(0, |status| status.endpoint);
        // Of many, the failure that was last.
        let failures = channels.iter().filter_map(|one| one.status().last_failure);
        let last = failures.max_by_key(|failure| failure.at);
        let since = |of: fn(&channel::Status) -> SystemTime| {
            time(status.as_ref().map_or(facts.started_at(), of))
        };
        Self {
            url: settings.upstream.shown_url(in_use),
            url_since: since(|status| status.endpoint_since),
            others: others(&settings.upstream, in_use),
            state: status
                .as_ref()
                .map_or("on-demand", |status| status.state.name()),
            since: since(|status| status.since),
            down_since: (status.as_ref())
                .and_then(|status| status.down_since)
                .map(time),
            next_try: (status.as_ref())
                .and_then(|status| status.next_try)
                .map(|at| time(SystemTime::now() + at.saturating_duration_since(Instant::now()))),
            connects: counters.upstream_opened.value(),
            failures: counters.failures.sum(),
            last_error: last.map(|failure| ErrorStatus {
                message: failure.error,
                at: time(failure.at),
            }),
        }
    }
}

/// All URLs but the one in use.
fn others(upstream: &config::Upstream, in_use: usize) -> Vec<String> {
    let urls = upstream.shown_urls().enumerate();
    urls.filter_map(|(place, url)| (place != in_use).then_some(url))
        .collect()
}

/// A time as RFC 3339 writes it, in UTC; the nearest that it can write.
fn time(at: SystemTime) -> String {
    /// The last second of the year 9999.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    format_rfc3339_millis(at.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_can_be_written() {
        let day = Duration::from_secs(86_400);
        for (at, text) in [
            (UNIX_EPOCH - day, "1970-01-01T00:00:00.000Z"),
            (UNIX_EPOCH + day, "1970-01-02T00:00:00.000Z"),
            (UNIX_EPOCH + day * 4_000_000, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(time(at), text);
        }
    }
}
