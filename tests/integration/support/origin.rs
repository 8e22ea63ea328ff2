//! An origin that says, byte by byte, what the test makes it say.
//!
//! It reads one request head per connection and gives the answer that is set at that time; from then
//! on the test sends, ends, resets, or does nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{own_address, within};

/// An origin. Its connections are numbered from 1.
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<AbortHandle>,
}

/// What a connection gets when its request head is read.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The head of an event stream with a chunked body, which stays open.
    Chunked,
    /// The head of an event stream that ends with the connection, which stays open.
    CloseDelimited,
    /// Nothing, so far.
    Nothing,
    /// These bytes; the connection stays open.
    Raw(Vec<u8>),
    /// These bytes and the end of the connection.
    RawAndClose(Vec<u8>),
    /// A reset.
    Reset,
}

/// One connection to an origin.
#[derive(Clone)]
pub(crate) struct OriginConnection {
    /// Counted from 1.
    number: usize,
    request: Arc<str>,
    is_chunked: bool,
    /// `None`: the origin has closed it.
    stream: Arc<Mutex<Option<Arc<TcpStream>>>>,
}

struct Shared {
    answer: Mutex<Answer>,
    /// By request target; these go before `answer`.
    answers: Mutex<HashMap<String, Answer>>,
    connections: watch::Sender<Vec<OriginConnection>>,
}

/// The head of an event stream, with these header fields more.
pub(crate) fn event_stream(more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{more}\r\n")
}

impl Origin {
    /// An origin that answers every request with a chunked event stream.
    pub(crate) async fn start() -> Self {
        Self::answering(Answer::Chunked).await
    }

    /// An origin that gives this answer to every request.
    ///
    pub(crate) async fn answering(answer: Answer) -> Self {
        let listener = TcpListener::bind((own_address(), 0))
            .await
            .expect("an address for the origin");
        let address = listener.local_addr().expect("the address of the origin");
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            answers: Mutex::default(),
            connections: watch::Sender::default(),
        });
        let mut origin = Self {
            address,
            shared,
            accepting: None,
        };
        origin.accept_on(listener);
        origin
    }

    /// What later requests get.
    pub(crate) fn answer_with(&self, answer: Answer) {
        *lock(&self.shared.answer) = answer;
    }

    /// What later requests for this target get.
    pub(crate) fn answer_at(&self, target: &str, answer: Answer) {
        lock(&self.shared.answers).insert(target.to_owned(), answer);
    }

    /// The URL of its event stream.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests there were.
    pub(crate) fn n_connections(&self) -> usize {
        self.shared.connections.borrow().len()
    }

    /// The connection with this number, counted from 1, once its request is read and answered.
    pub(crate) async fn connection(&self, number: usize) -> OriginConnection {
        let mut connections = self.shared.connections.subscribe();
        let found = connections.wait_for(|connections| connections.len() >= number);
        let came = || format!("{} connections came", self.n_connections());
        let found = within(&format!("connection {number} to the origin"), found, came).await;
        found.expect("the origin is there")[number - 1].clone()
    }

    /// The newest connection that was answered by a chunked event stream, once there is one.
    pub(crate) async fn stream(&self) -> OriginConnection {
        let newest = |connections: &Vec<OriginConnection>| {
            connections.iter().rfind(|one| one.is_chunked).cloned()
        };
        let mut connections = self.shared.connections.subscribe();
        let found = connections.wait_for(|connections| newest(connections).is_some());
        let came = || format!("{} other connections came", self.n_connections());
        let found = within("a connection that is a stream", found, came).await;
        newest(&found.expect("the origin is there")).expect("it was found")
    }

    /// The first connection after that with this number that was answered by a chunked event stream,
    /// once there is one.
    pub(crate) async fn stream_after(&self, number: usize) -> OriginConnection {
        let find = |connections: &Vec<OriginConnection>| {
            let mut later = connections.iter().filter(|one| one.number > number);
            later.find(|one| one.is_chunked).cloned()
        };
        let mut connections = self.shared.connections.subscribe();
        let found = connections.wait_for(|connections| find(connections).is_some());
        let came = || format!("{} connections came", self.n_connections());
        let found = within("a stream after another connection", found, came).await;
        find(&found.expect("the origin is there")).expect("it was found")
    }

    /// The newest connection that the origin has not ended, once there is one.
    pub(crate) async fn open_connection(&self) -> OriginConnection {
        let find = |connections: &Vec<OriginConnection>| {
            connections.iter().rfind(|one| one.is_open()).cloned()
        };
        let mut connections = self.shared.connections.subscribe();
        let found = connections.wait_for(|connections| find(connections).is_some());
        let came = || format!("{} connections came", self.n_connections());
        let found = within("an open connection to the origin", found, came).await;
        find(&found.expect("the origin is there")).expect("an open connection")
    }

    /// The newest connection; the first one, if there is none yet.
    pub(crate) async fn newest(&self) -> OriginConnection {
        self.connection(self.n_connections().max(1)).await
    }

    /// Sends bytes of the event stream on the newest connection, in one chunk if it is chunked.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) {
        self.newest().await.send(bytes).await;
    }

    /// Goes away, and all connections with it: connecting is refused from now on.
    pub(crate) fn go_away(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        for connection in self.shared.connections.borrow().iter() {
            connection.close();
        }
    }

    /// Comes back at the same address.
    pub(crate) async fn come_back(&mut self) {
        let bind = || {
            let socket = TcpSocket::new_v4().map_err(|error| error.to_string())?;
            socket
                .set_reuseaddr(true)
                .map_err(|error| error.to_string())?;
            socket
                .bind(self.address)
                .map_err(|error| error.to_string())?;
            socket.listen(1024).map_err(|error| error.to_string())
        };
        let listener = super::until("the origin's address to be free", bind).await;
        self.accept_on(listener);
    }

    fn accept_on(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&shared)));
            }
        });
        self.accepting = Some(accepting.abort_handle());
    }
}

