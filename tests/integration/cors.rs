//! What pages of other origins may read.

use crate::support::{Gateway, Head, Origin};

const LISTED: &str = "cors = { origins = [\"https://app.test\", \"http://localhost:5173\"] }";
const WITH_CREDENTIALS: &str = "cors = { origins = [\"https://app.test\"], credentials = true }";
const ANY: &str = "cors = { origins = \"*\" }";

async fn ask(gateway: &Gateway, method: &str, fields: &str) -> Head {
    let request = format!("{method} /events HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut client = gateway.connect().await;
    client.send(request).await;
    client.head().await
}

fn allowed(head: &Head) -> (Option<&str>, Option<&str>, Option<&str>) {
    (
        head.field("access-control-allow-origin"),
        head.field("access-control-allow-credentials"),
        head.field("vary"),
    )
}

#[tokio::test]
async fn a_listed_origin_may_read_and_another_may_not() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(LISTED, &origin).await;
    for method in ["GET", "HEAD"] {
        for page in ["https://app.test", "http://localhost:5173"] {
            let head = ask(&gateway, method, &format!("Origin: {page}\r\n")).await;
            assert_eq!(
                allowed(&head),
                (Some(page), None, Some("Origin, Accept")),
                "{}",
                head.text
            );
        }
        for page in [
            "Origin: https://evil.test\r\n",
            "Origin: https://app.test.evil.test\r\n",
            "Origin: http://app.test\r\n",
            "Origin: https://app.test:444\r\n",
            "Origin: null\r\n",
            "",
        ] {
            let head = ask(&gateway, method, page).await;
            assert_eq!(head.status, 200);
            assert_eq!(
                allowed(&head),
                (None, None, Some("Origin, Accept")),
                "{page}{}",
                head.text
            );
        }
    }
}

#[tokio::test]
async fn any_origin_may_read_where_the_channel_says_so() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(ANY, &origin).await;
    for page in ["Origin: https://app.test\r\n", "Origin: null\r\n", ""] {
        let head = ask(&gateway, "GET", page).await;
        assert_eq!(
            allowed(&head),
            (Some("*"), None, Some("Accept")),
            "{page}{}",
            head.text
        );
    }
}

#[tokio::test]
async fn credentials_are_allowed_to_listed_origins_only() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(WITH_CREDENTIALS, &origin).await;
    let head = ask(&gateway, "GET", "Origin: https://app.test\r\n").await;
    assert_eq!(
        allowed(&head),
        (
            Some("https://app.test"),
            Some("true"),
            Some("Origin, Accept")
        )
    );
    let head = ask(&gateway, "GET", "Origin: https://evil.test\r\n").await;
    assert_eq!(
        allowed(&head),
        (None, None, Some("Origin, Accept")),
        "{}",
        head.text
    );
}

#[tokio::test]
async fn without_cors_no_page_of_another_origin_may_read() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    for method in ["GET", "OPTIONS"] {
        let head = ask(
            &gateway,
            method,
            "Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n",
        )
        .await;
        assert!(
            !head.text.to_lowercase().contains("access-control-"),
            "{}",
            head.text
        );
        let varies = (method == "GET").then_some("Accept");
        assert_eq!(head.field("vary"), varies, "{}", head.text);
    }
}

#[tokio::test]
async fn a_preflight_allows_what_subscribing_needs() {
    let origin = Origin::start().await;
    for keys in [LISTED, WITH_CREDENTIALS, ANY] {
        let gateway = Gateway::with(keys, &origin).await;
        let head = ask(
            &gateway,
            "OPTIONS",
            "Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: last-event-id\r\n",
        )
        .await;
        assert_eq!(head.status, 204, "{}", head.text);
        let page = if keys == ANY { "*" } else { "https://app.test" };
        assert_eq!(
            head.field("access-control-allow-origin"),
            Some(page),
            "{}",
            head.text
        );
        assert_eq!(
            head.field("access-control-allow-methods"),
            Some("GET, HEAD")
        );
        let fields = head
            .field("access-control-allow-headers")
            .expect("header fields");
        for field in ["Last-Event-ID", "Cache-Control"] {
            assert!(fields.contains(field), "{fields}");
        }
        assert!(
            head.field("access-control-max-age").is_some(),
            "{}",
            head.text
        );
        let credentials = (keys == WITH_CREDENTIALS).then_some("true");
        assert_eq!(head.field("access-control-allow-credentials"), credentials);
    }
}

#[tokio::test]
async fn a_preflight_of_an_unlisted_origin_allows_nothing() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(LISTED, &origin).await;
    let head = ask(
        &gateway,
        "OPTIONS",
        "Origin: https://evil.test\r\nAccess-Control-Request-Method: GET\r\n",
    )
    .await;
    assert_eq!(
        (head.status, allowed(&head)),
        (204, (None, None, Some("Origin")))
    );
    assert!(
        !head.text.to_lowercase().contains("access-control-"),
        "{}",
        head.text
    );
}

#[tokio::test]
async fn a_page_can_read_why_it_got_no_stream() {
    let origin = Origin::start().await;
    let gateway = Gateway::with(&format!("{LISTED}\nmax_subscribers = 1"), &origin).await;
    let _standing = gateway.subscribe().await;
    for (method, fields, status) in [
        ("POST", "", 405),
        ("GET", "Accept: text/html\r\n", 406),
        ("GET", "Content-Length: 1\r\n", 400),
        ("GET", "", 503),
        ("GET", "Accept: text/event-stream\r\n", 200),
    ] {
        let head = ask(
            &gateway,
            method,
            &format!("Origin: https://app.test\r\n{fields}"),
        )
        .await;
        assert_eq!(head.status, status, "{}", head.text);
        assert_eq!(
            allowed(&head),
            (Some("https://app.test"), None, Some("Origin, Accept")),
            "{}",
            head.text
        );
    }
}
