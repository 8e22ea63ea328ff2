//! Where the frames of a WebSocket begin and end, and the one that we say ourselves.
//!
//! No more of the protocol than it takes to put a Close frame between two frames of a peer: the
//! lengths in their headers, and which of them is a Close. What they carry, whether it is masked as it
//! should be and what extensions made of it is the business of those who talk. No I/O, no clock.
//!
//! Spec: RFC 6455, 5.2 (frames), 5.5.1 (Close), 7.4 (codes).

/// Follows what one side says.
#[derive(Debug, Clone, Default)]
pub(super) struct Frames {
    /// The header of the frame that is under way, as far as it has come.
    header: [u8; MOST_HEADER_BYTES],
    /// How much of it has come. Invariant: 0 at a boundary and while there is payload to come.
    n_header: usize,
    /// What is to come of the payload.
    n_payload: u64,
    /// Whether the payload that is to come is that of a Close.
    is_close: bool,
    /// Whether a Close has come to its end. Nothing is followed any more.
    has_closed: bool,
    /// Whether what has come is no frame. Nothing is followed any more.
    is_lost: bool,
}

/// Whose frame it is: those of a client are masked (RFC 6455, 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// The code of an endpoint that goes away (RFC 6455, 7.4.1).
const GOING_AWAY: u16 = 1001;

/// Two bytes, eight of an extended length, four of a mask.
const MOST_HEADER_BYTES: usize = 14;

/// The opcode of a Close, and the bits that it is in.
const CLOSE: u8 = 0x8;
const OPCODE: u8 = 0x0f;

/// The last frame of a message, and all of it.
const FIN: u8 = 0x80;

/// The bit that says that the payload is masked, and those of the length beside it.
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7f;

impl Frames {
    /// Follows bytes up to where a frame ends, and returns how many they are; `None`: no frame ends
    /// among them, and all were followed. At a boundary that is 0.
    pub(super) fn follow_to_boundary(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.is_at_boundary() {
            return Some(0);
        }
        let mut n_followed = 0;
        while !self.is_over() {
            let rest = bytes.get(n_followed..).unwrap_or_default();
            if rest.is_empty() {
                return None;
            }
            n_followed += self.step(rest);
            if self.is_at_boundary() {
                return Some(n_followed);
            }
        }
        None
    }

    /// Follows bytes.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_over() {
            let n = self.step(rest);
            rest = rest.get(n..).unwrap_or_default();
        }
    }

    /// Whether another frame could begin here. After a Close none may (RFC 6455, 5.5.1).
    pub(super) fn is_at_boundary(&self) -> bool {
        self.n_header == 0 && self.n_payload == 0 && !self.is_over()
    }

    /// Whether a Close was said.
    pub(super) fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Whether no other frame may follow, or nobody knows where.
    pub(super) fn is_over(&self) -> bool {
        self.has_closed || self.is_lost
    }

    /// Takes some of the bytes, of which there is one at least, and never those of two frames; returns
    /// how many.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.n_payload == 0 {
            return self.take_header(bytes);
        }
        let n = usize::try_from(self.n_payload).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.n_payload -= n as u64;
        self.note_end();
        n
    }

    fn take_header(&mut self, bytes: &[u8]) -> usize {
        let mut n = 0;
        while let Some(byte) = bytes.get(n) {
            let Some(place) = self.header.get_mut(self.n_header) else {
                break;
            };
            *place = *byte;
            self.n_header += 1;
            n += 1;
            if self.n_header >= 2 && self.n_header == self.header_length() {
                self.begin_payload();
                break;
            }
        }
        n
    }

    /// How long the header is, by its first two bytes.
    fn header_length(&self) -> usize {
        let [_, second, ..] = self.header;
        let n_extended = match second & LENGTH {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let n_mask = if second & MASK == 0 { 0 } else { 4 };
        2 + n_extended + n_mask
    }

    /// The header is whole.
    fn begin_payload(&mut self) {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.header;
        let length = match second & LENGTH {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        // No length has the highest bit.
        self.is_lost = length > i64::MAX.unsigned_abs();
        self.is_close = first & OPCODE == CLOSE;
        self.n_header = 0;
        self.n_payload = length;
        self.note_end();
    }

    fn note_end(&mut self) {
        if self.n_payload == 0 && self.is_close {
            self.has_closed = true;
        }
    }
}

/// A Close of somebody who goes away, for a reason of some words.
pub(super) fn going_away(role: Role, reason: &str) -> Vec<u8> {
    let mut payload = GOING_AWAY.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    // A control frame has no more (RFC 6455, 5.5). Our reasons are shorter, and plain ASCII.
    payload.truncate(125);
    let length = u8::try_from(payload.len()).unwrap_or_default();
    let mut frame = vec![FIN | CLOSE];
    match role {
        Role::Server => frame.push(length),
        Role::Client => {
            // Masks keep those who choose payloads from choosing bytes (RFC 6455, 10.3). Nobody
            // chooses this one, so that it need not be unpredictable.
            let mask = fastrand::u32(..).to_be_bytes();
            frame.push(MASK | length);
            frame.extend_from_slice(&mask);
            for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= key;
            }
        }
    }
    frame.extend_from_slice(&payload);
    frame
}

