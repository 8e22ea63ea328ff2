//! The key of an event: what makes two events say the same thing at different times.
//!
//! It is found once, when the event is appended. What is looked for in the data costs no memory beyond
//! the key itself, however large or deep the data is.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::batch::GAP_NOTICE;
use super::writer::MAX_ID_BYTES;
use crate::config::ConflateBy;
use crate::sse::Event;

/// An event's key, and whether the event has anything to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keyed {
    pub(super) key: Key,
    pub(super) says: Says,
}

/// What an event is the newest of. Texts from different places never are the same key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Key {
    /// A notice of ours that events may be missing here.
    Gap,
    /// An id of the origin's.
    Id(Box<str>),
    /// A number in the data, in its normal form.
    Number(Box<str>),
    /// A string in the data.
    Text(Box<str>),
    /// `true` or `false` in the data.
    Truth(bool),
    /// An event type.
    Type(Box<str>),
}

/// What an event says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// Nothing besides it: that there is no such thing any more.
    Removed,
    /// Its present state.
    Value,
}

impl Key {
    /// Bytes besides those of the type itself.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Gap | Self::Truth(_) => 0,
            Self::Id(text) | Self::Number(text) | Self::Text(text) | Self::Type(text) => text.len(),
        }
    }

    fn of_type(event_type: &str) -> Self {
        // As browsers dispatch it.
        let event_type = if event_type.is_empty() {
            "message"
        } else {
            event_type
        };
        Self::Type(event_type.into())
    }
}

impl Keyed {
    /// The key of an event of the origin's. Where there is none of the kind that is asked for, it is the
    /// event's type.
    pub(super) fn of(event: &Event<'_>, by: &ConflateBy) -> Self {
        let key = match by {
            ConflateBy::Id => event
                .id
                .filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES)
                .map(|id| Key::Id(id.into())),
            ConflateBy::Pointer(pointer) => {
                if let Some(found) = find(event.data, pointer.tokens()) {
                    return found;
                }
                None
            }
            ConflateBy::Type => None,
        };
        Self {
            key: key.unwrap_or_else(|| Key::of_type(event.event_type)),
            says: if event.data.is_empty() {
                Says::Removed
            } else {
                Says::Value
            },
        }
    }

    /// The key of a notice of ours. Only that events may be missing is of interest to those who come
    /// later.
    pub(super) fn of_notice(event_type: &str) -> Option<Self> {
        (event_type == GAP_NOTICE).then_some(Self {
            key: Key::Gap,
            says: Says::Value,
        })
    }
}

/// What is there in a JSON text. Data that has the key and nothing else says that it is no more.
fn find(json: &str, tokens: &[String]) -> Option<Keyed> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = Walk { tokens }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    found
}

/// The rest of the way.
struct Walk<'a> {
    tokens: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<Keyed>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.tokens.is_empty() {
            let value = <&RawValue>::deserialize(deserializer)?;
            Ok(scalar(value.get()).map(|key| Keyed {
                key,
                says: Says::Removed,
            }))
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<Keyed>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array on the way to the key")
    }

    // The way does not lead on from these. That is no error: a name may come again.

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((token, tokens)) = self.tokens.split_first() else {
            return Ok(None);
        };
        let (mut found, mut has_others) = (None, false);
        while let Some(is_on_the_way) = map.next_key_seed(Is(token))? {
            if is_on_the_way {
                found = map.next_value_seed(Walk { tokens })?;
            } else {
                has_others = true;
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found.map(|found| among(found, has_others)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((token, tokens)) = self.tokens.split_first() else {
            return Ok(None);
        };
        // RFC 6901, 4: digits without leading zeros.
        let index = token.parse::<usize>().ok();
        let index = index.filter(|index| index.to_string() == *token);
        let Some(index) = index else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let has_others = index > 0;
        for _ in 0..index {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let Some(found) = seq.next_element_seed(Walk { tokens })? else {
            return Ok(None);
        };
        let mut has_more = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            has_more = true;
        }
        Ok(found.map(|found| among(found, has_others || has_more)))
    }
}

/// A key that has something beside it.
fn among(found: Keyed, has_others: bool) -> Keyed {
    if has_others {
        Keyed {
            says: Says::Value,
            ..found
        }
    } else {
        found
    }
}

/// Whether a member has this name.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// The key that a JSON value is. An object or an array is none: two texts may mean the same one.
fn scalar(json: &str) -> Option<Key> {
    match json.bytes().next()? {
        b'"' => {
            let text: String = serde_json::from_str(json).ok()?;
            Some(Key::Text(text.into()))
        }
        b'-' | b'0'..=b'9' => Some(Key::Number(normal(json).into())),
        b't' => Some(Key::Truth(true)),
        b'f' => Some(Key::Truth(false)),
        _ => None,
    }
}

/// A JSON number in the one form that all texts of the same number have, as exact as it was written:
/// its digits without zeros at either end, and how many places they are moved.
///
/// A float would do for most, and take two ids of 64 bits for one that came as `1e19` or beyond.
fn normal(number: &str) -> String {
    let (sign, unsigned) = match number.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", number),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    let moved = || {
        let exponent: i64 = exponent.parse().ok()?;
        let n_zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let n_fraction = i64::try_from(fraction.len()).ok()?;
        exponent.checked_add(n_zeros)?.checked_sub(n_fraction)
    };
    match moved() {
        Some(0) => format!("{sign}{significant}"),
        Some(places) => format!("{sign}{significant}e{places}"),
        // Nobody counts as far; it is the same as itself.
        None => number.to_owned(),
    }
}

