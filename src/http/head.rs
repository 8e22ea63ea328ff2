//! The head of a stream's response, which hyper does not write for us.

use std::time::SystemTime;

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
    HeaderName,
};
use http::{HeaderMap, HeaderValue};

use crate::config;
use crate::delivery::Framing;

const HEARTBEAT_MS: HeaderName = HeaderName::from_static("ssecast-heartbeat-ms");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Adds the header fields of every event stream. No intermediary may store, change or hold it.
pub(super) fn describe_stream(fields: &mut HeaderMap) {
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    );
    fields.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// Adds how often a client hears of the gateway at least, for those who see comments but not what the
/// event form of a heartbeat says.
pub(super) fn describe_heartbeat(fields: &mut HeaderMap, settings: &config::Channel) {
    let Some(interval) = settings.heartbeat.interval else {
        return;
    };
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    fields.insert(HEARTBEAT_MS, HeaderValue::from(millis));
    if fields.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        let exposed = HeaderValue::from_static("Ssecast-Heartbeat-Ms");
        fields.append(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// A response head of HTTP/1.1 (RFC 9112, 4 and 5) for a connection that ends with the stream.
pub(super) fn encode(fields: &HeaderMap, framing: Framing) -> Vec<u8> {
    let mut head = Vec::with_capacity(384);
    head.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    for (name, value) in fields {
        head.extend_from_slice(canonical(name).as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"Date: ");
    head.extend_from_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    head.extend_from_slice(b"\r\nConnection: close\r\n");
    if framing == Framing::Chunked {
        head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The spelling that people know: names are case-insensitive, but some clients' authors are not.
fn canonical(name: &HeaderName) -> String {
    let mut is_start = true;
    name.as_str()
        .chars()
        .map(|c| {
            let c = if is_start { c.to_ascii_uppercase() } else { c };
            is_start = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_complete() {
        let mut fields = HeaderMap::new();
        describe_stream(&mut fields);
        let head = String::from_utf8(encode(&fields, Framing::Chunked)).expect("text");
        for line in [
            "HTTP/1.1 200 OK\r\n",
            "Content-Type: text/event-stream\r\n",
            "Cache-Control: no-store, no-transform\r\n",
            "X-Accel-Buffering: no\r\n",
            "Transfer-Encoding: chunked\r\n",
        ] {
            assert!(head.contains(line), "{line:?} in {head}");
        }
        assert!(head.ends_with("\r\n\r\n"));
        let plain = String::from_utf8(encode(&fields, Framing::Plain)).expect("text");
        assert!(!plain.contains("Transfer-Encoding"), "{plain}");
    }
}
