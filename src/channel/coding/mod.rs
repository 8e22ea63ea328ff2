//! Content codings of an origin's stream: what was compressed is decoded as it comes, so that an event
//! is there when the origin has flushed it.
//!
//! Nothing that an origin sends makes a step large: a step decodes some of the input into a bounded
//! piece of output. So what expands a thousandfold costs time that others can have in between, and
//! what it expands to meets the limits of the parser like any other stream. Windows are bounded, too.
//!
//! RFC 1952 (gzip, with several members), RFC 7932 (br), RFC 8878 and RFC 9659 (zstd, of windows up to
//! 8 MiB). Not deflate: half of those who say so send something else (RFC 9110, 8.4.1.2).

use std::fmt;
use std::io::Write as _;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::write::MultiGzDecoder;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// What the gateway asks for where it may be compressed, what costs the least to decode first.
pub(super) const ACCEPTED: &str = "zstd, br, gzip";

/// A coding that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    Gzip,
    Zstd,
}

/// Decodes one stream.
pub(super) struct Decoder {
    kind: Kind,
    /// What a step has decoded.
    output: Vec<u8>,
    /// Whether the stream is where it may end.
    is_complete: bool,
}

enum Kind {
    Brotli(Box<Brotli>),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(DCtx<'static>),
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// What is wrong with a compressed stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecodable(String);

/// Most bytes that a step of br or zstd decodes. (A step of gzip has a buffer of its own, of 32 KiB.)
const STEP_BYTES: usize = 32 * 1024;

/// The longest input that a step is given: it decides how much is decoded before others have a turn.
const STEP_INPUT_BYTES: usize = 4 * 1024;

/// 2^23: what RFC 9659 allows.
const ZSTD_WINDOW_LOG: u32 = 23;

/// What the decoders of gzip and br hold besides their windows, about.
const TABLES_BYTES: usize = 64 * 1024;

impl Undecodable {
    /// Input that a decoder leaves where it is. None does, as far as we know; it would spin.
    pub(super) fn stuck() -> Self {
        Self("the decoder stands still".to_owned())
    }
}

impl Coding {
    /// What a `Content-Encoding` says: `None` for no coding at all.
    ///
    /// # Errors
    ///
    /// If it is no coding that is known, or several.
    pub(super) fn of(field: &str) -> Result<Option<Self>, ()> {
        let codings = field.split(',').map(str::trim);
        let codings =
            codings.filter(|one| !(one.is_empty() || one.eq_ignore_ascii_case("identity")));
        let mut codings = codings.map(|one| match one.to_ascii_lowercase().as_str() {
            "br" => Ok(Self::Brotli),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(()),
        });
        match (codings.next(), codings.next()) {
            (None, _) => Ok(None),
            (Some(coding), None) => coding.map(Some),
            (Some(_), Some(_)) => Err(()),
        }
    }
}

impl Decoder {
    pub(super) fn new(coding: Coding) -> Self {
        let kind = match coding {
            Coding::Brotli => {
                let alloc = StandardAlloc::default;
                // Strict: windows of 16 MiB at most.
                Kind::Brotli(Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())))
            }
            Coding::Gzip => Kind::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Coding::Zstd => {
                let mut context = DCtx::create();
                let set = context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG));
                debug_assert!(set.is_ok(), "a window that zstd knows");
                Kind::Zstd(context)
            }
        };
        Self {
            kind,
            output: Vec::new(),
            is_complete: true,
        }
    }

    /// Decodes some of `input`; returns how much of it was read, and what came out. All is decoded when
    /// all is read and nothing comes out.
    ///
    /// # Errors
    ///
    /// If it is not what the coding says. Nothing can be decoded then.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<(usize, &[u8]), Undecodable> {
        self.output.clear();
        let input = input.get(..STEP_INPUT_BYTES).unwrap_or(input);
        let n_read = match &mut self.kind {
            Kind::Brotli(state) => step_brotli(state, input, &mut self.output)?,
            Kind::Gzip(decoder) => step_gzip(decoder, input, &mut self.output)?,
            Kind::Zstd(context) => {
                let (n_read, is_complete) = step_zstd(context, input, &mut self.output)?;
                if n_read > 0 || !self.output.is_empty() {
                    self.is_complete = is_complete;
                }
                n_read
            }
        };
        if n_read > 0 && !matches!(self.kind, Kind::Zstd(_)) {
            self.is_complete = false;
        }
        Ok((n_read, &self.output))
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    ///
    /// If it ends in the middle.
    pub(super) fn finish(&mut self) -> Result<(), Undecodable> {
        let is_complete = match &mut self.kind {
            Kind::Brotli(state) => {
                self.is_complete || brotli_decompressor::BrotliDecoderIsFinished(state)
            }
            Kind::Gzip(decoder) => self.is_complete || decoder.try_finish().is_ok(),
            Kind::Zstd(_) => self.is_complete,
        };
        if is_complete {
            Ok(())
        } else {
            Err(Undecodable("it ends in the middle".to_owned()))
        }
    }

    /// Memory that is held, about.
    pub(super) fn held_bytes(&self) -> usize {
        let window = match &self.kind {
            Kind::Brotli(state) => {
                TABLES_BYTES + usize::try_from(state.ringbuffer_size).unwrap_or(0)
            }
            Kind::Gzip(_) => TABLES_BYTES,
            Kind::Zstd(context) => context.sizeof(),
        };
        window + self.output.capacity()
    }
}

