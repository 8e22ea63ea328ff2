//! How many connections the process can afford.
//!
//! Descriptors that clients and upstreams on demand may have are those that are left when everything
//! else has its own: so the gateway can reach its origins, be asked how it is, read its files and tell
//! newcomers that it is full, however many clients there are.

use std::collections::HashSet;
use std::time::Duration;

use super::{RunError, default_threads};
use crate::admin;
use crate::config::Config;
use crate::net::permit::REFUSALS_AT_ONCE;

/// Descriptors of the process: the standard streams, the reactor of the main thread, signals, the
/// watch on files, files that are read or written, and the most part for name look-ups, of which
/// many may be under way at once after an outage.
const PROCESS_DESCRIPTORS: usize = 64;

/// Descriptors of a shard's reactor.
const SHARD_DESCRIPTORS: usize = 4;

/// Descriptors of a gather: its poll, and the copies that are registered.
const GATHER_DESCRIPTORS: usize = 2;

/// Descriptors of a listening socket: its own, and that which it was inherited by.
const LISTENER_DESCRIPTORS: usize = 2;

/// The share of the limit, and the most of it, that is kept for channels and listeners that a reload
/// may add while every connection is taken.
const GROWTH_SHARE: usize = 32;
const MOST_GROWTH: usize = 256;

/// What there may be of those who come and go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// Connections of clients.
    pub(super) connections: usize,
    /// Descriptors for them, and for the upstreams of channels on demand.
    pub(super) descriptors: usize,
}

/// What there may be. The process's limit on descriptors is raised as far as it may be.
///
/// # Errors
///
/// If none is left for a client.
pub(super) fn capacity(config: &Config) -> Result<Capacity, RunError> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    let affordable = affordable_connections(config, limit);
    if affordable == 0 {
        let n_channels = config.channels.len();
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
    Ok(Capacity {
        connections: wanted.min(affordable),
        descriptors: affordable,
    })
}

/// The connections that so many descriptors allow, besides what the gateway needs itself.
pub fn affordable_connections(config: &Config, descriptors: u64) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let growth = (descriptors / GROWTH_SHARE).min(MOST_GROWTH);
    descriptors.saturating_sub(needed(config) + growth)
}

/// The descriptors that a process with this configuration needs for itself.
fn needed(config: &Config) -> usize {
    let n_shards = config.server.threads.unwrap_or_else(default_threads);
    let windows: HashSet<Duration> = config
        .channels
        .iter()
        .map(|one| one.coalesce)
        .filter(|window| !window.is_zero())
        .collect();
    let per_shard = SHARD_DESCRIPTORS + windows.len() * GATHER_DESCRIPTORS;
    let addresses = config.listeners.iter().map(|one| one.addresses.len());
    PROCESS_DESCRIPTORS
        + REFUSALS_AT_ONCE
        + n_shards * per_shard
        + config.admin.addresses.len() * admin::DESCRIPTORS
        + addresses.sum::<usize>() * LISTENER_DESCRIPTORS
        + config.channels.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &str, n_channels: usize) -> Config {
        let mut text = format!(
            "[server]\nthreads = 2\n{lines}\n[listen.public]\naddress = [\"127.0.0.1:80\", \"[::1]:80\"]\n"
        );
        for n in 0..n_channels {
            let channel = format!("path = \"/{n}\"\nupstream = \"http://127.0.0.1:1/\"");
            text.push_str(&format!(
                "[channels.c{n}]\n{channel}\ncoalesce = \"{n}ms\"\n"
            ));
        }
        Config::parse("test.toml", &text)
            .expect("a configuration")
            .config
    }

    #[test]
    fn what_the_gateway_needs_is_never_given_to_clients() {
        // Two shards, two addresses, two channels, of which one gathers, and one to ask how it is.
        let config = config("", 2);
        let needed = 64 + 32 + 2 * (4 + 2) + 2 * 2 + 2 + admin::DESCRIPTORS;
        assert_eq!(super::needed(&config), needed);
        assert_eq!(affordable_connections(&config, 1024), 1024 - needed - 32);
        assert_eq!(affordable_connections(&config, needed as u64), 0);
        assert_eq!(affordable_connections(&config, 10), 0);
        let many = affordable_connections(&config, 1_000_000);
        assert_eq!(many, 1_000_000 - needed - MOST_GROWTH);
        assert!(affordable_connections(&config, u64::MAX) > usize::MAX / 2);
    }
}
