//! What must hold of any path, for the fuzzer and for the unit tests.

use super::normalize_path;

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
    }
}
