//! Why a gateway could not start, or could not go on, and what to do about it.

use std::io;

use crate::config::ListenAddress;
use crate::net::client_tls::ClientTlsError;
use crate::net::tls::CertificateError;

/// Why a gateway could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address of the admin listener can't be had.
    #[error(
        "can't listen on {address} for metrics and health (`[admin] address`): {cause}{}",
        admin_advice(cause, address)
    )]
    AdminListen {
        /// The address, as it was written.
        address: ListenAddress,
        /// What the kernel says.
        cause: io::Error,
    },
    /// A certificate of a listener can't be used.
    #[error("can't speak TLS (listener `{name}`): {cause}")]
    Certificate {
        /// The listener's name.
        name: String,
        /// What is wrong with which file.
        cause: CertificateError,
    },
    /// The address of a listener can't be had.
    #[error(
        "can't listen on {address} (listener `{name}`): {cause}{}",
        advice(cause, address)
    )]
    Listen {
        /// The listener's name.
        name: String,
        /// The address, as it was written.
        address: ListenAddress,
        /// What the kernel says.
        cause: io::Error,
    },
    /// An address overlaps with one that this process listens on.
    #[error(
        "can't listen on {address} ({place}) while this process listens on {old}; \
         remove that by one reload and add this by another, or restart"
    )]
    Overlap {
        /// Whose address it is.
        place: String,
        /// The address, as it was written.
        address: ListenAddress,
        /// What is in the way.
        old: ListenAddress,
    },
    /// No runtime for the thread that accepts.
    #[error("can't start: {0}")]
    Runtime(io::Error),
    /// A delivery thread broke, with all its subscribers, or an upstream. The log says how.
    #[error("a part of the gateway broke, as the log says; this is a bug, please report it")]
    ShardBroke,
    /// Signals can't be watched.
    #[error("can't watch for signals: {0}")]
    Signals(io::Error),
    /// No threads, no reactor or no poll.
    #[error("can't start the delivery threads: {0}")]
    Threads(#[from] io::Error),
    /// A file of an `upstream_tls` can't be used.
    #[error("the {whose}: {cause}")]
    UpstreamTls {
        /// The channel or the proxy, with its name.
        whose: String,
        /// Which file, and what is wrong with it.
        cause: Box<ClientTlsError>,
    },
    /// Not even the reserve fits into the limit.
    #[error(
        "at most {limit} descriptors are allowed, which {n_channels} channels use up; \
         raise the limit (ulimit -n, or LimitNOFILE= of the systemd unit)"
    )]
    TooFewDescriptors {
        /// The limit on open descriptors.
        limit: u64,
        /// How many channels there are.
        n_channels: usize,
    },
}

impl RunError {
    /// If it is this process that listens where another address wants to, says so. `ours` is where it
    /// listens.
    pub(super) fn explained<'a>(self, mut ours: impl Iterator<Item = &'a ListenAddress>) -> Self {
        let (Self::Listen { address, cause, .. } | Self::AdminListen { address, cause }) = &self
        else {
            return self;
        };
        if cause.kind() != io::ErrorKind::AddrInUse {
            return self;
        }
        let Some(old) = ours.find(|old| is_in_the_way(old, address)) else {
            return self;
        };
        let place = match &self {
            Self::Listen { name, .. } => format!("listener `{name}`"),
            _ => "`[admin] address`".to_owned(),
        };
        Self::Overlap {
            place,
            address: address.clone(),
            old: old.clone(),
        }
    }
}

/// Whether a socket at `old` may be why `wanted` can't be had.
fn is_in_the_way(old: &ListenAddress, wanted: &ListenAddress) -> bool {
    match (old, wanted) {
        (ListenAddress::Tcp(old), ListenAddress::Tcp(wanted)) => old.port() == wanted.port(),
        (ListenAddress::Unix(old), ListenAddress::Unix(wanted)) => {
            let (old, wanted) = (old.canonicalize(), wanted.canonicalize());
            matches!((old, wanted), (Ok(old), Ok(wanted)) if old == wanted)
        }
        _ => false,
    }
}

/// What to do about an admin address that can't be had. A second gateway on a machine meets it first.
fn admin_advice(cause: &io::Error, address: &ListenAddress) -> &'static str {
    if cause.kind() == io::ErrorKind::AddrInUse {
        "; another process listens there, which may be another gateway: give this one another \
         `[admin] address`, or \"off\""
    } else {
        advice(cause, address)
    }
}

/// What to do about an address that can't be had.
fn advice(cause: &io::Error, address: &ListenAddress) -> &'static str {
    match (cause.kind(), address) {
        (io::ErrorKind::AddrInUse, _) => {
            "; another process listens there: stop it, or choose another address"
        }
        (io::ErrorKind::AddrNotAvailable, _) => "; this machine does not have that address",
        (io::ErrorKind::PermissionDenied, ListenAddress::Tcp(_)) => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd)"
        }
        (io::ErrorKind::PermissionDenied, ListenAddress::Unix(_)) => {
            "; this user may not create a file there"
        }
        (io::ErrorKind::NotFound, ListenAddress::Unix(_)) => {
            "; create its directory first (RuntimeDirectory= in systemd)"
        }
        _ => "",
    }
}
