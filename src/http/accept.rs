//! What a client accepts (RFC 9110, 12.5.1). Pure.

use http::HeaderMap;
use http::header::ACCEPT;

/// The form of a short answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/problem+json` (RFC 9457)
    Problem,
    /// `text/plain`
    Text,
}

/// Whether the client takes an event stream: no `Accept` at all takes everything.
pub(super) fn accepts_event_stream(fields: &HeaderMap) -> bool {
    let ranges = ranges(fields);
    ranges.is_empty() || quality(&ranges, "text", "event-stream") > 0.0
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

/// The quality of a media type: that of the most specific range that covers it.
fn quality(ranges: &[Range], main: &str, sub: &str) -> f32 {
    [(main, sub), (main, "*"), ("*", "*")]
        .into_iter()
        .find_map(|(main, sub)| ranges.iter().find(|range| range.is(main, sub)))
        .map_or(0.0, |range| range.quality)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn only_an_accept_that_excludes_event_streams_excludes_them() {
        assert!(accepts_event_stream(&HeaderMap::new()));
        for fine in [
            "",
            "*/*",
            "text/event-stream",
            "TEXT/EVENT-STREAM",
            "text/*",
            "text/html, */*;q=0.1",
            "application/json, text/event-stream",
        ] {
            assert!(accepts_event_stream(&accept(fine)), "{fine:?}");
        }
        for excluded in [
            "text/html",
            "application/json",
            "text/event-stream;q=0",
            "*/*, text/event-stream; q=0",
        ] {
            assert!(!accepts_event_stream(&accept(excluded)), "{excluded:?}");
        }
    }

    #[test]
    fn json_is_for_who_asks_for_it() {
        assert_eq!(preferred_form(&accept("application/json")), Form::Problem);
        assert_eq!(preferred_form(&accept("*/*")), Form::Text);
        assert_eq!(preferred_form(&accept("text/html")), Form::Text);
    }
}
