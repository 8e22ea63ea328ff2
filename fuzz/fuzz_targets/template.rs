//! Any values and any query: in the URL of an upstream they are in their places, and nothing else changes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::config::fuzz_template(data));
