//! Whether the process should be left alone, and whether clients may be sent to it.

use std::time::Duration;

use super::answer::Told;
use super::facts::{Facts, Phase};
use crate::channel::Channel;
use crate::config::Ready;
use crate::delivery::beat;

/// A shard that has not answered for so long hangs. A busy one takes turns of a millisecond and
/// answers within a few of them; a machine that is out of breath is no reason to be killed.
const BEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// `/live`
pub(super) async fn live(facts: &Facts) -> Told {
    match beat(facts.shards(), BEAT_TIMEOUT).await {
        Ok(()) => Told::text("live\n"),
        Err(stuck) => Told::unavailable(format!("{stuck}\n")),
    }
}

/// `/ready`
pub(super) fn ready(facts: &Facts) -> Told {
    let missing = missing(facts);
    if missing.is_empty() {
        Told::text("ready\n")
    } else {
        Told::unavailable(missing.join("\n") + "\n")
    }
}

/// Why clients should not be sent here; nothing: they may.
pub(super) fn missing(facts: &Facts) -> Vec<String> {
    match facts.phase() {
        Phase::Starting => return vec!["starting".to_owned()],
        Phase::Stopping => return vec!["stopping".to_owned()],
        Phase::Running => {}
    }
    facts.channels().iter().filter_map(lacks_upstream).collect()
}

/// What a channel waits for that must have been connected once.
fn lacks_upstream(channel: &Channel) -> Option<String> {
    let settings = channel.settings();
    let must_wait = settings.ready == Ready::Connected;
    (must_wait && channel.counters().upstream_opened.value() == 0).then(|| {
        let (name, status) = (&settings.name, channel.status());
        let state = status.state.name();
        let cause = status
            .last_error
            .map(|error| format!(": {error}"))
            .unwrap_or_default();
        format!("channel `{name}`: its upstream was not open yet ({state}{cause})")
    })
}
