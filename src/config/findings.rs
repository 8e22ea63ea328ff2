//! What the steps of reading a configuration report, and how they go on after a mistake.
//!
//! Findings point into the text by byte ranges; `diagnostics` turns them into lines and columns.

use std::fmt;
use std::ops::Range;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

/// Why a value is not right, and what would be.
///
/// Advice is not optional: who cannot say what would be right should not refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) advice: String,
}

/// One mistake or doubt, with its place.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) message: String,
    pub(super) advice: String,
    /// `None`: about the file as a whole.
    pub(super) span: Option<Range<usize>>,
    /// Other places that belong to it, and what they are.
    pub(super) notes: Vec<(String, Range<usize>)>,
    /// Something is absent; it may only have been lost to a syntax error.
    pub(super) is_absence: bool,
}

/// What a message without a subject begins with.
const VERBS: [&str; 7] = [
    "begins", "cannot", "contains", "is", "means", "must", "never",
];

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
}

impl Mistake {
    pub(super) fn new(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            advice: advice.into(),
        }
    }

    /// The same, said of the key (or flag) whose value it is: it becomes the subject of a message
    /// that has none (`is too small`).
    pub(super) fn of(self, key: &str) -> Self {
        let verb = self.message.split(' ').next().unwrap_or_default();
        let colon = if VERBS.contains(&verb) { "" } else { ":" };
        Self {
            message: format!("`{key}`{colon} {}", self.message),
            advice: self.advice,
        }
    }
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        self.list.push(finding);
    }

    pub(super) fn error(&mut self, span: Range<usize>, mistake: Mistake) {
        self.push(Finding::new(Severity::Error, Some(span), mistake));
    }

    pub(super) fn warn(&mut self, span: Range<usize>, mistake: Mistake) {
        self.push(Finding::new(Severity::Warning, Some(span), mistake));
    }

    /// An error about something that is not there; `span`: where it should be.
    pub(super) fn missing(&mut self, span: Option<Range<usize>>, mistake: Mistake) {
        let finding = Finding::new(Severity::Error, span, mistake);
        self.push(Finding {
            is_absence: true,
            ..finding
        });
    }

    pub(super) fn has_errors(&self) -> bool {
        self.list
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }
}

impl Finding {
    pub(super) fn new(severity: Severity, span: Option<Range<usize>>, mistake: Mistake) -> Self {
        let Mistake { message, advice } = mistake;
        Self {
            severity,
            message,
            advice,
            span,
            notes: Vec::new(),
            is_absence: false,
        }
    }

    /// Points to another place that belongs to it.
    pub(super) fn with_note(mut self, message: impl Into<String>, span: Range<usize>) -> Self {
        self.notes.push((message.into(), span));
        self
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}