/// Whatever a peer says in whatever pieces, the boundaries are the same, and what is said up to one is
/// whole frames.
#[cfg(any(test, fuzzing))]
#[expect(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a failed assertion is a finding"
)]
pub fn fuzz_frames(data: &[u8]) {
    let mut whole = Frames::default();
    whole.follow(data);
    let mut bytewise = Frames::default();
    let mut boundaries = vec![];
    for (index, byte) in data.iter().enumerate() {
        if bytewise.is_at_boundary() {
            boundaries.push(index);
        }
        bytewise.follow(std::slice::from_ref(byte));
    }
    let states = [&whole, &bytewise].map(|frames| {
        let is_at_boundary = frames.is_at_boundary();
        (is_at_boundary, frames.has_closed(), frames.is_over())
    });
    assert_eq!(states.first(), states.last(), "pieces make no difference");
    // From boundary to boundary, by leaps.
    let mut leaps = vec![];
    let mut frames = Frames::default();
    let mut at = 0;
    while frames.is_at_boundary() && at < data.len() {
        leaps.push(at);
        let (first, rest) = data.split_at(at + 1);
        let Some(byte) = first.last() else {
            panic!("it has one");
        };
        frames.follow(std::slice::from_ref(byte));
        at += 1;
        match frames.follow_to_boundary(rest) {
            Some(n) => at += n,
            None => break,
        }
    }
    assert_eq!(leaps, boundaries);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame by the book.
    fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let bit = if mask.is_some() { MASK } else { 0 };
        let mut bytes = vec![first];
        match payload.len() {
            n @ 0..126 => bytes.push(bit | u8::try_from(n).expect("short")),
            n @ 126..0x1_0000 => {
                bytes.push(bit | 126);
                bytes.extend(u16::try_from(n).expect("short").to_be_bytes());
            }
            n => {
                bytes.push(bit | 127);
                bytes.extend((n as u64).to_be_bytes());
            }
        }
        bytes.extend(mask.iter().flatten());
        bytes.extend(payload);
        bytes
    }

    /// Where frames begin, and where the last ends.
    fn boundaries(frames: &[Vec<u8>]) -> Vec<usize> {
        let ends = frames.iter().scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }

    #[test]
    fn frames_of_every_form_of_length_end_where_they_end() {
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let sent = [0x82, 0x01, 0x89].map(|first| frame(first, mask, &vec![0x88; size]));
                let mut follower = Frames::default();
                let mut rest = &sent.concat()[..];
                for one in &sent {
                    assert!(follower.is_at_boundary());
                    follower.follow(&rest[..1]);
                    assert!(!follower.is_at_boundary());
                    let n = follower.follow_to_boundary(&rest[1..]);
                    assert_eq!(n, Some(one.len() - 1), "{size} bytes");
                    rest = &rest[one.len()..];
                }
            }
        }
    }

    #[test]
    fn after_a_close_there_is_no_boundary() {
        for mask in [None, Some([9; 4])] {
            for payload in [&b""[..], &[3, 232], b"\x03\xe9because"] {
                let mut follower = Frames::default();
                let bytes = frame(0x88, mask, payload);
                follower.follow(&bytes[..bytes.len() - 1]);
                assert!(!follower.has_closed());
                follower.follow(&bytes[bytes.len() - 1..]);
                assert!(follower.has_closed() && !follower.is_at_boundary());
                assert_eq!(follower.follow_to_boundary(b"\x81\x00"), None);
            }
        }
    }

    #[test]
    fn a_length_that_is_none_is_not_followed() {
        let mut follower = Frames::default();
        follower.follow(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1, b'x']);
        assert!(follower.is_over() && !follower.has_closed());
        assert_eq!(follower.follow_to_boundary(&[0; 100]), None);
    }

    #[test]
    fn our_close_is_a_frame() {
        let ours = going_away(Role::Server, "why");
        assert_eq!(ours, frame(0x88, None, b"\x03\xe9why"));
        let masked = going_away(Role::Client, "why");
        let mask: [u8; 4] = masked[2..6].try_into().expect("a mask");
        let mut payload = masked[6..].to_vec();
        for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
        assert_eq!((masked[0], masked[1]), (0x88, 0x85));
        assert_eq!(payload, b"\x03\xe9why");
        for bytes in [ours, masked] {
            let mut follower = Frames::default();
            follower.follow(&bytes);
            assert!(follower.has_closed());
        }
    }

    proptest! {
        #[test]
        fn any_frames_in_any_pieces_have_their_boundaries(
            frames in prop::collection::vec(
                (0u8..8, any::<Option<[u8; 4]>>(), prop::collection::vec(any::<u8>(), 0..300)),
                0..6,
            ),
        ) {
            let frames: Vec<Vec<u8>> = frames
                .iter()
                .map(|(first, mask, payload)| frame(*first, *mask, payload))
                .collect();
            let bytes = frames.concat();
            let mut follower = Frames::default();
            let mut found = vec![];
            for index in 0..=bytes.len() {
                if follower.is_at_boundary() {
                    found.push(index);
                }
                follower.follow(bytes.get(index..=index).unwrap_or_default());
            }
            prop_assert_eq!(found, boundaries(&frames));
            fuzz_frames(&bytes);
        }

        #[test]
        fn any_bytes_are_followed(data in prop::collection::vec(any::<u8>(), 0..500)) {
            fuzz_frames(&data);
        }
    }
}
