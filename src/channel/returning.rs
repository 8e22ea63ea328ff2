//! The way back to a better endpoint: while the stream comes from another one, those before it are
//! tried now and then, until one of them has been well for long enough.
//!
//! A try is a connection of its own, whose events are read and thrown away, so that the stream that
//! counts is not disturbed. It is not kept: when it has proven its endpoint, the upstream leaves
//! where it is and asks there, after the last id that it has by then.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Channel;
use super::error::{UpstreamError, with_causes};
use super::reconnect::Backoff;
use super::request::{self, Answer, Line, Wanted, header_value};
use super::stream::Stream;
use crate::config;

/// What is needed to try endpoints.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    pub(super) channel: Channel,
    pub(super) settings: Arc<config::Channel>,
    pub(super) line: &'a Line,
    /// The better ones, the best first.
    pub(super) places: Vec<usize>,
    /// How long one must have been well.
    pub(super) proof: Duration,
}

impl Trial<'_> {
    /// Tries until one of the places is well; returns which.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub(super) async fn run(self) -> usize {
        let mut backoff = Backoff::new(self.settings.upstream.backoff.clone());
        loop {
            let wait = backoff.failed(Instant::now(), fastrand::f64(), NonZeroUsize::MIN);
            sleep(wait).await;
            for place in self.places.iter().copied() {
                match self.prove(place).await {
                    Ok(()) => return place,
                    Err(error) => self.log(place, &error),
                }
            }
        }
    }

    async fn prove(&self, place: usize) -> Result<(), UpstreamError> {
        let settings = &self.settings.upstream;
        let id = self.channel.shared.place.last_event_id();
        let id = id.as_deref().and_then(header_value);
        let answer = request::open(self.wanted(place), self.line, id.as_ref()).await;
        let body = match answer.map_err(|failure| failure.error)? {
            Answer::Events(body) => body,
            // The stream that is read is not over.
            Answer::Over => return Err(UpstreamError::StreamEnded),
        };
        let mut stream = Stream::new(body, settings, self.channel.log().budget());
        let broken = poll_fn(|cx| stream.poll_wasting(cx));
        // All at the same time would be a second storm after the one that drove them away.
        let proof = self.proof + self.proof.mul_f64(fastrand::f64() / 4.0);
        match timeout(proof, broken).await {
            Ok(error) => Err(error),
            Err(_well_all_the_time) => Ok(()),
        }
    }

    fn wanted(&self, place: usize) -> Wanted<'_> {
        self.channel.wanted(&self.settings, place)
    }

    fn log(&self, place: usize, error: &UpstreamError) {
        tracing::debug!(
            channel = self.channel.name(),
            url = self.wanted(place).shown(),
            reason = error.reason(),
            error = with_causes(error),
            "a better endpoint is not well yet"
        );
    }
}
