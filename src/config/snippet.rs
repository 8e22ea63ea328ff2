//! A line of the source with a row of carets under the exact place.
//!
//! Tabs are shown as four spaces, wide characters count two columns and combining ones none, so the
//! carets stay aligned. Control characters and everything that is marked as secret are replaced.

use std::fmt;
use std::ops::Range;

/// A source text that findings point into.
#[derive(Debug, Clone)]
pub(super) struct Source<'a> {
    /// What the text is called in messages.
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// Byte ranges that must not be shown.
    pub(super) secrets: Vec<Range<usize>>,
    /// Where other files begin in the text, in order.
    pub(super) parts: Vec<Part>,
}

/// A file that was put into the text of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The byte at which it begins.
    pub(super) start: usize,
    /// What it is called in messages.
    pub(super) name: String,
}

/// One line of a source, with a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snippet {
    /// The file, if it is not the one that the whole is called by.
    pub(super) file: Option<String>,
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// The line, ready to print.
    shown: String,
    /// Terminal columns before the carets.
    indent: usize,
    /// Carets; at least one.
    width: usize,
}

impl Source<'_> {
    /// The first line that `span` touches.
    pub(super) fn snippet(&self, span: Range<usize>) -> Snippet {
        let start = floor_char_boundary(self.text, span.start);
        let part = self.parts.iter().rfind(|part| part.start <= start);
        let base = part.map_or(0, |part| part.start);
        let before = self.text.get(base..start).unwrap_or_default();
        let line_start = base + before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line = rest
            .split('\n')
            .next()
            .unwrap_or_default()
            .trim_end_matches('\r');

        let mut snippet = Snippet {
            file: part.map(|part| part.name.clone()),
            line: before.matches('\n').count() + 1,
            column: 1,
            shown: String::new(),
            indent: 0,
            width: 0,
        };
        for (i, c) in line.char_indices() {
            let at = line_start + i;
            let secret = self.secrets.iter().any(|secret| secret.contains(&at));
            let columns = if secret {
                snippet.shown.push('*');
                1
            } else {
                push_shown(&mut snippet.shown, c)
            };
            if at < start {
                snippet.column += 1;
                snippet.indent += columns;
            } else if at < span.end {
                snippet.width += columns;
            }
        }
        snippet.shown.truncate(snippet.shown.trim_end().len());
        snippet.width = snippet.width.max(1);
        snippet
    }

    /// The number of the line (from 0) at a byte offset.
    pub(super) fn line_index(&self, offset: usize) -> usize {
        self.text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
    }
}

impl Snippet {
    /// Writes the place, the line and the carets; `gutter` is the width of the line numbers.
    pub(super) fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        file: &str,
        gutter: usize,
    ) -> fmt::Result {
        let Self {
            file: own,
            line,
            column,
            shown,
            indent,
            width,
        } = self;
        let file = own.as_deref().unwrap_or(file);
        writeln!(f, "{:gutter$}--> {file}:{line}:{column}", "")?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{}", format!("{line:>gutter$} | {shown}").trim_end())?;
        writeln!(f, "{:gutter$} | {:indent$}{}", "", "", "^".repeat(*width))
    }
}

/// Appends a character as a terminal can show it and returns how many columns it takes.
fn push_shown(shown: &mut String, c: char) -> usize {
    match c {
        '\t' => {
            shown.push_str("    ");
            4
        }
        '\u{FEFF}' => 0,
        // Direction marks would reorder the line under the carets.
        '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            shown.push('\u{FFFD}');
            1
        }
        _ if c.is_control() => {
            shown.push('\u{FFFD}');
            1
        }
        _ => {
            shown.push(c);
            columns(c)
        }
    }
}

/// Columns of a character in a terminal.
///
/// The blocks of East Asian Width W and F, emoji and the common combining marks; a rare character
/// may be off by one, which moves carets and nothing else.
fn columns(c: char) -> usize {
    match c {
        '\u{0300}'..='\u{036F}'
        | '\u{1AB0}'..='\u{1AFF}'
        | '\u{1DC0}'..='\u{1DFF}'
        | '\u{200B}'..='\u{200D}'
        | '\u{20D0}'..='\u{20FF}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{FE20}'..='\u{FE2F}' => 0,
        '\u{1100}'..='\u{115F}'
        | '\u{2E80}'..='\u{303E}'
        | '\u{3041}'..='\u{A4CF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{FE30}'..='\u{FE6F}'
        | '\u{FF00}'..='\u{FF60}'
        | '\u{FFE0}'..='\u{FFE6}'
        | '\u{1F300}'..='\u{1F64F}'
        | '\u{1F680}'..='\u{1F6FF}'
        | '\u{1F900}'..='\u{1F9FF}'
        | '\u{20000}'..='\u{3FFFD}' => 2,
        _ => 1,
    }
}

/// The nearest character boundary at or before `offset`.
fn floor_char_boundary(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_are_aligned_under_tabs_wide_and_combining_characters() {
        for (line, place, indent, width) in [
            ("\tkey = 1", "key", 4, 3),
            ("a = \"né\" # x", "x", 11, 1),
            ("a = \"日本\" # x", "x", 13, 1),
            ("a = \"日本\"", "日本", 5, 4),
            ("a = \"e\u{301}\" # x", "x", 10, 1),
            ("\u{feff}a = 1", "a", 0, 1),
        ] {
            let text = format!("first = 1\r\n{line}\r\nlast = 1\n");
            let start = text.rfind(place).unwrap();
            let start = if place == "a" {
                text.find(place).unwrap()
            } else {
                start
            };
            let source = Source {
                name: "f",
                text: &text,
                secrets: Vec::new(),
                parts: Vec::new(),
            };
            let snippet = source.snippet(start..start + place.len());
            assert_eq!((snippet.indent, snippet.width), (indent, width), "{line}");
        }
    }

    #[test]
    fn any_range_of_any_text_has_a_place() {
        let text = "é\n\r\n\t日\n";
        let source = Source {
            name: "f",
            text,
            secrets: Vec::new(),
            parts: Vec::new(),
        };
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let snippet = source.snippet(start..end);
                assert!(snippet.line <= 4 && snippet.width >= 1);
            }
        }
    }

    #[test]
    fn secrets_and_control_characters_are_not_shown() {
        let source = Source {
            name: "f",
            text: "k = \"s3cr\x1b\" # \x1b[2J",
            secrets: std::iter::once(5..10).collect(),
            parts: Vec::new(),
        };
        let shown = source.snippet(0..1).shown;
        assert_eq!(shown, "k = \"*****\" # \u{FFFD}[2J");
    }
}
