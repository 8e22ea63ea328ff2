//! Requests that pass through to a backend, as both ends see them.

mod counts;
mod desync;
mod ends;
mod failures;
mod fields;
mod flow;
mod pass;
mod pipelined;
mod recorder;
mod reload;
mod retry;
mod scarce;
mod smuggling;
mod smuggling_http2;
mod stalled;
mod targets;
mod trailers;
mod tunnel;
mod unprocessed;
mod upstream_http2;
mod upstream_tls;
mod versions;

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use crate::support::{Client, Gateway, Head, own_address, until, within};

/// A backend that is a bare socket: what it reads and sends is the test's business.
pub(super) struct Backend {
    pub(super) listener: TcpListener,
}

/// A connection of the gateway to a backend.
pub(super) struct Line {
    pub(super) socket: Client,
}

/// The head of a request, as it came.
#[derive(Debug, Clone)]
pub(super) struct Asked(pub(super) String);

impl Backend {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((own_address(), 0)).await;
        Self {
            listener: listener.expect("an address for the backend"),
        }
    }

    /// One that comes back at this URL.
    pub(super) async fn at(url: &str) -> Self {
        let address: SocketAddr = url
            .trim_start_matches("http://")
            .parse()
            .expect("an address");
        let bind = || {
            let socket = TcpSocket::new_v4().map_err(|error| error.to_string())?;
            socket
                .set_reuseaddr(true)
                .map_err(|error| error.to_string())?;
            socket.bind(address).map_err(|error| error.to_string())?;
            socket.listen(1024).map_err(|error| error.to_string())
        };
        let listener = until("the backend's address to be free", bind).await;
        Self { listener }
    }

    /// Its URL, without a path.
    pub(super) fn url(&self) -> String {
        let address = self.listener.local_addr();
        format!("http://{}", address.expect("the address of the backend"))
    }

    /// The next connection that the gateway makes.
    pub(super) async fn accept(&self) -> Line {
        let accepting = self.listener.accept();
        let accepted = within("a connection to the backend", accepting, || {
            "none".to_owned()
        });
        let (stream, _) = accepted.await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Line {
            socket: Client::over(stream),
        }
    }

    /// The next connection, and the head of its first request.
    pub(super) async fn asked(&self) -> (Line, Asked) {
        let mut line = self.accept().await;
        let asked = line.asked().await;
        (line, asked)
    }
}

impl Line {
    /// The head of the next request.
    pub(super) async fn asked(&mut self) -> Asked {
        let head = self
            .socket
            .take_through(b"\r\n\r\n", "the head of a request");
        let head = String::from_utf8(head.await);
        Asked(head.expect("a head of text"))
    }

    /// Answers 200 with this content.
    pub(super) async fn answer(&mut self, content: &str) {
        let length = content.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}");
        self.socket.send(answer).await;
    }

    /// Waits until the gateway has closed the connection; returns what came before.
    pub(super) async fn closed(&mut self) -> Vec<u8> {
        self.socket.rest().await.0
    }
}

impl Asked {
    /// The request line.
    pub(super) fn line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    /// The value of a header field; `None` if it is not there, or more than once.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.0.lines().skip(1).filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        values.next().filter(|_| values.next().is_none())
    }
}

/// The configuration of a proxy for all paths with this upstream and these lines in its table. Other
/// tables may follow them. There is one thread, since each has its own connections to the backend.
pub(super) fn one_proxy(upstream: &str, lines: &str) -> String {
    format!(
        "[server]\nthreads = 1\n\n[listen.public]\naddress = \"127.0.0.1:0\"\n\n\
         [proxies.web]\npath = \"/{{*rest}}\"\nupstream = \"{upstream}\"\n{lines}\n"
    )
}

/// A backend, a gateway in front of it with these lines for its proxy, and a client.
pub(super) async fn world(lines: &str) -> (Backend, Gateway, Client) {
    let backend = Backend::start().await;
    let gateway = Gateway::with_config(&one_proxy(&backend.url(), lines)).await;
    let client = gateway.connect().await;
    (backend, gateway, client)
}

/// Reads an answer with its body, as text.
pub(super) async fn answered(client: &mut Client) -> (Head, String) {
    let head = client.head().await;
    let body = client.body(&head).await;
    (head, String::from_utf8(body).expect("a body of text"))
}

/// A request without a body.
pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}
