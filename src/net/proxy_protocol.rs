//! The PROXY protocol: a proxy in front says, before all else, for whom a connection is.
//!
//! Both versions are read, up to the last byte of the header and not one further, because what follows
//! is the client's: a TLS handshake or a request. Whether the proxy may say such a thing is not known
//! here, nor how long it may take.
//!
//! Spec: "The PROXY protocol", versions 1 and 2, in the documentation of `HAProxy`.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::peer::PeerAddr;

/// For whom a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBehalfOf {
    /// A client at this address.
    Client(PeerAddr),
    /// The proxy itself, for instance to see whether we are there, or a client that it does not name.
    Nobody,
}

/// Why a connection that must begin with the PROXY protocol is closed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It ended, or broke, before the header did.
    #[error("the connection ended before the PROXY protocol header did")]
    Cut(#[source] io::Error),
    /// The header took too long.
    #[error("the PROXY protocol header took too long")]
    Late,
    /// The header is not what the specification says.
    #[error("a malformed PROXY protocol header: {0}")]
    Malformed(String),
    /// It begins with something else.
    #[error("no PROXY protocol header")]
    Missing,
    /// Who connects is none of `trusted_proxies`.
    #[error("only trusted proxies may connect here")]
    Untrusted,
}

/// How often connections were closed because of the PROXY protocol, by the reason.
#[derive(Debug, Default)]
pub struct ProxyErrors([AtomicU64; ProxyError::REASONS.len()]);

/// Most bytes of a header that we read; what proxies add to the addresses is a few hundred.
const MOST_BYTES: usize = 4 * 1024;

/// Most bytes of a header of version 1, its end included.
const MOST_V1_BYTES: usize = 107;

/// The least of them: `PROXY UNKNOWN\r\n`.
const LEAST_V1_BYTES: usize = 15;

/// What a header of version 2 has before its addresses.
const V2_BYTES: usize = 16;

/// Reads the header, and nothing that follows it.
///
/// # Errors
///
/// If there is none, or it can't be understood.
pub async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Result<OnBehalfOf, ProxyError> {
    let mut header = Header::default();
    // Every header has so many bytes, and they tell the versions apart.
    header.read_to(v2::PROTOCOL_PREFIX.len(), socket).await?;
    if header.bytes() == v2::PROTOCOL_PREFIX {
        return header.read_v2(socket).await;
    }
    if header.bytes().starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return header.read_v1(socket).await;
    }
    Err(ProxyError::Missing)
}

/// What was read so far.
#[derive(Debug, Default)]
struct Header {
    bytes: Vec<u8>,
}

