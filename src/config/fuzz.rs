//! What must hold of any path and any query, for the fuzzer and for the unit tests.

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use url::Url;

use super::key::KeyRules;
use super::normalize_path;
use super::template::{expand, variables};

/// Reads any bytes as a path; asserts that its normal form names the same, and is the only one.
///
/// # Panics
///
/// If it does not.
pub fn fuzz_path(data: &[u8]) {
    let (Some((choices, path)), true) = (data.split_first_chunk::<4>(), data.len() < 10_000) else {
        return;
    };
    let path = String::from_utf8_lossy(path);
    let Some(meant) = segments(&path) else {
        assert_eq!(normalize_path(&path), None, "{path:?} names nothing");
        return;
    };
    let normal = normalize_path(&path);
    let names = normal.as_deref().and_then(segments);
    assert_eq!(names, Some(meant), "{path:?} as {normal:?}");
    let normal = normal.unwrap_or_default();
    assert_eq!(normalize_path(&normal).as_deref(), Some(&*normal));
    let other = respelled(&normal, u32::from_le_bytes(*choices));
    assert_eq!(normalize_path(&other), Some(normal), "{other:?}");
}

/// Reads any lines as the values of a path's variables and a query, and puts what becomes of them into
/// a URL; asserts that they are in their places there, and nothing else has changed.
///
/// # Panics
///
/// If that is not so.
pub fn fuzz_template(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let (Some(room), Some(rest), query) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    // As a router gives it.
    let (Some(room), Some(rest)) = (normalize_path(room), normalize_path(rest)) else {
        return;
    };
    if room.contains('/') {
        return;
    }
    let rules = KeyRules {
        variables: variables("/{room}/{*rest}"),
        query: vec!["a".to_owned(), "b".to_owned()],
        headers: Vec::new(),
    };
    let key = rules.key([&*room, &*rest].into_iter(), query, &HeaderMap::new());
    let Ok(key) = key else {
        return;
    };
    let template = "http://h.example:81/x/{room}/y/{*rest}/z?room={room}&rest={*rest}";
    let expanded = expand(template, &rules.variables, &key);
    assert!(
        expanded.bytes().all(|byte| byte.is_ascii_graphic()),
        "{expanded:?}"
    );
    assert!(expanded.parse::<http::Uri>().is_ok(), "{expanded:?}");
    let url = Url::parse(&expanded);
    assert!(url.is_ok(), "{expanded:?}");
    let Ok(url) = url else { return };
    let authority = (url.scheme(), url.host_str(), url.port(), url.username());
    assert_eq!(authority, ("http", Some("h.example"), Some(81), ""));
    assert_eq!(
        (url.password(), url.fragment()),
        (None, None),
        "{expanded:?}"
    );
    // The values, each in its place, and as many segments as there are.
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let segments: Vec<String> = url.path().split('/').skip(1).map(decoded).collect();
    let mut meant = vec!["x".to_owned(), decoded(&room), "y".to_owned()];
    meant.extend(rest.split('/').map(decoded));
    meant.push("z".to_owned());
    assert_eq!(segments, meant, "{expanded:?}");
    let mut pairs = url.query_pairs();
    let own = [pairs.next(), pairs.next()].map(|pair| pair.map(|(_, value)| value.into_owned()));
    assert_eq!(
        own,
        [&room, &rest].map(|value| Some(decoded(value))),
        "{expanded:?}"
    );
    assert!(
        pairs.all(|(name, _)| name == "a" || name == "b"),
        "{expanded:?}"
    );
}

/// What a path's segments are, each decoded; `None` if it can't be.
fn segments(path: &str) -> Option<Vec<Vec<u8>>> {
    path.split('/').map(decoded).collect()
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        };
        decoded.push(byte);
    }
    Some(decoded)
}

/// Another spelling of a path in its normal form: letters encoded that need not be, and digits of
/// either case.
fn respelled(normal: &str, choices: u32) -> String {
    let mut spelled = String::new();
    let mut n_digits = 0;
    for (place, c) in normal.chars().enumerate() {
        let choice = (choices >> (place % 16 * 2)) & 3;
        let is_digit = n_digits > 0;
        n_digits = if c == '%' { 2 } else { n_digits.max(1) - 1 };
        let is_unreserved = c.is_ascii_alphanumeric() || "-._~".contains(c);
        match choice {
            0 if is_digit => spelled.push(c.to_ascii_lowercase()),
            1 if !is_digit && is_unreserved => spelled += &format!("%{:02x}", u32::from(c)),
            2 if !is_digit && is_unreserved => spelled += &format!("%{:02X}", u32::from(c)),
            _ => spelled.push(c),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_path_has_one_normal_form(choices: [u8; 4], path in "/([%/a-fA-F0-9.~é-]|%[0-9a-f]{2}){0,30}") {
            fuzz_path(&[&choices[..], path.as_bytes()].concat());
        }

        #[test]
        fn a_value_stays_in_its_place(
            values in "([%/a-cA-F0-9.é?#&=\\\\ -]|%[0-9a-f]{2}){1,12}\\n([%/a-c0-9.@:-]|%[0-9a-f]{2}){1,12}\\n(([abc]=)?[a-c%0-9+&=]{0,6}){0,4}",
        ) {
            fuzz_template(values.as_bytes());
        }
    }
}
