//! Listeners that come, go and change.

use std::net::TcpListener;

use crate::reload::{config, status, subscribe};
use crate::support::{Connector, Gateway, Origin, Pair, client_config, field, until};

fn with_listener(name: &str, lines: &str, config: &str) -> String {
    format!("[listen.{name}]\n{lines}\n\n{config}")
}

/// Where the gateway says that this listener listens, in lines that it has logged.
fn address_of(name: &str, log: &str) -> String {
    let is_it = |line: &&str| {
        line.contains(" listening ") && field(line, "listener") == Some(&format!("\"{name}\""))
    };
    let line = log.lines().find(is_it);
    let line = line.unwrap_or_else(|| panic!("no listener {name} in:\n{log}"));
    field(line, "address").expect("an address").to_owned()
}

#[tokio::test]
async fn listeners_come_and_go_and_connections_stay() {
    let origin = Origin::start().await;
    let plain = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&plain).await;
    let two = with_listener("second", "address = \"127.0.0.1:0\"", &plain);
    let log = gateway.reload(&two, "applied").await;
    let second = address_of("second", &log);
    let mut sub = Connector::default()
        .connect_to(&second)
        .await
        .subscribe("/a", "")
        .await;
    let mut idle = Connector::default().connect_to(&second).await;
    let (head, _) = idle.ask("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(head.status, 200);
    gateway.reload(&plain, "applied").await;
    let refused = tokio::net::TcpStream::connect(&second).await;
    assert!(refused.is_err(), "nobody listens there");
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    let (head, _) = idle.ask("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(head.status, 200, "a connection that was accepted goes on");
    // The first one was never closed.
    assert_eq!(status(&gateway, "/a").await, 200);
}

#[tokio::test]
async fn an_address_that_can_not_be_had_changes_nothing() {
    let origin = Origin::start().await;
    let plain = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&plain).await;
    let mut sub = subscribe(&gateway, "a").await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken
        .local_addr()
        .map(|address| (taken, address))
        .expect("an address");
    let wrong = with_listener(
        "second",
        &format!("address = [\"127.0.0.1:0\", \"{}\"]", taken.1),
        &plain,
    );
    let wrong = wrong + "[channels.new]\npath = \"/new\"\nupstream = \"http://127.0.0.1:1/\"\n";
    origin.stream().await;
    let before = gateway.n_descriptors();
    let log = gateway.reload(&wrong, "rejected").await;
    assert!(log.contains("another process listens there"), "{log}");
    assert_eq!(status(&gateway, "/new").await, 404);
    until("what was bound to be given up", || {
        let now = gateway.n_descriptors();
        if now <= before {
            Ok(())
        } else {
            Err(format!("{now} descriptors, not {before}"))
        }
    })
    .await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn a_unix_socket_is_there_and_gone_and_there_again() {
    let origin = Origin::start().await;
    let plain = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&plain).await;
    let path = gateway.directory().join("http.sock");
    let unix = with_listener(
        "unix",
        &format!("address = \"unix:{}\"", path.display()),
        &plain,
    );
    for _ in 0..3 {
        gateway.reload(&unix, "applied").await;
        let address = format!("unix:{}", path.display());
        let mut sub = Connector::default()
            .connect_to(&address)
            .await
            .subscribe("/a", "")
            .await;
        origin.send("data: a\n\n").await;
        sub.events_through("a").await;
        gateway.reload(&plain, "applied").await;
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_listener_that_begins_to_speak_tls_keeps_its_socket_and_its_clients() {
    let origin = Origin::start().await;
    let pair = Pair::new(&["gateway.test"]);
    let plain = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&plain).await;
    let mut sub = subscribe(&gateway, "a").await;
    let address = "address = \"127.0.0.1:0\"";
    let secure = plain.replace(address, &format!("{address}\ntls = {}", pair.table()));
    gateway.reload(&secure, "applied").await;
    let config = client_config(&[&pair], &[]);
    let (client, _) = Connector::default()
        .connect_over_tls(gateway.address(), "gateway.test", &config)
        .await;
    let mut new = client.subscribe("/a", "").await;
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    new.expect_event("a").await;
    gateway.reload(&plain, "applied").await;
    assert_eq!(status(&gateway, "/a").await, 200, "in the clear again");
    origin.send("data: b\n\n").await;
    new.expect_event("b").await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_after_a_signal_and_after_a_change_of_its_file() {
    let origin = Origin::start().await;
    let (pair, second, third) = (
        Pair::new(&["gateway.test"]),
        Pair::new(&["gateway.test"]),
        Pair::new(&["gateway.test"]),
    );
    let plain = config(&[("a", &origin, "")]);
    let address = "address = \"127.0.0.1:0\"";
    let secure = plain.replace(address, &format!("{address}\ntls = {}", pair.table()));
    let gateway = Gateway::with_config(&secure).await;
    let trusting = client_config(&[&pair, &second, &third], &[]);
    let shown = async || {
        let connector = Connector::default();
        let (_, facts) = connector
            .connect_over_tls(gateway.address(), "gateway.test", &trusting)
            .await;
        facts.certificate
    };
    assert_eq!(shown().await, pair.certificate);
    let put = |from: &Pair| {
        for (from, to) in [
            (from.key_file(), pair.key_file()),
            (from.certificate_file(), pair.certificate_file()),
        ] {
            let new = to.with_extension("new");
            std::fs::copy(from, &new).expect("a copy");
            std::fs::rename(&new, to).expect("a renewed file");
        }
    };
    put(&second);
    gateway.signal("HUP");
    crate::support::until_true("the second certificate", async || {
        shown().await == second.certificate
    })
    .await;
    put(&third);
    crate::support::until_true("the third certificate", async || {
        shown().await == third.certificate
    })
    .await;
    std::fs::write(pair.key_file(), "no key").expect("a broken file");
    gateway.logged(1, &["keeping the old"]).await;
    assert_eq!(shown().await, third.certificate);
}

/// Who reads that another process is there looks for it in vain.
#[tokio::test]
async fn an_address_that_the_process_itself_has_is_said_to_be_its_own() {
    let origin = Origin::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.sock");
    let unix = format!("address = \"unix:{}\"", path.display());
    let plain = config(&[("a", &origin, "")]);
    let admin = format!("{plain}\n[admin]\n{unix}\n");
    let gateway = Gateway::with_config(&admin).await;
    let moved = with_listener("second", &unix, &plain);
    let log = gateway.reload(&moved, "rejected").await;
    let said = "(listener `second`) while this process listens on unix:";
    assert!(log.contains(said), "{log}");
    // By two reloads it can be had.
    gateway.reload(&plain, "applied").await;
    gateway.reload(&moved, "applied").await;
    let log = gateway.reload(&admin, "rejected").await;
    let said = "(`[admin] address`) while this process listens on unix:";
    assert!(log.contains(said), "{log}");
}
