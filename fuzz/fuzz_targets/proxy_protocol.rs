//! Any bytes as the begin of a connection: a header of the PROXY protocol and not one byte more.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ssecast::net::proxy_protocol::fuzz_proxy_protocol(data));
