//! Subscribers that share connections of HTTP/2.
//!
//! They read in a thread of the bench itself: what they cost is not what is measured.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::Builder;
use h2::client::SendRequest;
use http::Request;
use http::Version;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::event::Event;
use crate::load::Faults;

/// How unread bytes are limited: as by a browser.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Subscribers of one channel.
#[derive(Debug)]
pub(crate) struct Streams {
    runtime: Runtime,
    subscribers: Vec<Subscriber>,
    /// Requests hold connections open.
    _connections: Vec<SendRequest<Bytes>>,
    n_refused: u64,
}

#[derive(Debug)]
struct Subscriber {
    stream: RecvStream,
    /// What it received and did not check yet.
    unread: Vec<u8>,
}

impl Streams {
    /// Opens so many streams on each of so many connections.
    pub(crate) fn connect(server: SocketAddr, n_connections: u64, n_streams: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut this = Self {
            runtime,
            subscribers: Vec::new(),
            _connections: Vec::new(),
            n_refused: 0,
        };
        for _ in 0..n_connections {
            let opened = this.runtime.block_on(open(server, n_streams));
            let (connection, streams) = opened.expect("a connection of HTTP/2");
            this.n_refused += n_streams - streams.len() as u64;
            this.subscribers
                .extend(streams.into_iter().map(|stream| Subscriber {
                    stream,
                    unread: Vec::new(),
                }));
            this._connections.push(connection);
        }
        this
    }

    /// Reads on until each has got all events with these numbers; what is wrong with them.
    pub(crate) fn read(&mut self, first_seq: u64, n_events: u64) -> Faults {
        let mut reading = JoinSet::new();
        let _inside = self.runtime.enter();
        for subscriber in self.subscribers.drain(..) {
            reading.spawn(subscriber.read(first_seq, n_events));
        }
        let mut faults = Faults::cut(std::mem::take(&mut self.n_refused));
        self.runtime.block_on(async {
            while let Some(read) = reading.join_next().await {
                let (subscriber, wrong) = read.unwrap();
                faults += wrong;
                self.subscribers.push(subscriber);
            }
        });
        faults
    }
}

/// One connection and its streams; those that were refused are not among them.
async fn open(
    server: SocketAddr,
    n_streams: u64,
) -> Result<(SendRequest<Bytes>, Vec<RecvStream>), h2::Error> {
    let socket = TcpStream::connect(server)
        .await
        .expect("the server listens");
    let (mut requests, connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(socket)
        .await?;
    // Ends with the runtime.
    drop(tokio::spawn(connection));
    let mut streams = Vec::new();
    for _ in 0..n_streams {
        requests = requests.ready().await?;
        let request = Request::builder()
            .version(Version::HTTP_2)
            .uri("http://localhost/c0")
            .header("accept", "text/event-stream")
            .body(())
            .unwrap();
        let (answer, _) = requests.send_request(request, true)?;
        let answer = answer.await?;
        if answer.status() == 200 {
            streams.push(answer.into_body());
        }
    }
    Ok((requests, streams))
}

impl Subscriber {
    async fn read(mut self, first_seq: u64, n_events: u64) -> (Self, Faults) {
        let mut faults = Faults::default();
        for seq in first_seq..first_seq + n_events {
            match timeout(PATIENCE, self.next_event()).await {
                Ok(Some(event)) if event.seq == seq => {}
                Ok(Some(_)) => faults.n_stray += 1,
                Ok(None) => {
                    faults.n_cut += 1;
                    break;
                }
                Err(_) => {
                    faults.n_missing += 1;
                    break;
                }
            }
        }
        (self, faults)
    }

    /// The next event, all of whose bytes are right; `None` if the stream ends, or anything else
    /// comes but reconnection times.
    async fn next_event(&mut self) -> Option<Event> {
        loop {
            let block = self.unread.windows(2).position(|two| two == b"\n\n");
            if let Some(end) = block {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let mut event = None;
                for line in block.split(|byte| *byte == b'\n') {
                    if let Some(data) = line.strip_prefix(b"data: ") {
                        event = Some(Event::parse(data)?);
                    }
                }
                return event;
            }
            let bytes = self.stream.data().await?.ok()?;
            self.unread.extend_from_slice(&bytes);
            let released = self.stream.flow_control().release_capacity(bytes.len());
            released.ok()?;
        }
    }
}
