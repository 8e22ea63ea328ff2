//! One event of the bench, as the origin writes it and a load client checks it.
//!
//! Every field has a fixed width, so that all events of a size have the same length, whatever
//! their number. A chunk of its own carries each:
//!
//! ```text
//! c8\r\n
//! data: c=00017 n=0000000042 t=00000000004711000000 FILLING\n
//! id: 0000000042\n
//! \n
//! \r\n
//! ```

use std::io::Write as _;
use std::sync::LazyLock;

/// The part of an event that is not filling.
const FIXED: usize = "data: c=00000 n=0000000000 t=00000000000000000000 \nid: 0000000000\n\n".len();
/// The largest event; the filling is cut from a pattern of this length.
const MAX_SIZE: usize = 64 * 1024;
/// How many places in the pattern a filling may start at: more than a mix-up would hit by chance.
const STARTS: u64 = 4093;

/// What tells an event from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// The number of its channel.
    pub(crate) channel: u32,
    /// Its place in the channel, counted from 0; its id, too.
    pub(crate) seq: u64,
    /// When the origin wrote it.
    pub(crate) sent_at: u64,
}

impl Event {
    /// Appends the event as one chunk; `size` is the event's own length, without the chunk's framing.
    pub(crate) fn write_chunk(&self, size: usize, out: &mut Vec<u8>) {
        let Self {
            channel,
            seq,
            sent_at,
        } = *self;
        write!(
            out,
            "{size:x}\r\ndata: c={channel:05} n={seq:010} t={sent_at:020} "
        )
        .unwrap();
        out.extend_from_slice(self.filling(size - FIXED));
        write!(out, "\nid: {seq:010}\n\n\r\n").unwrap();
    }

    /// Reads the data of an event back; `None` if a byte of it is not as it was written.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        let (channel, rest) = field(data, b"c=", 5)?;
        let (seq, rest) = field(rest, b"n=", 10)?;
        let (sent_at, filling) = field(rest, b"t=", 20)?;
        let event = Self {
            channel: u32::try_from(channel).ok()?,
            seq,
            sent_at,
        };
        (filling == event.filling(filling.len())).then_some(event)
    }

    /// Bytes that are this event's own, so that a piece of another shows.
    fn filling(&self, length: usize) -> &'static [u8] {
        static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let mut random = fastrand::Rng::with_seed(7);
            (0..MAX_SIZE + STARTS as usize)
                .map(|_| random.u8(b'!'..=b'~'))
                .collect()
        });
        let start = (u64::from(self.channel) * 131 + self.seq * 17) % STARTS;
        &PATTERN[start as usize..][..length]
    }
}

/// Bytes on the wire of an event that is a chunk of its own.
pub(crate) fn wire_size(size: usize) -> usize {
    format!("{size:x}").len() + "\r\n\r\n".len() + size
}

/// Reads `NAME`, a number of `width` digits and a blank.
fn field<'a>(text: &'a [u8], name: &[u8], width: usize) -> Option<(u64, &'a [u8])> {
    let text = text.strip_prefix(name)?;
    let (digits, rest) = text.split_at_checked(width)?;
    Some((number(digits)?, rest.strip_prefix(b" ")?))
}

/// Reads decimal digits and nothing else.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}
