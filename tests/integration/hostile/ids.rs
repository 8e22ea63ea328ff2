//! Whatever a client says that it has seen last.

use super::assert_sound;
use crate::support::{Event, Gateway, Origin};

/// Ids that nobody gave. `%EPOCH%` stands for what ours begin with.
fn hostile() -> Vec<Vec<u8>> {
    let mut ids: Vec<Vec<u8>> = [
        "%EPOCH%-0",
        "%EPOCH%-4",
        "%EPOCH%-01",
        "%EPOCH%-+1",
        "%EPOCH%--1",
        "%EPOCH%- 1",
        "%EPOCH%-1.0",
        "%EPOCH%-1e0",
        "%EPOCH%-",
        "%EPOCH%",
        "-1",
        "0-1",
        "%EPOCH%-18446744073709551615",
        "%EPOCH%-18446744073709551616",
        "%EPOCH%-340282366920938463463374607431768211456",
        "%epoch%-1",
        "1,%EPOCH%-1",
        "\"%EPOCH%-1\"",
        "-",
        "99999999999999999999999999",
        "18446744073709551616",
        "nan",
        "%00",
        "%0d%0adata:%20injected",
        "%",
        "%zz",
        "../../etc/passwd",
        "event: x",
        "{\"reason\":\"unknown\"}",
        "<script>",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    ids.push(b"\xff\xfe\x80".to_vec());
    ids.push("\u{1f4a1}\u{202e}".as_bytes().to_vec());
    ids.push(vec![b'1'; 8_000]);
    ids.push(vec![0xc3; 5_000]);
    ids
}

/// A stream of three events, and what their ids of ours begin with.
async fn world() -> (Origin, Gateway, String) {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin).await;
    let mut sub = gateway.subscribe().await;
    origin.send("data: a\n\ndata: b\n\ndata: c\n\n").await;
    let events = sub.events_through("c").await;
    let id = events[0].id.clone().expect("an id");
    let (epoch, _) = id.split_once('-').expect("one of ours");
    (origin, gateway, epoch.to_owned())
}

/// Asserts that a client with this request was told that its id is not known, and got all there is.
async fn assert_told(gateway: &Gateway, request: Vec<u8>, what: &str) {
    let mut client = gateway.connect().await;
    client.send(request).await;
    let mut sub = client.into_subscriber().await;
    let reset = sub.next_event().await;
    assert_eq!(reset.event_type, "ssecast.reset", "{what}: {reset:?}");
    assert_eq!(
        reset.data, "{\"reason\":\"unknown\",\"replay\":\"all\"}",
        "{what}"
    );
    assert_eq!(reset.id, None, "a notice moves no cursor");
    let data: Vec<Event> = sub.events_through("c").await;
    let data: Vec<&str> = data.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(data, ["a", "b", "c"], "{what}");
}

#[tokio::test]
async fn an_id_that_nobody_gave_is_told_and_gives_the_whole_history() {
    let (origin, mut gateway, epoch) = world().await;
    let mut standing = gateway.subscribe().await;
    for id in hostile() {
        let text = String::from_utf8_lossy(&id).into_owned();
        let id = if text.contains("%EPOCH%") {
            text.replace("%EPOCH%", &epoch).into_bytes()
        } else {
            id
        };
        let what: String = text.chars().take(40).collect();
        let field = [
            b"GET /events HTTP/1.1\r\nHost: a\r\nLast-Event-ID: ",
            &*id,
            b"\r\n\r\n",
        ];
        assert_told(&gateway, field.concat(), &format!("field {what:?}")).await;
        let encoded: String = id.iter().map(|byte| format!("%{byte:02x}")).collect();
        // What a query may be as long as is told elsewhere.
        if encoded.len() < 8_000 {
            let query =
                format!("GET /events?x=1&lastEventId={encoded} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_told(&gateway, query.into_bytes(), &format!("query {what:?}")).await;
        }
    }
    origin.send("data: d\n\n").await;
    standing.expect_event("d").await;
    assert_sound(&mut gateway);
}

#[tokio::test]
async fn of_several_ids_in_a_request_one_counts() {
    let (_origin, gateway, epoch) = world().await;
    let request = |target: &str, fields: &str| {
        format!("GET /events{target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
    };
    for (target, fields, expected) in [
        ("?last_event_id=%E-1", "Last-Event-ID: %E-2\r\n", "c"),
        ("?lastEventId=%E-2&last_event_id=%E-1", "", "c"),
        ("?lastEventId=&lastEventId=%E-1", "", "b"),
        ("?lastEventId=%E-1", "Last-Event-ID:\r\n", "b"),
        ("?%6castEventId=%E-1", "", "b"),
    ] {
        let fill = |text: &str| text.replace("%E", &epoch);
        let mut client = gateway.connect().await;
        client.send(request(&fill(target), &fill(fields))).await;
        let mut sub = client.into_subscriber().await;
        let event = sub.next_event().await;
        assert_eq!(event.data, expected, "{target} {fields}");
    }
}

/// What looks like ours but is the origin's is the origin's; what is both is nobody's.
#[tokio::test]
async fn an_origin_that_gives_an_id_of_ours_makes_it_unknown_and_not_a_guess() {
    let (origin, gateway, epoch) = world().await;
    let mut standing = gateway.subscribe().await;
    origin
        .send(format!(
            "id: {epoch}-1\ndata: d\n\nid: {epoch}x-1\ndata: e\n\n"
        ))
        .await;
    origin.send("data: f\n\n").await;
    standing.events_through("f").await;
    let mut sub = gateway.resume_after(&format!("{epoch}x-1")).await;
    sub.expect_event("f").await;
    let mut sub = gateway.resume_after(&format!("{epoch}-1")).await;
    assert_eq!(sub.next_event().await.event_type, "ssecast.reset");
    let data: Vec<String> = sub
        .events_through("f")
        .await
        .into_iter()
        .map(|event| event.data)
        .collect();
    assert_eq!(data, ["a", "b", "c", "d", "e", "f"]);
}
