//! An origin of HTTP/1.1 or HTTP/2 whose exchanges are the test's business: it reads a request's
//! content when it wants, answers when it wants, and is told when whoever asks has gone.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::server::Speaks;
use super::within;

/// An origin.
pub(crate) struct Backend {
    address: SocketAddr,
    exchanges: mpsc::Receiver<Exchange>,
    accepting: AbortHandle,
}

/// A request that was read, and is not answered yet.
pub(crate) struct Exchange {
    pub(crate) request: request::Parts,
    /// Its content.
    pub(crate) content: Incoming,
    answer: oneshot::Sender<Response<Boxed>>,
    /// Whether whoever asks has gone before it had all.
    gone: watch::Receiver<bool>,
    connection: AbortHandle,
}

/// An answer that has begun.
pub(crate) struct Answering {
    pieces: mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>,
    gone: watch::Receiver<bool>,
    connection: AbortHandle,
}

type Boxed = UnsyncBoxBody<Bytes, std::io::Error>;

/// What an answer is made of.
struct Content {
    body: Boxed,
    guard: Guard,
}

/// Tells when an exchange is dropped that has not ended.
struct Guard {
    gone: watch::Sender<bool>,
    has_ended: bool,
}

/// Pieces that a test writes.
struct Pieces(mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>);

impl Backend {
    pub(crate) async fn start(speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").await;
        Self::at(listener.expect("an address for the origin"), speaks)
    }

    /// One that is where this listener is.
    pub(crate) fn at(listener: TcpListener, speaks: Speaks) -> Self {
        Self::over(listener, speaks, None)
    }

    /// One that speaks TLS; what it agrees to speak over it is the configuration's business.
    pub(crate) async fn with_tls(speaks: Speaks, config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").await;
        let listener = listener.expect("an address for the origin");
        let tls = TlsAcceptor::from(Arc::new(config));
        Self::over(listener, speaks, Some(tls))
    }

    fn over(listener: TcpListener, speaks: Speaks, tls: Option<TlsAcceptor>) -> Self {
        let address = listener.local_addr().expect("the address of the origin");
        let (tx, exchanges) = mpsc::channel(1024);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tell, handle) = oneshot::channel();
                let (tls, tx) = (tls.clone(), tx.clone());
                let connection = tokio::spawn(async move {
                    let handle = handle.await.expect("the handle of this task");
                    if stream.set_nodelay(true).is_err() {
                        return; // it is gone already
                    }
                    match tls {
                        None => serve(stream, speaks, handle, tx).await,
                        Some(tls) => {
                            // Whoever does not trust the certificate goes away.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, speaks, handle, tx).await;
                            }
                        }
                    }
                });
                if tell.send(connection.abort_handle()).is_err() {
                    return; // the runtime ends
                }
            }
        });
        Self {
            address,
            exchanges,
            accepting: accepting.abort_handle(),
        }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request.
    pub(crate) async fn exchange(&mut self) -> Exchange {
        let next = within("a request at the origin", self.exchanges.recv(), || {
            "none".to_owned()
        });
        next.await.expect("the origin is there")
    }

    /// Whether a request has come that nobody has looked at.
    pub(crate) fn has_more(&self) -> bool {
        !self.exchanges.is_empty()
    }
}

impl Exchange {
    /// A header field of the request.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let value = self.request.headers.get(name)?;
        Some(value.to_str().expect("a field of text"))
    }

    /// The next bytes of the request's content; `None`: it has ended.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        piece(&mut self.content).await
    }

    /// Answers with this head, and a content that the test writes.
    pub(crate) fn begin(self, head: http::response::Builder) -> Answering {
        self.begin_and_read(head).0
    }

    /// The same; returns the content of the request, too.
    pub(crate) fn begin_and_read(self, head: http::response::Builder) -> (Answering, Incoming) {
        let (pieces, rx) = mpsc::channel(1);
        let body = Pieces(rx).boxed_unsync();
        let (gone, connection) = (self.gone.clone(), self.connection.clone());
        let content = self.answer_with(head, body);
        let answering = Answering {
            pieces,
            gone,
            connection,
        };
        (answering, content)
    }

    /// Answers with this, and goes on by itself.
    pub(crate) fn answer<B>(self, head: http::response::Builder, body: B)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let body = body.map_err(std::io::Error::other).boxed_unsync();
        drop(self.answer_with(head, body));
    }

    fn answer_with(self, head: http::response::Builder, body: Boxed) -> Incoming {
        let answer = head.body(body).expect("an answer");
        assert!(self.answer.send(answer).is_ok(), "somebody waits for it");
        self.content
    }

    /// Closes the connection.
    pub(crate) fn cut(&self) {
        self.connection.abort();
    }

    /// Waits until whoever asks has gone. The content must not be in the way: hyper sees an end only
    /// where it may read.
    pub(crate) async fn gone(&mut self) {
        gone(&mut self.gone).await;
    }

    /// Reads the content to its end, which must be none.
    pub(crate) async fn breaks_off(&mut self) {
        while let Some(piece) = self.piece().await {
            if piece.is_err() {
                return;
            }
        }
        panic!("a content that was not complete has a clean end");
    }
}

