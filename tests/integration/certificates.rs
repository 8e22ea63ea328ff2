//! Certificates: which one a client sees, what is said of those that can't be used, and how they are
//! replaced.

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{
    Connector, Gateway, Origin, Pair, client_config, table, trusting_config, within,
};

/// The host of most tests.
const HOST: &str = "gateway.test";

/// The configuration of a listener with this value of `tls`, and a channel at `/events`.
fn secure(tls: &str, origin: &Origin) -> String {
    format!(
        "[listen.secure]\naddress = \"127.0.0.1:0\"\ntls = {tls}\n\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{}\"\n",
        origin.url()
    )
}

#[tokio::test]
async fn the_certificate_is_chosen_by_name_and_the_first_is_the_default() {
    let origin = Origin::start().await;
    let pairs = [
        Pair::new(&["first.test"]),
        Pair::new(&["second.test", "third.test"]),
        Pair::new(&["*.wild.test"]),
    ];
    let tables: Vec<String> = pairs.iter().map(Pair::table).collect();
    let tls = format!("[{}]", tables.join(", "));
    let gateway = Gateway::with_config(&secure(&tls, &origin)).await;
    let all: Vec<&Pair> = pairs.iter().collect();
    for (host, index) in [
        ("first.test", 0),
        ("second.test", 1),
        ("THIRD.test", 1),
        ("a.wild.test", 2),
    ] {
        let connector = Connector::default();
        let config = client_config(&all, &[]);
        let connecting = connector.connect_over_tls(gateway.address(), host, &config);
        let (_, facts) = connecting.await;
        assert_eq!(facts.certificate, pairs[index].certificate, "{host}");
    }
    // Those for whom there is none get the first, and say so.
    for host in ["other.test", "wild.test", "a.b.wild.test", "127.0.0.1"] {
        let connector = Connector::default();
        let config = client_config(&all, &[]);
        let connecting = connector.try_connect_over_tls(gateway.address(), host, &config);
        let Err(error) = connecting.await else {
            panic!("{host} has no certificate");
        };
        assert!(error.to_string().contains("first.test"), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_that_can_not_be_used_is_said_to_be_so_at_the_start() {
    let origin = Origin::start().await;
    let (pair, other) = (Pair::new(&[HOST]), Pair::new(&[HOST]));
    let nothing = pair.certificate_file().with_file_name("nothing.pem");
    for (tls, said) in [
        (table(&nothing, &pair.key_file()), "No such file"),
        (
            table(&pair.key_file(), &pair.key_file()),
            "there is no certificate in it",
        ),
        (
            table(&pair.certificate_file(), &pair.certificate_file()),
            "there is no private key in it",
        ),
        (
            table(&pair.certificate_file(), &other.key_file()),
            "the key is not that of the certificate",
        ),
    ] {
        let ended = Gateway::fail_to_start(&secure(&tls, &origin)).await;
        assert_eq!(ended.code, Some(1));
        let is_said = ended.log.contains(said) && ended.log.contains("listener `secure`");
        assert!(is_said, "{said}: {}", ended.log);
    }
}

#[tokio::test]
async fn check_looks_at_certificates() {
    let origin = Origin::start().await;
    let (pair, expired) = (Pair::new(&[HOST]), Pair::expired(&[HOST]));
    let check = |tls: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("ssecast.toml");
        std::fs::write(&file, secure(tls, &origin)).expect("a file");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ssecast"));
        let output = command.arg("check").arg(&file).output();
        let output = output.expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    let (is_fine, said) = check(&pair.table());
    assert!(is_fine && !said.contains("certificate"), "{said}");
    let (is_fine, said) = check(&expired.table());
    assert!(
        is_fine && said.contains("warning") && said.contains("has expired"),
        "{said}"
    );
    // All that is wrong is told at once.
    let mismatch = table(&pair.certificate_file(), &expired.key_file());
    let (is_fine, said) = check(&format!("[{mismatch}]"));
    assert!(
        !is_fine && said.contains("not that of the certificate"),
        "{said}"
    );
    assert!(
        said.contains("error: can't speak TLS (listener `secure`)"),
        "{said}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_warned_of() {
    let origin = Origin::start().await;
    let expired = Pair::expired(&[HOST]);
    let gateway = Gateway::with_config(&secure(&expired.table(), &origin)).await;
    let line = &gateway.logged(1, &["WARN", "has expired"]).await[0];
    assert!(line.contains("Tue, 01 Jan 2002"), "{line}");
}

#[tokio::test]
async fn a_development_certificate_needs_no_file() {
    let origin = Origin::start().await;
    let url = origin.url();
    let arguments = [
        "--upstream",
        &url,
        "--listen",
        "127.0.0.1:0",
        "--tls-self-signed",
    ];
    let gateway = Gateway::without_file(&arguments).await;
    let (_, port) = gateway.address().rsplit_once(':').expect("a port");
    let url = format!("url=\"https://localhost:{port}/events\"");
    gateway.logged(1, &["development certificate", &url]).await;
    // Who is told to trust it finds its own names in it.
    let connector = Connector::default();
    let trusting = trusting_config();
    let connecting = connector.connect_over_tls(gateway.address(), HOST, &trusting);
    let certificate = connecting.await.1.certificate;
    let mut pair = Pair::new(&[]);
    pair.certificate = certificate;
    let config = client_config(&[&pair], &[]);
    for host in ["localhost", "127.0.0.1", "::1"] {
        let connector = Connector::default();
        let connecting = connector.connect_over_tls(gateway.address(), host, &config);
        let (client, _) = connecting.await;
        let mut sub = client.subscribe("/events", "").await;
        origin.send("data: a\n\n").await;
        sub.expect_event("a").await;
    }
}

/// The clients of a test that shake hands again and again.
const N_WORKERS: usize = 4;

/// What each of them has seen so far, in order.
type Seen = watch::Sender<[Vec<CertificateDer<'static>>; N_WORKERS]>;

/// Shakes hands again and again, until it is told to stop.
async fn shake_hands_for_ever(worker: usize, address: String, seen: Seen) {
    let config = trusting_config();
    loop {
        let connector = Connector::default();
        let (mut client, facts) = connector.connect_over_tls(&address, HOST, &config).await;
        let request = format!("GET /nothing HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        assert_eq!(client.ask(&request).await.0.status, 404);
        seen.send_modify(|seen| seen[worker].push(facts.certificate));
    }
}

/// What is seen by handshakes that begin from now on: some of each client.
async fn seen_from_now_on(seen: &Seen) -> Vec<CertificateDer<'static>> {
    let mut watching = seen.subscribe();
    // The one that is under way began before.
    let from = watching
        .borrow_and_update()
        .each_ref()
        .map(|seen| seen.len() + 1);
    let waiting = watching.wait_for(|seen| {
        let mut ends = seen.iter().zip(from);
        ends.all(|(seen, from)| seen.len() >= from + 3)
    });
    let waited = within("handshakes", waiting, || "too few".to_owned()).await;
    let seen = waited.expect("clients that go on");
    let seen = seen.iter().zip(from);
    seen.flat_map(|(seen, from)| seen[from..].to_vec())
        .collect()
}

#[tokio::test]
async fn a_new_pair_is_shown_to_new_clients_under_load_and_a_broken_one_is_not() {
    let origin = Origin::start().await;
    let mut pair = Pair::new(&[HOST]);
    let first = pair.certificate.clone();
    let gateway = Gateway::with_config(&secure(&pair.table(), &origin)).await;
    let seen = Seen::default();
    let mut workers = JoinSet::new();
    for worker in 0..N_WORKERS {
        let address = gateway.address().to_owned();
        workers.spawn(shake_hands_for_ever(worker, address, seen.clone()));
    }
    let connector = Connector::default();
    let config = client_config(&[&pair], &[]);
    let connecting = connector.connect_over_tls(gateway.address(), HOST, &config);
    let mut sub = connecting.await.0.subscribe("/events", "").await;
    let before = seen_from_now_on(&seen).await;
    assert!(before.iter().all(|one| *one == first));

    // By the watcher alone.
    pair.renew(&[HOST]);
    let second = pair.certificate.clone();
    gateway.logged(2, &["loaded a certificate"]).await;
    let after = seen_from_now_on(&seen).await;
    assert!(after.iter().all(|one| *one == second));

    // A pair that can't be used, and somebody who insists.
    std::fs::write(pair.key_file(), "nonsense").expect("a file");
    gateway.signal("HUP");
    gateway.logged(1, &["WARN", "keeping the old"]).await;
    let later = seen_from_now_on(&seen).await;
    assert!(later.iter().all(|one| *one == second));

    // Those who are there never noticed, and no handshake failed.
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    assert!(workers.try_join_next().is_none(), "all go on");
    workers.shutdown().await;
}
