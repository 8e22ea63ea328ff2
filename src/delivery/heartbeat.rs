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
                let mut block = Vec::new();
                sse::encode_event(
                    &mut block,
                    &Event {
                        event_type,
                        data: "{}",
                        id: None,
                    },
                );
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

    /// Its bytes, framed.
    pub(super) fn bytes(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked => &self.chunked,
            Framing::Plain => &self.plain,
        }
    }
}
