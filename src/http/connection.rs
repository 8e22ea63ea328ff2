//! The life of a connection, until it is known what it speaks.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::preface::{Prefixed, Protocol};
use super::subscribe::REFUSAL_TIMEOUT;
use super::{Gateway, http1, http2};
use crate::config::ProxyProtocol;
use crate::memory::WhatFor;
use crate::net::peer::PeerAddr;
use crate::net::permit::{Admission, Permit};
use crate::net::proxy_protocol::{self, OnBehalfOf, ProxyError};
use crate::net::socket::{Socket, Unbound};
use crate::net::tls::{ALPN_HTTP2, HandshakeError, ServerTls, TlsStream};

/// A connection as it was accepted.
#[derive(Debug)]
pub struct Seen {
    /// The socket.
    pub socket: Unbound,
    /// Who made it.
    pub peer: PeerAddr,
    /// `None`: in the clear.
    pub tls: Option<Arc<ServerTls>>,
    /// Whether it begins by saying for whom it is.
    pub proxy_protocol: ProxyProtocol,
    /// Its place among the connections, and what it may have.
    pub permit: Permit,
}

/// A connection as both protocols see it.
pub(super) struct Peer {
    pub(super) gateway: Arc<Gateway>,
    pub(super) permit: Permit,
    /// Who asks, as far as the connection tells.
    pub(super) address: PeerAddr,
    /// Whether it is over TLS.
    pub(super) scheme: Scheme,
    /// The shard whose thread this is.
    pub(super) shard: usize,
}

/// A connection as hyper reads it.
pub(super) type Io = TokioIo<Prefixed<Socket>>;

/// The answer to a request in the clear where TLS is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 40\r\nConnection: close\r\n\r\n\
    this port speaks TLS: ask with https://\n";

/// Serves a connection on the thread of this shard until it ends or a shard has it.
pub async fn serve_connection(gateway: Arc<Gateway>, seen: Seen, shard: usize) {
    let Seen {
        socket,
        mut peer,
        tls,
        proxy_protocol,
        mut permit,
    } = seen;
    let mut socket = match socket.bind() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "a new connection could not be registered");
            return;
        }
    };
    if proxy_protocol == ProxyProtocol::Required {
        // Boxed: other connections need not have room for it.
        match Box::pin(introduce(&gateway, &mut socket, (peer, permit))).await {
            Some(introduced) => (peer, permit) = introduced,
            None => return,
        }
    }
    if let Some(tls) = tls {
        let held = permit.hold(WhatFor::Tls, TlsStream::IDLE_BYTES);
        let shaking = TlsStream::accept(socket, tls.config(), held);
        let patience = gateway.current().server.handshake_timeout;
        match shake_hands(shaking, patience).await {
            Some(stream) => socket = Socket::Tls(stream),
            None => return,
        }
    }
    let scheme = match socket {
        Socket::Tls(_) => Scheme::HTTPS,
        _ => Scheme::HTTP,
    };
    let header_timeout = gateway.current().server.header_timeout;
    let begun = timeout(header_timeout, recognize(socket)).await;
    let (stream, protocol) = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection ended before it said anything");
            return;
        }
        Err(_) => {
            tracing::debug!("a connection said too little for too long");
            return;
        }
    };
    let io = TokioIo::new(stream);
    let peer = Peer {
        gateway,
        permit,
        address: peer,
        scheme,
        shard,
    };
    match protocol {
        Protocol::Http1 => http1::serve(io, peer).await,
        // Boxed: the task of an HTTP/1.1 connection need not have room for it.
        Protocol::Http2 => Box::pin(http2::serve(io, peer)).await,
    }
}

/// Learns from a trusted proxy for whom the connection is, and counts it to those of that address;
/// `None`: it is closed.
async fn introduce(
    gateway: &Gateway,
    socket: &mut Socket,
    (proxy, mut permit): (PeerAddr, Permit),
) -> Option<(PeerAddr, Permit)> {
    let patience = gateway.current().server.header_timeout;
    let reading = timeout(patience, proxy_protocol::read(socket)).await;
    let client = match reading.unwrap_or(Err(ProxyError::Late)) {
        Ok(OnBehalfOf::Client(client)) => client,
        // Its own connection, which no limit is meant for.
        Ok(OnBehalfOf::Nobody) => return Some((proxy, permit)),
        Err(error) => {
            tracing::debug!(%proxy, %error, "closed a connection");
            gateway.proxy_errors.add(&error);
            return None;
        }
    };
    let is_proxy = client.is_trusted(&gateway.current().server.trusted_proxies);
    if is_proxy || permit.admission() != Admission::Admitted {
        return Some((client, permit));
    }
    match gateway.addresses.enter(client) {
        Ok(identity) => permit.identify(identity),
        Err(limit) => {
            tracing::debug!(%client, limit = limit.name(), "refused a connection");
            if !gateway.gate.may_refuse() {
                permit.refuse_silently(limit);
                return None;
            }
            permit = permit.refuse(limit)?;
        }
    }
    Some((client, permit))
}

/// What a connection speaks: over TLS what was agreed on (RFC 9113, 3.2), in the clear what its first
/// bytes say.
async fn recognize(socket: Socket) -> io::Result<(Prefixed<Socket>, Protocol)> {
    let is_agreed = socket.alpn() == Some(ALPN_HTTP2);
    if matches!(socket, Socket::Tls(_)) && !is_agreed {
        return Ok((Prefixed::new(socket), Protocol::Http1));
    }
    let (stream, protocol) = Prefixed::read(socket).await?;
    // Whoever agreed on HTTP/2 and sends something else is told so by HTTP/2.
    let protocol = if is_agreed { Protocol::Http2 } else { protocol };
    Ok((stream, protocol))
}

/// The connection over TLS; `None`: there is none, and the client is told why, if it can be.
async fn shake_hands(
    shaking: impl Future<Output = Result<Box<TlsStream>, HandshakeError>>,
    patience: Duration,
) -> Option<Box<TlsStream>> {
    let error = match timeout(patience, shaking).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error,
        Err(_elapsed) => {
            tracing::debug!("a client took too long for the TLS handshake");
            return None;
        }
    };
    tracing::debug!(%error, "a TLS handshake failed");
    if let HandshakeError::InTheClear(mut socket) = error {
        let telling = async {
            socket.write_all(NOT_TLS).await?;
            socket.shutdown().await
        };
        if let Ok(Err(error)) = timeout(REFUSAL_TIMEOUT, telling).await {
            tracing::debug!(%error, "a client left before it was told to speak TLS");
        }
    }
    None
}
