//! Defaults that checks between settings need, besides those who apply them.

use std::time::Duration;

use crate::config::units::Bytes;
use crate::config::values::Count;

/// `[server] memory`
pub(super) const MEMORY: Bytes = Bytes::mib(2048);
/// `drain`
pub(super) const DRAIN: Duration = Duration::from_secs(20);
/// `history.events`
pub(super) const HISTORY_EVENTS: Count = Count(1000);
/// `history.bytes`
pub(super) const HISTORY_BYTES: Bytes = Bytes::mib(4);
/// `max_event_bytes`
pub(super) const MAX_EVENT_BYTES: Bytes = Bytes::mib(4);
/// `lag.limit`, if the history is not smaller
pub(super) const LAG_LIMIT: Bytes = Bytes::mib(1);
/// `retry.min`
pub(super) const RETRY_MIN: Duration = Duration::from_secs(1);
/// `retry.max`
pub(super) const RETRY_MAX: Duration = Duration::from_secs(5);
/// `backoff.first`
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// `backoff.max`
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(30);
