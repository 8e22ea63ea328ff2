//! Properties of a batch: the two framings, resumed anywhere.

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::batch::{Batch, BatchBuilder, Count};
use super::super::testing::{dechunk, event};
use crate::memory::Budget;
use crate::sse::encode_event;

const START: u64 = 1000;

/// A batch, and what it says.
fn any_batch() -> impl Strategy<Value = (Batch, Vec<u8>)> {
    let id = proptest::option::of("[a-z0-9]{0,4}");
    vec((id, "[ -~\n]{0,40}"), 1..8).prop_map(|events| {
        let mut builder = BatchBuilder::default();
        let mut stream = Vec::new();
        for (id, data) in &events {
            let event = event(id.as_deref(), data);
            builder.push(&event);
            encode_event(&mut stream, &event);
        }
        (
            builder.build(
                (START, Count::default()),
                Instant::now(),
                &Budget::unlimited(),
            ),
            stream,
        )
    })
}

proptest! {
    #[test]
    fn without_its_framing_a_batch_is_its_events((batch, stream) in any_batch()) {
        prop_assert_eq!(&dechunk(batch.chunked_from(START)), &stream);
        let pieces: Vec<&[u8]> = batch.payloads_from(START).map(|(bytes, _)| bytes).collect();
        prop_assert_eq!(pieces.concat(), stream);
        let last = batch.payloads_from(START).last().expect("a batch is not empty");
        prop_assert_eq!(last.1, batch.end());
    }

    /// A client without chunks that takes pieces of any size, each asked for where the one before
    /// has led.
    #[test]
    fn plain_framing_resumes_after_any_write(
        (batch, stream) in any_batch(),
        sizes in vec(1usize..30, 1..200),
    ) {
        let mut at = START;
        let mut taken = Vec::new();
        for size in sizes.iter().copied().cycle() {
            let Some((bytes, end)) = batch.payloads_from(at).next() else { break };
            prop_assert!(!bytes.is_empty(), "nothing to send at {}", at);
            let n = size.min(bytes.len());
            taken.extend_from_slice(&bytes[..n]);
            let next = batch.after_payload(at, n);
            prop_assert!(next > at, "no way on from {}", at);
            prop_assert_eq!(next == end, n == bytes.len());
            at = next;
        }
        prop_assert_eq!(at, batch.end());
        prop_assert_eq!(taken, stream);
    }

    /// A position of the chunked framing may be anywhere in a chunk; the end of its event, and what
    /// is left of it, are the same for both framings.
    #[test]
    fn the_end_of_an_event_is_the_next_boundary((batch, _) in any_batch()) {
        let ends: Vec<u64> = batch.payloads_from(START).map(|(_, end)| end).collect();
        for at in START..=batch.end() {
            let is_between = at == START || ends.contains(&at);
            let expected = if is_between {
                at
            } else {
                *ends.iter().find(|end| **end > at).expect("an event is there")
            };
            prop_assert_eq!(batch.event_end(at), expected, "at {}", at);
            let n_left = batch.payloads_from(at).count();
            prop_assert_eq!(n_left, ends.iter().filter(|end| **end > at).count(), "at {}", at);
        }
    }
}