impl Answering {
    /// Sends this, once the last piece was taken.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) {
        let piece = Frame::data(Bytes::copy_from_slice(bytes.as_ref()));
        self.bring(Ok(piece)).await;
    }

    /// Breaks off.
    pub(crate) async fn fail(self) {
        self.bring(Err(std::io::Error::other("as the test wants it")))
            .await;
    }

    /// Ends as it should.
    pub(crate) fn finish(self) {
        drop(self);
    }

    /// Closes the connection.
    pub(crate) fn cut(&self) {
        self.connection.abort();
    }

    /// Waits until whoever asks has gone.
    pub(crate) async fn gone(&mut self) {
        gone(&mut self.gone).await;
    }

    async fn bring(&self, piece: Result<Frame<Bytes>, std::io::Error>) {
        let what = "the gateway to read what the origin sends";
        let brought = within(what, self.pieces.send(piece), || "it does not".to_owned());
        assert!(brought.await.is_ok(), "somebody reads it");
    }
}

async fn gone(gone: &mut watch::Receiver<bool>) {
    let what = "the origin to be told that nobody wants the answer";
    let told = within(what, gone.wait_for(|gone| *gone), || "it is not".to_owned());
    // Without a sender the exchange has ended.
    assert!(told.await.is_ok(), "it is told");
}

/// The next bytes of a content.
pub(crate) async fn piece<B>(content: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *content).poll_frame(cx));
        let frame = within("a piece of a content", frame, || "nothing".to_owned()).await?;
        match frame.map(Frame::into_data) {
            // The end of an HTTP/2 stream may be a piece of nothing.
            Ok(Ok(data)) if data.is_empty() => {}
            Ok(Ok(data)) => return Some(Ok(data)),
            Ok(Err(_trailers)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// No content.
pub(crate) fn nothing() -> Empty<Bytes> {
    Empty::new()
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    speaks: Speaks,
    connection: AbortHandle,
    exchanges: mpsc::Sender<Exchange>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (exchanges, connection) = (exchanges.clone(), connection.clone());
        async move {
            let (answer, answered) = oneshot::channel();
            let (request, content) = request.into_parts();
            let (gone_tx, gone) = watch::channel(false);
            let mut guard = Guard {
                gone: gone_tx,
                has_ended: false,
            };
            let exchange = Exchange {
                request,
                content,
                answer,
                gone,
                connection,
            };
            if exchanges.send(exchange).await.is_err() {
                // The test is over.
            }
            let answer: Response<Boxed> = match answered.await {
                Ok(answer) => answer,
                // The test has dropped it: it will never be answered.
                Err(_) => std::future::pending().await,
            };
            // hyper asks a body for nothing that has none.
            guard.has_ended = answer.body().is_end_stream();
            Ok::<_, Infallible>(answer.map(|body| Content { body, guard }))
        }
    });
    let io = TokioIo::new(stream);
    let served = match speaks {
        Speaks::Http1 => http1::Builder::new().serve_connection(io, service).await,
        Speaks::Http2 => {
            let mut server = http2::Builder::new(TokioExecutor::new());
            server.max_send_buf_size(64 * 1024);
            server.serve_connection(io, service).await
        }
    };
    // The gateway closes connections, and that is its right.
    if served.is_err() {}
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let is_last = match &frame {
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || self.body.is_end_stream(),
            Poll::Ready(Some(Err(_)) | None) => true,
            Poll::Pending => false,
        };
        self.guard.has_ended |= is_last;
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.has_ended {
            self.gone.send_replace(true);
        }
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
