//! What the crowd is sent when it is idle, and after how long.

use std::time::Duration;

use super::push_framed;
use super::wire::Framing;
use crate::config::{self, HeartbeatForm};
use crate::sse::{self, Event};

/// When the crowd gets a heartbeat, and which.
pub(super) struct Heartbeat {
    pub(super) interval: Duration,
    /// Framed for HTTP/1.1.
    chunked: Vec<u8>,
    plain: Vec<u8>,
}

impl Heartbeat {
    /// `None`: idle clients are sent nothing.
    pub(super) fn new(settings: &config::Heartbeat) -> Option<Self> {
        let interval = settings.interval?;
        let plain = match &settings.form {
            HeartbeatForm::Comment => sse::HEARTBEAT_COMMENT.to_vec(),
            HeartbeatForm::Event(event_type) => {
                let data = format!(r#"{{"interval_ms":{}}}"#, interval.as_millis());
                let event = Event {
                    event_type,
                    data: &data,
                    id: None,
                };
                let mut block = Vec::new();
                sse::encode_event(&mut block, &event);
                block
            }
        };
        let mut chunked = Vec::new();
        push_framed(&mut chunked, &plain, Framing::Chunked);
        Some(Self {
            interval,
            chunked,
            plain,
        })
    }

    /// What a newcomer is told, so that a page knows from the beginning how long silence may last:
    /// the first heartbeat, if it is one that pages see.
    pub(super) fn introduction(&self) -> &[u8] {
        if self.is_seen() { &self.plain } else { &[] }
    }

    /// Whether pages see it.
    pub(super) fn is_seen(&self) -> bool {
        self.plain != sse::HEARTBEAT_COMMENT
    }

    /// Its bytes, framed.
    pub(super) fn bytes(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked => &self.chunked,
            Framing::Plain => &self.plain,
        }
    }
}
