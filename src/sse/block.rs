//! What an encoded event says, without reading all of it.
//!
//! Only for blocks as [`super::encode_event`] writes them: the event type is the first line, if there
//! is one, and the ID is the last. On other bytes the answers are of no use, and nothing else.

use memchr::{memchr, memrchr};

/// The type of an event that names none (WHATWG HTML, 9.2.6).
pub const DEFAULT_TYPE: &str = "message";

/// The event type of a block.
pub fn event_type_of(block: &[u8]) -> &[u8] {
    let after = block.strip_prefix(b"event: ");
    let line = after.and_then(|rest| rest.get(..memchr(b'\n', rest)?));
    line.unwrap_or(DEFAULT_TYPE.as_bytes())
}

/// The lines of a block before its ID, each with its end, and the ID. An ID may be empty, which takes
/// back the last one.
pub fn split_id(block: &[u8]) -> (&[u8], Option<&[u8]>) {
    let lines = block.strip_suffix(b"\n").unwrap_or(block);
    let fields = lines.strip_suffix(b"\n").unwrap_or(lines);
    let last = memrchr(b'\n', fields).map_or(0, |end| end + 1);
    let Some((before, last)) = fields.split_at_checked(last) else {
        return (lines, None);
    };
    match last.strip_prefix(b"id:") {
        Some(value) => (before, Some(value.strip_prefix(b" ").unwrap_or(value))),
        None => (lines, None),
    }
}

/// The lines of a block after its event type.
pub fn after_event_type(block: &[u8]) -> &[u8] {
    if !block.starts_with(b"event: ") {
        return block;
    }
    memchr(b'\n', block)
        .and_then(|end| block.get(end + 1..))
        .unwrap_or(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::{Event, encode_event};

    fn block(event_type: &str, data: &str, id: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_event(
            &mut out,
            &Event {
                event_type,
                data,
                id,
            },
        );
        out
    }

    #[test]
    fn a_block_tells_its_type_and_its_id() {
        for event_type in ["", "price", "event: x", "id: 7", " "] {
            for data in ["", "a", "a\nb", "event: no\nid: 8"] {
                for id in [None, Some(""), Some("7"), Some(" 7"), Some("id: 9")] {
                    let block = block(event_type, data, id);
                    let expected = if event_type.is_empty() {
                        DEFAULT_TYPE
                    } else {
                        event_type
                    };
                    let shown = String::from_utf8_lossy(&block);
                    assert_eq!(event_type_of(&block), expected.as_bytes(), "{shown}");
                    let (before, found) = split_id(&block);
                    assert_eq!(found, id.map(str::as_bytes), "{shown}");
                    let mut again = before.to_vec();
                    if let Some(id) = id {
                        let space = if id.is_empty() { "" } else { " " };
                        again.extend_from_slice(format!("id:{space}{id}\n").as_bytes());
                    }
                    again.push(b'\n');
                    assert_eq!(again, block, "{shown}");
                    assert!(block.ends_with(after_event_type(&block)));
                    assert!(after_event_type(&block).starts_with(b"data:"), "{shown}");
                }
            }
        }
    }

    #[test]
    fn other_bytes_are_no_reason_to_panic() {
        for bytes in [
            "",
            "\n",
            "\n\n",
            "id:",
            "id:\n\n",
            "event: ",
            "event: \n",
            "x",
        ] {
            let bytes = bytes.as_bytes();
            event_type_of(bytes);
            split_id(bytes);
            after_event_type(bytes);
        }
    }
}
