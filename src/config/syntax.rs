//! Turns the TOML parser's errors into findings that say what would be right.
//!
//! The parser goes on after an error, so one mistake can give several: the first of a line is kept,
//! and nothing inside brackets that are never closed.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;
use toml::de::Error;

use crate::config::credential;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::snippet::Source;
use crate::config::validate;

/// Blanks lines like `path: "/events"`, where the parser gives up the rest of the table, and returns
/// their errors. All places in the text stay where they are.
pub(super) fn without_broken_lines(text: &str) -> (Cow<'_, str>, Vec<Error>) {
    // Each turn blanks a line of every table; a file with more of them is not meant to be TOML.
    const MOST_TURNS: usize = 20;
    let mut text = Cow::Borrowed(text);
    let mut broken = Vec::new();
    for _ in 0..MOST_TURNS {
        let (_, errors) = DeTable::parse_recoverable(&text);
        let mut places: Vec<usize> = (errors.iter())
            .filter(|error| error.message().starts_with("key with no value"))
            .filter_map(|error| Some(error.span()?.start))
            .filter(|at| !line_of(&text, *at).contains(['[', ']', '{', '}']))
            .collect();
        if places.is_empty() {
            break;
        }
        places.sort_unstable();
        let mut at = 0;
        let mut blanked = String::new();
        for line in text.split_inclusive('\n') {
            let content = line.trim_end_matches(['\r', '\n']);
            let whole = at..=at + content.len();
            at += line.len();
            let next = places.partition_point(|place| place < whole.start());
            if places.get(next).is_some_and(|place| whole.contains(place)) {
                blanked.push_str(&" ".repeat(content.len()));
                blanked.push_str(line.get(content.len()..).unwrap_or_default());
                let is_here =
                    |error: &Error| error.span().is_some_and(|span| whole.contains(&span.start));
                broken.extend(errors.iter().filter(|error| is_here(error)).cloned());
            } else {
                blanked.push_str(line);
            }
        }
        text = Cow::Owned(blanked);
    }
    (text, broken)
}

/// Adds the syntax errors, hides what they may show, and drops what only follows from them.
pub(super) fn report(
    mut errors: Vec<Error>,
    table: &DeTable<'_>,
    source: &mut Source<'_>,
    findings: &mut Findings,
) {
    if errors.is_empty() {
        return;
    }
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    if !source.text.contains('=') {
        // YAML or JSON: one remark for all of it.
        let span = errors.first().and_then(Error::span).unwrap_or_default();
        let advice = format!("write it like this:\n\n{}", validate::example());
        let mistake = Mistake::new("this is not TOML", advice);
        findings.list = vec![Finding::new(Severity::Error, Some(span.clone()), mistake)];
        hide_lines(&[source.line_index(span.start)], source);
        return;
    }
    let unclosed = errors
        .iter()
        .find_map(|error| unclosed(error, table, source.text));
    if let Some((_, span)) = &unclosed {
        errors.retain(|error| error.span().is_none_or(|other| other.start < span.start));
        let is_before = |finding: &Finding| {
            finding
                .span
                .as_ref()
                .is_none_or(|other| other.start < span.start)
        };
        findings.list.retain(is_before);
    }

    let mut lines: Vec<usize> = Vec::new();
    let mut ours: Vec<Finding> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or_default();
        let line = source.line_index(span.start);
        if !lines.contains(&line) {
            lines.push(line);
            ours.push(finding(&error, span, table, source));
        }
    }
    if let Some((bracket, span)) = unclosed {
        lines.push(source.line_index(span.start));
        let (open, close) = bracket;
        let message = format!("`{open}` is never closed");
        let mistake = Mistake::new(message, format!("write `{close}` where it ends"));
        ours.push(Finding::new(Severity::Error, Some(span), mistake));
    }

    hide_lines(&lines, source);
    // What seems to be missing or wrong beside a syntax error mostly comes from it.
    findings.list.retain(|finding| {
        let is_beside = |span: &Range<usize>| lines.contains(&source.line_index(span.start));
        !finding.is_absence && !finding.span.as_ref().is_some_and(is_beside)
    });
    findings.list.extend(ours);
}

