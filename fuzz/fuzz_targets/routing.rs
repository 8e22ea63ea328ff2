//! Any path: however it is spelled, it has one normal form.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::config::fuzz_path(data));
