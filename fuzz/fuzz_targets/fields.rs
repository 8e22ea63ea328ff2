//! Any fields of a request and its target: nothing reaches an origin that it could take for ours.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::proxy::fields::fuzz_fields(data));
