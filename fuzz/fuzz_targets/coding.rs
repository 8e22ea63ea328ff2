//! Any bytes as a compressed stream: however they are cut, and never a large step.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::channel::fuzz_coding(data));