impl Header {
    /// Reads until there are `n` bytes.
    async fn read_to(
        &mut self,
        n: usize,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), ProxyError> {
        let begin = self.bytes.len();
        self.bytes.resize(n, 0);
        let free = self.bytes.get_mut(begin..).unwrap_or_default();
        // Whoever sends something else may send less of it than any header has.
        let mut n_read = 0;
        while n_read < free.len() {
            let rest = free.get_mut(n_read..).unwrap_or_default();
            let n = socket.read(rest).await.map_err(ProxyError::Cut)?;
            n_read += n;
            let read = free.get(..n_read).unwrap_or_default();
            if begin == 0 && !Self::may_begin(read) {
                return Err(ProxyError::Missing);
            }
            if n == 0 {
                return Err(ProxyError::Cut(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
    }

    fn may_begin(bytes: &[u8]) -> bool {
        let prefixes = [v2::PROTOCOL_PREFIX, v1::PROTOCOL_PREFIX.as_bytes()];
        prefixes
            .iter()
            .any(|prefix| prefix.iter().zip(bytes).all(|(one, other)| one == other))
    }

    async fn read_v2(
        mut self,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> Result<OnBehalfOf, ProxyError> {
        self.read_to(V2_BYTES, socket).await?;
        let length = match self.bytes.get(V2_BYTES - 2..V2_BYTES) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            Some(_) | None => 0,
        };
        if V2_BYTES + length > MOST_BYTES {
            let message = format!("it has {length} bytes, more than {MOST_BYTES}");
            return Err(ProxyError::Malformed(message));
        }
        self.read_to(V2_BYTES + length, socket).await?;
        let header = v2::Header::try_from(self.bytes())
            .map_err(|error| ProxyError::Malformed(error.to_string()))?;
        Ok(match (header.command, header.addresses) {
            (v2::Command::Local, _) | (_, v2::Addresses::Unspecified) => OnBehalfOf::Nobody,
            (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => {
                OnBehalfOf::Client(IpAddr::from(addresses.source_address).into())
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => {
                OnBehalfOf::Client(IpAddr::from(addresses.source_address).into())
            }
            (v2::Command::Proxy, v2::Addresses::Unix(_)) => OnBehalfOf::Client(PeerAddr::Unix),
        })
    }

    /// A line, whose length only its end tells.
    async fn read_v1(
        mut self,
        socket: &mut (impl AsyncRead + Unpin),
    ) -> Result<OnBehalfOf, ProxyError> {
        self.read_to(LEAST_V1_BYTES, socket).await?;
        while !self.bytes.ends_with(b"\n") {
            if self.bytes.len() >= MOST_V1_BYTES {
                let message = format!("no line end within {MOST_V1_BYTES} bytes");
                return Err(ProxyError::Malformed(message));
            }
            // Two are left at least, unless the first of the end is there. It is read byte by byte
            // otherwise: what follows is not ours.
            let n_left = if self.bytes.ends_with(b"\r") { 1 } else { 2 };
            let n = (self.bytes.len() + n_left).min(MOST_V1_BYTES);
            self.read_to(n, socket).await?;
        }
        if !self.bytes.ends_with(b"\r\n") {
            let message = "its line ends without a CR".to_owned();
            return Err(ProxyError::Malformed(message));
        }
        let header = v1::Header::try_from(self.bytes())
            .map_err(|error| ProxyError::Malformed(error.to_string()))?;
        Ok(match header.addresses {
            v1::Addresses::Unknown => OnBehalfOf::Nobody,
            v1::Addresses::Tcp4(addresses) => {
                OnBehalfOf::Client(IpAddr::from(addresses.source_address).into())
            }
            v1::Addresses::Tcp6(addresses) => {
                OnBehalfOf::Client(IpAddr::from(addresses.source_address).into())
            }
        })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl ProxyError {
    /// Every reason.
    pub const REASONS: [&'static str; 5] = ["cut", "late", "malformed", "missing", "untrusted"];

    /// The reason's name, as it is counted.
    pub fn reason(&self) -> &'static str {
        let [cut, late, malformed, missing, untrusted] = Self::REASONS;
        match self {
            Self::Cut(_) => cut,
            Self::Late => late,
            Self::Malformed(_) => malformed,
            Self::Missing => missing,
            Self::Untrusted => untrusted,
        }
    }
}

impl ProxyErrors {
    /// Counts one.
    pub fn add(&self, error: &ProxyError) {
        if let Some(count) = self.count(error.reason()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub fn of(&self, reason: &str) -> u64 {
        self.count(reason)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count(&self, reason: &str) -> Option<&AtomicU64> {
        let mut known = ProxyError::REASONS.iter().zip(&self.0);
        known.find_map(|(known, count)| (*known == reason).then_some(count))
    }
}

/// Reads any bytes as a header; asserts that nothing after it is touched.
///
/// # Panics
///
/// If it is.
#[cfg(any(test, fuzzing))]
pub fn fuzz_proxy_protocol(data: &[u8]) {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    let mut rest = data;
    let read = {
        let reading = pin!(read(&mut rest));
        let mut cx = Context::from_waker(Waker::noop());
        match reading.poll(&mut cx) {
            Poll::Ready(read) => read,
            Poll::Pending => unreachable!("bytes that are there are not waited for"),
        }
    };
    assert!(data.len() - rest.len() <= MOST_BYTES);
    if read.is_ok() {
        let header = data.strip_suffix(rest).unwrap_or_default();
        let is_whole = header.ends_with(b"\r\n") || header.starts_with(v2::PROTOCOL_PREFIX);
        assert!(is_whole, "{header:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};
    use tokio::io::{AsyncWriteExt as _, duplex};

    fn v2(command: u8, family: u8, addresses: &[u8], tlvs: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len() + tlvs.len()).expect("short");
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(length.to_be_bytes());
        header.extend_from_slice(addresses);
        header.extend_from_slice(tlvs);
        header
    }

    const IPV4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x80, 0, 0, 80];

    /// What is read of a header that comes byte by byte, with something after it.
    async fn read_slowly(header: &[u8]) -> Result<OnBehalfOf, ProxyError> {
        let (mut client, mut ours) = duplex(1);
        let sending = async {
            // It is not taken, where it is known before that it is wrong.
            for byte in header {
                if client.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
            drop(client.write_all(b"rest").await);
            drop(client);
        };
        let reading = async {
            let read = read(&mut ours).await;
            if read.is_ok() {
                let mut rest = [0; 4];
                ours.read_exact(&mut rest).await.expect("the rest");
                assert_eq!(&rest, b"rest", "nothing of it was taken");
            }
            drop(ours);
            read
        };
        tokio::join!(sending, reading).1
    }

    fn client(address: &str) -> OnBehalfOf {
        let address: IpAddr = address.parse().expect("an address");
        OnBehalfOf::Client(address.into())
    }

    #[tokio::test]
    async fn headers_of_both_versions_say_who_it_is() {
        let mut ipv6 = [0; 36];
        ipv6[..2].copy_from_slice(&[0x20, 0x01]);
        ipv6[15] = 1;
        let mut mapped = [0; 36];
        mapped[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        let tlv = [0x04, 0, 3, 1, 2, 3];
        let authority = [[0x02, 1, 0].as_slice(), &[b'a'; 256]].concat();
        for (header, who) in [
            (v2(1, 0x11, &IPV4, &[]), client("192.0.2.1")),
            (v2(1, 0x11, &IPV4, &tlv), client("192.0.2.1")),
            (v2(1, 0x11, &IPV4, &authority), client("192.0.2.1")),
            (v2(1, 0x21, &ipv6, &tlv), client("2001::1")),
            (v2(1, 0x21, &mapped, &[]), client("192.0.2.1")),
            (
                v2(1, 0x31, &[0; 216], &[]),
                OnBehalfOf::Client(PeerAddr::Unix),
            ),
            (v2(1, 0x00, &[], &[]), OnBehalfOf::Nobody),
            (v2(1, 0x00, &[], &tlv), OnBehalfOf::Nobody),
            (v2(0, 0x00, &[], &[]), OnBehalfOf::Nobody),
            (v2(0, 0x11, &IPV4, &[]), OnBehalfOf::Nobody),
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 1 80\r\n".to_vec(),
                client("192.0.2.1"),
            ),
            (
                b"PROXY TCP6 2001::1 2001::2 50000 443\r\n".to_vec(),
                client("2001::1"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), OnBehalfOf::Nobody),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
                OnBehalfOf::Nobody,
            ),
        ] {
            let read = read_slowly(&header).await;
            assert!(
                matches!(read, Ok(known) if known == who),
                "{header:?}: {read:?}"
            );
            fuzz_proxy_protocol(&[&header, b"rest".as_slice()].concat());
        }
    }

    #[tokio::test]
    async fn a_line_of_version_1_ends_with_cr_and_lf() {
        for header in ["PROXY UNKNOWN \n*\n", "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n"] {
            let read = read(&mut header.as_bytes()).await;
            assert!(read.is_err(), "{read:?}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_has_a_reason() {
        let too_long = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff]].concat();
        for (header, reason) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "missing"),
            (b"\x16\x03\x01".to_vec(), "missing"),
            (b"PRI * HTTP/2.0\r\n".to_vec(), "missing"),
            (v2(2, 0x11, &IPV4, &[]), "malformed"),
            (v2(1, 0x51, &IPV4, &[]), "malformed"),
            (v2(1, 0x11, &IPV4[..8], &[]), "malformed"),
            (too_long, "malformed"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 2001::1 10.0.0.1 1 2\r\n".to_vec(), "malformed"),
            (
                b"PROXY TCP9 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
                "malformed",
            ),
            ([b"PROXY".as_slice(), &[b' '; 200]].concat(), "malformed"),
        ] {
            let read = read_slowly(&header).await;
            let error = read.expect_err("a mistake");
            assert_eq!(error.reason(), reason, "{header:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_header_that_ends_early_is_cut_wherever() {
        for header in [
            v2(1, 0x11, &IPV4, &[4, 0, 1, 0]),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 80\r\n".to_vec(),
        ] {
            for end in 0..header.len() {
                let mut bytes = &header[..end];
                let error = read(&mut bytes).await.expect_err("half a header");
                assert_eq!(error.reason(), "cut", "after {end} bytes: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_to_an_end(
            is_v1 in any::<bool>(),
            data in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            fuzz_proxy_protocol(&data);
            let prefix = if is_v1 { b"PROXY ".as_slice() } else { v2::PROTOCOL_PREFIX };
            fuzz_proxy_protocol(&[prefix, &data].concat());
        }
    }
}
