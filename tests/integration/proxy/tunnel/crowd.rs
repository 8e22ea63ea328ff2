//! Many tunnels, and some of them slow.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{SWITCH, offer, take_head};
use crate::proxy::one_proxy;
use crate::support::{DEADLINE, Gateway};

const TUNNELS: usize = 1000;

/// Repeats what it hears, to the end.
async fn echo(mut stream: TcpStream) {
    take_head(&mut stream).await;
    stream.write_all(SWITCH.as_bytes()).await.expect("room");
    let (mut from, mut to) = stream.split();
    // An error: its client did not want to hear the rest.
    if tokio::io::copy(&mut from, &mut to).await.is_ok() && to.shutdown().await.is_err() {}
}

async fn backend() -> String {
    let listener = TcpListener::bind("127.0.0.2:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    format!("http://{address}")
}

async fn tunnel(gateway: &Gateway) -> TcpStream {
    let mut client = TcpStream::connect(gateway.address())
        .await
        .expect("a connection");
    client
        .write_all(offer("/echo").as_bytes())
        .await
        .expect("room");
    take_head(&mut client).await;
    client
}

/// Bytes of this tunnel and of no other.
fn own(number: usize, n: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number as u64);
    (0..n).map(|_| random.u8(..)).collect()
}

async fn say(to: &mut OwnedWriteHalf, bytes: &[u8]) {
    to.write_all(bytes).await.expect("an open tunnel");
}

async fn hear(from: &mut OwnedReadHalf, bytes: &[u8], what: &str) {
    let mut heard = vec![0; bytes.len()];
    let reading = timeout(DEADLINE * 6, from.read_exact(&mut heard)).await;
    reading.expect("in time").expect("an open tunnel");
    assert!(heard == bytes, "{what}: other bytes came back");
}

#[tokio::test]
async fn a_thousand_tunnels_repeat_every_byte_to_who_said_it_and_to_its_end() {
    let url = backend().await;
    let gateway = Gateway::with_config(&one_proxy(&url, "")).await;
    let mut tunnels = Vec::new();
    for _ in 0..TUNNELS {
        tunnels.push(tunnel(&gateway).await.into_split());
    }
    let mut clients = JoinSet::new();
    for (number, (mut from, mut to)) in tunnels.into_iter().enumerate() {
        clients.spawn(async move {
            let what = format!("tunnel {number}");
            let bytes = own(number, 4000 + number);
            for piece in bytes.chunks(777) {
                say(&mut to, piece).await;
                hear(&mut from, piece, &what).await;
            }
            // Half of them say all at once and end; what is on its way comes back, and then the end.
            if number % 2 == 0 {
                say(&mut to, &bytes).await;
                to.shutdown().await.expect("an open tunnel");
                hear(&mut from, &bytes, &what).await;
                let mut rest = Vec::new();
                let ended = timeout(DEADLINE * 6, from.read_to_end(&mut rest)).await;
                ended.expect("in time").expect("an end");
                assert_eq!(rest, b"", "{what}");
            }
        });
    }
    let mut n = 0;
    while let Some(done) = clients.join_next().await {
        done.expect("a tunnel");
        n += 1;
    }
    assert_eq!(n, TUNNELS);
}

#[tokio::test]
async fn who_does_not_listen_costs_little_and_delays_nobody() {
    const SLOW: usize = 20;
    let url = backend().await;
    let gateway = Gateway::with_config(&one_proxy(&url, "")).await;
    let (mut from, mut to) = tunnel(&gateway).await.into_split();
    say(&mut to, b"warm").await;
    hear(&mut from, b"warm", "before").await;
    let before = gateway.resident_bytes();
    // They say what they can, and hear nothing of what comes back, until nobody takes more.
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let (from, mut to) = tunnel(&gateway).await.into_split();
        let saying = tokio::spawn(async move {
            let bytes = vec![b'x'; 64 * 1024];
            let mut n = 0;
            // Nobody takes anything for a while: it is full.
            while n < 64 << 20
                && let Ok(written) =
                    timeout(std::time::Duration::from_millis(300), to.write(&bytes)).await
            {
                n += written.expect("an open tunnel");
            }
            (n, to)
        });
        slow.push((from, saying));
    }
    let mut full = Vec::new();
    for (from, saying) in slow {
        let (n, to) = saying.await.expect("no panic");
        assert!(n < 64 << 20, "the client was stopped");
        full.push((from, to, n));
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(
        grown < SLOW * 200 * 1024,
        "{SLOW} slow ones cost {grown} bytes"
    );
    for number in 0..100 {
        let bytes = own(number, 1000);
        say(&mut to, &bytes).await;
        hear(&mut from, &bytes, "the quick one").await;
    }
    // All that they said comes back when they listen.
    for (mut from, mut to, n) in full {
        to.shutdown().await.expect("an open tunnel");
        let mut space = vec![0; 64 * 1024];
        let mut n_heard = 0;
        loop {
            let read = timeout(DEADLINE, from.read(&mut space))
                .await
                .expect("in time");
            match read.expect("an open tunnel") {
                0 => break,
                read => n_heard += read,
            }
        }
        assert_eq!(n_heard, n);
    }
}
