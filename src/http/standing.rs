//! Whether a channel has a stream for a newcomer at present, whatever its limits say.

use tokio::time::Instant;

use super::answer::Refusal;
use super::subscribe::REFUSED_RETRY;
use crate::channel::{Channel, Health};
use crate::config::WhileDown;
use crate::delivery::random_time;
use crate::log::Wish;

/// Why a client that has seen `last_event_id` gets no stream; `None`: it gets one.
///
/// A channel that is over still has something for who lacks events: they come first, then the end,
/// and 204 is for the next request. While the upstream is down, who is there stays, and newcomers
/// get what `while_down` says.
pub(super) fn turned_away(channel: &Channel, last_event_id: Option<&str>) -> Option<Refusal> {
    match channel.status().health() {
        Health::Over => {
            let settings = channel.settings();
            let wish = Wish::of(&settings, last_event_id);
            let has_rest = channel.log().has_rest(wish, Instant::now());
            (!has_rest).then_some(Refusal::Over)
        }
        Health::Down if channel.settings().while_down == WhileDown::Unavailable => {
            Some(Refusal::UpstreamDown(random_time(&REFUSED_RETRY)))
        }
        Health::Connecting | Health::Down | Health::Live => None,
    }
}
