//! What a proxy counts. It outlives a reload that changes the proxy.

use http::StatusCode;

use super::error::Reason;
use super::fields::Refused;
use super::tunnel::End;
use crate::count::{Counter, Latency, Named};

/// The counters of a proxy.
#[derive(Debug)]
pub struct Counters {
    answers: Named,
    failures: Named,
    tunnel_ends: Named,
    /// Requests that were sent once more, because the connection was closed before anything came.
    pub retries: Counter,
    /// Times that a request went to the next URL, because one could not be connected to.
    pub failovers: Counter,
    /// Connections to the upstream that opened.
    pub connects: Counter,
    /// Bytes of bodies that went to the upstream.
    pub request_bytes: Counter,
    /// Bytes of bodies that came from it.
    pub response_bytes: Counter,
    /// Bytes that went through tunnels to the upstream.
    pub tunnel_request_bytes: Counter,
    /// Bytes that came from it through tunnels.
    pub tunnel_response_bytes: Counter,
    /// How long it takes from a request's head to the head of its answer.
    pub first_byte: Latency,
}

/// The classes of status codes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All reasons for which a request fails or is refused.
fn reasons() -> impl Iterator<Item = Reason> {
    let refusals = Refused::ALL.map(Reason::Refused);
    Reason::ALL.into_iter().chain(refusals)
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            answers: Named::new(CLASSES),
            failures: Named::new(reasons().map(Reason::name)),
            tunnel_ends: Named::new(End::ALL.map(End::name)),
            retries: Counter::default(),
            failovers: Counter::default(),
            connects: Counter::default(),
            request_bytes: Counter::default(),
            response_bytes: Counter::default(),
            tunnel_request_bytes: Counter::default(),
            tunnel_response_bytes: Counter::default(),
            first_byte: Latency::default(),
        }
    }
}

impl Counters {
    /// Counts the head that a client was given, whoever made it.
    pub fn answered(&self, status: StatusCode) {
        self.answers.count(match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        });
    }

    /// Counts a request that the upstream did not answer, or not to the end.
    pub fn failed(&self, reason: Reason) {
        self.failures.count(reason.name());
    }

    /// Counts a tunnel that has ended.
    pub fn tunnel_ended(&self, end: End) {
        self.tunnel_ends.count(end.name());
    }

    /// Answers by class of status.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.answers.values()
    }

    /// All answers.
    pub fn n_answers(&self) -> u64 {
        self.answers.sum()
    }

    /// Failures by reason.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.failures.values()
    }

    /// All failures.
    pub fn n_failures(&self) -> u64 {
        self.failures.sum()
    }

    /// Tunnels that have ended, by how.
    pub fn tunnel_ends(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.tunnel_ends.values()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const DOCUMENTATION: &str = include_str!("../../docs/admin.md");

    #[test]
    fn an_answer_is_counted_by_its_class() {
        let counters = Counters::default();
        for status in [101, 200, 204, 304, 404, 502, 999] {
            counters.answered(StatusCode::from_u16(status).unwrap());
        }
        let counted: Vec<u64> = counters.answers().map(|(_, n)| n).collect();
        assert_eq!(counted, [1, 2, 1, 1, 2]);
        assert_eq!(counters.n_answers(), 7);
    }

    #[test]
    fn every_reason_is_counted() {
        let counters = Counters::default();
        for (n, reason) in (1..).zip(reasons()) {
            counters.failed(reason);
            assert_eq!(counters.n_failures(), n, "{reason:?}");
        }
    }

    /// The rows that tell what a client was told: the statuses of each reason.
    fn documented_reasons() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        let (_, table) = DOCUMENTATION.split_once("| Status | `reason` |").unwrap();
        let rows = table
            .lines()
            .skip(2)
            .map_while(|row| row.strip_prefix("| "));
        let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
        let reasons = cells.map(|cells| {
            let name = cells[1].trim_matches('`');
            (name, cells[0].split(", ").collect())
        });
        reasons.collect()
    }

    #[test]
    fn every_reason_is_documented_with_what_clients_are_told() {
        let mut expected: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for reason in reasons() {
            let told = match reason {
                // The head of the answer is out.
                Reason::AnswerBroke | Reason::AnswerNotTaken | Reason::AnswerStalled => {
                    "–".to_owned()
                }
                _ => reason.status().as_str().to_owned(),
            };
            expected.entry(reason.name()).or_default().insert(told);
        }
        let documented = documented_reasons().into_iter();
        let documented =
            documented.map(|(name, told)| (name, told.into_iter().map(str::to_owned).collect()));
        assert_eq!(documented.collect::<BTreeMap<_, _>>(), expected);
    }

    #[test]
    fn every_end_of_a_tunnel_is_documented() {
        let mut lines = DOCUMENTATION.lines();
        let row = lines.find(|line| line.contains("`ssecast_proxy_tunnels_ended_total`"));
        let (_, listed) = row.unwrap().split_once("(`end`): ").unwrap();
        let documented: Vec<&str> = listed.trim_end_matches(" |").split(", ").collect();
        let ends = End::ALL.map(|end| format!("`{}`", end.name()));
        assert_eq!(documented, ends);
    }
}
