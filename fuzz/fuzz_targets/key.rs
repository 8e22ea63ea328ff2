//! A JSON pointer and a text: the member is found where `serde_json` finds it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::log::fuzz_key(data));
