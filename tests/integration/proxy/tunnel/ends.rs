//! How tunnels end, and what is heard until then.

use std::time::Duration;

use super::{frame_of, frames, goes_away, tunnel};
use crate::proxy::one_proxy;
use crate::support::{Connector, End, Gateway, Pair, trusting_config, until};

/// After so long without a byte both ways are full.
const STALL: Duration = Duration::from_millis(700);

#[tokio::test]
async fn who_has_ended_still_hears() {
    for is_clients_end in [true, false] {
        let (_backend, _gateway, mut client, mut line) = tunnel("").await;
        let (first, second) = if is_clients_end {
            (&mut client, &mut line.socket)
        } else {
            (&mut line.socket, &mut client)
        };
        first.send("the last of the first").await;
        first.finish_sending().await;
        let heard = second.rest().await;
        assert_eq!(heard, (b"the last of the first".to_vec(), End::Cut));
        for _ in 0..10 {
            second.send("more").await;
            assert_eq!(first.take(4, "what was said").await, b"more");
        }
        second.finish_sending().await;
        assert_eq!(first.rest().await, (vec![], End::Cut));
    }
}

#[tokio::test]
async fn over_tls_who_has_ended_still_hears() {
    let pair = Pair::new(&["tunnel.test"]);
    let backend = super::Backend::start().await;
    let config = one_proxy(&backend.url(), "").replace(
        "\"127.0.0.1:0\"",
        &format!("\"127.0.0.1:0\"\ntls = {}", pair.table()),
    );
    let gateway = Gateway::with_config(&config).await;
    let config = trusting_config();
    let connecting =
        Connector::default().connect_over_tls(gateway.address(), "tunnel.test", &config);
    let (mut client, _) = connecting.await;
    let mut line = super::open(&mut client, &backend).await;
    line.socket.send("all of it").await;
    line.socket.finish_sending().await;
    assert_eq!(client.rest().await.0, b"all of it");
    assert!(!client.was_truncated);
    for _ in 0..10 {
        client.send("more").await;
        assert_eq!(line.socket.take(4, "what was said").await, b"more");
    }
    client.finish_sending().await;
    assert_eq!(line.closed().await, b"");
}

#[tokio::test]
async fn who_breaks_off_takes_the_other_side_with_it() {
    let (backend, gateway, client, mut line) = tunnel("").await;
    let with_one = gateway.n_descriptors();
    drop(client);
    line.closed().await;
    drop(line);
    let mut client = Connector::default().resetting().connect(&gateway).await;
    let mut line = super::open(&mut client, &backend).await;
    client.send("last words").await;
    assert_eq!(line.socket.take(10, "what was said").await, b"last words");
    drop(client);
    line.closed().await;
    let mut client = gateway.connect().await;
    drop(super::open(&mut client, &backend).await);
    client.rest().await;
    drop(client);
    until("their descriptors to be given back", || {
        match gateway.n_descriptors() {
            n if n + 2 <= with_one => Ok(()),
            n => Err(format!("{n} where one tunnel had made {with_one}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_nobody_uses_is_closed_politely() {
    let (_backend, _gateway, mut client, mut line) =
        tunnel("tunnel_idle_timeout = \"300ms\"").await;
    for _ in 0..10 {
        client
            .send(frame_of(0x89, b"ping", Some([1, 2, 3, 4])))
            .await;
        line.socket.take(10, "a ping").await;
        line.socket.send(frame_of(0x8a, b"ping", None)).await;
        client.take(6, "a pong").await;
    }
    let close = client.take(4, "a Close").await;
    assert_eq!(close[0], 0x88);
    client.put_back(&close);
    client.send(frame_of(0x88, b"\x03\xe9", Some([0; 4]))).await;
    let heard = frames(&client.rest().await.0);
    assert!(heard.len() == 1 && goes_away(&heard[0]), "{heard:?}");
    line.socket.send(frame_of(0x88, b"\x03\xe9", None)).await;
    let heard = frames(&line.closed().await);
    assert!(heard.len() == 1 && goes_away(&heard[0]), "{heard:?}");
}

#[tokio::test]
async fn who_breaks_off_ends_a_tunnel_whose_origin_takes_nothing() {
    let (backend, gateway, _, _) = tunnel("").await;
    let mut client = Connector::default()
        .receive_buffer(4096)
        .resetting()
        .connect(&gateway)
        .await;
    let mut line = super::open(&mut client, &backend).await;
    // Each says more than the other takes, so that nothing moves any more.
    let much = vec![b'x'; 64 << 20];
    let (clients, origins) = (much.clone(), much);
    let saying = tokio::spawn(async move {
        let said = tokio::time::timeout(STALL, client.try_send(clients)).await;
        assert!(said.is_err(), "the origin takes nothing");
        drop(client);
    });
    let said = tokio::time::timeout(crate::support::DEADLINE * 2, line.socket.try_send(origins));
    let said = said
        .await
        .expect("the tunnel ends when its client has gone");
    assert!(said.is_err());
    saying.await.expect("the client has gone");
}
