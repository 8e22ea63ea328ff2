//! How many connections the process can afford.

use std::collections::HashSet;
use std::time::Duration;

use super::RunError;
use crate::admin;
use crate::config::Config;
use crate::net::permit::REFUSALS_AT_ONCE;

/// Descriptors that are never given to subscribers: for listeners, name look-ups, the log, the
/// reserve of refusals.
const RESERVED_DESCRIPTORS: usize = 64 + REFUSALS_AT_ONCE;

/// Descriptors of a shard's reactor.
const SHARD_DESCRIPTORS: usize = 4;

/// Descriptors of a gather: its poll, and the copies that are registered.
const GATHER_DESCRIPTORS: usize = 2;

/// The limit on downstream connections. The process's limit on descriptors is raised as far as it
/// may be.
///
/// # Errors
///
/// If none is left for a client.
pub(super) fn max_connections(config: &Config, n_shards: usize) -> Result<usize, RunError> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    let n_channels = config.channels.len();
    let windows: HashSet<Duration> = config
        .channels
        .iter()
        .map(|one| one.coalesce)
        .filter(|window| !window.is_zero())
        .collect();
    let per_shard = SHARD_DESCRIPTORS + windows.len() * GATHER_DESCRIPTORS;
    let n_admin = config.admin.addresses.len() * admin::DESCRIPTORS;
    let reserved = RESERVED_DESCRIPTORS + n_admin + n_shards * per_shard + n_channels;
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
