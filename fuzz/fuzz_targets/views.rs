//! Any text as the id of a view: one spelling, and no more sources than a view has.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::log::fuzz_cursor(data));
