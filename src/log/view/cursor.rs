//! The ids of a view: how far its subscriber is, in each of its sources.
//!
//! An id says per source the number of the last event that was read there, in the source's epoch, and
//! the last id of the source's own that the view passed on. So it means the same to a view that is made
//! anew, to another selection of the same source, and to another process that has the source's
//! history or at least the same ids. To everybody else it is an opaque text.
//!
//! ```text
//!   "v1." base64url( [ mark… ] )     mark = tag (CRC-32 of the source's name)  epoch  number  own id
//! ```
//!
//! Whoever can read a view may make any such text: a wrong one leads to a wrong place in the same
//! events, which is told, or to none.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::log::id::{Epoch, Seq};
use crate::log::writer::MAX_ID_BYTES;

/// How far a subscriber is in all sources of a view.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::log) struct Cursor {
    pub(super) marks: Vec<Mark>,
}

/// How far a subscriber is in one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Tells the source.
    pub(super) tag: u32,
    epoch: u64,
    seq: u64,
    /// The source's own id of the last event that was passed on, if it has one.
    pub(super) own_id: Option<Box<str>>,
}

/// Sources of one view. So an id is never longer than a header field may be.
pub const MAX_SOURCES: usize = 64; // as `config::bundle` allows

/// Bytes of own ids in an id, all sources together. One that is longer than its share is left out.
const OWN_ID_BYTES: usize = 1024;

const PREFIX: &str = "v1.";

impl Cursor {
    /// A cursor as it is written; `None`: the text is none of ours.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(PREFIX)?;
        if text.len() > MAX_ID_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let cursor: Self = postcard::from_bytes(&bytes).ok()?;
        // Only the one spelling that we give out.
        let is_ours = cursor.marks.len() <= MAX_SOURCES && cursor.encode() == text;
        is_ours.then_some(cursor)
    }

    /// The id.
    pub(super) fn encode(&self) -> String {
        let mut text = PREFIX.to_owned();
        // Writing to memory does not fail.
        let bytes = postcard::to_allocvec(self).unwrap_or_default();
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        text
    }

    /// What it says of a source; `None`: nothing, or not one thing.
    pub(super) fn mark(&self, tag: u32) -> Option<&Mark> {
        let mut marks = self.marks.iter().filter(|mark| mark.tag == tag);
        let mark = marks.next()?;
        marks.next().is_none().then_some(mark)
    }
}

impl Mark {
    pub(super) fn new(tag: u32) -> Self {
        Self {
            tag,
            epoch: 0,
            seq: 0,
            own_id: None,
        }
    }

    /// Moves on to an entry of the source.
    pub(super) fn move_to(&mut self, epoch: Epoch, seq: Seq) {
        self.epoch = epoch.number();
        self.seq = seq.0;
    }

    /// Notes the source's own id of an event that is passed on, of a view of `n_sources`.
    pub(super) fn set_own_id(&mut self, id: Option<&str>, n_sources: usize) {
        let id = id.filter(|id| id.len() <= OWN_ID_BYTES / n_sources.max(1));
        self.own_id = id.map(Into::into);
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch::of_number(self.epoch)
    }

    pub(super) fn seq(&self) -> Seq {
        Seq(self.seq)
    }
}

/// What an id says to the origin of a channel: it may be one of a view's, which says where in the
/// channel a client is. `None`: nothing.
pub fn id_for_origin<'a>(id: &'a str, channel: &str) -> Option<Cow<'a, str>> {
    let Some(cursor) = Cursor::parse(id) else {
        return Some(Cow::Borrowed(id));
    };
    let own_id = cursor.mark(tag(channel))?.own_id.as_deref();
    own_id.map(|id| Cow::Owned(id.to_owned()))
}

/// Tells a source by its name.
pub(super) fn tag(name: &str) -> u32 {
    crc32fast::hash(name.as_bytes())
}

