//! An origin that counts with the clock: every path is a stream of its own, event `n` of each comes
//! at the same time, and whoever asks with the last id gets exactly what follows.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval, sleep};

use crate::support::own_address;

/// The origin. It closes connections where it likes.
pub(super) struct Teller {
    address: SocketAddr,
    /// Counts restarts; connections of an earlier life end.
    lives: watch::Sender<u64>,
    accepting: AbortHandle,
}

/// Between two events.
const PERIOD: Duration = Duration::from_millis(10);

/// How long it is away at a restart.
const ABSENCE: Duration = Duration::from_millis(200);

impl Teller {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((own_address(), 0)).await;
        let listener = listener.expect("an address");
        let address = listener.local_addr().expect("an address");
        let lives = watch::Sender::new(0);
        let begin = Instant::now();
        let told = lives.subscribe();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tell(stream, begin, told.clone()));
            }
        });
        Self {
            address,
            lives,
            accepting: accepting.abort_handle(),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Restarts again and again. An odd life is an absence: who comes then is closed at once.
    pub(super) async fn fail_until(&self, end: Instant) {
        while Instant::now() < end {
            sleep(Duration::from_millis(fastrand::u64(500..3000))).await;
            self.lives.send_modify(|lives| *lives += 1);
            sleep(ABSENCE).await;
            self.lives.send_modify(|lives| *lives += 1);
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The data of an event: of all sizes, so that writes end everywhere in them.
pub(super) fn data(n: u64) -> String {
    let size = usize::try_from(n * n % 997).expect("a size") + 1;
    format!("{n}-{}", "x".repeat(size))
}

/// One connection, until it has had its time.
async fn tell(mut stream: TcpStream, begin: Instant, mut lives: watch::Receiver<u64>) {
    let life = *lives.borrow_and_update();
    if life % 2 == 1 {
        return;
    }
    let Some(last) = last_id(&mut stream).await else {
        return;
    };
    let newest = || u64::try_from(begin.elapsed().as_millis() / PERIOD.as_millis()).unwrap_or(0);
    let mut next = last.map_or_else(|| newest() + 1, |last| last + 1);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    // Some live long, some are cut, and some of those in the middle of an event.
    let n_ticks = fastrand::u32(1..400);
    let mut ticks = interval(PERIOD);
    for tick in 0..n_ticks {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = lives.changed() => return,
        }
        let newest = newest();
        let mut text: String = (next..=newest)
            .map(|n| format!("id: {n}\ndata: {}\n\n", data(n)))
            .collect();
        next = next.max(newest + 1);
        if tick + 1 == n_ticks {
            text.truncate(text.len() / 2);
        }
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
    if fastrand::bool() && stream.set_zero_linger().is_err() {
        // It ends by itself then.
    }
}

/// Reads a request head; the number that it asks to go on after. `None`: there was no request.
async fn last_id(stream: &mut TcpStream) -> Option<Option<u64>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let field = head
        .lines()
        .find_map(|line| line.strip_prefix("last-event-id:"));
    Some(field.map(|id| id.trim().parse().expect("an id that the origin gave")))
}
