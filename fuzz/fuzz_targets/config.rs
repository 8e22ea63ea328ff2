//! Any text as a configuration: every finding has its place and its advice.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::config::fuzz_config(data));
