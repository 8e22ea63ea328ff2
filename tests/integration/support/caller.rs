//! A client of HTTP/1.1 or HTTP/2 that sends contents.

use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::gateway::Gateway;
use super::server::Speaks;
use super::{DEADLINE, within};

/// A connection to the gateway. Dropping it closes it.
pub(crate) struct Caller {
    sender: Sender,
    connection: JoinHandle<()>,
    /// The same socket: hyper's tasks have it, one for each stream.
    socket: std::net::TcpStream,
}

enum Sender {
    Http1(http1::SendRequest<Content>),
    Http2(http2::SendRequest<Content>),
}

type Content = UnsyncBoxBody<Bytes, std::io::Error>;

/// A content that the test writes while it is sent. Dropping the sender ends it.
pub(crate) struct Pieces(mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>);

/// Writes [`Pieces`].
pub(crate) struct PiecesTx(mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>);

impl Caller {
    pub(crate) async fn connect(gateway: &Gateway, speaks: Speaks) -> Self {
        Self::connect_to(gateway.address(), speaks).await
    }

    pub(crate) async fn connect_to(address: &str, speaks: Speaks) -> Self {
        let stream = TcpStream::connect(address).await;
        let stream = stream.expect("a connection to the gateway");
        stream.set_nodelay(true).expect("the gateway is there");
        let stream = stream.into_std().expect("a socket");
        let socket = stream.try_clone().expect("a descriptor");
        let stream = TcpStream::from_std(stream).expect("a socket");
        let io = TokioIo::new(stream);
        // That a connection breaks is told to whoever uses it.
        let (sender, connection) = match speaks {
            Speaks::Http1 => {
                let (sender, connection) = http1::handshake(io).await.expect("HTTP/1.1");
                let driving = tokio::spawn(async move { if connection.await.is_err() {} });
                (Sender::Http1(sender), driving)
            }
            Speaks::Http2 => {
                let shaking = http2::Builder::new(TokioExecutor::new())
                    .max_send_buf_size(64 * 1024)
                    .initial_stream_window_size(1024 * 1024)
                    .initial_connection_window_size(4 * 1024 * 1024)
                    .handshake(io);
                let (sender, connection) = shaking.await.expect("HTTP/2");
                let driving = tokio::spawn(async move { if connection.await.is_err() {} });
                (Sender::Http2(sender), driving)
            }
        };
        Self {
            sender,
            connection,
            socket,
        }
    }

    /// Begins to send a request; returns what becomes the head of its answer.
    pub(crate) fn send<B>(
        &mut self,
        request: http::request::Builder,
        content: B,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + use<B>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let content = content.map_err(std::io::Error::other).boxed_unsync();
        let request: Request<Content> = request.body(content).expect("a request");
        let (head, content) = request.into_parts();
        let mut request = Request::from_parts(head, content);
        let sending: Pin<Box<dyn Future<Output = _> + Send>> = match &mut self.sender {
            Sender::Http1(sender) => {
                let path = request.uri().path_and_query().expect("a path").as_str();
                let path = path.parse().expect("a path");
                let host = request.uri().authority().expect("an authority").to_string();
                *request.uri_mut() = path;
                let host = host.parse().expect("an authority");
                request.headers_mut().insert("host", host);
                Box::pin(sender.send_request(request))
            }
            Sender::Http2(sender) => Box::pin(sender.send_request(request)),
        };
        async move {
            // A large content may take a while.
            let answered = timeout(6 * DEADLINE, sending).await;
            answered.expect("the head of an answer")
        }
    }

    /// Closes the connection.
    pub(crate) fn leave(self) {
        drop(self);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.connection.abort();
        if self.socket.shutdown(Shutdown::Both).is_err() {
            // The gateway has closed it.
        }
    }
}

/// A request to this path of the gateway.
pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://gateway.test{path}"))
}

/// A content, and who writes it.
pub(crate) fn pieces() -> (PiecesTx, Pieces) {
    let (tx, rx) = mpsc::channel(1);
    (PiecesTx(tx), Pieces(rx))
}

impl PiecesTx {
    /// Sends this, once the last piece was taken.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes).await, "somebody takes it");
    }

    /// Sends this; returns whether somebody takes it.
    pub(crate) async fn try_send(&self, bytes: impl AsRef<[u8]>) -> bool {
        let piece = Frame::data(Bytes::copy_from_slice(bytes.as_ref()));
        self.bring(piece).await
    }

    async fn bring(&self, piece: Frame<Bytes>) -> bool {
        let what = "the gateway to take what the client sends";
        let bringing = self.0.send(Ok(piece));
        within(what, bringing, || "it does not".to_owned())
            .await
            .is_ok()
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx)
    }
}
