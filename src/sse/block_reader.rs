//! Reads events back that we encoded, one block each.

use std::fmt;

use super::{Event, Item, Limits, Parser};

/// Reads blocks that [`encode_event`](super::encode_event) wrote.
pub struct BlockReader {
    parser: Parser,
}

impl BlockReader {
    /// A reader of any number of blocks.
    pub fn new() -> Self {
        // What was encoded was within limits.
        Self {
            parser: Parser::new(Limits {
                max_line_bytes: usize::MAX,
                max_event_bytes: usize::MAX,
            }),
        }
    }

    /// What `read` makes of the event; `None` if the block is none.
    pub fn read<T>(&mut self, block: &[u8], mut read: impl FnMut(&Event<'_>) -> T) -> Option<T> {
        let mut made = None;
        let parsed = self.parser.push(block, |item| match item {
            Item::Event(event) => made = Some(read(&event)),
            Item::Retry(_) => {}
        });
        made.filter(|_| parsed.is_ok())
    }
}

impl Default for BlockReader {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockReader").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::encode_event;

    #[test]
    fn a_block_reads_back_as_its_event_whatever_came_before() {
        let mut reader = BlockReader::new();
        for (event_type, data, id) in [
            ("t", "one", Some("1")),
            ("", "a\nb\n", None),
            ("", "", Some("")),
            ("t", ": no comment", None),
        ] {
            let event = Event {
                event_type,
                data,
                id,
            };
            let mut block = Vec::new();
            encode_event(&mut block, &event);
            assert_eq!(reader.read(&block, |read| *read == event), Some(true));
        }
        assert_eq!(reader.read(b": comment\n\n", |_| ()), None);
        assert_eq!(reader.read(b"", |_| ()), None);
    }
}
