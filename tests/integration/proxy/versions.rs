//! HTTP/1.1 and HTTP/2, on either side.

use super::{answered, get, one_proxy, world};
use crate::support::{Gateway, Http2, Server, Speaks};

#[tokio::test]
async fn a_client_of_http2_asks_a_backend_of_http1() {
    let (backend, gateway, _) = world("").await;
    let connection = Http2::connect(&gateway).await;
    let asking = connection.ask("GET", "/x?y=z", &[]);
    let answering = async {
        let (mut line, asked) = backend.asked().await;
        assert_eq!(asked.line(), "GET /x?y=z HTTP/1.1");
        assert!(asked.field("host").is_some(), "{asked:?}");
        line.answer("hello").await;
    };
    let ((head, body), ()) = tokio::join!(asking, answering);
    assert_eq!((head.status, &*body), (200, "hello"));
}

#[tokio::test]
async fn a_backend_of_http2_is_asked_on_one_connection() {
    let server = Server::plain(Speaks::Http2).await;
    let url = format!("http://{}", server.address());
    let gateway = Gateway::with_config(&one_proxy(&url, "upstream_http = \"2\"")).await;
    let mut clients = Vec::new();
    for number in 1..=3 {
        let mut client = gateway.connect().await;
        client.send(get(&format!("/{number}"))).await;
        let stream = server.stream(number).await;
        assert_eq!(stream.request.uri().path(), format!("/{number}"));
        assert_eq!(
            stream.request.uri().authority().map(ToString::to_string),
            Some("a.example".to_owned())
        );
        client.head().await;
        stream.send(format!("{number}")).await;
        assert_eq!(client.chunk().await, Ok(number.to_string().into_bytes()));
        if let Some((_, first)) = clients.first() {
            assert!(stream.shares_connection(first));
        }
        clients.push((client, stream));
    }
    for (mut client, stream) in clients {
        stream.finish().await;
        assert_eq!(client.chunk().await, Err(crate::support::End::Clean));
    }
}

#[tokio::test]
async fn a_reset_upstream_cuts_the_client_and_nobody_else() {
    let server = Server::plain(Speaks::Http2).await;
    let url = format!("http://{}", server.address());
    let gateway = Gateway::with_config(&one_proxy(&url, "upstream_http = \"2\"")).await;
    let mut one = gateway.connect().await;
    one.send(get("/1")).await;
    let first = server.stream(1).await;
    let mut other = gateway.connect().await;
    other.send(get("/2")).await;
    let second = server.stream(2).await;
    for (client, stream) in [(&mut one, &first), (&mut other, &second)] {
        client.head().await;
        stream.send("a").await;
        assert_eq!(client.chunk().await, Ok(b"a".to_vec()));
    }
    first.fail().await;
    assert!(one.chunk().await.is_err());
    assert!(!one.rest().await.0.ends_with(b"0\r\n\r\n"));
    second.send("b").await;
    assert_eq!(other.chunk().await, Ok(b"b".to_vec()));
}

#[tokio::test]
async fn a_backend_of_http2_that_has_gone_is_connected_to_again() {
    let server = Server::plain(Speaks::Http2).await;
    let url = format!("http://{}", server.address());
    let gateway = Gateway::with_config(&one_proxy(&url, "upstream_http = \"2\"")).await;
    let mut client = gateway.connect().await;
    client.send(get("/1")).await;
    server.stream(1).await.finish().await;
    assert_eq!(answered(&mut client).await.0.status, 200);
    server.stream(1).await.cut();
    client.send(get("/2")).await;
    server.stream(2).await.finish().await;
    assert_eq!(answered(&mut client).await.0.status, 200);
}
