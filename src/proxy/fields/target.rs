//! What an origin is asked for: the client's path byte for byte, or the one that the upstream's URL
//! makes of it; and the client's query.
//!
//! A path that some would read as another one is refused, so that nobody gets around what it was routed
//! by: with a dot segment in any spelling, also behind an encoded slash or a backslash, which servers
//! exist that take for one, or with parameters (`..;x`), which servers exist that take off first.
//!
//! Spec: RFC 3986, 3.3 and 5.2.4; RFC 9112, 3.2.

use http::uri::PathAndQuery;
use http::{Method, Uri};

use super::{Hop, Refused};

/// The target to send in origin-form.
///
/// # Errors
///
/// If the client's means something else to somebody, or has no path.
pub(super) fn of(asked: &Uri, method: &Method, hop: &Hop<'_>) -> Result<PathAndQuery, Refused> {
    let is_web = asked.scheme_str().is_none_or(|scheme| {
        ["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    });
    let target = asked
        .path_and_query()
        .filter(|_| is_web && *method != Method::TRACE);
    let target = target.ok_or(Refused::BadTarget)?;
    let path = target.path();
    if !path.starts_with('/') {
        return Err(Refused::BadTarget);
    }
    check(path)?;
    let is_origin_form = target.as_str().starts_with('/');
    if hop.upstream.keeps_path() && is_origin_form {
        return Ok(target.clone());
    }
    let captured = hop.proxy.captured(path);
    let path = hop
        .upstream
        .path(path, &captured)
        .ok_or(Refused::DotSegment)?;
    // Between literal parts, values can become what they are not.
    check(&path)?;
    let text = match target.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    text.parse().map_err(|_too_long| Refused::BadTarget)
}

/// Checks that a path has one meaning.
pub(super) fn check(path: &str) -> Result<(), Refused> {
    let mut is_special = false;
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            is_special |= matches!(byte, b'.' | b'\\');
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        match (digit(), digit()) {
            (Some(0), Some(0)) => return Err(Refused::Nul),
            (Some(_), Some(_)) => is_special = true,
            _ => return Err(Refused::BadEscape),
        }
    }
    // Most paths are done here.
    if is_special && has_dot_segment(path) {
        return Err(Refused::DotSegment);
    }
    Ok(())
}

/// Whether one of the segments is `.` or `..` to somebody.
fn has_dot_segment(path: &str) -> bool {
    let mut segment = Segment::Empty;
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let high = digit().unwrap_or_default();
            u8::try_from(high * 16 + digit().unwrap_or_default()).unwrap_or_default()
        } else {
            byte
        };
        segment = match byte {
            b'/' | b'\\' if segment.is_dots() => return true,
            b'/' | b'\\' => Segment::Empty,
            _ => segment.with(byte),
        };
    }
    segment.is_dots()
}

/// What a segment is, as far as it has been read.
#[derive(Debug, Clone, Copy)]
enum Segment {
    Dots(u8),
    /// The same, before parameters.
    DotsWith,
    Empty,
    Other,
}

impl Segment {
    fn with(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Empty, b'.') => Self::Dots(1),
            (Self::Dots(1), b'.') => Self::Dots(2),
            (Self::Dots(_), b';') | (Self::DotsWith, _) => Self::DotsWith,
            _ => Self::Other,
        }
    }

    fn is_dots(self) -> bool {
        matches!(self, Self::Dots(_) | Self::DotsWith)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_two_meanings_is_refused() {
        for right in [
            "/",
            "/a",
            "//a//",
            "/...",
            "/.a",
            "/a.",
            "/a..b/c",
            "/..a",
            "/.well-known/x",
            "/a%2Fb",
            "/a%5cb",
            "/%2e%2e%2e",
            "/%252e%252e",
            "/a;x=..",
            "/a;../b",
            "/%0d%0a",
            "/a:b@c",
            "/%e2%80%a6",
            "/\u{2024}\u{2024}/",
            "/%C0%AE%C0%AE/",
            "/a%20b",
        ] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for wrong in [
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e",
            "/%2E%2e/",
            "/.%2e",
            "/%2e.",
            "/a%2f..%2fb",
            "/a/..%2Fb",
            "/a%2f%2e%2e",
            "/a\\..\\b",
            "/a%5c..",
            "/..;/a",
            "/a/..;x=1/b",
            "/.;",
            "/..%3b/a",
            "/%2e%2e%3B",
            "/..;..",
        ] {
            assert_eq!(check(wrong), Err(Refused::DotSegment), "{wrong}");
        }
        for nul in ["/%00", "/a%00b", "/..%00", "/a%00/.."] {
            assert_eq!(check(nul), Err(Refused::Nul), "{nul}");
        }
        for escape in [
            "/%",
            "/%1",
            "/%zz",
            "/a%2",
            "/%%30",
            "/%u0000",
            "/%+1",
            "/%2\u{e9}",
        ] {
            assert_eq!(check(escape), Err(Refused::BadEscape), "{escape}");
        }
    }
}
