//! Any bytes as the state of an earlier process.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::state::fuzz_state(data));
