//! Any path through a proxy: it goes on byte for byte, in its place, or not at all.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::proxy::fields::fuzz_path(data));