/// Looks for a member of a JSON text, which stands after its pointer in `data`; asserts that it is
/// found where `serde_json` finds it.
///
/// # Panics
///
/// If it is not.
#[cfg(any(test, fuzzing))]
pub fn fuzz_key(data: &[u8]) {
    use crate::config::JsonPointer;
    use serde_json::Value;

    let text = String::from_utf8_lossy(data);
    let Some((pointer, json)) = text.split_once('\n') else {
        return;
    };
    let Some(parsed) = JsonPointer::parse(pointer) else {
        return;
    };
    assert_eq!(parsed.to_string(), pointer);
    let found = find(json, parsed.tokens());
    // What it does not parse, for its depth or the size of its numbers, may be passed over here.
    let Ok(value) = serde_json::from_str::<Value>(json) else {
        return;
    };
    let member = value.pointer(pointer);
    let found = found.map(|found| found.key);
    assert!(
        is_key_of(found.as_ref(), member),
        "{found:?}: {pointer} of {json}"
    );
}

/// Whether a key is that of a value, which has its numbers as well as a float can.
#[cfg(any(test, fuzzing))]
fn is_key_of(key: Option<&Key>, value: Option<&serde_json::Value>) -> bool {
    use serde_json::Value;

    match (key, value) {
        (Some(Key::Truth(key)), Some(Value::Bool(truth))) => key == truth,
        (Some(Key::Text(key)), Some(Value::String(text))) => **key == **text,
        (Some(Key::Number(key)), Some(Value::Number(number))) => {
            if number.is_f64() {
                let key: f64 = key.parse().unwrap_or(f64::NAN);
                let float = number.as_f64().unwrap_or_default();
                // `serde_json` is off by some of the last digits, and more near zero.
                (key - float).abs() <= float.abs() * 1e-14 + f64::MIN_POSITIVE
            } else {
                **key == *normal(&number.to_string())
            }
        }
        (None, None | Some(Value::Array(_) | Value::Null | Value::Object(_))) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::JsonPointer;

    fn pointer(text: &str) -> ConflateBy {
        ConflateBy::Pointer(JsonPointer::parse(text).expect("a pointer"))
    }

    fn keyed(by: &ConflateBy, event_type: &str, data: &str, id: Option<&str>) -> (Key, Says) {
        let event = Event {
            event_type,
            data,
            id,
        };
        let Keyed { key, says } = Keyed::of(&event, by);
        (key, says)
    }

    #[test]
    fn a_key_is_what_is_asked_for_or_the_type() {
        let of_type = |text: &str| Key::Type(text.into());
        let by = ConflateBy::Type;
        assert_eq!(
            keyed(&by, "", "x", Some("1")),
            (of_type("message"), Says::Value)
        );
        assert_eq!(keyed(&by, "message", "x", None).0, of_type("message"));
        assert_eq!(
            keyed(&by, "price", "", None),
            (of_type("price"), Says::Removed)
        );
        let by = ConflateBy::Id;
        assert_eq!(keyed(&by, "price", "x", Some("1")).0, Key::Id("1".into()));
        assert_eq!(keyed(&by, "price", "", Some("1")).1, Says::Removed);
        for id in [None, Some("")] {
            assert_eq!(keyed(&by, "price", "x", id).0, of_type("price"));
        }
    }

    #[test]
    fn a_pointer_leads_to_strings_numbers_and_truths() {
        let text = |text: &str| Key::Text(text.into());
        let number = |text: &str| Key::Number(text.into());
        for (way, data, key) in [
            ("/s", r#"{"s":"A","p":1}"#, text("A")),
            ("/s", r#"{"p":{"s":"no"},"s":"\u0041\n"}"#, text("A\n")),
            ("/s", r#"{"p":1,"s":7}"#, number("7")),
            ("/s", r#"{"p":1,"s":7.0}"#, number("7")),
            ("/s", r#"{"p":1,"s":-1.5}"#, number("-15e-1")),
            ("/s", r#"{"p":1,"s":true}"#, Key::Truth(true)),
            ("/a/b/1", r#"{"a":{"b":["x","y"]},"c":0}"#, text("y")),
            ("/a~1b", r#"{"a/b":"z","c":0}"#, text("z")),
            ("/0", r#"["a",{"deep":[[[]]]}]"#, text("a")),
        ] {
            let found = keyed(&pointer(way), "t", data, None);
            assert_eq!(found, (key, Says::Value), "{way} in {data}");
        }
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written_and_as_exact_as_it_is() {
        for same in [
            &["0", "-0", "0.0", "0e5", "-0.00E-99999999999999999999"][..],
            &["7", "7.0", "70e-1", "0.7E1", "7e+0"],
            &["-1.5", "-15e-1", "-0.15e1"],
            &["100", "1e2", "100.00", "1.00E+2"],
            &["18446744073709551616", "18446744073709551616.0"],
            &["18446744073709551617"],
            &["0.10000000000000000001"],
            &["0.1"],
            &["1e400", "10e399"],
            &["1e401"],
            &["1e99999999999999999999"],
            &["1e-99999999999999999999"],
        ]
        .windows(2)
        {
            let [these, others] = same else { continue };
            let key = |text: &str| {
                keyed(
                    &pointer("/s"),
                    "t",
                    &format!(r#"{{"p":1,"s":{text}}}"#),
                    None,
                )
            };
            for text in *these {
                assert_eq!(key(text), key(these[0]), "{text}");
                assert!(matches!(key(text).0, Key::Number(_)), "{text}");
                assert_ne!(key(text), key(others[0]), "{text} and {}", others[0]);
            }
        }
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_value_counts() {
        for (way, json) in [
            ("/a", r#"{"a":[1],"a":2}"#),
            ("/a", r#"{"a":null,"a":2}"#),
            ("/a", r#"{"a":2,"a":[1]}"#),
            ("/a/b", r#"{"a":1,"a":{"b":2}}"#),
            ("/a/b", r#"{"a":"x","a":{"b":2}}"#),
            ("/a/b", r#"{"a":[1],"a":{"b":2}}"#),
            ("/a/1", r#"{"a":[1],"a":[1,2]}"#),
            ("/a", r#"{"a":5e-324,"b":2.2250738585072011e-308}"#),
        ] {
            fuzz_key(format!("{way}\n{json}").as_bytes());
        }
    }

    #[test]
    fn what_is_no_key_is_keyed_by_its_type() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (way, data) in [
            ("/s", ""),
            ("/s", "plain"),
            ("/s", "7"),
            ("/s", r#"{"s":{"x":1}}"#),
            ("/s", r#"{"s":[1]}"#),
            ("/s", r#"{"s":null}"#),
            ("/s", r#"{"p":1}"#),
            ("/s", r#"{"s":"A"} {"#),
            ("/s", r#"{"s":"A","#),
            ("/s/t", r#"{"s":"A"}"#),
            ("/01", r#"["a","b"]"#),
            ("/-", r#"["a","b"]"#),
            ("/9", r#"["a","b"]"#),
            ("/s", deep.as_str()),
        ] {
            let key = keyed(&pointer(way), "t", data, None).0;
            assert_eq!(key, Key::Type("t".into()), "{way} in {data:.40}");
        }
    }

    #[test]
    fn data_with_nothing_but_its_key_takes_it_back() {
        for (way, data) in [
            ("/s", r#"{"s":"A"}"#),
            ("/a/s", r#"{"a":{"s":"A"}}"#),
            ("/0", r#"["A"]"#),
        ] {
            let found = keyed(&pointer(way), "t", data, None);
            assert_eq!(found, (Key::Text("A".into()), Says::Removed), "{data}");
        }
        for (way, data) in [
            ("/s", r#"{"s":"A","gone":false}"#),
            ("/a/s", r#"{"a":{"s":"A"},"b":0}"#),
            ("/a/s", r#"{"a":{"s":"A","b":0}}"#),
            ("/0", r#"["A",0]"#),
            ("/1", r#"[0,"A"]"#),
        ] {
            let found = keyed(&pointer(way), "t", data, None);
            assert_eq!(found, (Key::Text("A".into()), Says::Value), "{data}");
        }
    }

    proptest! {
        /// What a well-kept implementation finds in a whole value is found on the way.
        #[test]
        fn the_walk_finds_what_a_parsed_value_has(
            json in "[\\[\\]{}:,\"a01 .\\\\-]{0,24}",
            way in "(/(a|0|1|)){1,3}",
        ) {
            let pointer = JsonPointer::parse(&way).expect("a pointer");
            let found = find(&json, pointer.tokens()).map(|found| found.key);
            let value: Option<serde_json::Value> = serde_json::from_str(&json).ok();
            let expected = value.as_ref().and_then(|value| value.pointer(&way));
            // Of a name that comes twice, a value that can't be a key may hide one that can.
            if found.is_some() {
                prop_assert!(is_key_of(found.as_ref(), expected), "{:?}", found);
            }
        }
    }

    proptest! {
        #[test]
        fn a_member_is_where_serde_json_finds_it(
            pointer in "/[ab01~]{0,2}(/[ab01]{0,2})?",
            json in "[\\[\\]{}\":,ab0-2 .e-]{0,24}|\\{\"[ab01]\":(\\[[0-9,]{0,6}\\]|[0-9.e+-]{1,5}|\"[^\"]{0,3}\"|true|\\{\"a\":1,\"a\":2\\})\\}",
        ) {
            fuzz_key(format!("{pointer}\n{json}").as_bytes());
        }
    }
}
