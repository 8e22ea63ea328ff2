//! Sockets that the process was started with: systemd's socket activation.
//!
//! Who started the process listens already, so a restart refuses no connection: they wait in the
//! kernel until the successor accepts them. The sockets belong to whoever listens first, which is not
//! us: they are only ever duplicated, kept open until the process ends, and what they are bound to is
//! not removed.
//!
//! The protocol is that of `sd_listen_fds(3)`; a name may stand for several sockets, as one socket
//! unit may have several `ListenStream=`.

use std::fmt::Write as _;
use std::io;
use std::sync::OnceLock;

use socket2::{Domain, Socket, Type};

use super::listener::USER_TIMEOUT;

/// What was inherited.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    sockets: Vec<(String, Socket)>,
}

/// Read once: the descriptors may have one owner only.
static INHERITED: OnceLock<Result<Inherited, &'static str>> = OnceLock::new();

/// What systemd calls a socket that has no name.
const NAMELESS: &str = "unknown";

/// Names of inherited sockets that are not among these, each once.
pub fn unused<'a>(used: impl Iterator<Item = &'a str>) -> Vec<&'static str> {
    let used: Vec<&str> = used.collect();
    let mut names = match inherited() {
        Ok(inherited) => inherited.names(),
        Err(_) => Vec::new(),
    };
    names.retain(|name| !used.contains(name));
    names
}

/// Duplicates of the sockets of this name, ready to be accepted from; never empty.
///
/// # Errors
///
/// If there is none, or one that can't be accepted from.
pub(super) fn named(name: &str) -> io::Result<Vec<Socket>> {
    match inherited() {
        Ok(inherited) => inherited.named(name),
        Err(message) => Err(io::Error::new(io::ErrorKind::InvalidInput, *message)),
    }
}

fn inherited() -> Result<&'static Inherited, &'static &'static str> {
    INHERITED.get_or_init(Inherited::from_environment).as_ref()
}

impl Inherited {
    fn from_environment() -> Result<Self, &'static str> {
        let descriptors = sd_listen_fds::get()
            .map_err(|_malformed| "LISTEN_PID or LISTEN_FDS in the environment is no number")?;
        let mut sockets = Vec::with_capacity(descriptors.len());
        for (name, descriptor) in descriptors {
            let socket = Socket::from(descriptor.into_std());
            // systemd clears the flag so that the descriptor reaches us; it shall go no further.
            if let Err(error) = socket.set_cloexec(true) {
                tracing::warn!(%error, "can't close an inherited descriptor on exec");
            }
            let name = name.filter(|name| !name.is_empty());
            sockets.push((name.unwrap_or_else(|| NAMELESS.to_owned()), socket));
        }
        Ok(Self { sockets })
    }

    fn named(&self, name: &str) -> io::Result<Vec<Socket>> {
        let mut found = Vec::new();
        for (_, socket) in self.sockets.iter().filter(|(other, _)| other == name) {
            prepare(socket)?;
            found.push(socket.try_clone()?);
        }
        if found.is_empty() {
            let message = self.without(name);
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Ok(found)
    }

    /// Each name once, in the order of the descriptors.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in &self.sockets {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Says that there is no such socket, and what there is.
    fn without(&self, name: &str) -> String {
        let names = self.names();
        if names.is_empty() {
            return "the process was started without sockets; start the socket unit, and the \
                    service by systemd"
                .to_owned();
        }
        let mut message = format!("no inherited socket has the name `{name}`; there are");
        for (number, name) in names.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            // Writing to a string does not fail.
            if write!(message, "{comma} `{name}`").is_err() {
                break;
            }
        }
        message.push_str(" (FileDescriptorName= of the socket unit)");
        message
    }
}

/// Refuses what can't be accepted from, and makes the rest as if it were ours.
fn prepare(socket: &Socket) -> io::Result<()> {
    let refuse = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    let Ok(kind) = socket.r#type() else {
        return refuse("the inherited descriptor is not a socket");
    };
    if kind != Type::STREAM {
        return refuse("the inherited socket is not a stream socket; write ListenStream=");
    }
    if !socket.is_listener()? {
        return refuse("the inherited socket does not listen; leave Accept= of its unit at no");
    }
    match socket.domain()? {
        // Connections inherit it, those that never become a subscription too.
        Domain::IPV4 | Domain::IPV6 => socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?,
        Domain::UNIX => {}
        _ => return refuse("the inherited socket is neither TCP nor unix"),
    }
    socket.set_nonblocking(true)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn inherited(sockets: Vec<(&str, OwnedFd)>) -> Inherited {
        let sockets = sockets
            .into_iter()
            .map(|(name, descriptor)| (name.to_owned(), Socket::from(descriptor)))
            .collect();
        Inherited { sockets }
    }

    fn tcp() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    #[test]
    fn a_name_stands_for_all_its_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(directory.path().join("s")).unwrap();
        let inherited = inherited(vec![("a", tcp()), ("b", tcp()), ("a", unix.into())]);
        assert_eq!(inherited.named("a").unwrap().len(), 2);
        assert_eq!(inherited.named("b").unwrap().len(), 1);
        // A reload asks again.
        assert_eq!(inherited.named("a").unwrap().len(), 2);
    }

    #[test]
    fn a_name_that_is_not_there_is_told_what_is() {
        let error = inherited(vec![("a", tcp()), ("b", tcp()), ("a", tcp())])
            .named("http")
            .unwrap_err()
            .to_string();
        assert!(error.contains("`http`; there are `a`, `b` ("), "{error}");
        let error = inherited(Vec::new()).named("http").unwrap_err().to_string();
        assert!(error.contains("without sockets"), "{error}");
    }

    #[test]
    fn what_cannot_be_accepted_from_is_refused() {
        let (connected, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (descriptor, reason) in [
            (udp.into(), "ListenStream="),
            (connected.into(), "Accept="),
            (OwnedFd::from(file), "not a socket"),
        ] {
            let inherited = inherited(vec![("a", descriptor)]);
            let error = inherited.named("a").unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
