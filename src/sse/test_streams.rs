//! Streams to test with: the vectors of `tests/data/sse`, whose notation is described there, and
//! arbitrary ones.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Event, Item};

/// A stream and what it must make happen.
#[derive(Debug, Default)]
pub(super) struct Vector {
    /// File and heading.
    pub(super) name: String,
    pub(super) input: Vec<u8>,
    /// The items in the notation of `describe`.
    pub(super) items: Vec<String>,
    /// Quoted; `None`: the stream sets none.
    pub(super) last_event_id: Option<String>,
}

/// All vectors of all files.
pub(super) fn vectors() -> Vec<Vector> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sse");
    let mut vectors = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let file = path.file_stem().unwrap().to_string_lossy();
            read(&file, &fs::read_to_string(&path).unwrap(), &mut vectors);
        }
    }
    vectors
}

/// Streams made of what the grammar is made of, so that most of them mean something, and others.
pub(super) fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let of_tokens = vec(select(TOKENS), 0..60).prop_map(|tokens| tokens.concat());
    prop_oneof![4 => of_tokens, 1 => vec(any::<u8>(), 0..200)]
}

/// An item as the vectors write it.
pub(super) fn describe(item: Item<'_>) -> String {
    match item {
        Item::Event(Event {
            event_type,
            data,
            id,
        }) => {
            let mut text = format!("event data={data:?}");
            if !event_type.is_empty() {
                text += &format!(" type={event_type:?}");
            }
            if let Some(id) = id {
                text += &format!(" id={id:?}");
            }
            text
        }
        Item::Retry(time) => format!("retry {}", time.as_millis()),
    }
}

fn read(file: &str, text: &str, vectors: &mut Vec<Vector>) {
    for (n, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", n + 1);
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        if mark == "==" {
            vectors.push(Vector {
                name: format!("{place} {rest}"),
                ..Vector::default()
            });
            continue;
        }
        if mark.is_empty() || mark == "#" {
            continue;
        }
        let vector = vectors.last_mut().expect("a heading comes first");
        match mark {
            "<" => vector.input.extend(unescape(rest, &place)),
            ">" => vector.items.push(rest.to_owned()),
            "@" => vector.last_event_id = Some(rest.to_owned()),
            _ => panic!("{place}: unknown mark {mark:?}"),
        }
    }
}

fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let (byte, tail) = match (byte, tail) {
            (b'\\', [b'n', tail @ ..]) => (b'\n', tail),
            (b'\\', [b'r', tail @ ..]) => (b'\r', tail),
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap();
                ((digit(high) * 16 + digit(low)).try_into().unwrap(), tail)
            }
            (b'\\', _) => panic!("{place}: unknown escape"),
            (byte, tail) => (*byte, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    bytes
}

#[rustfmt::skip]
const TOKENS: &[&[u8]] = &[
    b"data", b"data:", b"data: ", b"event", b"event: ", b"id", b"id:", b"id: ", b"retry", b"retry: 12",
    b":", b" ", b"comment", b"x", b"yz", b"1", b"\0", b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n",
    b"\xEF\xBB\xBF", b"\xEF", b"\xBB", b"\xE2\x80", b"\xFF", b"\xC3\xA9", b"\xF0\x9D\x84\x9E",
];
