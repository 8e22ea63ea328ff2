//! Anything in `X-Forwarded-For` and `Forwarded`: a client does not choose its address.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::proxy::fields::client::fuzz_forwarded(data));
