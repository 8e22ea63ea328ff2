//! A client that is a bare socket: what it sends and reads is the test's business.
//!
//! A [`Client`] sends bytes and reads answers; a [`Subscriber`] is a client that has read the head of
//! an event stream, and reads its body item by item.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::gateway::Gateway;
use super::pair::trusting_config;
use super::within;

/// How a client connects.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Connector {
    receive_buffer: Option<u32>,
    resets: bool,
    /// The last numbers of 127.x.y.z.
    from: Option<[u8; 3]>,
    preamble: &'static [u8],
}

/// A connection to the gateway.
pub(crate) struct Client {
    stream: Pin<Box<dyn Stream>>,
    /// Received and not looked at.
    unread: Vec<u8>,
    end: Option<End>,
    /// Over TLS: whether the end was a cut, and not `close_notify`.
    pub(crate) was_truncated: bool,
}

/// What a handshake came to.
pub(crate) struct TlsFacts {
    /// What the gateway showed; the same again if it was resumed.
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) kind: Option<HandshakeKind>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With the last chunk; on HTTP/2, with END_STREAM.
    Clean,
    /// The connection ended between two chunks, or anywhere in a stream that has none.
    Cut,
    /// The connection ended inside a chunk.
    CutInChunk,
    /// By a reset; on HTTP/2, of the stream.
    Reset,
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// As it came, with the blank line.
    pub(crate) text: String,
    pub(crate) status: u16,
}

/// What tells where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Chunked,
    CloseDelimited,
    /// The frames of an HTTP/2 stream.
    Framed,
    Length(usize),
}

/// A subscriber.
pub(crate) struct Subscriber {
    pub(crate) client: Client,
    pub(crate) head: Head,
    body: Body,
    /// Bytes of the event stream that are no whole line yet.
    line: Vec<u8>,
    event: Event,
    /// Whether `event` has got a field since the last blank line.
    has_fields: bool,
    /// Items of the stream that were read but not asked for yet.
    items: VecDeque<Item>,
    /// Everything that was read, as a failure shows it.
    seen: Vec<Item>,
}

/// What an event stream consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Without its colon.
    Comment(String),
    End(End),
    Event(Event),
    Retry(u64),
}

/// A block of the stream, as its fields say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    /// Empty: `message`.
    pub(crate) event_type: String,
    pub(crate) data: String,
}

impl Event {
    /// The state in a notice of the upstream's health, which must be well-formed.
    pub(crate) fn state(&self) -> String {
        assert_eq!(self.event_type, "ssecast.upstream", "{self:?}");
        let notice: serde_json::Value = serde_json::from_str(&self.data).expect("JSON");
        let since = notice["since"].as_str().expect("a time");
        assert!(since.ends_with('Z') && since.len() == 24, "{self:?}");
        let state = notice["state"].as_str().expect("a state");
        assert_eq!(notice.get("reason").is_some(), state == "down", "{self:?}");
        state.to_owned()
    }
}

/// What one read takes at least, if it is there.
const READ_BYTES: usize = 16 * 1024;

impl Connector {
    /// Sets `SO_RCVBUF`.
    pub(crate) fn receive_buffer(self, bytes: u32) -> Self {
        Self {
            receive_buffer: Some(bytes),
            ..self
        }
    }

    /// Makes dropping the client a reset.
    pub(crate) fn resetting(self) -> Self {
        Self {
            resets: true,
            ..self
        }
    }

    /// Comes from the address 127.x.y.z.
    pub(crate) fn from(self, numbers: [u8; 3]) -> Self {
        Self {
            from: Some(numbers),
            ..self
        }
    }

    /// Sends this before all else, also before TLS.
    pub(crate) fn begin_with(self, preamble: &'static [u8]) -> Self {
        Self { preamble, ..self }
    }

    /// Connects to the first listener of a gateway.
    pub(crate) async fn connect(self, gateway: &Gateway) -> Client {
        self.connect_to(gateway.address()).await
    }

    /// Connects to `host:port` or `unix:/path`.
    pub(crate) async fn connect_to(self, address: &str) -> Client {
        let what = format!("a connection to {address}");
        let stream = within(&what, self.open(address), || "no answer".to_owned()).await;
        let stream = stream.unwrap_or_else(|error| panic!("waited for {what}; instead: {error}"));
        Client {
            stream,
            unread: Vec::new(),
            end: None,
            was_truncated: false,
        }
    }

    /// Connects for HTTP/2.
    pub(super) async fn stream_to(self, gateway: &Gateway) -> Pin<Box<dyn Stream>> {
        self.stream_at(gateway.address()).await
    }

