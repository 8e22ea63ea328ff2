//! What both ends of a WebSocket hear when the gateway stops, or its proxy is removed.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{
    Frame, SWITCH, config_with_drain, draining, frame, frame_of, frames, goes_away, offer,
    split_frame, take_head,
};
use crate::proxy::Backend;
use crate::support::{DEADLINE, Gateway, until_true};

const MASK: Option<[u8; 4]> = Some([7, 99, 200, 3]);

/// Says and hears numbered frames until a Close comes, which it answers; returns the frames that it
/// heard.
async fn converse(stream: TcpStream, mask: Option<[u8; 4]>) -> Vec<Frame> {
    let (mut from, mut to) = stream.into_split();
    // Both have something to say to whatever they hear, and say a little more to begin with.
    let turns = Arc::new(Semaphore::new(4));
    let heard_one = Arc::clone(&turns);
    let saying = tokio::spawn(async move {
        for number in 0_u32.. {
            // Closed: the other side has said its last word, and gets the answer.
            let Ok(turn) = turns.acquire().await else {
                let close = frame_of(0x88, b"\x03\xe9", mask);
                return to.write_all(&close).await;
            };
            turn.forget();
            let payload = number.to_be_bytes().repeat(1 + number as usize % 100);
            // A frame in pieces, so that a goodbye comes in the middle of one.
            let bytes = frame(&payload, mask);
            let (one, other) = bytes.split_at(bytes.len() / 2);
            to.write_all(one).await?;
            tokio::task::yield_now().await;
            to.write_all(other).await?;
        }
        Ok(())
    });
    let mut heard = Vec::new();
    let mut n_whole = 0;
    let reading = async {
        loop {
            while let Some(((first, _), rest)) = split_frame(&heard[n_whole..]) {
                n_whole = heard.len() - rest.len();
                heard_one.add_permits(1);
                if first == 0x88 {
                    return true;
                }
            }
            if from.read_buf(&mut heard).await.unwrap_or(0) == 0 {
                return false;
            }
        }
    };
    let has_closed = timeout(DEADLINE, reading).await.expect("a Close in time");
    assert!(has_closed, "the connection ended without a Close");
    heard_one.close();
    // The connection may be gone by then.
    drop(
        timeout(DEADLINE, saying)
            .await
            .expect("a last word in time"),
    );
    let mut rest = Vec::new();
    let ended = timeout(DEADLINE, from.read_to_end(&mut rest)).await;
    drop(ended.expect("an end in time"));
    assert_eq!(rest, b"", "nothing follows a Close");
    frames(&heard)
}

/// What was said arrives whole, from the first on, and then the Close.
fn check(heard: &[Frame]) {
    let (last, before) = heard.split_last().expect("a Close at least");
    assert!(goes_away(last), "{last:?}");
    for (number, (first, payload)) in (0_u32..).zip(before) {
        assert_eq!(*first, 0x82);
        let expected = number.to_be_bytes().repeat(1 + number as usize % 100);
        assert!(*payload == expected, "frame {number}: {payload:?}");
    }
    assert!(before.len() > 1, "they have talked: {}", before.len());
}

