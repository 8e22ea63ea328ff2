//! Who asks: what its connection may have, and whose subscriptions its are counted to.

use std::sync::atomic::Ordering;

use http::uri::Scheme;
use http::{HeaderMap, Version};
use tracing::Level;

use super::Gateway;
use crate::net::addresses::Identity;
use crate::net::peer::PeerAddr;
use crate::net::permit::{Admission, Limit};
use crate::proxy::fields::client;

/// Who makes a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visitor<'a> {
    pub(super) gateway: &'a Gateway,
    /// What its connection may have.
    pub(super) admission: Admission,
    /// Who is at the other end of the connection, or for whom it is by the PROXY protocol.
    pub(super) address: PeerAddr,
    /// How its connection came.
    pub(super) scheme: &'a Scheme,
    /// The shard whose thread this is.
    pub(super) shard: usize,
}

impl Visitor<'_> {
    /// The client that asks, as far as it can be known.
    pub(super) fn client(&self, fields: &HeaderMap) -> PeerAddr {
        let current = self.gateway.current();
        client::client(fields, self.address, &current.server.trusted_proxies)
    }

    /// The client that a trusted proxy speaks for, counted to those of its address; `None`: it was
    /// counted with its connection, or need not be.
    ///
    /// # Errors
    ///
    /// The limit that it exceeds.
    pub(super) fn identify(
        &self,
        version: Version,
        fields: &HeaderMap,
    ) -> Result<Option<Box<Identity>>, Limit> {
        let wants_name = tracing::enabled!(Level::DEBUG);
        let current = self.gateway.current();
        let server = &current.server;
        if !self.address.is_trusted(&server.trusted_proxies) {
            // The connection of HTTP/1.1 becomes the subscriber's, and knows who it is.
            let wants_name = wants_name && version == Version::HTTP_2;
            return Ok(wants_name.then(|| Identity::uncounted(self.address)));
        }
        if server.address_limits.are_off() && !wants_name {
            return Ok(None);
        }
        let client = self.client(fields);
        if !client.is_trusted(&server.trusted_proxies) {
            return self.gateway.addresses.enter(client).map(Some);
        }
        // A proxy has many clients, so its own address is no measure for one of them.
        let n_before = self.gateway.n_unattributed.fetch_add(1, Ordering::Relaxed);
        if n_before == 0 && !server.address_limits.are_off() {
            tracing::warn!(
                "a trusted proxy does not say for whom it asks, so limits per address do not apply; \
                 this is not said again"
            );
        }
        Ok(Some(Identity::uncounted(client)))
    }
}
