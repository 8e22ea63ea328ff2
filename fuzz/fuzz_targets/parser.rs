//! Any bytes as an event stream: however it is cut, and written again.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::sse::fuzz_parser(data));
