//! What a client accepts (RFC 9110, 12.5.1). Pure.

use http::header::{ACCEPT, VARY};
use http::{HeaderMap, HeaderValue};

/// The form of a short answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/problem+json` (RFC 9457)
    Problem,
    /// `text/plain`
    Text,
}

/// What a client is given of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Representation {
    /// `application/json`: what there is.
    Document,
    /// `text/event-stream`: and what comes.
    EventStream,
}

/// What of a channel the client prefers; `None`: it takes neither. No `Accept` at all takes everything,
/// and who takes both alike gets the stream, unless it is JSON that it names.
pub(super) fn preferred(fields: &HeaderMap) -> Option<Representation> {
    let ranges = ranges(fields);
    if ranges.is_empty() {
        return Some(Representation::EventStream);
    }
    let stream = quality(&ranges, "text", "event-stream");
    let document = quality(&ranges, "application", "json");
    if document > stream && document.0 > 0.0 {
        Some(Representation::Document)
    } else {
        (stream.0 > 0.0).then_some(Representation::EventStream)
    }
}

/// Whether the client asks for an event stream by name.
pub(super) fn names_event_stream(fields: &HeaderMap) -> bool {
    ranges(fields)
        .iter()
        .any(|range| range.is("text", "event-stream") && range.quality > 0.0)
}

/// The form that a client wants a short answer in: JSON for who asks for JSON by name.
pub(super) fn preferred_form(fields: &HeaderMap) -> Form {
    let ranges = ranges(fields);
    let names_json = ranges.iter().any(|range| {
        range.quality > 0.0
            && (range.is("application", "problem+json") || range.is("application", "json"))
    });
    if names_json {
        Form::Problem
    } else {
        Form::Text
    }
}

/// Adds that the answer depends on what the client accepts. In one field with what else it depends on:
/// some caches look at the first only.
pub(super) fn vary_by_accept(answer: &mut HeaderMap) {
    let varies = if answer.contains_key(VARY) {
        "Origin, Accept"
    } else {
        "Accept"
    };
    answer.insert(VARY, HeaderValue::from_static(varies));
}

struct Range {
    main: String,
    sub: String,
    quality: f32,
}

impl Range {
    fn is(&self, main: &str, sub: &str) -> bool {
        self.main.eq_ignore_ascii_case(main) && self.sub.eq_ignore_ascii_case(sub)
    }
}

fn ranges(fields: &HeaderMap) -> Vec<Range> {
    fields
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(parse_range)
        .collect()
}

/// A media range; `None` for what is none, which is ignored.
fn parse_range(text: &str) -> Option<Range> {
    let mut parts = text.split(';').map(str::trim);
    let (main, sub) = parts.next()?.split_once('/')?;
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("q")
            .then(|| value.trim().parse::<f32>().ok())?
    });
    Some(Range {
        main: main.to_owned(),
        sub: sub.to_owned(),
        quality: weight.unwrap_or(1.0),
    })
}

/// The quality of a media type, that of the most specific range that covers it; and how specific that
/// is.
fn quality(ranges: &[Range], main: &str, sub: &str) -> (f32, u8) {
    [(main, sub, 3), (main, "*", 2), ("*", "*", 1)]
        .into_iter()
        .find_map(|(main, sub, specificity)| {
            let range = ranges.iter().find(|range| range.is(main, sub))?;
            Some((range.quality, specificity))
        })
        .unwrap_or((0.0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn who_takes_an_event_stream_gets_one() {
        let stream = Some(Representation::EventStream);
        assert_eq!(preferred(&HeaderMap::new()), stream);
        for fine in [
            "",
            "*/*",
            "text/event-stream",
            "TEXT/EVENT-STREAM",
            "text/*",
            "text/html, */*;q=0.1",
            "application/json, text/event-stream",
            "application/json;q=0.9, text/event-stream",
            "application/json;q=0, */*",
            "application/*, text/*",
        ] {
            assert_eq!(preferred(&accept(fine)), stream, "{fine:?}");
        }
        for excluded in [
            "text/html",
            "application/json;q=0",
            "text/event-stream;q=0",
            "*/*;q=0",
        ] {
            assert_eq!(preferred(&accept(excluded)), None, "{excluded:?}");
        }
    }

    #[test]
    fn who_prefers_json_gets_a_document() {
        for json in [
            "application/json",
            "Application/JSON;q=0.2",
            "application/json, text/plain, */*",
            "application/json, text/event-stream;q=0.9",
            "application/*",
            "*/*, text/event-stream; q=0",
        ] {
            let document = Some(Representation::Document);
            assert_eq!(preferred(&accept(json)), document, "{json:?}");
        }
    }

    #[test]
    fn json_is_for_who_asks_for_it() {
        assert_eq!(preferred_form(&accept("application/json")), Form::Problem);
        assert_eq!(preferred_form(&accept("*/*")), Form::Text);
        assert_eq!(preferred_form(&accept("text/html")), Form::Text);
    }
}