fn finding(error: &Error, span: Range<usize>, table: &DeTable<'_>, source: &Source<'_>) -> Finding {
    let text = source.text;
    let message = error.message();
    if message == "duplicate key" {
        return duplicate(span, text);
    }
    if let Some(value) = bare_value(table, &span, text) {
        let mistake = bare(text.get(value.clone()).unwrap_or_default(), &value, source);
        return Finding::new(Severity::Error, Some(value), mistake);
    }
    let line = line_of(text, span.start);
    let is_colon =
        message.starts_with("invalid unquoted key") && text.get(span.clone()) == Some(":");
    let mistake = if message.starts_with("key with no value") || is_colon {
        let advice = match line.split_once(':') {
            Some((key, _)) if !key.trim().contains(' ') => {
                "write `key = value`: `=` instead of `:`"
            }
            _ => "write `key = value`; a comment begins with `#`",
        };
        Mistake::new("a key without a value", advice)
    } else if message.starts_with("string values must be quoted") {
        Mistake::new(
            "a value is missing",
            "write a value after `=`, or remove the line",
        )
    } else if message.starts_with("unexpected key or value") {
        let advice = "write one key and its value on a line; a comment begins with `#`";
        Mistake::new("something follows the value", advice)
    } else if message.starts_with("unclosed table") {
        Mistake::new(
            "the header of the table has no `]`",
            "write `]` after its name",
        )
    } else if message.starts_with("cannot extend value of type inline table") {
        let advice = "write all its keys between the braces, or all of them in the table `[…]`";
        Mistake::new("a table in braces cannot be extended elsewhere", advice)
    } else if message.starts_with("cannot extend value") {
        let message = "this key has a value already, so it cannot be a table";
        Mistake::new(message, "write it once, as it is meant")
    } else if message.starts_with("missing escaped value") {
        Mistake::new(
            "an unknown escape after `\\`",
            "write `\\\\` for the character itself, or use '…'",
        )
    } else if message.contains("expected `\"`") || message.contains("expected `'`") {
        Mistake::new(
            "a string is not closed",
            "write the quote where the string ends",
        )
    } else {
        let (message, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let advice = match expected {
            "" | "nothing" => "remove it".to_owned(),
            expected => format!("expected here: {expected}"),
        };
        Mistake::new(message, advice)
    };
    Finding::new(Severity::Error, Some(span), mistake)
}

/// A scalar without quotes that is no value of TOML.
fn bare(raw: &str, span: &Range<usize>, source: &Source<'_>) -> Mistake {
    let is_secret = source
        .secrets
        .iter()
        .any(|secret| secret.start < span.end.max(span.start + 1) && span.start < secret.end);
    if is_secret {
        return Mistake::new("a string needs quotes", "put it in quotes: `\"…\"`");
    }
    let inner = raw.trim_matches(['“', '”', '„', '‘', '’']);
    if inner.len() < raw.len() {
        return Mistake::new(
            "a string needs straight quotes",
            format!("write `\"{inner}\"`"),
        );
    }
    match raw {
        "True" | "TRUE" => Mistake::new("booleans are lower case", "write `true`"),
        "False" | "FALSE" => Mistake::new("booleans are lower case", "write `false`"),
        _ => {
            let (value, comment) = match raw.split_once(" //") {
                Some((value, _)) => (value.trim_end(), "; a comment begins with `#`"),
                None => (raw, ""),
            };
            let quote = if value.contains(['"', '\\']) {
                '\''
            } else {
                '"'
            };
            let advice = format!("a string needs quotes: `{quote}{value}{quote}`{comment}");
            Mistake::new(format!("`{raw}` is not a value"), advice)
        }
    }
}

/// A key or a table that is given twice, with the place of the first.
fn duplicate(span: Range<usize>, text: &str) -> Finding {
    let key = text.get(span.clone()).unwrap_or_default();
    let line = line_of(text, span.start);
    let header = line
        .trim_start()
        .starts_with('[')
        .then(|| header_name(line));
    let what = header
        .as_ref()
        .map_or_else(|| format!("`{key}`"), |name| format!("`[{name}]`"));
    let advice = if header.is_some() {
        "give it another name, or put all its keys into one table"
    } else {
        "remove one of them"
    };
    let mistake = Mistake::new(format!("{what} is given twice"), advice);
    let finding = Finding::new(Severity::Error, Some(span.clone()), mistake);

    let mut first = None;
    let mut at = 0;
    for other in text.split_inclusive('\n') {
        let indent = other.len() - other.trim_start().len();
        let start = at + indent;
        at += other.len();
        if at > span.start {
            break;
        }
        let is_header = other.trim_start().starts_with('[');
        match &header {
            Some(name) if is_header && header_name(other) == *name => {
                first = Some(start..start + other.trim().len());
            }
            None if is_header => first = None,
            None if other.trim_start().split(['=', '.']).next().map(str::trim) == Some(key) => {
                first = Some(start..start + key.len());
            }
            _ => {}
        }
    }
    match first {
        Some(first) => finding.with_note("it is given first here", first),
        None => finding,
    }
}

/// `a.b` of `[a.b]  # comment`
fn header_name(line: &str) -> Cow<'_, str> {
    let name = line.trim_start().trim_start_matches('[');
    Cow::Borrowed(name.split(']').next().unwrap_or(name).trim())
}

