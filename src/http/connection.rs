//! The life of a connection, until it is known what it speaks.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::preface::{Prefixed, Protocol};
use super::{Gateway, http1, http2};
use crate::net::permit::{Admission, Permit};
use crate::net::socket::{Socket, Unbound};

/// A connection as it was accepted.
#[derive(Debug)]
pub struct Seen {
    /// The socket.
    pub socket: Unbound,
    /// Its place among the connections.
    pub permit: Permit,
    /// What it may have.
    pub admission: Admission,
    /// The shard whose thread serves it.
    pub shard: usize,
}

/// A connection as both protocols see it.
pub(super) struct Peer {
    pub(super) gateway: Arc<Gateway>,
    pub(super) permit: Permit,
    pub(super) admission: Admission,
    /// The shard whose thread this is.
    pub(super) shard: usize,
}

/// A connection as hyper reads it.
pub(super) type Io = TokioIo<Prefixed<Socket>>;

/// Serves a connection on this thread until it ends or a shard has it.
pub async fn serve_connection(gateway: Arc<Gateway>, seen: Seen) {
    let Seen {
        socket,
        permit,
        admission,
        shard,
    } = seen;
    let socket = match socket.bind() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "a new connection could not be registered");
            return;
        }
    };
    let header_timeout = gateway.current().server.header_timeout;
    let begun = timeout(header_timeout, Prefixed::read(socket)).await;
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
        admission,
        shard,
    };
    match protocol {
        Protocol::Http1 => http1::serve(io, peer).await,
        // Boxed: the task of an HTTP/1.1 connection need not have room for it.
        Protocol::Http2 => Box::pin(http2::serve(io, peer)).await,
    }
}
