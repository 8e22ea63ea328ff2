//! Fields that come after a content, both ways: what changes nothing goes on.

use super::smuggling::World;
use super::{get, world};
use crate::support::{End, Http2};

#[tokio::test]
async fn trailers_go_on_if_they_change_nothing() {
    let world = World::with("upstream_headers = { X-Gateway = \"it\" }\n").await;
    let request = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\
                   Trailer: X-Sum, Content-Length, Host, X-Forwarded-For, X-Gateway, x_gateway\r\n\
                   TE: trailers\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\nContent-Length: 40\r\n\
                   Transfer-Encoding: gzip\r\nHost: evil.example\r\nX-Forwarded-For: 6.6.6.6\r\n\
                   Authorization: Bearer evil\r\nX-Gateway: evil\r\nX_Gateway: evil\r\n\
                   Connection: keep-alive\r\n\r\n";
    let seen = world.passes(request.as_bytes()).await;
    assert_eq!(
        (&seen.content[..], &seen.trailers[..]),
        (&b"hello"[..], &["x-sum: 7".to_owned()][..])
    );
    assert_eq!(seen.fields("trailer"), ["X-Sum"]);
    assert_eq!(
        (seen.fields("te"), seen.fields("connection")),
        (vec!["trailers"], vec!["te"])
    );
}

#[tokio::test]
async fn trailers_of_an_answer_go_on_if_they_change_nothing() {
    let (backend, gateway, mut client) = world("").await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                  Trailer: X-Sum, Content-Length, Set-Cookie, Connection\r\n\r\n5\r\nhello\r\n0\r\n\
                  X-Sum: 7\r\nContent-Length: 40\r\nTransfer-Encoding: gzip\r\nSet-Cookie: a=1\r\n\
                  Connection: close\r\n\r\n";
    client
        .send(get("/x").replace(
            "\r\n\r\n",
            "\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n",
        ))
        .await;
    let (mut line, _) = backend.asked().await;
    line.socket.send(answer).await;
    let head = client.head().await;
    assert_eq!(head.field("trailer"), Some("X-Sum"));
    let (rest, end) = client.rest().await;
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert_eq!(
        (&*rest, end),
        ("5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n", End::Cut)
    );
    // Over HTTP/2, nothing of the upstream's connection.
    let client = Http2::connect(&gateway).await;
    let asking = async {
        let (head, body) = client.ask("GET", "/y", &[("te", "trailers")]).await;
        assert_eq!((head.status, &*body), (200, "hello"));
        assert_eq!(head.field("transfer-encoding"), None, "{}", head.text);
    };
    let answering = async {
        assert_eq!(line.asked().await.line(), "GET /y HTTP/1.1");
        line.socket.send(answer).await;
    };
    tokio::join!(asking, answering);
}