/// The brackets, and the place, of a list or an inline table that the text ends in.
fn unclosed(
    error: &Error,
    table: &DeTable<'_>,
    text: &str,
) -> Option<((char, char), Range<usize>)> {
    let message = error.message();
    let brackets = if message.starts_with("unclosed array") {
        ('[', ']')
    } else if message.starts_with("unclosed inline table") {
        ('{', '}')
    } else {
        return None;
    };
    let end = error.span()?.end;
    let mut found: Option<Range<usize>> = None;
    walk(table, &mut |value| {
        let span = value.span();
        let raw = text.get(span.clone()).unwrap_or_default();
        // The innermost one; text may follow that belongs to an error.
        if raw.starts_with(brackets.0) && !raw.ends_with(brackets.1) && span.start < end {
            let is_later = found.as_ref().is_none_or(|found| found.start < span.start);
            let is_value = value.get_ref().is_array() || value.get_ref().is_table();
            if is_later && is_value {
                found = Some(span.start..span.start + 1);
            }
        }
    });
    found.map(|span| (brackets, span))
}

/// The place of the unquoted scalar that an error at `span` is about.
fn bare_value(table: &DeTable<'_>, span: &Range<usize>, text: &str) -> Option<Range<usize>> {
    let mut found = None;
    walk(table, &mut |value| {
        let whole = value.span();
        let is_inside = whole.start <= span.start && span.end <= whole.end && !whole.is_empty();
        let is_scalar = !value.get_ref().is_array() && !value.get_ref().is_table();
        let raw = text.get(whole.clone()).unwrap_or_default();
        if is_inside && is_scalar && !raw.starts_with(['"', '\'']) {
            found = Some(whole);
        }
    });
    found
}

fn walk(table: &DeTable<'_>, visit: &mut impl FnMut(&Spanned<DeValue<'_>>)) {
    for value in table.values() {
        walk_value(value, visit);
    }
}

fn walk_value(value: &Spanned<DeValue<'_>>, visit: &mut impl FnMut(&Spanned<DeValue<'_>>)) {
    visit(value);
    match value.get_ref() {
        DeValue::Array(list) => {
            for value in list {
                walk_value(value, visit);
            }
        }
        DeValue::Table(table) => {
            for value in table.values() {
                walk_value(value, visit);
            }
        }
        _ => {}
    }
}

/// Hides credentials in lines that the parser could not make sense of.
fn hide_lines(lines: &[usize], source: &mut Source<'_>) {
    let mut at = 0;
    for (i, line) in source.text.split_inclusive('\n').enumerate() {
        let end = at + line.len();
        if lines.contains(&i) {
            // A string that lost a quote: what follows may be its rest.
            let known = source.secrets.iter().map(|secret| secret.start);
            let known = known.filter(|start| (at..end).contains(start)).min();
            let guessed = credential::in_broken_line(line).map(|offset| at + offset);
            if let Some(start) = known.into_iter().chain(guessed).min() {
                source.secrets.push(start..end);
            }
        }
        at = end;
    }
}

fn line_of(text: &str, offset: usize) -> &str {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if offset < at {
            return line;
        }
    }
    text.lines().last().unwrap_or_default()
}
