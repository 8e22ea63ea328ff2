//! The path of a channel, in its normal form, with variables where it leads to many instances.
//!
//! Two spellings of a path are one path: unreserved characters are never percent-encoded, and hex
//! digits are upper case (RFC 3986, 6.2.2). Dot segments are refused rather than resolved.

use std::borrow::Cow;

use crate::config::findings::Mistake;
use crate::config::reader::FromText;
use crate::config::template;
use crate::config::template::Extent;
use crate::config::template::Piece;

/// An absolute request path in its normal form. Variables are in it as they are written; other braces
/// can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChannelPath(pub(super) String);

impl FromText for ChannelPath {
    const EXAMPLE: &'static str = "\"/events\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let refuse = |message: &str, advice: String| Err(Mistake::new(message, advice));
        if let Some((_, rest)) = text.split_once("://") {
            let path = rest
                .find('/')
                .and_then(|slash| rest.get(slash..))
                .unwrap_or("/events");
            let advice = format!("write only the path: `\"{}\"`", without_query(path));
            return refuse("a path, not a URL, is needed", advice);
        }
        if !text.starts_with('/') {
            let rest = if text.is_empty() { "events" } else { text };
            let advice = format!("write `\"/{}\"`", without_query(rest));
            return refuse("a path begins with `/`", advice);
        }
        if text.contains(['?', '#']) {
            let advice = format!("write `\"{}\"`; any query matches", without_query(text));
            return refuse("a path has no query and no fragment", advice);
        }
        let pieces = template::pieces(text)?;
        let path = normal_form(&pieces)?;
        if has_dot_segment(&path) {
            let message = "the segments `.` and `..` are not allowed: clients resolve them";
            return refuse(message, "write the path that they lead to".to_owned());
        }
        check_variables(&path, &pieces)?;
        Ok(Self(path))
    }
}

/// The text of these pieces, literal ones in their normal form.
fn normal_form(pieces: &[Piece<'_>]) -> Result<String, Mistake> {
    let mut path = String::new();
    for piece in pieces {
        let text = match piece {
            Piece::Literal(text) => *text,
            Piece::Variable(variable) => {
                path.push_str(&variable.to_string());
                continue;
            }
        };
        if let Some(c) = text.chars().find(|c| !is_path_character(*c)) {
            let right: String = (pieces.iter())
                .map(|piece| match piece {
                    Piece::Literal(text) => text.chars().map(encoded).collect(),
                    Piece::Variable(variable) => variable.to_string(),
                })
                .collect();
            let message = format!("`{}` must be percent-encoded in a path", c.escape_debug());
            return Err(Mistake::new(message, format!("write `\"{right}\"`")));
        }
        let Some(text) = normalize_path(text) else {
            let advice = "write `%` and two hexadecimal digits, and `%25` for `%` itself";
            let message = "`%` is not followed by two hexadecimal digits";
            return Err(Mistake::new(message, advice));
        };
        path.push_str(&text);
    }
    Ok(path)
}

/// Of variables, one in a segment, each once, and the rest last.
fn check_variables(path: &str, pieces: &[Piece<'_>]) -> Result<(), Mistake> {
    let mut names: Vec<&str> = Vec::new();
    for piece in pieces {
        let Piece::Variable(variable) = piece else {
            continue;
        };
        if names.contains(&variable.name.as_str()) {
            let message = format!("the variable `{}` is there twice", variable.name);
            return Err(Mistake::new(message, "give one of them another name"));
        }
        names.push(&variable.name);
        let shown = variable.to_string();
        if variable.extent == Extent::Rest && !path.ends_with(&format!("/{shown}")) {
            let message = format!("`{shown}` stands for the rest of a path, and is not its end");
            let advice = format!(
                "write `{{{}}}`, which is one segment, or end with `/{shown}`",
                variable.name
            );
            return Err(Mistake::new(message, advice));
        }
    }
    let has_two = |segment: &&str| segment.matches('{').count() > 1;
    if let Some(segment) = path.split('/').find(has_two) {
        let message = format!("`{segment}` has two variables, and nobody knows where one ends");
        return Err(Mistake::new(message, "put a `/` between them"));
    }
    Ok(())
}

/// The normal form of a request path; `None` if a `%` is not followed by two hexadecimal digits.
///
/// The path of a [`Channel`](crate::config::Channel) is in this form, so a request's path must be
/// brought into it before the two are compared.
pub fn normalize_path(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut parts = path.split('%');
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match u8::from_str_radix(digits, 16).ok().map(char::from) {
            Some(c) if is_unreserved(c) => normal.push(c),
            _ => {
                normal.push('%');
                normal.push_str(&digits.to_ascii_uppercase());
            }
        }
        normal.push_str(rest);
    }
    Some(Cow::Owned(normal))
}

/// Whether a path has a segment `.` or `..`, however it is spelled.
pub(super) fn has_dot_segment(path: &str) -> bool {
    let is_dot = |segment: &str| match segment.len() {
        1 | 2 => matches!(segment, "." | ".."),
        3..=6 => matches!(normalize_path(segment).as_deref(), Some("." | "..")),
        _ => false,
    };
    path.split('/').any(is_dot)
}

/// What the variables of a path in its normal form stand for in a request's path that it leads to, as
/// they are written there; `None` if it does not lead there.
pub(super) fn captured<'p>(template: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut values = Vec::new();
    let (mut template, mut path) = (template, path);
    loop {
        let (expected, more) = split_segment(template);
        if expected.starts_with("{*") {
            values.push(path);
            return Some(values);
        }
        let (segment, rest) = split_segment(path);
        if let Some((before, variable)) = expected.split_once('{') {
            let (_, after) = variable.split_once('}')?;
            let mut ends: Vec<usize> = units(segment).collect();
            let start = match units(before).count() {
                0 => 0,
                n => *ends.get(n - 1)?,
            };
            ends.insert(0, 0);
            let end = *ends.get(ends.len().checked_sub(units(after).count() + 1)?)?;
            values.push(segment.get(start..end)?);
        }
        match (more, rest) {
            (Some(more), Some(rest)) => (template, path) = (more, rest),
            (None, None) => return Some(values),
            (None, Some(_)) | (Some(_), None) => return None,
        }
    }
}

