//! Who is at the other end of a connection, or who it speaks for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::config::TrustedProxies;

/// The address that a client is counted and shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// An IPv4-mapped IPv6 address is IPv4.
    Ip(IpAddr),
    /// Somebody on this machine, who has no address.
    Unix,
}

impl PeerAddr {
    /// Its IP address.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix => None,
        }
    }

    /// Whether it is believed when it says for whom it asks.
    pub fn is_trusted(self, proxies: &TrustedProxies) -> bool {
        match self {
            Self::Ip(address) => proxies.trusts(address),
            Self::Unix => proxies.trusts_unix(),
        }
    }
}

impl From<IpAddr> for PeerAddr {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self::from(address.ip())
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix:"),
        }
    }
}