    /// Connects to this address for HTTP/2.
    pub(super) async fn stream_at(self, address: &str) -> Pin<Box<dyn Stream>> {
        self.connect_to(address).await.stream
    }

    /// Connects over TLS for HTTP/2, and trusts whoever answers.
    pub(super) async fn tls_stream_to(self, gateway: &Gateway) -> Pin<Box<dyn Stream>> {
        let mut config = ClientConfig::clone(&trusting_config());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let connecting = self.connect_over_tls(gateway.address(), "gateway.test", &config);
        let (client, facts) = connecting.await;
        assert_eq!(
            facts.alpn.as_deref(),
            Some(&b"h2"[..]),
            "what was agreed on"
        );
        client.stream
    }

    /// Connects over TLS, to an address with a port, as to this host.
    pub(crate) async fn connect_over_tls(
        self,
        address: &str,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> (Client, TlsFacts) {
        let outcome = self.try_connect_over_tls(address, host, config).await;
        outcome.unwrap_or_else(|error| panic!("waited for a handshake; instead: {error}"))
    }

    /// Connects over TLS, if both want that.
    pub(crate) async fn try_connect_over_tls(
        self,
        address: &str,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> io::Result<(Client, TlsFacts)> {
        let socket = self.open_tcp(address).await?;
        let name = ServerName::try_from(host.to_owned()).expect("the name of a host");
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name, socket);
        let stream = within("a handshake", connecting, || "no answer".to_owned()).await?;
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().expect("a certificate");
        let facts = TlsFacts {
            certificate: certificates[0].clone().into_owned(),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            version: session.protocol_version(),
            kind: session.handshake_kind(),
        };
        let client = Client {
            stream: Box::pin(stream),
            unread: Vec::new(),
            end: None,
            was_truncated: false,
        };
        Ok((client, facts))
    }

    async fn open(self, address: &str) -> io::Result<Pin<Box<dyn Stream>>> {
        if let Some(path) = address.strip_prefix("unix:") {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(self.preamble).await?;
            return Ok(Box::pin(stream));
        }
        Ok(Box::pin(self.open_tcp(address).await?))
    }

    async fn open_tcp(self, address: &str) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some([x, y, z]) = self.from {
            socket.bind(SocketAddr::from(([127, x, y, z], 0)))?;
        }
        let mut stream = socket
            .connect(address.parse().map_err(io::Error::other)?)
            .await?;
        stream.set_nodelay(true)?;
        stream.write_all(self.preamble).await?;
        if self.resets {
            stream.set_zero_linger()?;
        }
        Ok(stream)
    }
}