/// What is before the first slash, and what is behind it.
fn split_segment(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    }
}

/// Where each character of a path ends, encoded or not. The normal form of a path has as many.
fn units(text: &str) -> impl Iterator<Item = usize> {
    let mut n_digits = 0;
    text.char_indices().filter_map(move |(at, c)| {
        if c == '%' {
            n_digits = 2;
            return None;
        }
        if n_digits > 1 {
            n_digits -= 1;
            return None;
        }
        n_digits = 0;
        Some(at + c.len_utf8())
    })
}

/// RFC 3986, 2.3
fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')
}

/// RFC 3986, 3.3, and `%`
fn is_path_character(c: char) -> bool {
    is_unreserved(c) || "!$&'()*+,;=:@/%".contains(c)
}

fn encoded(c: char) -> String {
    if is_path_character(c) {
        return c.to_string();
    }
    let mut bytes = [0; 4];
    c.encode_utf8(&mut bytes)
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect()
}

fn without_query(text: &str) -> &str {
    text.find(['?', '#'])
        .and_then(|end| text.get(..end))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::proptest;

    use super::*;

    #[test]
    fn is_normalised_or_refused() {
        for (text, path) in [
            ("/", Some("/")),
            ("/events", Some("/events")),
            ("/events/", Some("/events/")),
            ("/a//b", Some("/a//b")),
            ("/%65vents/%7e%2f%c3%A9", Some("/events/~%2F%C3%A9")),
            ("/a:b@c;d=e,f", Some("/a:b@c;d=e,f")),
            ("/...", Some("/...")),
            ("", None),
            ("events", None),
            ("http://a.example/events", None),
            ("/events?x=1", None),
            ("/events#x", None),
            ("/{room}", Some("/{room}")),
            ("/%72ooms/{room}/caf%c3%a9", Some("/rooms/{room}/caf%C3%A9")),
            ("/img-{id}.png", Some("/img-{id}.png")),
            ("/a/{*rest}", Some("/a/{*rest}")),
            ("/{*rest}/a", None),
            ("/a{*rest}", None),
            ("/{a}{b}", None),
            ("/{a}/{a}", None),
            ("/{}", None),
            ("/{a", None),
            ("/a}", None),
            ("/{a b}", None),
            ("/{a}/\u{e9}", None),
            ("/%4{a}", None),
            ("/é", None),
            ("/a b", None),
            ("/a\\b", None),
            ("/%", None),
            ("/%4", None),
            ("/%zz", None),
            ("/%é", None),
            ("/a/../b", None),
            ("/a/%2e%2E/b", None),
            ("/.", None),
        ] {
            let path = path.map(|path| ChannelPath(path.to_owned()));
            assert_eq!(ChannelPath::from_text(text).ok(), path, "{text}");
        }
    }

    #[test]
    fn variables_stand_for_what_is_written() {
        for (template, path, values) in [
            ("/", "/", Some(vec![])),
            ("/{*rest}", "/", Some(vec![""])),
            ("/{*rest}", "/a/%7e/b", Some(vec!["a/%7e/b"])),
            ("/api/{*rest}", "/%61pi/", Some(vec![""])),
            (
                "/a/{x}/b/{*rest}",
                "/a/%7Ex%2f/b/c/",
                Some(vec!["%7Ex%2f", "c/"]),
            ),
            ("/img-{id}.png", "/%69mg%2d%7e1%2Epng", Some(vec!["%7e1"])),
            ("/{x}%2F", "/a%2f", Some(vec!["a"])),
            ("/{x}-", "/%41-", Some(vec!["%41"])),
            ("/a/{x}", "/a", None),
            ("/{x}", "/a/b", None),
            ("/long-{x}", "/l", None),
        ] {
            assert_eq!(captured(template, path), values, "{template} {path}");
        }
    }

    #[test]
    fn dot_segments_are_known_in_every_spelling() {
        for (path, has) in [
            ("/a/./b", true),
            ("/..", true),
            ("/%2e", true),
            ("/.%2E/a", true),
            ("/%2e%2e", true),
            ("/...", false),
            ("/.a", false),
            ("/%2e%2e%2e", false),
            ("/", false),
            ("/%2e%zz", false),
        ] {
            assert_eq!(has_dot_segment(path), has, "{path}");
        }
    }

    #[test]
    fn advice_is_a_path_that_works() {
        let mistake = ChannelPath::from_text("/caf\u{e9} 1").unwrap_err();
        assert_eq!(mistake.advice, "write `\"/caf%C3%A9%201\"`");
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own(path in ".*", other in "/(%[0-9a-fA-F]{2}|[a-z/.%])*") {
            for path in [path, other] {
                if let Some(normal) = normalize_path(&path) {
                    assert_eq!(normalize_path(&normal).as_deref(), Some(&*normal));
                }
            }
        }
    }
}
