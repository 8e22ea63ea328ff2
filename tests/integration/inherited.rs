//! Sockets that the gateway was started with, as systemd passes them.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use crate::support::{Connector, End, Gateway, Origin};

fn config(address: &str, origin: &Origin) -> String {
    let upstream = origin.url();
    format!(
        "[server]\ndrain = \"0s\"\n\n[listen.public]\naddress = {address}\n\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{upstream}\"\n"
    )
}

/// A listening socket of the test, and where it is.
fn listening() -> (OwnedFd, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address").to_string();
    (listener.into(), address)
}

#[tokio::test]
async fn all_inherited_sockets_of_a_name_are_served() {
    let origin = Origin::start().await;
    let directory = tempfile::tempdir().expect("a directory for a socket");
    let path = directory.path().join("http.sock");
    let (tcp, address) = listening();
    let unix: OwnedFd = UnixListener::bind(&path).expect("a socket").into();
    let mut gateway = Gateway::with_sockets(
        &config("\"systemd:http\"", &origin),
        vec![("http", tcp), ("http", unix)],
    )
    .await;
    assert_eq!(gateway.addresses(), ["systemd:http"]);
    let connector = Connector::default();
    let unix = format!("unix:{}", path.display());
    let over_tcp = connector.connect_to(&address).await;
    let over_unix = connector.connect_to(&unix).await;
    let mut over_tcp = over_tcp.subscribe("/events", "").await;
    let mut over_unix = over_unix.subscribe("/events", "").await;
    origin.send("data: a\n\n").await;
    over_tcp.expect_event("a").await;
    over_unix.expect_event("a").await;

    gateway.signal("TERM");
    assert_eq!(over_tcp.expect_end().await, End::Cut);
    assert_eq!(gateway.ended().await.code, Some(0));
    assert!(path.exists(), "who has made the socket removes its file");
}

#[tokio::test]
async fn a_restart_with_an_inherited_socket_refuses_no_connection() {
    let origin = Origin::start().await;
    let (socket, address) = listening();
    let config = config("\"systemd:http\"", &origin);
    let copy = || socket.try_clone().expect("a copy of the socket");
    let mut gateway = Gateway::with_sockets(&config, vec![("http", copy())]).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code, Some(0));

    let early = Connector::default().connect_to(&address).await;
    let asking = tokio::spawn(async move { early.subscribe("/events", "").await });
    let _gateway = Gateway::with_sockets(&config, vec![("http", copy())]).await;
    let mut sub = asking.await.expect("a subscriber");
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn a_missing_name_is_refused_with_those_that_are_there() {
    let origin = Origin::start().await;
    let (http, _) = listening();
    let (https, _) = listening();
    let ended = Gateway::fail_to_start_with_sockets(
        &config("\"systemd:web\"", &origin),
        vec![("http", http), ("https", https)],
    )
    .await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("listener `public`") && ended.log.contains("`http`, `https`"),
        "{}",
        ended.log
    );
}

#[tokio::test]
async fn an_inherited_socket_that_cannot_accept_is_refused() {
    let origin = Origin::start().await;
    let udp: OwnedFd = UdpSocket::bind("127.0.0.1:0").expect("a socket").into();
    let ended = Gateway::fail_to_start_with_sockets(
        &config("\"systemd:http\"", &origin),
        vec![("http", udp)],
    )
    .await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains("ListenStream="), "{}", ended.log);
}

#[tokio::test]
async fn without_inherited_sockets_their_names_are_refused() {
    let origin = Origin::start().await;
    let ended = Gateway::fail_to_start(&config("\"systemd:http\"", &origin)).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(
        ended.log.contains("started without sockets"),
        "{}",
        ended.log
    );
}
