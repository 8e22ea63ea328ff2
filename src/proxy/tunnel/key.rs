//! The key of a WebSocket's opening handshake, for clients of HTTP/2, which send none.
//!
//! The origin proves by it that it has understood a request of HTTP/1.1 for what it is.
//!
//! Spec: RFC 6455, 4.1 and 4.2.2; RFC 8441, 5.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, HeaderValue};

/// A key that was sent.
#[derive(Debug)]
pub(super) struct Key {
    text: String,
}

/// What an origin appends to a key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Key {
    /// Another one each time.
    pub(super) fn random() -> Self {
        Self {
            text: STANDARD.encode(fastrand::u128(..).to_be_bytes()),
        }
    }

    /// Puts it among the fields of a request.
    pub(super) fn write(&self, fields: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.text) {
            fields.insert(SEC_WEBSOCKET_KEY, value);
        }
    }

    /// Whether an answer accepts it.
    pub(super) fn is_accepted(&self, fields: &HeaderMap) -> bool {
        let accept = fields.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        accept == Some(self.accept().as_bytes())
    }

    fn accept(&self) -> String {
        let joined = [self.text.as_bytes(), GUID].concat();
        STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &joined))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_by_its_own_answer_only() {
        // RFC 6455, 1.3.
        let key = Key {
            text: "dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
        };
        assert_eq!(key.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut fields = HeaderMap::new();
        assert!(!key.is_accepted(&fields));
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
        assert!(key.is_accepted(&fields) && !Key::random().is_accepted(&fields));
    }

    #[test]
    fn every_key_is_another_and_has_16_bytes() {
        let [one, other] = [Key::random(), Key::random()];
        assert_ne!(one.text, other.text);
        let bytes = STANDARD.decode(&one.text).expect("base64");
        assert_eq!(bytes.len(), 16);
        let mut fields = HeaderMap::new();
        one.write(&mut fields);
        assert_eq!(fields[SEC_WEBSOCKET_KEY], one.text.as_str());
    }
}
