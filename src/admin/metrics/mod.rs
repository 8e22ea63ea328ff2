//! `/metrics`: numbers in the Prometheus text format.
//!
//! Everything is read when it is asked for: what the process counts anyway, and what is so right now.
//! Labels take their values from closed sets: names of the configuration, words of the program.
//! `docs/admin.md` lists all families; a test compares.

mod channels;
mod families;
mod process;
mod proxies;

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::registry::Registry;
use tokio::task::spawn_blocking;

use super::answer::Told;
use super::facts::Facts;
use crate::delivery::Survey;

/// The process at one moment.
#[derive(Debug)]
struct Scrape {
    facts: Arc<Facts>,
    survey: Survey,
}

/// `/metrics`
pub(super) async fn tell(facts: &Arc<Facts>) -> Told {
    let survey = facts.survey().await;
    let scrape = Scrape {
        facts: Arc::clone(facts),
        survey,
    };
    // A thousand channels are milliseconds of text, which must not hold up those who are accepted.
    match spawn_blocking(|| text(scrape)).await {
        Ok(Ok(body)) => Told {
            status: StatusCode::OK,
            media_type: CONTENT_TYPE,
            body,
        },
        Ok(Err(_)) | Err(_) => Told::broken("the metrics could not be written\n"),
    }
}

fn text(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        process::encode(&mut encoder, &self.facts)?;
        channels::encode(&mut encoder, &self.facts.sources(), &self.survey)?;
        proxies::encode(&mut encoder, &self.facts.proxies())
    }
}
