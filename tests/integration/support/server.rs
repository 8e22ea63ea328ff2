//! An origin that speaks more than plain HTTP/1.1: TLS, or HTTP/2. It answers every request with an
//! event stream that the test writes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::within;

/// An origin; its streams are numbered from 1.
pub(crate) struct Server {
    address: SocketAddr,
    streams: watch::Sender<Vec<ServerStream>>,
    accepting: AbortHandle,
}

/// What it speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// An answered request.
#[derive(Clone)]
pub(crate) struct ServerStream {
    pub(crate) request: Arc<Request<()>>,
    body: mpsc::Sender<Piece>,
    connection: AbortHandle,
}

/// What the body of an answer brings next.
enum Piece {
    Bytes(Bytes),
    End,
    Failure,
}

struct StreamBody(mpsc::Receiver<Piece>);

impl Server {
    pub(crate) async fn plain(speaks: Speaks) -> Self {
        Self::start(speaks, None).await
    }

    /// With this certificate and its key.
    pub(crate) async fn with_tls(
        speaks: Speaks,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key);
        Self::with_tls_config(speaks, config.expect("a certificate and its key")).await
    }

    /// With a configuration of TLS.
    pub(crate) async fn with_tls_config(speaks: Speaks, mut config: ServerConfig) -> Self {
        if speaks == Speaks::Http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Self::start(speaks, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start(speaks: Speaks, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").await;
        let listener = listener.expect("an address for the origin");
        let address = listener.local_addr().expect("the address of the origin");
        let streams = watch::Sender::default();
        let accepting = tokio::spawn(accept(listener, speaks, tls, streams.clone()));
        Self {
            address,
            streams,
            accepting: accepting.abort_handle(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests there were.
    pub(crate) fn n_streams(&self) -> usize {
        self.streams.borrow().len()
    }

    /// The stream with this number, counted from 1, once it is asked for.
    pub(crate) async fn stream(&self, number: usize) -> ServerStream {
        let mut streams = self.streams.subscribe();
        let found = streams.wait_for(|streams| streams.len() >= number);
        let came = || format!("{} streams were asked for", self.n_streams());
        let found = within(&format!("stream {number}"), found, came).await;
        found.expect("the origin is there")[number - 1].clone()
    }
}

impl ServerStream {
    pub(crate) fn request_field(&self, name: &str) -> Option<&str> {
        let value = self.request.headers().get(name)?;
        Some(value.to_str().expect("a field of text"))
    }

    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) {
        let bytes = Bytes::copy_from_slice(bytes.as_ref());
        self.bring(Piece::Bytes(bytes)).await;
    }

    /// Ends the stream as HTTP wants it.
    pub(crate) async fn finish(&self) {
        self.bring(Piece::End).await;
    }

    /// Ends the stream as a failure, not its connection if that has other uses.
    pub(crate) async fn fail(&self) {
        self.bring(Piece::Failure).await;
    }

    /// Whether both are on one connection.
    pub(crate) fn shares_connection(&self, other: &Self) -> bool {
        self.connection.id() == other.connection.id()
    }

    /// Closes the connection.
    pub(crate) fn cut(&self) {
        self.connection.abort();
    }

    async fn bring(&self, piece: Piece) {
        let what = "the gateway to read what the origin sends";
        let brought = within(what, self.body.send(piece), || "it does not".to_owned());
        assert!(brought.await.is_ok(), "the stream is open");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    speaks: Speaks,
    tls: Option<TlsAcceptor>,
    streams: watch::Sender<Vec<ServerStream>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, streams) = (tls.clone(), streams.clone());
        let (tell, handle) = tokio::sync::oneshot::channel();
        let connection = tokio::spawn(async move {
            let handle = handle.await.expect("the handle of this task");
            match tls {
                None => serve(stream, speaks, handle, streams).await,
                Some(tls) => {
                    // A client that does not trust the certificate goes away.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, speaks, handle, streams).await;
                    }
                }
            }
        });
        if tell.send(connection.abort_handle()).is_err() {
            return; // the runtime ends
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    speaks: Speaks,
    connection: AbortHandle,
    streams: watch::Sender<Vec<ServerStream>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (body, pieces) = mpsc::channel(16);
        streams.send_modify(|streams| {
            streams.push(ServerStream {
                request: Arc::new(request.map(drop)),
                body,
                connection: connection.clone(),
            });
        });
        let response = Response::builder().header("Content-Type", "text/event-stream");
        let response = response.body(StreamBody(pieces)).expect("a response");
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let io = TokioIo::new(stream);
    let served = match speaks {
        Speaks::Http1 => http1::Builder::new().serve_connection(io, service).await,
        Speaks::Http2 => {
            let server = http2::Builder::new(TokioExecutor::new());
            server.serve_connection(io, service).await
        }
    };
    // The gateway closes connections, and that is its right.
    if served.is_err() {}
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|piece| match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) | None => None,
            Some(Piece::Failure) => Some(Err(std::io::Error::other("as the test wants it"))),
        })
    }
}
