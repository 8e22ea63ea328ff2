//! `on_status`: what an answer of the origin means that is no event stream.

use std::collections::BTreeMap;

use http::StatusCode;

use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::reader::Entry;
use crate::config::reader::Read;
use crate::config::reader::TableReader;

/// What becomes of an upstream after an answer with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStatus {
    /// The URL is not asked again until its settings change.
    GiveUp,
    /// The channel is over: nobody need come back.
    Over,
    /// It is asked again, after a wait.
    Retry,
}

/// The policies of all statuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusPolicies {
    by_status: BTreeMap<u16, OnStatus>,
    /// By the first digit.
    by_class: BTreeMap<u16, OnStatus>,
}

const EXAMPLE: &str = "`on_status = { 404 = \"give-up\", 5xx = \"retry\" }`";

impl StatusPolicies {
    /// What an answer with this status means; what is written of the status goes before what is
    /// written of its class.
    pub fn of(&self, status: StatusCode) -> OnStatus {
        let status = status.as_u16();
        let written = self.by_status.get(&status);
        let written = written.or_else(|| self.by_class.get(&(status / 100)));
        written.copied().unwrap_or(if status == 204 {
            // WHATWG HTML, 9.2.3
            OnStatus::Over
        } else {
            OnStatus::Retry
        })
    }
}

impl Read for StatusPolicies {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let Some(table) = entry.value.get_ref().as_table() else {
            let message = format!("must be a table, not {}", entry.kind());
            entry.refuse(Mistake::new(message, format!("write {EXAMPLE}")), findings);
            return None;
        };
        let mut policies = Self::default();
        let mut is_right = true;
        for one in TableReader::entries(table, &entry.key) {
            let name = one.key.rsplit('.').next().unwrap_or_default().to_owned();
            let statuses = statuses(&name)
                .map_err(|mistake| findings.error(one.key_span.clone(), mistake))
                .ok();
            let policy = OnStatus::read(&one, findings);
            is_right &= statuses.is_some() && policy.is_some();
            match (statuses, policy) {
                (Some(Statuses::One(status)), Some(policy)) => {
                    policies.by_status.insert(status, policy);
                }
                (Some(Statuses::Class(class)), Some(policy)) => {
                    policies.by_class.insert(class, policy);
                }
                _ => {}
            }
        }
        is_right.then_some(policies)
    }
}

/// What a key is for.
enum Statuses {
    One(u16),
    Class(u16),
}

fn statuses(text: &str) -> Result<Statuses, Mistake> {
    let lower = text.to_ascii_lowercase();
    if let Some(class) = lower.strip_suffix("xx") {
        return match class.parse() {
            Ok(class @ 2..=5) if lower.len() == 3 => Ok(Statuses::Class(class)),
            _ => Err(Mistake::new(
                format!("`{text}` is not a class of statuses that end a request"),
                "write `2xx`, `3xx`, `4xx` or `5xx`",
            )),
        };
    }
    match text.parse() {
        Ok(200) => Err(Mistake::new(
            "200 is the event stream itself",
            "remove it; what is no event stream is always asked for again",
        )),
        Ok(301 | 302 | 303 | 307 | 308) => Err(Mistake::new(
            format!("{text} is a redirect, which is followed"),
            "remove it; `max_redirects` says how many in a row",
        )),
        Ok(status @ 201..=599) if text.len() == 3 => Ok(Statuses::One(status)),
        _ => Err(Mistake::new(
            format!("`{text}` is not a status of HTTP that ends a request"),
            format!("write a status or a class of them: {EXAMPLE}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn policies(written: &str) -> StatusPolicies {
        let text = include_str!("../../config/minimal.toml");
        let text = format!("{text}on_status = {written}\n");
        let loaded = Config::parse("test.toml", &text).expect("a configuration");
        loaded.config.channels[0].upstream.on_status.clone()
    }

    #[test]
    fn a_status_goes_before_its_class_and_what_is_not_written_is_asked_again() {
        for (written, status, expected) in [
            ("{}", 204, OnStatus::Over),
            ("{}", 404, OnStatus::Retry),
            ("{ 4xx = \"give-up\" }", 404, OnStatus::GiveUp),
            ("{ 4xx = \"give-up\" }", 503, OnStatus::Retry),
            ("{ 4XX = \"give-up\", 404 = \"over\" }", 404, OnStatus::Over),
            (
                "{ \"410\" = \"over\", 4xx = \"give-up\" }",
                410,
                OnStatus::Over,
            ),
            ("{ 204 = \"retry\" }", 204, OnStatus::Retry),
            ("{ 2xx = \"retry\" }", 204, OnStatus::Retry),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(policies(written).of(status), expected, "{written} {status}");
        }
    }
}
