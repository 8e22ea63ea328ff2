//! A tunnel between two ends in memory: what one side says and the other hears, whatever comes
//! between.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::pipe::READ_BYTES;
use super::{End, Ends, Farewell, Manners, Relay, Tunnels};
use crate::memory::{Budget, WhatFor};

/// When a tunnel is idle in the tests that wait for it; in the others never.
const IDLE: Duration = Duration::from_millis(100);
const NEVER: Duration = Duration::from_secs(3600);

/// Only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both ends of a tunnel, which is a task.
struct World {
    client: DuplexStream,
    origin: DuplexStream,
    tunnels: Tunnels,
    budget: Budget,
    /// Bytes in and out.
    moved: Arc<Mutex<(u64, u64)>>,
    relay: JoinHandle<End>,
}

/// A world whose connections take so many bytes that nobody reads.
fn world(capacity: usize, manners: Manners) -> World {
    begin((capacity, NEVER), manners, ("", ""))
}

fn begin((capacity, idle): (usize, Duration), manners: Manners, early: (&str, &str)) -> World {
    let (client, near_client) = duplex(capacity);
    let (origin, near_origin) = duplex(capacity);
    let tunnels = Tunnels::default();
    let place = tunnels.enter(1).expect("a place");
    let budget = Budget::unlimited();
    let held = budget.hold(WhatFor::Connections, 100);
    let ends = Ends {
        client: (near_client, early.0.into()),
        origin: (near_origin, early.1.into()),
    };
    let relay = Relay::new(ends, manners, Some(idle), place, held);
    let moved = Arc::<Mutex<(u64, u64)>>::default();
    let noted = Arc::clone(&moved);
    World {
        client,
        origin,
        tunnels,
        budget,
        relay: tokio::spawn(relay.run(pending(), move |n_inbound, n_outbound| {
            let mut moved = noted.lock().expect("no panic");
            moved.0 += n_inbound;
            moved.1 += n_outbound;
        })),
        moved,
    }
}

async fn hear(stream: &mut DuplexStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    let reading = timeout(PATIENCE, stream.read_exact(&mut heard)).await;
    reading.expect("in time").expect("an open connection");
    assert_eq!(heard, expected);
}

/// All that is said until the end.
async fn hear_out(stream: &mut DuplexStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let reading = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
    reading.expect("in time").expect("an open connection");
    heard
}

async fn ended(relay: JoinHandle<End>) -> End {
    let end = timeout(PATIENCE, relay).await;
    end.expect("in time").expect("no panic")
}

/// A frame of a server with a short payload.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    assert!(length < 126);
    [&[0x82, length], payload].concat()
}

/// A frame of a client, whose mask changes nothing.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(payload);
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.splice(2..2, [0; 4]);
    bytes
}

/// What a Close says that goes without a mask.
fn reason(close: &[u8]) -> &str {
    assert_eq!(close[0], 0x88, "{close:?}");
    assert_eq!(usize::from(close[1]), close.len() - 2, "{close:?}");
    assert_eq!(close[2..4], 1001_u16.to_be_bytes());
    std::str::from_utf8(&close[4..]).expect("text")
}

/// The same with a mask.
fn masked_reason(close: &[u8]) -> String {
    assert_eq!(close[1] & 0x80, 0x80, "{close:?}");
    let mut plain = vec![close[0], close[1] & 0x7f];
    let payload = close[6..].iter().zip(close[2..6].iter().cycle());
    plain.extend(payload.map(|(byte, key)| byte ^ key));
    reason(&plain).to_owned()
}

#[tokio::test]
async fn what_was_said_before_the_tunnel_is_heard_first() {
    let mut world = begin((64, NEVER), Manners::None, ("early ", "first "));
    world.client.write_all(b"and late").await.expect("room");
    world.origin.write_all(b"and second").await.expect("room");
    hear(&mut world.origin, b"early and late").await;
    hear(&mut world.client, b"first and second").await;
    drop((world.client, world.origin));
    assert_eq!(ended(world.relay).await, End::Closed);
    assert_eq!(*world.moved.lock().expect("no panic"), (14, 16));
    assert_eq!((world.tunnels.n_open(), world.budget.used()), (0, 0));
}

#[tokio::test]
async fn who_has_ended_still_hears() {
    for is_clients_end in [true, false] {
        let mut world = world(64, Manners::WebSocket);
        let (first, second) = if is_clients_end {
            (&mut world.client, &mut world.origin)
        } else {
            (&mut world.origin, &mut world.client)
        };
        first
            .write_all(b"the last of the first")
            .await
            .expect("room");
        first.shutdown().await.expect("an open connection");
        assert_eq!(hear_out(second).await, b"the last of the first");
        for _ in 0..10 {
            second.write_all(b"more of the second").await.expect("room");
            hear(first, b"more of the second").await;
        }
        second.shutdown().await.expect("an open connection");
        assert_eq!(hear_out(first).await, b"");
        assert_eq!(ended(world.relay).await, End::Closed);
    }
}

