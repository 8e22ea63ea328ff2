//! Which events, of which channels, a request asks for: `?event=price,trade`, `?channel=a&channel=b`.
//! Pure.
//!
//! Each parameter may come several times, and each time name several things, with commas between them;
//! the order means nothing. So what is asked for by many in many ways is one selection.

use std::collections::BTreeSet;

use crate::config::{Channel, SelectEvents, UnknownPath};
use crate::log::{MAX_SOURCES, Selection};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Which event types.
    pub events: Selection,
    /// Of a bundle, the channels, ordered; of anything else none.
    pub channels: Vec<String>,
}

/// What is wrong with a request's query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadQuery {
    /// No channel is named; those that there are, if they may be known.
    NoChannel(Option<String>),
    /// The parameter is there, and names no event type.
    NoEventType,
    /// More event types, or longer ones, than anybody needs.
    TooManyTypes,
    /// A channel that is none of the bundle's; those that are, if they may be known.
    UnknownChannel(String, Option<String>),
}

/// Event types that one client may select.
const MAX_TYPES: usize = 64;

/// Longest name of one.
const MAX_TYPE_BYTES: usize = 256;

impl BadQuery {
    /// What the client is told.
    pub fn detail(&self) -> String {
        let example = |names: &Option<String>| match names {
            Some(names) => format!("channels here: {names}"),
            None => "write ?channel=NAME, and &channel=NAME for each other one".to_owned(),
        };
        match self {
            Self::NoChannel(names) => format!("which channels? {}", example(names)),
            Self::NoEventType => "event names no event type: write ?event=price,trade".to_owned(),
            Self::TooManyTypes => format!(
                "event names at most {MAX_TYPES} event types of at most {MAX_TYPE_BYTES} bytes each"
            ),
            Self::UnknownChannel(name, names) => {
                let name = name.escape_debug();
                match names {
                    Some(names) => format!("there is no channel `{name}` here; channels: {names}"),
                    None => format!("there is no channel `{name}` here"),
                }
            }
        }
    }
}

impl Selected {
    /// What a query asks for of a channel or a bundle. Where event types may not be asked for, the
    /// parameter means nothing, as any other that is not ours.
    ///
    /// # Errors
    ///
    /// If it asks for what is not there, or for too much.
    pub fn of(
        channel: &Channel,
        query: Option<&str>,
        unknown_path: UnknownPath,
    ) -> Result<Self, BadQuery> {
        let events = match channel.select_events {
            SelectEvents::Allow => events(query)?,
            SelectEvents::Ignore => Selection::all(),
        };
        let channels = match &channel.bundle {
            Some(bundle) => {
                // What is there is as much of a secret as which paths there are.
                let names = || {
                    let may_be_known = unknown_path == UnknownPath::ListPaths;
                    may_be_known.then(|| bundle.channels.join(", "))
                };
                let known = |name: &str| bundle.channels.iter().any(|one| one == name);
                channels(query, known, names)?
            }
            None => Vec::new(),
        };
        Ok(Self { events, channels })
    }
}

/// The event types that a query asks for; all, if it names none.
fn events(query: Option<&str>) -> Result<Selection, BadQuery> {
    let Some(types) = named(query, "event") else {
        return Ok(Selection::all());
    };
    if types.is_empty() {
        return Err(BadQuery::NoEventType);
    }
    if types.len() > MAX_TYPES || types.iter().any(|name| name.len() > MAX_TYPE_BYTES) {
        return Err(BadQuery::TooManyTypes);
    }
    Ok(Selection::of(types))
}

/// The channels of `known` that a query asks for, in an order that does not depend on the query.
fn channels(
    query: Option<&str>,
    known: impl Fn(&str) -> bool,
    names: impl Fn() -> Option<String>,
) -> Result<Vec<String>, BadQuery> {
    let asked = named(query, "channel").unwrap_or_default();
    if asked.is_empty() {
        return Err(BadQuery::NoChannel(names()));
    }
    let find = |name: String| {
        if known(&name) {
            Ok(name)
        } else {
            Err(BadQuery::UnknownChannel(cut(name), names()))
        }
    };
    // No bundle has more, so no request has.
    asked.into_iter().take(MAX_SOURCES + 1).map(find).collect()
}

/// What the parameters of this name name, ordered, each once; `None`: there is no such parameter.
fn named(query: Option<&str>, parameter: &str) -> Option<BTreeSet<String>> {
    let query = url::form_urlencoded::parse(query?.as_bytes());
    let mut values = query.filter(|(name, _)| name == parameter).peekable();
    values.peek()?;
    let mut names = BTreeSet::new();
    for (_, value) in values {
        let several = value.split(',').filter(|name| !name.is_empty());
        names.extend(several.map(str::to_owned));
    }
    Some(names)
}

/// A name that is not there need not be repeated at length.
fn cut(mut name: String) -> String {
    const SHOWN: usize = 64;
    if let Some((end, _)) = name.char_indices().nth(SHOWN) {
        name.truncate(end);
        name.push('…');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(query: &str) -> Vec<String> {
        let selection = events(Some(query)).unwrap_or_else(|bad| panic!("{query}: {bad:?}"));
        let types = selection.types().unwrap_or_default();
        types.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn the_same_types_are_the_same_however_they_are_written() {
        for query in [
            "event=price,trade",
            "event=trade,price",
            "event=trade&event=price",
            "x=1&event=price,&event=trade,price",
            "event=%70rice%2Ctrade",
        ] {
            assert_eq!(types(query), ["price", "trade"], "{query}");
        }
        assert_eq!(types("event=message"), ["message"]);
        assert_eq!(types("event=a+b"), ["a b"]);
        assert_eq!(events(None), Ok(Selection::all()));
        assert_eq!(
            events(Some("events=a&last_event_id=7")),
            Ok(Selection::all())
        );
    }

    #[test]
    fn what_is_no_selection_is_told() {
        for query in ["event", "event=", "event=,", "event=&event=,,"] {
            assert_eq!(events(Some(query)), Err(BadQuery::NoEventType), "{query}");
        }
        let many: Vec<String> = (0..=MAX_TYPES).map(|n| n.to_string()).collect();
        let many = format!("event={}", many.join(","));
        let long = format!("event={}", "x".repeat(MAX_TYPE_BYTES + 1));
        for query in [many, long] {
            assert_eq!(events(Some(&query)), Err(BadQuery::TooManyTypes));
        }
    }

    #[test]
    fn only_channels_that_are_there_may_be_asked_for() {
        const KNOWN: [&str; 3] = ["a", "b", "c"];
        let ask = |query| {
            let known = |name: &str| KNOWN.contains(&name);
            channels(Some(query), known, || Some(KNOWN.join(", ")))
        };
        let both = Ok(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(ask("channel=b&channel=a"), both);
        assert_eq!(ask("channel=b,a,b"), both);
        let names = || Some("a, b, c".to_owned());
        assert_eq!(ask("channel="), Err(BadQuery::NoChannel(names())));
        let unknown = BadQuery::UnknownChannel("d".to_owned(), names());
        assert_eq!(ask("channel=a,d"), Err(unknown.clone()));
        assert_eq!(
            unknown.detail(),
            "there is no channel `d` here; channels: a, b, c"
        );
        let long = format!("channel={}", "é".repeat(1000));
        let said = ask(&long).unwrap_err().detail();
        assert!(said.len() < 300, "{said}");
    }
}
