//! The metrics of proxies, each with the proxy's name. A proxy that is removed takes its series with it.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Described, counters, gauges, histograms};
use crate::proxy::{Counters, Proxy};

/// A counter of a proxy, and how it is read.
type ProxyCounter = (Described, fn(&Counters) -> u64);

/// Counters of a proxy that have no other label.
const COUNTERS: &[ProxyCounter] = &[
    (
        (
            "ssecast_proxy_request_bytes",
            "Bytes of content that went to the upstream",
        ),
        |counters| counters.request_bytes.value(),
    ),
    (
        (
            "ssecast_proxy_response_bytes",
            "Bytes of content that came from the upstream",
        ),
        |counters| counters.response_bytes.value(),
    ),
    (
        (
            "ssecast_proxy_upstream_connects",
            "Connections to the upstream that opened",
        ),
        |counters| counters.connects.value(),
    ),
    (
        (
            "ssecast_proxy_retries",
            "Requests that were sent once more, because the upstream had closed a connection that was used before",
        ),
        |counters| counters.retries.value(),
    ),
    (
        (
            "ssecast_proxy_failovers",
            "Times that a request went to the next URL, because one could not be connected to",
        ),
        |counters| counters.failovers.value(),
    ),
    (
        (
            "ssecast_proxy_tunnel_request_bytes",
            "Bytes that went through tunnels to the upstream",
        ),
        |counters| counters.tunnel_request_bytes.value(),
    ),
    (
        (
            "ssecast_proxy_tunnel_response_bytes",
            "Bytes that came from the upstream through tunnels",
        ),
        |counters| counters.tunnel_response_bytes.value(),
    ),
];

/// Writes all families of proxies.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, proxies: &[Arc<Proxy>]) -> fmt::Result {
    counters(
        encoder,
        (
            "ssecast_proxy_requests",
            "Requests that were answered, by the class of the status",
        ),
        proxies.iter().flat_map(|proxy| {
            let answers = proxy.counters().answers();
            answers.map(|(class, n)| (label_with(proxy, "status", class), n))
        }),
    )?;
    counters(
        encoder,
        (
            "ssecast_proxy_failures",
            "Requests that the upstream did not answer, or not to the end, by the reason",
        ),
        proxies.iter().flat_map(|proxy| {
            let failures = proxy.counters().failures();
            failures.map(|(reason, n)| (label_with(proxy, "reason", reason), n))
        }),
    )?;
    gauges(
        encoder,
        (
            "ssecast_proxy_requests_in_flight",
            "Requests that are under way right now",
        ),
        proxies
            .iter()
            .map(|proxy| (label(proxy), proxy.n_requests())),
    )?;
    for (described, value) in COUNTERS {
        let values = proxies.iter();
        let values = values.map(|proxy| (label(proxy), value(proxy.counters())));
        counters(encoder, *described, values)?;
    }
    gauges(
        encoder,
        ("ssecast_proxy_tunnels", "Tunnels that are open right now"),
        proxies
            .iter()
            .map(|proxy| (label(proxy), proxy.n_tunnels())),
    )?;
    counters(
        encoder,
        (
            "ssecast_proxy_tunnels_ended",
            "Tunnels that have ended, by how",
        ),
        proxies.iter().flat_map(|proxy| {
            let ends = proxy.counters().tunnel_ends();
            ends.map(|(end, n)| (label_with(proxy, "end", end), n))
        }),
    )?;
    histograms(
        encoder,
        (
            "ssecast_proxy_first_byte_seconds",
            "Time from the head of a request to the head of the upstream's answer",
        ),
        proxies
            .iter()
            .map(|proxy| (label(proxy), proxy.counters().first_byte.counts())),
    )
}

fn label(proxy: &Proxy) -> [(&'static str, &str); 1] {
    [("proxy", &proxy.settings().name)]
}

fn label_with<'a>(
    proxy: &'a Proxy,
    key: &'static str,
    value: &'static str,
) -> [(&'static str, &'a str); 2] {
    [("proxy", &proxy.settings().name), (key, value)]
}
