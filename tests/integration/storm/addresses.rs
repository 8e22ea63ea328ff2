//! One place may have so many connections and no more.

use super::{Received, Ticking, come, come_from, config, count_through_end};
use crate::support::{Admin, Connector, Gateway, Http2, Origin};

const SHOWN: &str = "ssecast_tracked_addresses{of=\"address\"}";

#[tokio::test]
async fn an_address_has_its_share_and_others_have_theirs() {
    let origin = Origin::start().await;
    let server = "max_connections_per_address = 2";
    let gateway = Gateway::with_config(&config(&origin, server, "")).await;
    let admin = Admin::of(&gateway).await;
    let mut subs = Vec::new();
    for last in [2, 3] {
        for _ in 0..2 {
            let (received, sub) = come_from(&gateway, [0, 0, last]).await;
            assert_eq!(received, Received::In);
            subs.extend(sub);
        }
        for _ in 0..5 {
            let (received, _) = come_from(&gateway, [0, 0, last]).await;
            assert!(matches!(received, Received::Refused(_)), "{received:?}");
        }
    }
    admin.until(&[(SHOWN, 2.0)]).await;
    gateway
        .logged(
            1,
            &[
                "refused a connection",
                "127.0.0.2",
                "max-connections-per-address",
            ],
        )
        .await;
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
    // A place that is given back can be had, and who has left is forgotten.
    subs.clear();
    admin.until(&[(SHOWN, 0.0)]).await;
    gateway
        .logged(4, &["a subscriber left", "client=127.0.0."])
        .await;
    assert_eq!(come_from(&gateway, [0, 0, 2]).await.0, Received::In);
}

#[tokio::test]
async fn a_network_has_its_share_however_many_addresses_it_has() {
    let origin = Origin::start().await;
    let server = "max_connections_per_network = { max = 3, ipv4 = 24 }";
    let gateway = Gateway::with_config(&config(&origin, server, "")).await;
    let mut subs = Vec::new();
    for last in 1..=3 {
        let (received, sub) = come_from(&gateway, [0, 7, last]).await;
        assert_eq!(received, Received::In);
        subs.extend(sub);
    }
    for last in 1..=5 {
        let (received, _) = come_from(&gateway, [0, 7, last]).await;
        assert!(matches!(received, Received::Refused(_)), "{received:?}");
    }
    let (received, other) = come_from(&gateway, [0, 8, 1]).await;
    assert_eq!(received, Received::In);
    subs.extend(other);
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn a_connection_of_http_2_is_one_whatever_its_streams_are() {
    let origin = Origin::start().await;
    let server = "max_connections_per_address = 1";
    let gateway = Gateway::with_config(&config(&origin, server, "")).await;
    let client = Http2::connect(&gateway).await;
    let mut subs = Vec::new();
    for _ in 0..10 {
        subs.push(client.subscribe().await);
    }
    let (received, _) = come(gateway.connect().await).await;
    assert!(matches!(received, Received::Refused(_)), "{received:?}");
    origin.send("data: a\n\n").await;
    for sub in &mut subs {
        sub.expect_event("a").await;
    }
}

#[tokio::test]
async fn a_limit_that_a_reload_brings_binds_newcomers_only() {
    let origin = std::sync::Arc::new(Origin::start().await);
    let gateway = Gateway::with_config(&config(&origin, "", "")).await;
    let mut standing = Vec::new();
    for _ in 0..5 {
        standing.push(gateway.subscribe().await);
    }
    let ticking = Ticking::begin(&origin);
    let limited = config(&origin, "max_connections_per_address = 1", "");
    gateway.reload(&limited, "applied").await;
    // Those from before are not counted.
    let (received, sub) = come(gateway.connect().await).await;
    assert_eq!(received, Received::In);
    standing.extend(sub);
    let (received, _) = come(gateway.connect().await).await;
    assert!(matches!(received, Received::Refused(_)), "{received:?}");
    gateway.reload(&config(&origin, "", ""), "applied").await;
    let (received, sub) = come(gateway.connect().await).await;
    assert_eq!(received, Received::In);
    standing.extend(sub);
    ticking.end().await;
    origin.send("data: end\n\n").await;
    for sub in &mut standing {
        count_through_end(sub).await;
    }
}

#[tokio::test]
async fn thousands_of_addresses_that_come_and_go_leave_nothing_behind() {
    let origin = Origin::start().await;
    let server = "max_connections_per_address = 1\n\
                  max_connections_per_network = { max = 300, ipv4 = 24 }";
    let gateway = Gateway::with_config(&config(&origin, server, "")).await;
    let admin = Admin::of(&gateway).await;
    for round in 0..2 {
        let mut subs = Vec::new();
        for n in 0..1000_u16 {
            let [high, low] = n.to_be_bytes();
            let client = Connector::default().from([1, high, low]).resetting();
            let mut client = client.connect(&gateway).await;
            client.send(super::REQUEST).await;
            subs.push(client);
        }
        let (all, none) = ((SHOWN, 1000.0), (SHOWN, 0.0));
        let networks = "ssecast_tracked_addresses{of=\"network\"}";
        admin.until(&[all, (networks, 4.0)]).await;
        drop(subs);
        admin.until(&[none, (networks, 0.0)]).await;
        assert!(round < 2);
    }
}
