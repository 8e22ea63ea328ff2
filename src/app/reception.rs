//! What becomes of a connection that was accepted: it begins, waits for its turn, or is refused.
//!
//! All this is before the TLS handshake and the request, which are what is dear. Newcomers are refused
//! before anybody who is there notices that they come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Level;

use super::listeners::Speech;
use crate::config::ProxyProtocol;
use crate::http::{Gateway, Seen, serve_connection};
use crate::net::addresses::Identity;
use crate::net::gate::Passage;
use crate::net::peer::PeerAddr;
use crate::net::permit::{Limit, Permit, Permits};
use crate::net::proxy_protocol::ProxyError;
use crate::net::socket::Unbound;

/// What every accept loop needs.
#[derive(Debug, Clone)]
pub(super) struct Reception {
    pub(super) gateway: Arc<Gateway>,
    pub(super) permits: Permits,
    quiet: Arc<Mutex<Quiet>>,
}

/// Until when it is not said again that a limit is reached.
#[derive(Debug, Default)]
struct Quiet([Option<Instant>; Limit::ALL.len()]);

/// Time between two warnings that clients are refused.
const REFUSALS_QUIET: Duration = Duration::from_secs(10);

impl Reception {
    pub(super) fn new(gateway: Arc<Gateway>, permits: Permits) -> Self {
        Self {
            gateway,
            permits,
            quiet: Arc::default(),
        }
    }

    /// Takes one that came by this lane.
    pub(super) fn receive(
        &self,
        lane: usize,
        (socket, peer): (Unbound, PeerAddr),
        speech: &Speech,
    ) {
        let server = &self.gateway.current().server;
        let is_trusted = peer.is_trusted(&server.trusted_proxies);
        if speech.proxy_protocol == ProxyProtocol::Required && !is_trusted {
            let error = ProxyError::Untrusted;
            tracing::debug!(client = %peer, %error, "closed a connection");
            self.gateway.proxy_errors.add(&error);
            return;
        }
        let seen = |permit| Seen {
            socket,
            peer,
            tls: speech.tls.clone(),
            proxy_protocol: speech.proxy_protocol,
            permit,
        };
        match self.admit(peer, is_trusted) {
            Ok(mut permit) => {
                permit.wait();
                match self.gateway.gate.come(lane, seen(permit)) {
                    Passage::Free(seen) => self.begin(seen),
                    Passage::Overflow(seen) => self.turn_away(seen, Limit::Rate),
                    Passage::Waits => {}
                }
            }
            Err(limit) => {
                tracing::debug!(client = %peer, limit = limit.name(), "refused a connection");
                self.tell(limit);
                if !self.gateway.gate.may_refuse() {
                    self.permits.note_refused(limit, 1);
                } else if let Some(permit) = self.permits.refuse(limit) {
                    self.begin(seen(permit));
                }
            }
        }
    }

    /// Refuses one that had a place.
    fn turn_away(&self, seen: Seen, limit: Limit) {
        let client = seen.peer;
        tracing::debug!(%client, limit = limit.name(), "refused a connection");
        self.tell(limit);
        if !self.gateway.gate.may_refuse() {
            self.permits.note_refused(limit, 1);
        } else if let Some(permit) = seen.permit.refuse(limit) {
            self.begin(Seen { permit, ..seen });
        }
    }

    /// Lets those in who wait, one after another, at the rate. Ends when it is aborted.
    pub(super) async fn let_in(self) -> ! {
        loop {
            let seen = self.gateway.gate.next(|seen| seen.socket.has_left()).await;
            if seen.permit.has_room() {
                self.begin(seen);
            } else {
                // Memory has run out while it waited.
                self.turn_away(seen, Limit::Memory);
            }
            // Without a rate all are let in at once, and others of this thread have their turns.
            tokio::task::yield_now().await;
        }
    }

    /// Sends away those who wait.
    pub(super) fn close(&self) {
        let n_waiting = self.gateway.gate.clear();
        if n_waiting > 0 {
            self.permits.note_refused(Limit::Rate, n_waiting);
            tracing::info!(n_waiting, "closed connections that waited for their turn");
        }
    }

    /// A place among all, and among those of its address; a trusted proxy has many clients, each of
    /// which is counted when it asks.
    fn admit(&self, peer: PeerAddr, is_trusted: bool) -> Result<Permit, Limit> {
        let gateway = &self.gateway;
        let limits = gateway.current().server.address_limits;
        let identity = if !is_trusted && !limits.are_off() {
            Some(gateway.addresses.enter(peer)?)
        } else if tracing::enabled!(Level::DEBUG) {
            Some(Identity::uncounted(peer))
        } else {
            None
        };
        let mut permit = self.permits.acquire()?;
        if let Some(identity) = identity {
            permit.identify(identity);
        }
        Ok(permit)
    }

    fn begin(&self, mut seen: Seen) {
        seen.permit.begin();
        if let (number, Some(shard)) = self.gateway.next_shard() {
            shard.spawn(serve_connection(Arc::clone(&self.gateway), seen, number));
        }
    }

    /// Says that newcomers are refused, but not for each of them. What one client does to itself is
    /// no warning.
    fn tell(&self, limit: Limit) {
        if matches!(limit, Limit::Address | Limit::Network) {
            return;
        }
        let now = Instant::now();
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = quiet.0.get_mut(limit as usize)
            && until.is_none_or(|until| until <= now)
        {
            *until = Some(now + REFUSALS_QUIET);
            tracing::warn!(
                limit = limit.name(),
                "a limit is reached: new clients are refused"
            );
        }
    }
}
