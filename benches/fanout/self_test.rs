//! Shows that the verification finds what it is there for, before its zeros are believed.
//!
//! Not `#[test]` functions, because a bench has no test harness; `--self-test` and every smoke run
//! call it.

use crate::event;
use crate::event::Event;
use crate::load::Faults;
use crate::load::verify;
use crate::load::verify::Expected;

const CHANNEL: u32 = 3;
const FIRST: u64 = 100;
const SIZE: usize = 200;

/// Checks that each kind of fault is found, and none where there is none.
///
/// # Panics
///
/// When one is not.
pub(crate) fn run() {
    let none = Faults::default();
    expect(
        "an undisturbed stream",
        &stream(&[100, 101, 102, 103]),
        none,
    );
    expect(
        "a gap",
        &stream(&[100, 102, 103]),
        Faults {
            n_missing: 1,
            ..none
        },
    );
    expect(
        "a gap at the beginning",
        &stream(&[102, 103]),
        Faults {
            n_missing: 2,
            ..none
        },
    );
    expect(
        "a gap at the end",
        &stream(&[100, 101]),
        Faults {
            n_missing: 2,
            ..none
        },
    );
    expect(
        "nothing at all",
        &[],
        Faults {
            n_missing: 4,
            ..none
        },
    );
    expect(
        "a duplicate",
        &stream(&[100, 101, 101, 102, 103]),
        Faults {
            n_duplicated: 1,
            ..none
        },
    );
    expect(
        "a late duplicate",
        &stream(&[100, 101, 102, 103, 100]),
        Faults {
            n_duplicated: 1,
            ..none
        },
    );
    expect(
        "two swapped",
        &stream(&[100, 102, 101, 103]),
        Faults {
            n_reordered: 1,
            ..none
        },
    );
    expect(
        "one of another window",
        &stream(&[99, 100, 101, 102, 103]),
        Faults { n_stray: 1, ..none },
    );
    disturbed_bytes();
    prologue_and_notices();
    unfinished_chunk();
}

/// A changed byte must show, wherever it is.
fn disturbed_bytes() {
    let clean = stream(&[100, 101, 102, 103]);
    for place in 0..clean.len() {
        let mut bytes = clean.clone();
        bytes[place] ^= 1;
        let (faults, end) = check(&bytes);
        // A disturbed length may make all that follows one unfinished chunk, which is missing then.
        let is_found = faults.total() > 0 || end < bytes.len();
        let is_time = is_time_stamp(place);
        assert!(
            is_found || is_time,
            "byte {place} changed, and nobody noticed"
        );
    }
}

/// Whether a place lies in the digits of a time stamp, which nothing else tells.
fn is_time_stamp(place: usize) -> bool {
    let begin = "c8\r\ndata: c=00003 n=0000000100 t=".len();
    (begin..begin + 20).contains(&(place % event::wire_size(SIZE)))
}

fn prologue_and_notices() {
    let none = Faults::default();
    let mut bytes = b"c\r\nretry: 3000\n\r\n2\r\n:\n\r\n".to_vec();
    bytes.extend(stream(&[100, 101, 102, 103]));
    expect("a reconnection time and a heartbeat", &bytes, none);
    bytes.extend(b"24\r\nevent: ssecast.gap\ndata: missed: 1\n\n\r\n");
    expect("a notice", &bytes, Faults { n_stray: 1, ..none });
}

fn unfinished_chunk() {
    let clean = stream(&[100, 101, 102, 103]);
    let size = event::wire_size(SIZE);
    for length in 0..clean.len() {
        let (faults, end) = check(&clean[..length]);
        let n_whole = length / size;
        assert_eq!(end, n_whole * size, "cut after {length} bytes");
        let n_missing = 4 - n_whole as u64;
        assert_eq!(
            faults,
            Faults {
                n_missing,
                ..Faults::default()
            },
            "cut after {length} bytes"
        );
    }
}

fn expect(what: &str, bytes: &[u8], faults: Faults) {
    assert_eq!(check(bytes).0, faults, "{what}");
}

fn check(bytes: &[u8]) -> (Faults, usize) {
    let expected = Expected {
        channel: CHANNEL,
        first_seq: FIRST,
        n_events: 4,
    };
    verify::verify(bytes, expected, |_, _| {})
}

fn stream(seqs: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for seq in seqs {
        let event = Event {
            channel: CHANNEL,
            seq: *seq,
            sent_at: 4711,
        };
        event.write_chunk(SIZE, &mut bytes);
    }
    bytes
}
