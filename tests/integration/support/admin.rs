//! What the admin listener of a gateway says.

use std::collections::BTreeMap;

use serde_json::Value;

use super::client::{Client, Connector, Head};
use super::gateway::{Gateway, field};
use super::until_async;

/// An admin listener of a running gateway.
pub(crate) struct Admin {
    address: String,
}

/// A scrape: values by name and labels, as they are written (`name{label="value"}`).
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) text: String,
    values: BTreeMap<String, f64>,
}

/// The table of a configuration for an admin listener at any free port.
pub(crate) const ANYWHERE: &str = "[admin]\naddress = \"127.0.0.1:0\"";

impl Admin {
    /// The admin listener of a gateway that has one.
    pub(crate) async fn of(gateway: &Gateway) -> Self {
        let line = &gateway.logged(1, &["tells metrics and health"]).await[0];
        Self::at(field(line, "address").expect("an address"))
    }

    /// The admin listener at this address.
    pub(crate) fn at(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        Connector::default().connect_to(&self.address).await
    }

    /// Sends a request without a body, and reads the answer.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> (Head, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
        self.connect().await.ask(request).await
    }

    /// The status and the body of the answer to a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.ask("GET", path).await;
        (head.status, body)
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let values = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let value = value.parse().expect("a number");
            (name.to_owned(), value)
        });
        Metrics {
            values: values.collect(),
            text,
        }
    }

    /// Waits until metrics have these values; returns the scrape in which they have.
    pub(crate) async fn until(&self, wanted: &[(&str, f64)]) -> Metrics {
        until_async(&format!("{wanted:?}"), async || {
            let metrics = self.metrics().await;
            let wrong = wanted
                .iter()
                .filter(|(name, value)| (metrics.value(name) - value).abs() > f64::EPSILON);
            let wrong: Vec<String> = wrong
                .map(|(name, _)| format!("{name} {}", metrics.value(name)))
                .collect();
            if wrong.is_empty() {
                Ok(metrics)
            } else {
                Err(wrong.join(", "))
            }
        })
        .await
    }

    /// Waits until a path is answered with this status; returns the body.
    pub(crate) async fn until_status(&self, path: &str, wanted: u16) -> String {
        until_async(&format!("{wanted} at {path}"), async || {
            let (status, body) = self.get(path).await;
            if status == wanted {
                Ok(body)
            } else {
                Err(format!("{status}: {body}"))
            }
        })
        .await
    }

    /// `/status`
    pub(crate) async fn status(&self) -> Value {
        let (head, body) = self.ask("GET", "/status").await;
        assert_eq!(head.status, 200, "{body}");
        assert_eq!(head.field("content-type"), Some("application/json"));
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }
}

impl Metrics {
    /// The value of a sample that must be there.
    pub(crate) fn value(&self, name: &str) -> f64 {
        let value = self.values.get(name).copied();
        value.unwrap_or_else(|| panic!("no sample {name} in\n{}", self.text))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The names of all families, as their `HELP` lines say.
    pub(crate) fn families(&self) -> Vec<&str> {
        let lines = self.text.lines();
        let helps = lines.filter_map(|line| line.strip_prefix("# HELP "));
        helps.filter_map(|help| help.split(' ').next()).collect()
    }
}
