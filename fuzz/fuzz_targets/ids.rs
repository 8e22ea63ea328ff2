//! Any ids, of an origin and of subscribers: an exact continuation, or told.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::log::fuzz_ids(data));
