//! The body of an origin's answer, as it is meant: decoded, where it is compressed.
//!
//! A body that is not compressed goes through as it is, and costs nothing.

use std::task::Context;

use super::coding::{Coding, Decoder, Undecodable};
use super::exchange::{self, Body, Flow, TURN_BYTES};

/// A body, decoded as it is read.
pub(super) struct DecodedBody {
    body: Body,
    /// `None`: it is not compressed.
    decoding: Option<Box<Decoding>>,
}

/// How much a reading brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// Bytes of the body as they came.
    pub(super) encoded: usize,
    /// Bytes as they are meant.
    pub(super) decoded: usize,
}

/// What a reading of the body came to.
#[derive(Debug)]
pub(super) enum Drained {
    /// All that was readable was read; the task is woken when there is more.
    Dry,
    /// The origin ended it.
    Ended,
    /// The connection failed.
    Failed(hyper::Error),
    /// As much was read as one turn allows, or as was wanted; the task is **not** woken.
    Full,
    /// It is not what its coding says.
    Undecodable(Undecodable),
}

struct Decoding {
    decoder: Decoder,
    /// What came and is not decoded yet.
    encoded: Vec<u8>,
    /// How much of it is decoded.
    n_read: usize,
    /// How the body ended, if it has.
    end: Option<Drained>,
}

/// How much is taken from the connection before it is decoded; a piece more, at most.
const AHEAD_BYTES: usize = 64 * 1024;

impl DecodedBody {
    pub(super) fn new(body: Body, coding: Option<Coding>) -> Self {
        let decoding = coding.map(|coding| {
            Box::new(Decoding {
                decoder: Decoder::new(coding),
                encoded: Vec::new(),
                n_read: 0,
                end: None,
            })
        });
        Self { body, decoding }
    }

    /// Reads all that is readable, giving each piece to `sink`, until that says stop. Returns how
    /// much there was, and how it ended.
    pub(super) fn drain(
        &mut self,
        cx: &Context<'_>,
        sink: impl FnMut(&[u8]) -> Flow,
    ) -> (Amount, Drained) {
        let Some(decoding) = &mut self.decoding else {
            let (n, drained) = self.body.drain(cx, sink);
            let amount = Amount {
                encoded: n,
                decoded: n,
            };
            return (amount, drained.into());
        };
        let mut amount = Amount::default();
        let mut is_dry = false;
        if decoding.is_empty() && decoding.end.is_none() {
            let ahead = &mut decoding.encoded;
            let (n, drained) = self.body.drain(cx, |piece| {
                ahead.extend_from_slice(piece);
                if ahead.len() < AHEAD_BYTES {
                    Flow::Continue
                } else {
                    Flow::Stop
                }
            });
            amount.encoded = n;
            match drained {
                exchange::Drained::Dry => is_dry = true,
                exchange::Drained::Full => {}
                end => decoding.end = Some(end.into()),
            }
        }
        let decoded = decoding.decode(sink);
        let drained = match decoded {
            Err(undecodable) => Drained::Undecodable(undecodable),
            Ok(n) => {
                amount.decoded = n;
                if !decoding.is_empty() {
                    Drained::Full
                } else if let Some(end) = decoding.end.take() {
                    decoding.judge(end)
                } else if is_dry {
                    Drained::Dry
                } else {
                    // What came while this was decoded may have woken nobody: look again.
                    Drained::Full
                }
            }
        };
        (amount, drained)
    }

    /// Memory that decoding holds.
    pub(super) fn held_bytes(&self) -> usize {
        let decoding = self.decoding.as_ref();
        decoding.map_or(0, |one| one.encoded.capacity() + one.decoder.held_bytes())
    }
}

impl Decoding {
    /// Whether all that came is decoded.
    fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Decodes as much as a turn allows; returns how much came out.
    fn decode(&mut self, mut sink: impl FnMut(&[u8]) -> Flow) -> Result<usize, Undecodable> {
        let mut n_decoded = 0;
        while n_decoded < TURN_BYTES && !self.encoded.is_empty() {
            let input = self.encoded.get(self.n_read..).unwrap_or_default();
            let (n_read, output) = self.decoder.step(input)?;
            self.n_read += n_read;
            n_decoded += output.len();
            if !output.is_empty() && sink(output) == Flow::Stop {
                break;
            }
            if n_read == 0 && output.is_empty() {
                if self.n_read < self.encoded.len() {
                    return Err(Undecodable::stuck());
                }
                self.encoded.clear();
                self.n_read = 0;
                self.encoded.shrink_to(AHEAD_BYTES);
                break;
            }
        }
        Ok(n_decoded)
    }

    /// A stream that ends in the middle of its coding has been cut.
    fn judge(&mut self, end: Drained) -> Drained {
        match (&end, self.decoder.finish()) {
            (Drained::Ended, Err(cut)) => Drained::Undecodable(cut),
            _ => end,
        }
    }
}

impl From<exchange::Drained> for Drained {
    fn from(drained: exchange::Drained) -> Self {
        match drained {
            exchange::Drained::Dry => Self::Dry,
            exchange::Drained::Ended => Self::Ended,
            exchange::Drained::Failed(error) => Self::Failed(error),
            exchange::Drained::Full => Self::Full,
        }
    }
}
