//! The metrics of the process.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::families::{counter, counters, gauge, gauges};
use crate::admin::ReloadOutcome;
use crate::admin::facts::Facts;
use crate::admin::process::Look;
use crate::admin::{health, panics};
use crate::http::Gateway;
use crate::memory::{Budget, WhatFor};
use crate::net::permit::Limit;
use crate::net::proxy_protocol::ProxyError;

/// Writes all families of the process.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, facts: &Facts) -> fmt::Result {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    encoder
        .encode_descriptor(
            "ssecast_build",
            "The version of the gateway",
            None,
            MetricType::Info,
        )?
        .encode_info(&version)?;
    gauge(
        encoder,
        ("ssecast_ready", "1 while /ready says so, else 0"),
        Some(u64::from(health::missing(facts).is_empty())),
    )?;
    gauge(
        encoder,
        ("ssecast_channels", "Channels of the configuration"),
        Some(facts.sources().len()),
    )?;
    gauge(
        encoder,
        ("ssecast_proxies", "Proxies of the configuration"),
        Some(facts.proxies().len()),
    )?;
    counter(
        encoder,
        ("ssecast_panics", "Bugs that broke a part of the process"),
        &panics::count(),
    )?;
    encode_connections(encoder, facts)?;
    encode_memory(encoder, facts.memory())?;
    encode_configuration(encoder, facts)?;
    encode_system(encoder, facts)
}

fn encode_connections(encoder: &mut DescriptorEncoder<'_>, facts: &Facts) -> fmt::Result {
    let permits = facts.permits();
    gauge(
        encoder,
        ("ssecast_connections", "Connections of clients right now"),
        Some(permits.n_admitted()),
    )?;
    gauge(
        encoder,
        (
            "ssecast_max_connections",
            "Connections of clients that there may be",
        ),
        Some(permits.max()),
    )?;
    counters(
        encoder,
        (
            "ssecast_refused_connections",
            "Connections that came when a limit was reached, by the limit",
        ),
        Limit::ALL.map(|limit| ([("limit", limit.name())], permits.n_refused_by(limit))),
    )?;
    encode_newcomers(encoder, facts.gateway())
}

fn encode_newcomers(encoder: &mut DescriptorEncoder<'_>, gateway: &Gateway) -> fmt::Result {
    gauge(
        encoder,
        (
            "ssecast_waiting_connections",
            "Connections that wait for their turn",
        ),
        Some(gateway.gate.n_waiting()),
    )?;
    gauges(
        encoder,
        (
            "ssecast_tracked_addresses",
            "Addresses and networks whose connections are counted",
        ),
        [
            ([("of", "address")], gateway.addresses.n_addresses()),
            ([("of", "network")], gateway.addresses.n_networks()),
        ],
    )?;
    counter(
        encoder,
        (
            "ssecast_unattributed_subscriptions",
            "Subscriptions by trusted proxies that did not say for whom",
        ),
        &gateway.n_unattributed.load(Ordering::Relaxed),
    )?;
    counters(
        encoder,
        (
            "ssecast_proxy_protocol_errors",
            "Connections that were closed because of the PROXY protocol, by the reason",
        ),
        ProxyError::REASONS.map(|reason| ([("reason", reason)], gateway.proxy_errors.of(reason))),
    )
}

fn encode_memory(encoder: &mut DescriptorEncoder<'_>, memory: &Budget) -> fmt::Result {
    gauges(
        encoder,
        (
            "ssecast_memory_bytes",
            "Memory that counts to the limit of the process, by what it is for",
        ),
        WhatFor::ALL.map(|what_for| ([("for", what_for.name())], memory.used_for(what_for))),
    )?;
    gauge(
        encoder,
        ("ssecast_max_memory_bytes", "Memory that there may be"),
        Some(memory.limit()),
    )
}

fn encode_configuration(encoder: &mut DescriptorEncoder<'_>, facts: &Facts) -> fmt::Result {
    let reloads = facts.reloads();
    counters(
        encoder,
        (
            "ssecast_reloads",
            "Reloads of the configuration, by what became of them",
        ),
        ReloadOutcome::ALL.map(|outcome| ([("outcome", outcome.name())], reloads.n(outcome))),
    )?;
    gauge(
        encoder,
        (
            "ssecast_last_reload_success_timestamp_seconds",
            "When the configuration was read last and was right, the start included",
        ),
        unix_seconds(reloads.success_at()),
    )?;
    let certificates = facts.certificates();
    gauges(
        encoder,
        (
            "ssecast_certificate_expiry_timestamp_seconds",
            "When a certificate ends that clients are shown, by the listener and the file",
        ),
        certificates.iter().filter_map(|(listener, validity)| {
            let file = validity.certificate.display().to_string();
            let labels = [("listener", listener.clone()), ("certificate", file)];
            Some((labels, unix_seconds(validity.not_after)?))
        }),
    )
}

/// Under the names that Prometheus' own libraries give them.
fn encode_system(encoder: &mut DescriptorEncoder<'_>, facts: &Facts) -> fmt::Result {
    let look = Look::take();
    gauge(
        encoder,
        (
            "process_start_time_seconds",
            "When the process started, in Unix time",
        ),
        unix_seconds(facts.started_at()),
    )?;
    gauge(
        encoder,
        ("process_open_fds", "Descriptors that are open"),
        look.open_descriptors,
    )?;
    gauge(
        encoder,
        ("process_max_fds", "Descriptors that may be open"),
        look.max_descriptors,
    )?;
    gauge(
        encoder,
        ("process_resident_memory_bytes", "Resident memory"),
        look.resident_bytes,
    )?;
    gauge(
        encoder,
        ("process_virtual_memory_bytes", "Virtual memory"),
        look.virtual_bytes,
    )?;
    match look.cpu_seconds {
        None => Ok(()),
        Some(seconds) => counter(
            encoder,
            (
                "process_cpu_seconds",
                "CPU time of the process, its own and the kernel's for it",
            ),
            &seconds,
        ),
    }
}

/// A time as Prometheus wants it; `None` before 1970.
pub(super) fn unix_seconds(at: SystemTime) -> Option<f64> {
    let since = at.duration_since(UNIX_EPOCH).ok();
    since.as_ref().map(Duration::as_secs_f64)
}
