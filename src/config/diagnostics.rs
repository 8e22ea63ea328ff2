//! What is wrong with a configuration, where, and what would be right.
//!
//! A [`Diagnostic`] has taken what it needs of the source text: it can be shown long after the text
//! is gone. It never shows a credential, whatever line it points to.

use std::error;
use std::fmt;
use std::path::Path;
use std::slice;

use crate::config::findings::Finding;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::snippet::Snippet;
use crate::config::snippet::Source;

/// Everything that was found in one configuration, in the file's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

/// One mistake, or one doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    advice: String,
    /// The file; `None` where there is none (a command line).
    file: Option<String>,
    /// `None`: about the file as a whole.
    snippet: Option<Snippet>,
    /// Other places that belong to it.
    notes: Vec<(String, Snippet)>,
}

impl Diagnostics {
    pub(super) fn locate(mut findings: Vec<Finding>, source: &Source<'_>) -> Self {
        findings.sort_by_key(|finding| finding.span.as_ref().map(|span| (span.start, span.end)));
        let mut list: Vec<Diagnostic> = Vec::new();
        for finding in findings {
            let diagnostic = Diagnostic {
                severity: finding.severity,
                message: printable(&finding.message),
                advice: printable(&finding.advice),
                file: Some(printable(source.name)),
                snippet: finding.span.map(|span| source.snippet(span)),
                notes: (finding.notes.into_iter())
                    .map(|(message, span)| (printable(&message), source.snippet(span)))
                    .collect(),
            };
            // A value of `[defaults]` is checked with every channel that inherits it.
            if !list.contains(&diagnostic) {
                list.push(diagnostic);
            }
        }
        Self { list }
    }

    /// Findings about something that is not a file: without a place.
    pub(super) fn placeless(findings: Vec<Finding>) -> Self {
        let list = findings.into_iter().map(|finding| Diagnostic {
            severity: finding.severity,
            message: printable(&finding.message),
            advice: printable(&finding.advice),
            file: None,
            snippet: None,
            notes: Vec::new(),
        });
        Self {
            list: list.collect(),
        }
    }

    /// One about a file that can't be read.
    pub(crate) fn unreadable(path: &Path, message: &str, advice: &str) -> Self {
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            message: printable(message),
            advice: printable(advice),
            file: Some(printable(&path.display().to_string())),
            snippet: None,
            notes: Vec::new(),
        };
        Self {
            list: vec![diagnostic],
        }
    }

    /// These, in this order.
    pub(super) fn of(list: impl Iterator<Item = Diagnostic>) -> Self {
        Self {
            list: list.collect(),
        }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many are errors.
    pub fn n_errors(&self) -> usize {
        self.iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .count()
    }

    /// How many are warnings.
    pub fn n_warnings(&self) -> usize {
        self.list.len() - self.n_errors()
    }

    /// All of them, in the file's order.
    pub fn iter(&self) -> slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }
}

impl Diagnostic {
    /// About a place in a file, or about the file as a whole.
    pub(super) fn about_file(
        severity: Severity,
        mistake: &Mistake,
        file: &str,
        snippet: Option<Snippet>,
    ) -> Self {
        Self {
            severity,
            message: printable(&mistake.message),
            advice: printable(&mistake.advice),
            file: Some(printable(file)),
            snippet,
            notes: Vec::new(),
        }
    }

    /// Whether the configuration cannot be used.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line, with the key's name.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would be right; may have several lines.
    pub fn advice(&self) -> &str {
        &self.advice
    }

    /// The file's name as it was given.
    pub fn file(&self) -> Option<&str> {
        let own = self.snippet.as_ref().and_then(|one| one.file.as_deref());
        own.or(self.file.as_deref())
    }

    /// The line, from 1; `None`: about the file as a whole.
    pub fn line(&self) -> Option<usize> {
        self.snippet.as_ref().map(|snippet| snippet.line)
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> Option<usize> {
        self.snippet.as_ref().map(|snippet| snippet.column)
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl error::Error for Diagnostics {}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.severity, self.message)?;
        let file = self.file.as_deref().unwrap_or_default();
        let gutter = (self
            .snippet
            .iter()
            .chain(self.notes.iter().map(|(_, snippet)| snippet)))
        .map(|snippet| snippet.line.to_string().len())
        .max()
        .unwrap_or(1);
        if let Some(snippet) = &self.snippet {
            snippet.write(f, file, gutter)?;
        } else if self.file.is_some() {
            writeln!(f, "{:gutter$}--> {file}", "")?;
        }
        for (i, line) in self.advice.lines().enumerate() {
            let lead = if i == 0 { "= help:" } else { "       " };
            writeln!(f, "{}", format!("{:gutter$} {lead} {line}", "").trim_end())?;
        }
        for (message, snippet) in &self.notes {
            writeln!(f, "note: {message}")?;
            snippet.write(f, file, gutter)?;
        }
        Ok(())
    }
}

impl error::Error for Diagnostic {}

/// Text for a terminal: what came from the file cannot move the cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{FFFD}'
            } else {
                c
            }
        })
        .collect()
}