/// Reads a request head and answers it.
async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    if stream.set_nodelay(true).is_err() {
        return; // it is gone already
    }
    let Some(request) = read_head(&stream).await else {
        return;
    };
    let target = request.split(' ').nth(1).unwrap_or_default();
    let answer = lock(&shared.answers).get(target).cloned();
    let answer = answer.unwrap_or_else(|| lock(&shared.answer).clone());
    let bytes = match &answer {
        Answer::Chunked => event_stream("Transfer-Encoding: chunked\r\n").into_bytes(),
        Answer::CloseDelimited => event_stream("Connection: close\r\n").into_bytes(),
        Answer::Raw(bytes) | Answer::RawAndClose(bytes) => bytes.clone(),
        Answer::Nothing | Answer::Reset => Vec::new(),
    };
    if write_all(&stream, &bytes).await.is_err() {
        return;
    }
    let connection = OriginConnection {
        number: 0, // until it has its place
        request: request.into(),
        is_chunked: matches!(answer, Answer::Chunked),
        stream: Arc::new(Mutex::new(Some(Arc::new(stream)))),
    };
    match answer {
        Answer::RawAndClose(_) => connection.close(),
        Answer::Reset => connection.reset(),
        Answer::Chunked | Answer::CloseDelimited | Answer::Nothing | Answer::Raw(_) => {}
    }
    shared.connections.send_modify(|connections| {
        connections.push(OriginConnection {
            number: connections.len() + 1,
            ..connection
        });
    });
}

/// The bytes up to and with the blank line; `None` if the peer left before.
async fn read_head(stream: &TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.readable().await.ok()?;
        match stream.try_read(&mut byte) {
            Ok(0) => return None,
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl OriginConnection {
    /// Which one it is, counted from 1.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The request head, as it came.
    pub(crate) fn request(&self) -> &str {
        &self.request
    }

    /// What was asked for.
    pub(crate) fn target(&self) -> &str {
        self.request.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header field of the request.
    pub(crate) fn request_field(&self, name: &str) -> Option<&str> {
        self.request.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Sends bytes of the event stream, in one chunk if the answer is chunked.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if self.is_chunked {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            self.send_raw(&chunk).await;
        } else {
            self.send_raw(bytes).await;
        }
    }

    /// Sends bytes of a chunked event stream, which may be lost because the gateway has gone.
    pub(crate) async fn try_send(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        let stream = self.stream();
        let writing = write_all(&stream, &chunk);
        let written = within("the gateway to read or to go", writing, || {
            "it did neither".to_owned()
        });
        if let Err(error) = written.await {
            eprintln!("the gateway has gone: {error}");
        }
    }

    /// Sends bytes as they are, which may be lost because the gateway has gone.
    pub(crate) async fn try_send_raw(&self, bytes: &[u8]) {
        let stream = self.stream();
        let what = "the gateway to read or to go";
        let written = within(what, write_all(&stream, bytes), || {
            "it did neither".to_owned()
        });
        if let Err(error) = written.await {
            eprintln!("the gateway has gone: {error}");
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let stream = self.stream();
        let what = format!("the gateway to take {} bytes of the origin", bytes.len());
        within(&what, write_all(&stream, bytes), || {
            "it did not read".to_owned()
        })
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    /// Ends the stream as HTTP wants it: the last chunk, if it is chunked, then the connection.
    pub(crate) async fn finish(&self) {
        if self.is_chunked {
            self.send_raw("0\r\n\r\n").await;
        }
        self.close();
    }

    /// Closes the connection, wherever the stream is.
    pub(crate) fn close(&self) {
        drop(lock(&self.stream).take());
    }

    /// Resets the connection.
    pub(crate) fn reset(&self) {
        if let Some(stream) = lock(&self.stream).take() {
            stream.set_zero_linger().expect("a reset");
        }
    }

    /// Whether the gateway has not closed the connection.
    pub(crate) fn is_there(&self) -> bool {
        let stream = self.stream();
        let read = stream.try_read(&mut [0; 1024]);
        match read {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed(&self) {
        let stream = self.stream();
        let what = format!(
            "the gateway to close connection {} to the origin",
            self.number
        );
        let closed = async {
            loop {
                let ready = stream.ready(Interest::READABLE).await;
                match ready.and_then(|_| stream.try_read(&mut [0; 1024])) {
                    Ok(0) => return,
                    Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
                    Ok(_) | Err(_) => {}
                }
            }
        };
        within(&what, closed, || "it is open".to_owned()).await;
    }

    fn is_open(&self) -> bool {
        lock(&self.stream).is_some()
    }

    fn stream(&self) -> Arc<TcpStream> {
        let stream = lock(&self.stream).clone();
        stream.unwrap_or_else(|| panic!("the origin has closed connection {}", self.number))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.go_away();
    }
}