impl Client {
    /// A client that reads this.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::pin(stream),
            unread: Vec::new(),
            end: None,
            was_truncated: false,
        }
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes)
            .await
            .expect("the gateway takes what the client sends");
    }

    /// Sends bytes, which may fail because the gateway has closed the connection.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sending = self.stream.write_all(bytes.as_ref());
        within("the gateway to take what the client sends", sending, || {
            "it did not".to_owned()
        })
        .await
    }

    /// Sends no more, but reads.
    pub(crate) async fn finish_sending(&mut self) {
        let finished = self.stream.shutdown().await;
        finished.expect("half a connection can be closed");
    }

    /// Sends a request for an event stream, and reads the head of the answer.
    pub(crate) async fn subscribe(mut self, path: &str, fields: &str) -> Subscriber {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nAccept: text/event-stream\r\n{fields}\r\n"
        );
        self.send(request).await;
        self.into_subscriber().await
    }

    /// Reads the head of an answer that is an event stream.
    pub(crate) async fn into_subscriber(mut self) -> Subscriber {
        let head = self.head().await;
        let body = head.body();
        self.with_head(head, body)
    }

    /// A subscriber that has got this head of an answer.
    pub(super) fn with_head(self, head: Head, body: Body) -> Subscriber {
        assert_eq!(
            head.status, 200,
            "a subscription is answered by 200: {}",
            head.text
        );
        assert_eq!(
            head.field("content-type"),
            Some("text/event-stream"),
            "{}",
            head.text
        );
        Subscriber {
            client: self,
            head,
            body,
            line: Vec::new(),
            event: Event::default(),
            has_fields: false,
            items: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    /// Sends a request and reads the answer with its body, which must have a length or chunks unless
    /// the connection ends with it.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> (Head, String) {
        let request = request.as_ref();
        self.send(request).await;
        let head = self.head().await;
        let has_no_body = request.starts_with(b"HEAD ") || matches!(head.status, 204 | 304);
        let body = if has_no_body {
            Vec::new()
        } else {
            self.body(&head).await
        };
        (head, String::from_utf8(body).expect("a body of text"))
    }

    /// Reads the head of an answer.
    pub(crate) async fn head(&mut self) -> Head {
        let text = self
            .take_through(b"\r\n\r\n", "the head of an answer")
            .await;
        let text = String::from_utf8(text).expect("a head of text");
        let status = text
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {text:?}"));
        Head { text, status }
    }

    /// Reads a body to its end.
    pub(crate) async fn body(&mut self, head: &Head) -> Vec<u8> {
        match head.body() {
            Body::Length(length) => self.take(length, "a body").await,
            Body::Chunked => {
                let mut body = Vec::new();
                while let Ok(chunk) = self.chunk().await {
                    body.extend(chunk);
                }
                assert_eq!(self.end, Some(End::Clean), "how the body ended");
                // The body, and not the connection.
                self.end = None;
                body
            }
            Body::CloseDelimited | Body::Framed => self.rest().await.0,
        }
    }

    /// Reads one chunk, or how the stream ended.
    pub(crate) async fn chunk(&mut self) -> Result<Vec<u8>, End> {
        if let Some(End::Clean) = self.end {
            return Err(End::Clean);
        }
        while !self.unread.windows(2).any(|two| two == b"\r\n") {
            if let Some(end) = self.fill("a chunk").await {
                let is_between = self.unread.is_empty() || end == End::Reset;
                return Err(if is_between { end } else { End::CutInChunk });
            }
        }
        let line = self.take_through(b"\r\n", "the size of a chunk").await;
        let digits = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
        let size = usize::from_str_radix(&digits, 16)
            .unwrap_or_else(|_| panic!("{digits:?} is not the size of a chunk"));
        while self.unread.len() < size + 2 {
            if let Some(end) = self.fill("the rest of a chunk").await {
                return Err(if end == End::Reset {
                    end
                } else {
                    End::CutInChunk
                });
            }
        }
        let mut chunk = self.take(size + 2, "a chunk").await;
        assert_eq!(chunk.split_off(size), b"\r\n", "the end of a chunk");
        if size == 0 {
            self.end = Some(End::Clean);
            return Err(End::Clean);
        }
        Ok(chunk)
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn take(&mut self, n: usize, what: &str) -> Vec<u8> {
        while self.unread.len() < n {
            self.must_fill(what).await;
        }
        self.unread.drain(..n).collect()
    }

    /// Reads at most so many bytes in one go; none at the end.
    pub(crate) async fn take_some(&mut self, n: usize) -> Vec<u8> {
        if self.unread.is_empty() && self.fill("some bytes").await.is_some() {
            return Vec::new();
        }
        let n = n.min(self.unread.len());
        self.unread.drain(..n).collect()
    }

    /// Gives back what was read.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.unread.splice(0..0, bytes.iter().copied());
    }

    /// Reads up to and with `mark`.
    pub(crate) async fn take_through(&mut self, mark: &[u8], what: &str) -> Vec<u8> {
        loop {
            let found = self
                .unread
                .windows(mark.len())
                .position(|window| window == mark);
            if let Some(at) = found {
                return self.unread.drain(..at + mark.len()).collect();
            }
            self.must_fill(what).await;
        }
    }

    /// Reads to the end of the connection; returns how it ended, too: `Cut` or `Reset`.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Some(end) = self.fill("the end of the connection").await {
                return (std::mem::take(&mut self.unread), end);
            }
        }
    }

    async fn must_fill(&mut self, what: &str) {
        if let Some(end) = self.fill(what).await {
            panic!(
                "waited for {what}; instead: {end:?} after {:?}",
                shown(&self.unread)
            );
        }
    }

    /// Waits for more bytes; returns how the connection ended if none will come.
    async fn fill(&mut self, what: &str) -> Option<End> {
        if self.end.is_some() {
            return self.end;
        }
        let before = shown(&self.unread);
        self.unread.reserve(READ_BYTES);
        let reading = self.stream.read_buf(&mut self.unread);
        match within(what, reading, || format!("nothing after {before:?}")).await {
            Ok(0) => self.end = Some(End::Cut),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.end = Some(End::Reset);
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.was_truncated = true;
                self.end = Some(End::Cut);
            }
            Err(error) => panic!("waited for {what}; instead: {error}"),
        }
        self.end
    }
}

