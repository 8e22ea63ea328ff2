//! The form of a state file.
//!
//! ```text
//!   "ssecast state\n"  version  record  record…          the first is the header, then one per channel
//!   record = length (u32, little endian)  CRC-32 of the content (u32)  content (postcard)
//! ```
//!
//! What a file says of sizes is believed only as far as the file goes, so a broken one costs no more
//! memory than its own length.

use std::io::{self, Write};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::channel::Legacy;
use crate::log::Implausible;

/// What a file begins with.
const MAGIC: &[u8] = b"ssecast state\n";

/// The version of all that follows. A change of any type that is written is another version; a test
/// holds the bytes of this one.
const VERSION: u32 = 2;

/// The first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// When the file was written, after the Unix epoch.
    written_at: Duration,
    n_channels: u32,
}

/// What a file has.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    /// When it was written.
    pub(super) written_at: SystemTime,
    /// The channels: where their records are in the file, and what is in them.
    pub(super) channels: Vec<(Range<usize>, Legacy<'a>)>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it is damaged: it has {0}")]
    Implausible(#[from] Implausible),
    #[error("it is not a state file")]
    NotOurs,
    #[error("it is of version {found}, and this process reads version {VERSION}")]
    OtherVersion { found: u32 },
}

/// Writes a file, record by record.
pub(super) struct Encoder<W> {
    out: W,
    /// The record that is being made; kept for its capacity.
    record: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    /// Begins a file for so many channels.
    pub(super) fn begin(out: W, written_at: SystemTime, n_channels: usize) -> io::Result<Self> {
        let mut encoder = Self {
            out,
            record: Vec::new(),
        };
        encoder.out.write_all(MAGIC)?;
        encoder.out.write_all(&VERSION.to_le_bytes())?;
        encoder.push(&Header {
            written_at: written_at.duration_since(UNIX_EPOCH).unwrap_or_default(),
            n_channels: u32::try_from(n_channels).map_err(io::Error::other)?,
        })?;
        Ok(encoder)
    }

    /// Writes a channel.
    pub(super) fn push_channel(&mut self, legacy: &Legacy<'_>) -> io::Result<()> {
        self.push(legacy)
    }

    /// Gives back where it was written to.
    pub(super) fn finish(self) -> W {
        self.out
    }

    fn push(&mut self, content: &impl Serialize) -> io::Result<()> {
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        record = postcard::to_extend(content, record).map_err(io::Error::other)?;
        let length = u32::try_from(record.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_le_bytes())?;
        let checksum = crc32fast::hash(&record);
        self.out.write_all(&checksum.to_le_bytes())?;
        self.out.write_all(&record)?;
        self.record = record;
        Ok(())
    }
}

/// Reads a whole file.
pub(super) fn decode(file: &[u8]) -> Result<Contents<'_>, Unusable> {
    let mut bytes = file;
    let magic = take(&mut bytes, MAGIC.len());
    if magic != Some(MAGIC) {
        return Err(Unusable::NotOurs);
    }
    let found = take_u32(&mut bytes)?;
    if found != VERSION {
        return Err(Unusable::OtherVersion { found });
    }
    let header: Header = parse(take_record(&mut bytes)?)?;
    let written_at = UNIX_EPOCH
        .checked_add(header.written_at)
        .ok_or(Unusable::Damaged("it was written at no time"))?;
    let mut channels = Vec::new();
    for _ in 0..header.n_channels {
        let record = take_record(&mut bytes)?;
        let legacy: Legacy<'_> = parse(record)?;
        legacy.check()?;
        let end = file.len() - bytes.len();
        channels.push((end - record.len()..end, legacy));
    }
    if !bytes.is_empty() {
        return Err(Unusable::Damaged("something follows its end"));
    }
    Ok(Contents {
        written_at,
        channels,
    })
}

/// Reads the content of a record that was checked before.
pub(super) fn parse<'a, T: Deserialize<'a>>(record: &'a [u8]) -> Result<T, Unusable> {
    match postcard::take_from_bytes(record) {
        Ok((content, [])) => Ok(content),
        Ok(_) | Err(_) => Err(Unusable::Damaged("a record is not what it should be")),
    }
}

fn take_record<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Unusable> {
    let length = take_u32(bytes)?;
    let checksum = take_u32(bytes)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let record = take(bytes, length).ok_or(Unusable::Damaged("its end is missing"))?;
    if crc32fast::hash(record) != checksum {
        return Err(Unusable::Damaged("a checksum is wrong"));
    }
    Ok(record)
}

fn take_u32(bytes: &mut &[u8]) -> Result<u32, Unusable> {
    let (number, rest) = bytes
        .split_first_chunk()
        .ok_or(Unusable::Damaged("its end is missing"))?;
    *bytes = rest;
    Ok(u32::from_le_bytes(*number))
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(taken)
}

/// Reads any bytes; asserts what holds of every outcome.
///
/// # Panics
///
/// If it does not hold.
#[cfg(any(test, fuzzing))]
pub fn fuzz_state(data: &[u8]) {
    if let Ok(contents) = decode(data) {
        for (range, legacy) in &contents.channels {
            let record = data.get(range.clone()).unwrap_or_default();
            assert_eq!(parse::<Legacy<'_>>(record).ok().as_ref(), Some(legacy));
            assert_eq!(legacy.check(), Ok(()));
            // No event is shorter than its blank line.
            assert!(legacy.n_events() * 2 < data.len());
        }
    }
}
