//! An open event stream: what is readable of it is parsed and taken in, until it breaks.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::decoded::{Amount, DecodedBody, Drained};
use super::error::UpstreamError;
use super::exchange::Flow;
use super::intake::Intake;
use super::reconnect::Backoff;
use crate::config;
use crate::memory::{Budget, Held, WhatFor};
use crate::sse::{Item, Limits, Parser};

/// An open event stream.
pub(super) struct Stream {
    body: DecodedBody,
    pub(super) parser: Parser,
    /// Counts the parser's buffers: an event may be large, and its end may never come.
    held: Held,
    pub(super) last_byte_at: Instant,
    pub(super) idle_timeout: Duration,
}

impl Stream {
    pub(super) fn new(body: DecodedBody, settings: &config::Upstream, budget: &Budget) -> Self {
        let limits = Limits {
            max_line_bytes: settings.max_line_bytes,
            max_event_bytes: settings.max_event_bytes,
        };
        Self {
            body,
            parser: Parser::new(limits),
            held: budget.hold(WhatFor::Events, 0),
            last_byte_at: Instant::now(),
            idle_timeout: settings.idle_timeout,
        }
    }

    /// Reads, parses and appends what is readable. Ready when the stream has broken.
    pub(super) fn poll_until_broken(
        &mut self,
        cx: &mut Context<'_>,
        idle: Pin<&mut Sleep>,
        intake: &mut Intake,
        backoff: &mut Backoff,
    ) -> Poll<UpstreamError> {
        let now = Instant::now();
        let mut broken = None;
        let parser = &mut self.parser;
        let (amount, drained) = self.body.drain(cx, |piece| {
            intake.note_life();
            let parsed = parser.push(piece, |item| match item {
                Item::Event(event) => intake.receive(&event, now),
                Item::Retry(wish) => backoff.set_origin_wish(wish),
            });
            broken = parsed.err();
            if broken.is_some() {
                Flow::Stop
            } else {
                Flow::Continue
            }
        });
        if amount.encoded > 0 {
            self.last_byte_at = now;
        }
        if amount != Amount::default() {
            let held = self.parser.reserved_bytes() + self.body.held_bytes();
            self.held.resize(held);
            intake.commit(amount.decoded, now);
            if let Some(id) = self.parser.last_event_id() {
                intake.note_last_event_id(id);
            }
        }
        if let Some(limit) = broken {
            return Poll::Ready(UpstreamError::LimitExceeded(limit));
        }
        match drained {
            Drained::Dry => self.poll_idle(cx, idle, now),
            Drained::Ended => Poll::Ready(UpstreamError::StreamEnded),
            Drained::Failed(error) => Poll::Ready(UpstreamError::StreamBroke(error)),
            Drained::Undecodable(why) => Poll::Ready(UpstreamError::Undecodable(why)),
            Drained::Full => {
                // A flood from this origin must not keep the thread from its other work.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Reads and parses what is readable, for nobody. Ready when the stream has broken.
    pub(super) fn poll_wasting(&mut self, cx: &Context<'_>) -> Poll<UpstreamError> {
        let mut broken = None;
        let parser = &mut self.parser;
        let (_, drained) = self.body.drain(cx, |piece| {
            broken = parser.push(piece, |_| {}).err();
            if broken.is_some() {
                Flow::Stop
            } else {
                Flow::Continue
            }
        });
        let held = self.parser.reserved_bytes() + self.body.held_bytes();
        self.held.resize(held);
        if let Some(limit) = broken {
            return Poll::Ready(UpstreamError::LimitExceeded(limit));
        }
        match drained {
            Drained::Dry => Poll::Pending,
            Drained::Ended => Poll::Ready(UpstreamError::StreamEnded),
            Drained::Failed(error) => Poll::Ready(UpstreamError::StreamBroke(error)),
            Drained::Undecodable(why) => Poll::Ready(UpstreamError::Undecodable(why)),
            Drained::Full => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Fails if no byte came for too long. The timer is set again only when it fires, so that a
    /// read does not touch it.
    fn poll_idle(
        &self,
        cx: &mut Context<'_>,
        mut idle: Pin<&mut Sleep>,
        now: Instant,
    ) -> Poll<UpstreamError> {
        while idle.as_mut().poll(cx).is_ready() {
            let deadline = self.last_byte_at + self.idle_timeout;
            if deadline <= now {
                return Poll::Ready(UpstreamError::Stalled);
            }
            idle.set(sleep_until(deadline));
        }
        Poll::Pending
    }
}
