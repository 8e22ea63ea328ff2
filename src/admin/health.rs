//! Whether the process should be left alone, and whether clients may be sent to it.

use std::time::Duration;

use super::answer::Told;
use super::facts::{Facts, Phase};
use crate::channel::{Channel, Source};
use crate::config::Ready;
use crate::delivery::beat;

/// A shard that has not answered for so long hangs. A busy one takes turns of a millisecond and
/// answers within a few of them; a machine that is out of breath is no reason to be killed.
const BEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// `/live`
pub(super) async fn live(facts: &Facts) -> Told {
    live_within(BEAT_TIMEOUT, facts).await
}

async fn live_within(timeout: Duration, facts: &Facts) -> Told {
    match beat(facts.shards(), timeout).await {
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
    // Who is on demand has no upstream until somebody asks.
    let sources = facts.sources();
    let eager = sources.iter().filter_map(Source::eager);
    eager.filter_map(lacks_upstream).collect()
}

/// What a channel waits for that must have been connected once.
fn lacks_upstream(channel: &Channel) -> Option<String> {
    let settings = channel.settings();
    // What a bundle has, its channels wait for.
    let must_wait = settings.ready == Ready::Connected && settings.bundle.is_none();
    (must_wait && channel.counters().upstream_opened.value() == 0).then(|| {
        let (name, status) = (&settings.name, channel.status());
        let state = status.state.name();
        let cause = status
            .last_failure
            .map(|failure| format!(": {}", failure.error))
            .unwrap_or_default();
        format!("channel `{name}`: its upstream was not open yet ({state}{cause})")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use tokio::sync::oneshot;

    use super::*;
    use crate::config::Config;
    use crate::delivery::Delivery;
    use crate::http::{Current, Gateway, Routes};
    use crate::memory::Budget;
    use crate::net::permit::Permits;

    const TEXT: &str = "[listen.public]\naddress = \"127.0.0.1:0\"\n[channels.events]\n\
                        path = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n";

    fn facts(delivery: &Delivery) -> Facts {
        let config = Config::parse("test.toml", TEXT).expect("a configuration");
        let current = Current {
            server: config.config.server,
            routes: Routes::default(),
        };
        let (memory, shards) = (Budget::unlimited(), Arc::clone(delivery.shards()));
        let gateway = Gateway::new(current, shards, memory.clone());
        Facts::new(Arc::new(gateway), Permits::new(1), memory)
    }

    #[tokio::test]
    async fn a_shard_that_is_blocked_is_not_live_and_is_named() {
        let delivery = Delivery::start(2).expect("threads");
        let facts = facts(&delivery);
        assert_eq!(live(&facts).await.status, StatusCode::OK);
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (tell, is_blocked) = oneshot::channel();
        delivery.shards()[1].spawn(async move {
            tell.send(()).expect("the test waits");
            blocked.recv().expect("the test releases it");
        });
        is_blocked.await.expect("the shard is blocked");
        let told = live_within(Duration::from_secs(1), &facts).await;
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(told.body, "shard 1 does not turn\n");
        release.send(()).expect("the shard waits");
        assert_eq!(live(&facts).await.status, StatusCode::OK);
        delivery.stop();
    }

    #[tokio::test]
    async fn it_is_ready_between_its_start_and_its_stop() {
        let delivery = Delivery::start(1).expect("threads");
        let facts = facts(&delivery);
        assert_eq!(ready(&facts).body, "starting\n");
        facts.begin_running();
        assert_eq!(ready(&facts).status, StatusCode::OK);
        facts.begin_stopping();
        let told = ready(&facts);
        assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(told.body, "stopping\n");
        delivery.stop();
    }
}
