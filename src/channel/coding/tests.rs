use super::*;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter};

const ALL: [Coding; 3] = [Coding::Brotli, Coding::Gzip, Coding::Zstd];

/// The pieces, each flushed by the encoder, and the end of the stream.
fn encode(coding: Coding, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
    match coding {
        Coding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            let flushed = pieces.iter().map(|piece| {
                encoder.write_all(piece).unwrap();
                encoder.flush().unwrap();
                std::mem::take(encoder.get_mut())
            });
            let flushed = flushed.collect();
            (flushed, encoder.into_inner())
        }
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            let flushed = pieces.iter().map(|piece| {
                encoder.write_all(piece).unwrap();
                encoder.flush().unwrap();
                std::mem::take(encoder.get_mut())
            });
            let flushed = flushed.collect();
            (flushed, encoder.finish().unwrap())
        }
        Coding::Zstd => {
            let mut context = CCtx::create();
            context.set_parameter(CParameter::WindowLog(20)).unwrap();
            let mut compress = |piece: &[u8], end| {
                let mut output = vec![0; piece.len() + 64 * 1024];
                let mut target = OutBuffer::around(output.as_mut_slice());
                let mut source = InBuffer::around(piece);
                let left = context.compress_stream2(&mut target, &mut source, end);
                assert_eq!((left, source.pos()), (Ok(0), piece.len()));
                let n = target.pos();
                output.truncate(n);
                output
            };
            let flush = ZSTD_EndDirective::ZSTD_e_flush;
            let flushed = pieces.iter().map(|piece| compress(piece, flush)).collect();
            (flushed, compress(b"", ZSTD_EndDirective::ZSTD_e_end))
        }
    }
}

/// Decodes all of the input.
fn decode(decoder: &mut Decoder, mut input: &[u8]) -> Result<Vec<u8>, Undecodable> {
    let mut decoded = Vec::new();
    loop {
        let (n_read, output) = decoder.step(input)?;
        assert!(
            output.len() <= 128 * 1024,
            "{} bytes in a step",
            output.len()
        );
        decoded.extend_from_slice(output);
        let is_dry = n_read == 0 && output.is_empty();
        input = &input[n_read..];
        if is_dry && input.is_empty() {
            return Ok(decoded);
        }
        assert!(!is_dry, "no progress");
    }
}