impl Head {
    /// The value of a header field; `None` if it is not there, or more than once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.text.lines().filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        values.next().filter(|_| values.next().is_none())
    }

    /// The header fields' names, in the order in which they came.
    pub(crate) fn names(&self) -> Vec<&str> {
        let fields = self
            .text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        fields.map(|(name, _)| name).collect()
    }

    pub(crate) fn body(&self) -> Body {
        let length = self
            .field("content-length")
            .and_then(|length| length.parse().ok());
        match (self.field("transfer-encoding"), length) {
            (Some(coding), _) => {
                assert_eq!(coding, "chunked", "{}", self.text);
                Body::Chunked
            }
            (None, Some(length)) => Body::Length(length),
            (None, None) => Body::CloseDelimited,
        }
    }
}

impl Subscriber {
    /// The next event, which must have these data.
    pub(crate) async fn expect_event(&mut self, data: &str) -> Event {
        let event = self.next_event().await;
        assert_eq!(
            event.data,
            data,
            "the data of {event:?}, after {}",
            self.history()
        );
        event
    }

    /// The first event of an origin that did not answer at once, which must have these data. Who came
    /// before its stream is told so.
    pub(crate) async fn expect_first_event(&mut self, data: &str) -> Event {
        let mut event = self.next_event().await;
        if event.data.contains("upstream-opened-late") {
            event = self.next_event().await;
        }
        assert_eq!(event.data, data, "after {}", self.history());
        event
    }

    /// The next event; comments and reconnection times are passed over.
    pub(crate) async fn next_event(&mut self) -> Event {
        loop {
            match self.next_item().await {
                Item::Event(event) => return event,
                Item::End(end) => panic!("waited for an event; {end:?} after {}", self.history()),
                Item::Comment(_) | Item::Retry(_) => {}
            }
        }
    }

    /// The events up to the one with these data, which is the last.
    pub(crate) async fn events_through(&mut self, data: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(self.next_event().await);
            if events.last().is_some_and(|event| event.data == data) {
                return events;
            }
        }
    }

    /// The rest of the events, and how the stream ended.
    pub(crate) async fn events_to_end(&mut self) -> (Vec<Event>, End) {
        let mut events = Vec::new();
        loop {
            match self.next_item().await {
                Item::Event(event) => events.push(event),
                Item::End(end) => return (events, end),
                Item::Comment(_) | Item::Retry(_) => {}
            }
        }
    }

    /// How the stream ends, without one more event.
    pub(crate) async fn expect_end(&mut self) -> End {
        let (events, end) = self.events_to_end().await;
        assert_eq!(events, [], "events before the end");
        end
    }

    /// The next item of the stream.
    pub(crate) async fn next_item(&mut self) -> Item {
        loop {
            if let Some(item) = self.items.pop_front() {
                self.seen.push(item.clone());
                return item;
            }
            match self.piece().await {
                Ok(bytes) => self.parse(&bytes),
                Err(end) => self.items.push_back(Item::End(end)),
            }
        }
    }

    /// The next chunk of the event stream; without chunks, whatever came.
    pub(crate) async fn piece(&mut self) -> Result<Vec<u8>, End> {
        match self.body {
            Body::Chunked => self.client.chunk().await,
            Body::CloseDelimited | Body::Framed | Body::Length(_) => {
                let bytes = self.client.take_some(usize::MAX).await;
                if bytes.is_empty() {
                    let end = self.client.end.unwrap_or(End::Cut);
                    let is_clean = (self.body, end) == (Body::Framed, End::Cut);
                    Err(if is_clean { End::Clean } else { end })
                } else {
                    Ok(bytes)
                }
            }
        }
    }

    fn parse(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            assert_ne!(byte, b'\r', "the gateway ends lines with LF only");
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = String::from_utf8(std::mem::take(&mut self.line)).expect("lines of text");
            self.take_line(&line);
        }
    }

    fn take_line(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix(':') {
            self.items.push_back(Item::Comment(comment.to_owned()));
            return;
        }
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_fields) {
                event.data.pop();
                self.items.push_back(Item::Event(event));
            }
            return;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "retry" => {
                let time = value.parse().unwrap_or_else(|_| panic!("a time: {line:?}"));
                self.items.push_back(Item::Retry(time));
                return;
            }
            "data" => self.event.data.extend([value, "\n"]),
            "event" => value.clone_into(&mut self.event.event_type),
            "id" => self.event.id = Some(value.to_owned()),
            _ => panic!("a field that nobody knows: {line:?}"),
        }
        self.has_fields = true;
    }

    /// What was read so far, its end at least.
    fn history(&self) -> String {
        const SHOWN: usize = 20;
        let n_hidden = self.seen.len().saturating_sub(SHOWN);
        format!("{n_hidden} other items and {:?}", &self.seen[n_hidden..])
    }
}

/// Bytes as a message shows them.
fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 400;
    let start = bytes.len().saturating_sub(SHOWN);
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}