#[tokio::test]
async fn a_stop_ends_every_conversation_between_two_frames_and_within_its_time() {
    const TUNNELS: usize = 20;
    let backend = Backend::start().await;
    let config = config_with_drain(&backend.url(), "1s", "tunnel_idle_timeout = \"1m\"");
    let mut gateway = Gateway::with_config(&config).await;
    let mut conversations = Vec::new();
    for _ in 0..TUNNELS {
        let mut client = TcpStream::connect(gateway.address())
            .await
            .expect("a connection");
        client
            .write_all(offer("/chat").as_bytes())
            .await
            .expect("room");
        let (mut origin, _) = backend.listener.accept().await.expect("a connection");
        take_head(&mut origin).await;
        origin.write_all(SWITCH.as_bytes()).await.expect("room");
        take_head(&mut client).await;
        conversations.push(tokio::spawn(converse(client, MASK)));
        conversations.push(tokio::spawn(converse(origin, None)));
    }
    gateway.signal("TERM");
    for conversation in conversations {
        check(&conversation.await.expect("a conversation"));
    }
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[tokio::test]
async fn who_answers_its_close_is_let_go_at_once() {
    let (backend, mut gateway, mut client) = draining("30s").await;
    let mut line = super::open(&mut client, &backend).await;
    client.send(frame_of(0x88, b"\x03\xe8", Some([0; 4]))).await;
    assert_eq!(line.socket.take(8, "a Close").await[0], 0x88);
    line.socket.send(frame_of(0x88, b"\x03\xe8", None)).await;
    assert_eq!(client.take(4, "a Close").await, b"\x88\x02\x03\xe8");
    line.socket.finish_sending().await;
    client.finish_sending().await;
    assert_eq!(line.closed().await, b"");
    gateway.signal("TERM");
    let stopping = timeout(Duration::from_secs(8), gateway.ended()).await;
    assert_eq!(stopping.expect("nothing is waited for").code, Some(0));
}

#[tokio::test]
async fn a_reload_that_removes_the_proxy_ends_its_tunnels_and_no_other_does() {
    let backend = Backend::start().await;
    let config = config_with_drain(&backend.url(), "500ms", "");
    let gateway = Gateway::with_config(&config).await;
    let mut client = gateway.connect().await;
    let mut line = super::open(&mut client, &backend).await;
    // Other settings: it goes on as it began.
    let changed = format!("{config}tunnel_idle_timeout = \"9m\"\n");
    gateway.reload(&changed, "applied").await;
    client.send("goes on").await;
    assert_eq!(line.socket.take(7, "what was said").await, b"goes on");
    let removed = changed.replace("[proxies.web]", "[proxies.wob]");
    // It is at a boundary: those were no frames, but the header of one and its five bytes.
    gateway.reload(&removed, "applied").await;
    line.socket.send(frame(b"whole", None)).await;
    let mut heard = client.take(7, "a frame").await;
    heard.extend(client.rest().await.0);
    let heard = frames(&heard);
    assert_eq!(heard[0].1, b"whole");
    assert!(heard.len() == 2 && goes_away(&heard[1]), "{heard:?}");
    line.closed().await;
    // Its successor in the same place takes tunnels.
    let mut client = gateway.connect().await;
    super::open(&mut client, &backend).await;
}

#[tokio::test]
async fn a_stop_in_less_time_than_a_removal_was_to_take_says_goodbye_too() {
    let backend = Backend::start().await;
    let config = config_with_drain(&backend.url(), "10m", "");
    let mut gateway = Gateway::with_config(&config).await;
    let mut client = gateway.connect().await;
    let mut line = super::open(&mut client, &backend).await;
    let removed = config.replace("[proxies.web]", "[proxies.wob]");
    gateway.reload(&removed, "applied").await;
    let sooner = removed.replace("10m", "500ms");
    gateway.reload(&sooner, "applied").await;
    gateway.signal("TERM");
    let heard = frames(&client.rest().await.0);
    assert!(heard.len() == 1 && goes_away(&heard[0]), "{heard:?}");
    let heard = frames(&line.closed().await);
    assert!(heard.len() == 1 && goes_away(&heard[0]), "{heard:?}");
    assert_eq!(gateway.ended().await.code, Some(0));
}

#[tokio::test]
async fn no_tunnel_begins_while_the_gateway_stops() {
    let (backend, mut gateway, mut client) = draining("1s").await;
    let mut other = gateway.connect().await;
    let line = super::open(&mut other, &backend).await;
    // The request begins before the stop, and ends after it.
    let offer = offer("/chat");
    let (begin, end) = offer.split_at(20);
    client.send(begin).await;
    gateway.signal("TERM");
    until_true("a stop", async || gateway.log().contains("stopping")).await;
    if client.try_send(end).await.is_ok() {
        let (answer, _) = client.rest().await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 503"),
            "{answer}"
        );
    }
    drop((line, other));
    assert_eq!(gateway.ended().await.code, Some(0));
}