/// Reads any text as an id; asserts what holds of every outcome.
///
/// # Panics
///
/// If it does not hold.
#[cfg(any(test, fuzzing))]
pub fn fuzz_cursor(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(cursor) = Cursor::parse(&text) {
        assert_eq!(cursor.encode(), text);
        assert!(cursor.marks.len() <= MAX_SOURCES);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn mark(name: &str, seq: u64, own_id: Option<&str>) -> Mark {
        let mut mark = Mark::new(tag(name));
        mark.move_to(Epoch::fresh(), Seq(seq));
        mark.set_own_id(own_id, 1);
        mark
    }

    #[test]
    fn an_id_reads_back_as_its_cursor() {
        let marks = vec![mark("a", 0, None), mark("b", u64::MAX, Some("it's / 7%"))];
        let cursor = Cursor { marks };
        let text = cursor.encode();
        assert_eq!(Cursor::parse(&text).as_ref(), Some(&cursor), "{text}");
        assert!(text.len() < 80, "{text}");
        assert!(
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        );
        let b = cursor.mark(tag("b")).expect("a mark");
        assert_eq!(
            (b.seq(), b.own_id.as_deref()),
            (Seq(u64::MAX), Some("it's / 7%"))
        );
        assert_eq!(cursor.mark(tag("c")), None);
    }

    #[test]
    fn an_origin_is_asked_for_its_own_id_only() {
        let marks = vec![mark("a", 7, Some("theirs")), mark("b", 8, None)];
        let id = Cursor { marks }.encode();
        assert_eq!(id_for_origin(&id, "a").as_deref(), Some("theirs"));
        assert_eq!(id_for_origin(&id, "b"), None);
        assert_eq!(id_for_origin(&id, "c"), None);
        assert_eq!(id_for_origin("v1.7", "a").as_deref(), Some("v1.7"));
    }

    #[test]
    fn an_id_is_never_longer_than_a_client_can_send_back() {
        let mark = |number: usize| {
            let mut mark = Mark::new(u32::MAX - u32::try_from(number).unwrap());
            mark.move_to(Epoch::of_number(u64::MAX), Seq(u64::MAX));
            mark.set_own_id(Some(&"x".repeat(OWN_ID_BYTES / MAX_SOURCES)), MAX_SOURCES);
            mark
        };
        let mut cursor = Cursor {
            marks: (0..MAX_SOURCES).map(mark).collect(),
        };
        assert!(cursor.marks.iter().all(|mark| mark.own_id.is_some()));
        let text = cursor.encode();
        assert!(text.len() <= MAX_ID_BYTES, "{}", text.len());
        assert_eq!(Cursor::parse(&text).as_ref(), Some(&cursor));
        cursor.marks.push(mark(MAX_SOURCES));
        assert_eq!(Cursor::parse(&cursor.encode()), None);
        let mut one = Mark::new(1);
        one.set_own_id(Some(&"x".repeat(OWN_ID_BYTES + 1)), 1);
        assert_eq!(one.own_id, None);
    }

    #[test]
    fn other_texts_are_not_ours() {
        let text = Cursor {
            marks: vec![mark("a", 7, Some("7"))],
        }
        .encode();
        for id in [
            "",
            "7",
            "v1",
            "v1.",
            "v1.A",
            "v1.AA=",
            "v1.!",
            "v2.AA",
            "v1._____w8",
            "v1.AAA",
            text.get(1..).unwrap(),
            text.get(..text.len() - 1).unwrap(),
            &format!("{text}A"),
            &format!(" {text}"),
            &text.to_uppercase(),
        ] {
            assert_eq!(Cursor::parse(id), None, "{id:?}");
        }
        // A mark twice is no mark.
        let mark = mark("a", 7, None);
        let twice = Cursor {
            marks: vec![mark.clone(), mark],
        };
        assert_eq!(twice.mark(tag("a")), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_anything(data in vec(any::<u8>(), 0..200)) {
            fuzz_cursor(&data);
            let mut text = PREFIX.to_owned();
            URL_SAFE_NO_PAD.encode_string(&data, &mut text);
            fuzz_cursor(text.as_bytes());
        }
    }
}
