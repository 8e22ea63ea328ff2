//! Any bytes as what a side of a WebSocket says: wherever they are cut, frames end where they end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::proxy::tunnel::fuzz_frames(data));
