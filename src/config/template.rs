//! Texts with variables: `{name}`, which stands for one segment of a path, and `{*name}`, which stands
//! for the rest of it.
//!
//! In a path, a variable is what a request's path gives; in the URL of an upstream, what it is asked
//! with. A value can't change the structure of the URL that it is put into: it is checked when it comes
//! (`key`), and encoded when it goes (here).

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::findings::Mistake;
use crate::config::key::Key;

/// A variable of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// What stands in the braces.
    pub name: String,
    /// How much it stands for.
    pub extent: Extent,
}

/// How much a variable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// `{*name}`: the rest of a path, slashes included.
    Rest,
    /// `{name}`: what is between two slashes, or a part of it.
    Segment,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Literal(&'a str),
    Variable(Variable),
}

/// Everything but what is never encoded (RFC 3986, 2.3).
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const NAMES: &str = "a name is made of letters, digits and `_`, like `{room}`; `{*rest}` stands for \
                     the rest of a path";

/// The pieces of a text.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Mistake> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (literal, found) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let Some(inner) = found.strip_prefix('{') else {
            let advice = "remove it, or write `%7D` for a brace that is meant";
            return Err(Mistake::new("a `}` closes nothing", advice));
        };
        let Some((name, after)) = inner.split_once('}') else {
            let advice = "write a variable like `{room}`, or `%7B` for a brace that is meant";
            return Err(Mistake::new("a `{` is not closed", advice));
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        pieces.push(Piece::Variable(variable(name)?));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    Ok(pieces)
}

fn variable(inner: &str) -> Result<Variable, Mistake> {
    let (name, extent) = match inner.strip_prefix('*') {
        Some(name) => (name, Extent::Rest),
        None => (inner, Extent::Segment),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        let shown: String = inner.chars().take(40).collect();
        let message = format!("`{{{}}}` is not a variable", shown.escape_debug());
        return Err(Mistake::new(message, NAMES));
    }
    Ok(Variable {
        name: name.to_owned(),
        extent,
    })
}

/// The variables of a path, in their order. It was checked before.
pub(super) fn variables(path: &str) -> Vec<Variable> {
    let pieces = pieces(path).unwrap_or_default();
    let variables = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Literal(_) => None,
        Piece::Variable(variable) => Some(variable),
    });
    variables.collect()
}

/// What a text is with a harmless value for each variable, so that the rest of it can be checked.
pub(super) fn with_sample_values(pieces: &[Piece<'_>]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => text,
            Piece::Variable(_) => "x",
        })
        .collect()
}

/// Puts the values of a key into a URL with variables. Encoded are all characters that are not
/// unreserved, so a value stays within its segment or its parameter whatever it is.
pub(super) fn expand(url: &str, variables: &[Variable], key: &Key) -> String {
    let pieces = pieces(url).unwrap_or_default();
    let mut expanded = String::with_capacity(url.len() + 32);
    let mut is_query = false;
    for piece in pieces {
        match piece {
            Piece::Literal(text) => {
                is_query |= text.contains('?');
                expanded.push_str(text);
            }
            Piece::Variable(variable) => {
                let place = variables.iter().position(|one| one.name == variable.name);
                let value = place.and_then(|place| key.value(place)).unwrap_or_default();
                let keeps_slashes = variable.extent == Extent::Rest && !is_query;
                for (number, segment) in value.split('/').enumerate() {
                    if number > 0 {
                        expanded.push_str(if keeps_slashes { "/" } else { "%2F" });
                    }
                    expanded.extend(utf8_percent_encode(segment, NOT_UNRESERVED));
                }
            }
        }
    }
    let query = key.query();
    if !query.is_empty() {
        expanded.push(if is_query { '&' } else { '?' });
        expanded.push_str(query);
    }
    expanded
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = match self.extent {
            Extent::Rest => "*",
            Extent::Segment => "",
        };
        write!(f, "{{{star}{}}}", self.name)
    }
}
