//! What `ssecast explain` says of selections: which events, and of which channels, and whether two
//! requests read the same view.

use crate::http::Selected;
use crate::log::Selection;

/// What is selected; empty: all of a channel, which needs no view.
pub(super) fn row(selected: &Selected) -> String {
    let types = match selected.events.types() {
        Some(types) => format!("the event types {}", names(types)),
        None if selected.channels.is_empty() => return String::new(),
        None => "all events".to_owned(),
    };
    let channels = match selected.channels.as_slice() {
        [] => String::new(),
        channels => format!(" of {}", names(channels)),
    };
    format!("{types}{channels}; shared by all who ask for these")
}

/// Several names in a sentence.
pub(super) fn names(names: &[impl AsRef<str>]) -> String {
    let quoted = names.iter().map(|name| format!("`{}`", name.as_ref()));
    let mut quoted: Vec<String> = quoted.collect();
    let Some(last) = quoted.pop() else {
        return "none".to_owned();
    };
    if quoted.is_empty() {
        last
    } else {
        format!("{} and {last}", quoted.join(", "))
    }
}

/// Goes on with what two requests have in common: whether they read the same of it.
pub(super) fn compare(common: &str, one: &Selected, other: &Selected) -> String {
    if one == other {
        let has_view = !(one.channels.is_empty() && one.events == Selection::all());
        let shared = if has_view { ", and share a view" } else { "" };
        return format!("{common}{shared}.\n");
    }
    let types = |selected: &Selected| {
        let types = selected.events.types();
        types.map_or_else(|| "all".to_owned(), names)
    };
    let mut text = format!("{common}, and read different events of it:\n");
    for (what, one, other) in [
        ("channel", names(&one.channels), names(&other.channels)),
        ("event", types(one), types(other)),
    ] {
        if one != other {
            text.push_str(&format!("  {what:<10} {one} here, {other} there\n"));
        }
    }
    text
}