#[tokio::test]
async fn who_does_not_read_stops_who_writes_and_costs_one_buffer() {
    let world = world(1000, Manners::WebSocket);
    let World {
        client,
        origin,
        budget,
        relay,
        ..
    } = world;
    let (mut from_client, mut to_client) = split(client);
    let (mut from_origin, mut to_origin) = split(origin);
    let big: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let write = |mut to: tokio::io::WriteHalf<DuplexStream>| {
        let big = big.clone();
        tokio::spawn(async move {
            to.write_all(&big).await.expect("an open connection");
            to.shutdown().await.expect("an open connection");
        })
    };
    to_client.write_all(b"x").await.expect("room");
    to_origin.write_all(b"y").await.expect("room");
    let writers = [write(to_client), write(to_origin)];
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        assert!(budget.used() <= 100 + 2 * READ_BYTES, "{}", budget.used());
    }
    assert!(budget.used() > 100, "something is kept");
    assert!(writers.iter().all(|writer| !writer.is_finished()));
    let mut heard = [Vec::new(), Vec::new()];
    let [at_client, at_origin] = &mut heard;
    let (one, other) = tokio::join!(
        from_client.read_to_end(at_client),
        from_origin.read_to_end(at_origin)
    );
    one.and(other).expect("open connections");
    assert_eq!(at_origin[0], b'x');
    assert_eq!(at_client[0], b'y');
    assert!(at_origin[1..] == big && at_client[1..] == big);
    assert_eq!(ended(relay).await, End::Closed);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_tunnel_in_which_nobody_says_anything_is_ended() {
    let mut world = begin((64, IDLE), Manners::None, ("", ""));
    let mut begin = Instant::now();
    for _ in 0..20 {
        world.client.write_all(b"x").await.expect("room");
        hear(&mut world.origin, b"x").await;
        begin = Instant::now();
        world.origin.write_all(b"y").await.expect("room");
        hear(&mut world.client, b"y").await;
        tokio::time::sleep(IDLE / 10).await;
    }
    assert_eq!(hear_out(&mut world.client).await, b"");
    assert!(begin.elapsed() >= IDLE, "{:?}", begin.elapsed());
    assert_eq!(hear_out(&mut world.origin).await, b"");
    assert_eq!(ended(world.relay).await, End::Idle);
}

#[tokio::test]
async fn an_idle_websocket_is_closed_by_a_handshake_with_both_sides() {
    let mut world = begin((640, IDLE), Manners::WebSocket, ("", ""));
    world
        .origin
        .write_all(&frame(b"hello"))
        .await
        .expect("room");
    hear(&mut world.client, &frame(b"hello")).await;
    let mut close = vec![0; 256];
    let n = world.client.read(&mut close).await.expect("a frame");
    assert_eq!(reason(&close[..n]), "idle for too long");
    let n = world.origin.read(&mut close).await.expect("a frame");
    assert_eq!(masked_reason(&close[..n]), "idle for too long");
    // What is said now is heard by nobody. Who has answered is let go; the other has its time.
    let last = [masked(0x82, b"too late"), masked(0x88, b"\x03\xe9")].concat();
    world.client.write_all(&last).await.expect("room");
    assert_eq!(hear_out(&mut world.client).await, b"");
    assert!(!world.relay.is_finished());
    world.origin.write_all(b"\x88\x00").await.expect("room");
    assert_eq!(hear_out(&mut world.origin).await, b"");
    assert_eq!(ended(world.relay).await, End::Idle);
}

#[tokio::test]
async fn who_does_not_answer_a_close_is_cut() {
    let mut world = world(640, Manners::WebSocket);
    let begin = Instant::now();
    let drain = Duration::from_millis(300);
    world.tunnels.part(Farewell::Stopped, begin + drain);
    let heard = hear_out(&mut world.client).await;
    assert_eq!(reason(&heard), "the gateway stops");
    assert!(begin.elapsed() >= drain, "it had its time");
    masked_reason(&hear_out(&mut world.origin).await);
    assert_eq!(ended(world.relay).await, End::Stopped);
}

