//! What can be wrong with what clients received.

use std::fmt;
use std::fmt::Display;
use std::ops::AddAssign;

/// Counts of everything that must not happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Events that never arrived (where the client was not cut off).
    pub(crate) n_missing: u64,
    /// Events that arrived again.
    pub(crate) n_duplicated: u64,
    /// Events that arrived after a later one.
    pub(crate) n_reordered: u64,
    /// Chunks or events that differ from what the origin sent.
    pub(crate) n_corrupt: u64,
    /// Events that the origin did not send in this window, or not at all.
    pub(crate) n_stray: u64,
    /// Clients that were cut off.
    pub(crate) n_cut: u64,
    /// Upstream connections that are not the one that a channel should have.
    pub(crate) n_upstream: u64,
}

impl Faults {
    /// Clients that a server could not or would not serve.
    pub(crate) fn cut(n_cut: u64) -> Self {
        Self {
            n_cut,
            ..Self::default()
        }
    }

    /// Upstream connections too many, or too few.
    pub(crate) fn upstream(n_upstream: u64) -> Self {
        Self {
            n_upstream,
            ..Self::default()
        }
    }

    /// Faults of every kind.
    pub(crate) fn total(&self) -> u64 {
        self.by_kind().iter().map(|(n, _)| n).sum()
    }

    fn by_kind(&self) -> [(u64, &'static str); 7] {
        let Self {
            n_missing,
            n_duplicated,
            n_reordered,
            n_corrupt,
            n_stray,
            n_cut,
            n_upstream,
        } = *self;
        [
            (n_missing, "missing"),
            (n_duplicated, "duplicated"),
            (n_reordered, "reordered"),
            (n_corrupt, "corrupt"),
            (n_stray, "stray"),
            (n_cut, "cut"),
            (n_upstream, "upstream"),
        ]
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.n_missing += other.n_missing;
        self.n_duplicated += other.n_duplicated;
        self.n_reordered += other.n_reordered;
        self.n_corrupt += other.n_corrupt;
        self.n_stray += other.n_stray;
        self.n_cut += other.n_cut;
        self.n_upstream += other.n_upstream;
    }
}

/// `0`, or the kinds that are not.
impl Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present: Vec<String> = self
            .by_kind()
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, kind)| format!("{n} {kind}"))
            .collect();
        f.pad(
            if present.is_empty() {
                "0".to_owned()
            } else {
                present.join(", ")
            }
            .as_str(),
        )
    }
}