#[test]
fn what_was_flushed_is_there_whole_and_at_once() {
    let large = vec![b'x'; 300_000];
    let random: Vec<u8> = (0..100_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let pieces: [&[u8]; 5] = [
        b"data: a\n\n",
        b"id: 2\ndata: b\n\n",
        &large,
        &random,
        b":\n",
    ];
    for coding in ALL {
        let (flushed, end) = encode(coding, &pieces);
        let mut decoder = Decoder::new(coding);
        decoder.finish().expect("nothing may come");
        for (encoded, piece) in flushed.iter().zip(pieces) {
            assert!(
                decode(&mut decoder, encoded).unwrap() == piece,
                "{coding:?}"
            );
        }
        decoder.finish().expect_err("in the middle");
        let mut decoder = Decoder::new(coding);
        decode(&mut decoder, &flushed.concat()).unwrap();
        assert_eq!(decode(&mut decoder, &end).unwrap(), b"");
        decoder.finish().expect("it is at its end");
    }
}

#[test]
fn members_and_frames_may_follow_each_other() {
    for coding in [Coding::Gzip, Coding::Zstd] {
        let mut decoder = Decoder::new(coding);
        for piece in [&b"data: a\n\n"[..], b"", b"data: b\n\n"] {
            let (flushed, end) = encode(coding, &[piece]);
            let one = [flushed.concat(), end].concat();
            assert_eq!(decode(&mut decoder, &one).unwrap(), piece, "{coding:?}");
            decoder.finish().expect("at an end");
        }
    }
}

#[test]
fn garbage_is_said_to_be_garbage() {
    for coding in ALL {
        for garbage in [&b"data: x\n\n"[..], b"<!doctype html>", &[0xff; 100]] {
            let garbage = garbage.repeat(20);
            assert!(
                decode(&mut Decoder::new(coding), &garbage).is_err(),
                "{coding:?}"
            );
        }
        let (flushed, end) = encode(coding, &[b"data: a\n\n"]);
        let mut broken = [flushed.concat(), end].concat();
        let last = broken.len() - 1;
        // The checksum, where there is one; else what comes after the end.
        broken[last] ^= 0x40;
        broken.extend(b"data: x\n\n");
        let mut decoder = Decoder::new(coding);
        let decoded = decode(&mut decoder, &broken);
        assert!(decoded.is_err() || decoder.finish().is_err(), "{coding:?}");
    }
}

/// A window larger than any honest sender's is refused before it is allocated.
#[test]
fn windows_are_bounded() {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::WindowLog(27)).unwrap();
    let mut output = vec![0; 64 * 1024];
    let mut target = OutBuffer::around(output.as_mut_slice());
    let mut source = InBuffer::around(b"data: a\n\n");
    context
        .compress_stream2(&mut target, &mut source, ZSTD_EndDirective::ZSTD_e_flush)
        .unwrap();
    let n = target.pos();
    let error = decode(&mut Decoder::new(Coding::Zstd), &output[..n]).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn a_bomb_goes_off_in_small_pieces() {
    let zeros = vec![0; 32 << 20];
    for coding in ALL {
        let (flushed, end) = encode(coding, &[&zeros]);
        let bomb = [flushed.concat(), end].concat();
        assert!(bomb.len() < 64 * 1024, "{coding:?}: {} bytes", bomb.len());
        let mut decoder = Decoder::new(coding);
        let mut n_decoded = 0;
        let mut input = &bomb[..];
        while n_decoded < zeros.len() {
            let (n_read, output) = decoder.step(input).unwrap();
            // `decode` checks the same, for all others.
            assert!(
                output.len() <= 128 * 1024,
                "{coding:?}: {} bytes",
                output.len()
            );
            n_decoded += output.len();
            input = &input[n_read..];
        }
        assert!(decoder.held_bytes() <= 24 << 20, "{coding:?}");
    }
}

#[test]
fn what_a_field_says_is_one_coding_or_none() {
    for (field, coding) in [
        ("", Ok(None)),
        ("identity", Ok(None)),
        ("GZip", Ok(Some(Coding::Gzip))),
        ("x-gzip", Ok(Some(Coding::Gzip))),
        ("identity, br", Ok(Some(Coding::Brotli))),
        (" zstd ", Ok(Some(Coding::Zstd))),
        ("gzip, br", Err(())),
        ("deflate", Err(())),
        ("dcb", Err(())),
    ] {
        assert_eq!(Coding::of(field), coding, "{field:?}");
    }
}

proptest! {
    /// However the encoded bytes are cut, the same comes out; and noise never panics.
    #[test]
    fn cuts_do_not_matter(
        texts in proptest::collection::vec("[a-c\n: ]{0,40}", 1..6),
        cuts in proptest::collection::vec(0usize..400, 0..8),
    ) {
        for coding in ALL {
            let pieces: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
            let (flushed, end) = encode(coding, &pieces);
            let encoded = [flushed.concat(), end].concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (encoded.len() + 1)).collect();
            cuts.extend([0, encoded.len()]);
            cuts.sort_unstable();
            let mut decoder = Decoder::new(coding);
            let mut decoded = Vec::new();
            for cut in cuts.windows(2) {
                decoded.extend(decode(&mut decoder, &encoded[cut[0]..cut[1]]).unwrap());
            }
            prop_assert_eq!(decoded, pieces.concat());
            decoder.finish().expect("the end");
        }
    }

    #[test]
    fn noise_is_the_same_however_it_is_cut(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_coding(&noise);
        for (first, coding) in (0u8..).zip(ALL) {
            let (flushed, end) = encode(coding, &[&noise]);
            let encoded = [flushed.concat(), end].concat();
            fuzz_coding(&[&[first + 120], &encoded[..]].concat());
        }
    }

    #[test]
    fn noise_is_no_panic(noise in proptest::collection::vec(any::<u8>(), 0..600), at in 0usize..40) {
        for coding in ALL {
            decode(&mut Decoder::new(coding), &noise).ok();
            // What begins well.
            let (flushed, _) = encode(coding, &[b"data: a\n\ndata: b\n\n"]);
            let mut encoded = flushed.concat();
            encoded.truncate(at.max(1));
            encoded.extend(&noise);
            decode(&mut Decoder::new(coding), &encoded).ok();
        }
    }
}