#[tokio::test]
async fn a_frame_that_is_under_way_is_heard_to_its_end() {
    let mut world = world(640, Manners::WebSocket);
    let whole = frame(b"in two parts");
    let (begin, end) = whole.split_at(5);
    world.origin.write_all(begin).await.expect("room");
    hear(&mut world.client, begin).await;
    world
        .tunnels
        .part(Farewell::Stopped, Instant::now() + PATIENCE / 100);
    let mut close = vec![0; 256];
    // The other direction is at a boundary.
    let n = world.origin.read(&mut close).await.expect("a frame");
    masked_reason(&close[..n]);
    let both = [end, &frame(b"nobody hears that"), b"\x88\x00"].concat();
    world.origin.write_all(&both).await.expect("room");
    hear(&mut world.client, end).await;
    let n = world.client.read(&mut close).await.expect("a frame");
    reason(&close[..n]);
    world
        .client
        .write_all(&masked(0x88, b""))
        .await
        .expect("room");
    assert_eq!(hear_out(&mut world.client).await, b"");
    assert_eq!(ended(world.relay).await, End::Stopped);
}

#[tokio::test]
async fn nothing_is_said_after_a_close_that_was_said_already() {
    let mut world = world(640, Manners::WebSocket);
    let close = b"\x88\x02\x03\xe8";
    world.origin.write_all(close).await.expect("room");
    hear(&mut world.client, close).await;
    world
        .tunnels
        .part(Farewell::Stopped, Instant::now() + PATIENCE / 100);
    let mut answer = vec![0; 256];
    let n = world.origin.read(&mut answer).await.expect("a frame");
    masked_reason(&answer[..n]);
    world
        .client
        .write_all(&masked(0x88, b"\x03\xe8"))
        .await
        .expect("room");
    assert_eq!(hear_out(&mut world.client).await, b"");
    assert_eq!(hear_out(&mut world.origin).await, b"");
    assert_eq!(ended(world.relay).await, End::Stopped);
}

#[tokio::test]
async fn who_breaks_off_ends_the_tunnel_and_what_it_said_is_heard() {
    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};
    for is_clients_end in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let breaking = TcpStream::connect(address).await.expect("a connection");
        let (near_breaking, _) = listener.accept().await.expect("a connection");
        let (mut other, near_other) = UnixStream::pair().expect("a pair");
        let tunnels = Tunnels::default();
        let place = tunnels.enter(1).expect("a place");
        let held = Budget::unlimited().hold(WhatFor::Connections, 100);
        let idle = Some(NEVER);
        let relay = if is_clients_end {
            let ends = Ends {
                client: (near_breaking, vec![]),
                origin: (near_other, vec![]),
            };
            tokio::spawn(
                Relay::new(ends, Manners::None, idle, place, held).run(pending(), |_, _| {}),
            )
        } else {
            let ends = Ends {
                client: (near_other, vec![]),
                origin: (near_breaking, vec![]),
            };
            tokio::spawn(
                Relay::new(ends, Manners::None, idle, place, held).run(pending(), |_, _| {}),
            )
        };
        let mut breaking = breaking;
        breaking.write_all(b"the last").await.expect("room");
        let mut heard = [0; 8];
        other.read_exact(&mut heard).await.expect("it was said");
        SockRef::from(&breaking)
            .set_linger(Some(Duration::ZERO))
            .expect("a socket");
        drop(breaking);
        let mut rest = Vec::new();
        let last = timeout(PATIENCE, other.read_to_end(&mut rest)).await;
        last.expect("in time").expect("an end");
        let expected = if is_clients_end {
            End::ClientBroke
        } else {
            End::OriginBroke
        };
        assert_eq!(ended(relay).await, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Frames in any pieces, and the goodbye at any time: the client hears whole frames, from the
    /// first on and in their order, and then the Close.
    #[test]
    fn a_goodbye_stands_between_frames(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..12),
        pieces in prop::collection::vec(1_usize..40, 1..40),
        before in 0_usize..40,
    ) {
        let frames: Vec<Vec<u8>> = frames.iter().map(|payload| frame(payload)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let heard = runtime.block_on(async {
            let world = world(4096, Manners::WebSocket);
            let World { mut client, mut origin, tunnels, relay, .. } = world;
            let all = frames.concat();
            let mut rest = &all[..];
            for (number, n) in pieces.iter().cycle().enumerate() {
                if number == before {
                    tunnels.part_first(Instant::now() + PATIENCE);
                }
                let (piece, left) = rest.split_at((*n).min(rest.len()));
                if piece.is_empty() && number > before {
                    break;
                }
                origin.write_all(piece).await.expect("room");
                tokio::task::yield_now().await;
                rest = left;
            }
            // Both answer.
            origin.write_all(b"\x88\x00").await.expect("room");
            client.write_all(&masked(0x88, b"")).await.expect("room");
            let heard = hear_out(&mut client).await;
            ended(relay).await;
            heard
        });
        let close = heard.len() - 21;
        reason(&heard[close..]);
        let mut whole = &heard[..close];
        for frame in &frames {
            match whole.strip_prefix(&frame[..]) {
                Some(rest) => whole = rest,
                None => break,
            }
        }
        prop_assert!(whole.is_empty(), "{whole:?} is no frame");
    }
}