fn step_brotli(
    state: &mut Brotli,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<usize, Undecodable> {
    output.resize(STEP_BYTES, 0);
    let (mut available_in, mut n_read) = (input.len(), 0);
    let (mut available_out, mut n_written, mut total) = (output.len(), 0, 0);
    let result = BrotliDecompressStream(
        &mut available_in,
        &mut n_read,
        input,
        &mut available_out,
        &mut n_written,
        output,
        &mut total,
        state,
    );
    output.truncate(n_written);
    match result {
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok(n_read),
        BrotliResult::ResultSuccess if available_in == 0 => Ok(n_read),
        BrotliResult::ResultSuccess => Err(Undecodable("it goes on after its end".to_owned())),
        BrotliResult::ResultFailure => Err(Undecodable("it is not br".to_owned())),
    }
}

fn step_gzip(
    decoder: &mut MultiGzDecoder<Vec<u8>>,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<usize, Undecodable> {
    let wrong = |error: std::io::Error| Undecodable(format!("it is not gzip: {error}"));
    let n_read = decoder.write(input).map_err(wrong)?;
    if n_read == input.len() {
        // What the window holds back.
        decoder.flush().map_err(wrong)?;
    }
    std::mem::swap(output, decoder.get_mut());
    decoder.get_mut().clear();
    Ok(n_read)
}

/// Returns how much was read, and whether a frame is at its end.
fn step_zstd(
    context: &mut DCtx<'_>,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(usize, bool), Undecodable> {
    output.resize(STEP_BYTES, 0);
    let mut source = InBuffer::around(input);
    let (hint, n_written) = {
        let mut target = OutBuffer::around(output.as_mut_slice());
        let hint = context.decompress_stream(&mut target, &mut source);
        (hint, target.pos())
    };
    let hint = hint.map_err(|code| {
        let name = zstd_safe::get_error_name(code);
        Undecodable(format!("it is not zstd: {name}"))
    })?;
    output.truncate(n_written);
    Ok((source.pos(), hint == 0))
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coding = match self.kind {
            Kind::Brotli(_) => Coding::Brotli,
            Kind::Gzip(_) => Coding::Gzip,
            Kind::Zstd(_) => Coding::Zstd,
        };
        f.debug_struct("Decoder")
            .field("coding", &coding)
            .field("is_complete", &self.is_complete)
            .finish_non_exhaustive()
    }
}

/// Decodes any bytes by any coding: the first byte says which, and where the rest is cut.
///
/// # Panics
///
/// If a step is larger than it may be, makes no progress, or decodes something else when the input is
/// cut elsewhere.
#[cfg(any(test, fuzzing))]
#[expect(clippy::panic, reason = "a finding of the fuzzer")]
pub fn fuzz_coding(data: &[u8]) {
    const MOST_BYTES: usize = 4 << 20;
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    let coding = match first % 3 {
        0 => Coding::Brotli,
        1 => Coding::Gzip,
        _ => Coding::Zstd,
    };
    let cut = data.len() * usize::from(first) / 256;
    let (head, tail) = data.split_at_checked(cut).unwrap_or((data, &[]));
    let decode = |pieces: &[&[u8]]| {
        let mut decoder = Decoder::new(coding);
        let mut decoded = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            loop {
                let (n_read, output) = decoder.step(input).ok()?;
                assert!(
                    output.len() <= 4 * STEP_BYTES,
                    "a step of {} bytes",
                    output.len()
                );
                decoded.extend_from_slice(output);
                let is_dry = n_read == 0 && output.is_empty();
                input = input.get(n_read..).unwrap_or_default();
                if decoded.len() > MOST_BYTES || (is_dry && input.is_empty()) {
                    break;
                }
                assert!(!is_dry, "the decoder stands still");
            }
        }
        Some(decoded)
    };
    let (whole, cut) = (decode(&[data]), decode(&[head, tail]));
    if let (Some(whole), Some(cut)) = (whole, cut)
        && whole.len() <= MOST_BYTES
        && whole != cut
    {
        panic!("{coding:?}: a cut makes a difference");
    }
}

#[cfg(test)]
mod tests;
