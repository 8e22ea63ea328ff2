//! A client of HTTP/2 whose windows, resets and streams are the test's business.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use http::{Request, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use super::client::{Body, Client, Connector, Head, Stream, Subscriber};
use super::gateway::Gateway;
use super::within;

/// A connection of HTTP/2.
pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// How many unread bytes a client allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) stream: u32,
    pub(crate) connection: u32,
}

impl Default for Windows {
    /// As a browser: all streams together may hold much more than one.
    fn default() -> Self {
        Self {
            stream: 64 * 1024,
            connection: 32 * 1024 * 1024,
        }
    }
}

impl Http2 {
    pub(crate) async fn connect(gateway: &Gateway) -> Self {
        Self::with_windows(gateway, Windows::default()).await
    }

    /// Connects to this address.
    pub(crate) async fn connect_to(address: &str) -> Self {
        let stream = Connector::default().stream_at(address).await;
        Self::over(stream, Windows::default()).await
    }

    pub(crate) async fn connect_over_tls(gateway: &Gateway) -> Self {
        let stream = Connector::default().tls_stream_to(gateway).await;
        Self::over(stream, Windows::default()).await
    }

    pub(crate) async fn with_windows(gateway: &Gateway, windows: Windows) -> Self {
        let stream = Connector::default().stream_to(gateway).await;
        Self::over(stream, windows).await
    }

    /// A connection that is made in this way.
    pub(crate) async fn by(connector: Connector, gateway: &Gateway) -> Self {
        Self::over(connector.stream_to(gateway).await, Windows::default()).await
    }

    /// A connection that is made already.
    pub(crate) async fn over(stream: Pin<Box<dyn Stream>>, windows: Windows) -> Self {
        let shake = Builder::new()
            .initial_window_size(windows.stream)
            .initial_connection_window_size(windows.connection)
            .enable_push(false)
            .handshake(stream);
        let shaken = within("HTTP/2", shake, || "nothing".to_owned()).await;
        let (requests, connection) = shaken.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        Self {
            requests,
            connection,
        }
    }

    /// Sends a request without a body, with these header fields, and reads the head of the answer.
    pub(crate) async fn try_request(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<(Head, Client), h2::Error> {
        self.try_send((method, path, fields), None).await
    }

    async fn try_send(
        &self,
        (method, path, fields): (&str, &str, &[(&str, &str)]),
        content: Option<Bytes>,
    ) -> Result<(Head, Client), h2::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://gateway.test{path}"))
            .version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let answered = async {
            let mut requests = self.requests.clone().ready().await?;
            let (answer, mut sending) = requests.send_request(request, content.is_none())?;
            if let Some(content) = content {
                sending.send_data(content, true)?;
            }
            answer.await
        };
        let what = format!("an answer to {method} {path}");
        let answer = within(&what, answered, || "nothing".to_owned()).await?;
        let head = head(&answer);
        let content = Content {
            stream: answer.into_body(),
            unread: Bytes::new(),
        };
        Ok((head, Client::over(content)))
    }

    /// Sends a request without a body, and reads the answer with its content.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (Head, String) {
        self.ask_with((method, path, fields), None).await
    }

    /// Sends a content, and reads the answer with its own.
    pub(crate) async fn post(&self, path: &str, content: &'static str) -> (Head, String) {
        let content = Bytes::from_static(content.as_bytes());
        self.ask_with(("POST", path, &[]), Some(content)).await
    }

    async fn ask_with(
        &self,
        (method, path, fields): (&str, &str, &[(&str, &str)]),
        content: Option<Bytes>,
    ) -> (Head, String) {
        let answer = self.try_send((method, path, fields), content).await;
        let (head, mut client) = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let (content, _) = client.rest().await;
        (head, String::from_utf8(content).expect("content of text"))
    }

    /// A subscriber of this path that sends these header fields more, once it is admitted: by HTTP/2
    /// the head goes out before, and what it is sent first afterwards.
    pub(crate) async fn subscribe_with(&self, path: &str, fields: &[(&str, &str)]) -> Subscriber {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend_from_slice(fields);
        let answer = self.try_request("GET", path, &all).await;
        let (head, mut client) = answer.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        if head.status == 200 {
            let first = client.take_some(1).await;
            client.put_back(&first);
        }
        client.with_head(head, Body::Framed)
    }

    /// A subscriber of `/events`.
    pub(crate) async fn subscribe(&self) -> Subscriber {
        self.subscribe_with("/events", &[]).await
    }

    /// Waits until the connection has ended; says how.
    pub(crate) async fn ended(&mut self) -> Result<(), Option<Reason>> {
        let ended = within("the HTTP/2 connection to end", &mut self.connection, || {
            "it is open".to_owned()
        });
        let ended = ended.await.expect("the connection does not panic");
        ended.map_err(|error| error.reason())
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The head of an answer as HTTP/1.1 would write it.
fn head<B>(answer: &Response<B>) -> Head {
    let mut text = format!("HTTP/2 {}\r\n", answer.status());
    for (name, value) in answer.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        text.extend([name.as_str(), ": ", &value, "\r\n"]);
    }
    Head {
        text,
        status: answer.status().as_u16(),
    }
}

/// The content of an answer. The client's window opens as it is read; dropping it resets the stream.
struct Content {
    stream: RecvStream,
    unread: Bytes,
}

impl AsyncRead for Content {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => self.unread = bytes,
                Some(Err(error)) if error.is_reset() => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(n));
        let released = self.stream.flow_control().release_capacity(n);
        Poll::Ready(released.map_err(io::Error::other))
    }
}

impl AsyncWrite for Content {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
