use std::fs;
use std::io::{IoSlice, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use proptest::prelude::{ProptestConfig, any, prop};
use proptest::proptest;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::cipher::{AeadKey, Iv, OutboundPlainMessage};
use rustls::crypto::tls13::OkmBlock;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ContentType, KeyLog, ProtocolVersion, RootCertStore,
    SupportedProtocolVersion, Tls13CipherSuite,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use super::session::Session;
use super::*;
use crate::config::CertificateFiles;
use crate::memory::{Budget, Held, WhatFor};
use crate::net::socket::Socket;

/// A pair of files in a directory of its own.
struct Files {
    directory: TempDir,
    files: CertificateFiles,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let files = CertificateFiles {
            certificate: directory.path().join("certificate.pem"),
            key: directory.path().join("key.pem"),
        };
        let this = Self { directory, files };
        this.renew();
        this
    }

    fn renew(&self) -> CertificateDer<'static> {
        let params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(&self.files.certificate, certificate.pem()).expect("a file");
        fs::write(&self.files.key, key.serialize_pem()).expect("a file");
        certificate.der().clone()
    }

    fn load(&self) -> ServerTls {
        ServerTls::load("test", &ListenTls::Files(vec![self.files.clone()])).expect("a pair")
    }
}

fn held(budget: &Budget) -> Held {
    budget.hold(WhatFor::Tls, 0)
}

fn current(tls: &ServerTls) -> CertificateDer<'static> {
    tls.resolver.identities.load()[0].certified.cert[0].clone()
}

fn client_config(
    certificate: CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let config = ClientConfig::builder_with_protocol_versions(&[version]);
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A client and a session that have shaken hands.
fn connected(version: &'static SupportedProtocolVersion) -> (ClientConnection, Session) {
    let tls = Files::new().load();
    shake_hands(&tls, client_config(current(&tls), version))
}

fn shake_hands(tls: &ServerTls, config: Arc<ClientConfig>) -> (ClientConnection, Session) {
    let name = ServerName::try_from("a.test").expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut session = Session::new(tls.config()).expect("a session");
    while client.is_handshaking() || session.is_handshaking() {
        send_to(&mut session, &mut client, usize::MAX);
        receive_from(&mut session, &mut client);
    }
    (client, session)
}

/// What the client has for the session, in steps of so many bytes.
fn send_to(session: &mut Session, client: &mut ClientConnection, step: usize) {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("to memory");
    }
    for part in bytes.chunks(step.min(bytes.len()).max(1)) {
        session.receive(part).expect("what a client says");
    }
}

/// What the session has for the client.
fn receive_from(session: &mut Session, client: &mut ClientConnection) {
    let unsent = session.unsent().to_vec();
    session.note_sent(unsent.len());
    let mut rest = &unsent[..];
    while !rest.is_empty() {
        client.read_tls(&mut rest).expect("from memory");
        client.process_new_packets().expect("records");
    }
}

fn read_all(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let n = client.reader().read(&mut bytes).expect("plain text");
    bytes.truncate(n);
    bytes
}

#[test]
fn a_session_carries_bytes_both_ways_and_keeps_no_buffer() {
    for version in VERSIONS {
        let (mut client, mut session) = connected(version);
        let mut cipher = Vec::new();
        for size in [1, 100, 16_384] {
            let sent = vec![b'x'; size];
            let n = session.encrypt(&sent, &mut cipher).expect("a record");
            session.keep(&cipher[..n]);
            receive_from(&mut session, &mut client);
            assert_eq!(read_all(&mut client), sent);
            client.writer().write_all(&sent).expect("plain text");
            // Records are put together from any parts.
            send_to(&mut session, &mut client, 7);
            let mut read = vec![0; size + 1];
            assert_eq!(session.read(&mut read), size);
            assert_eq!(read[..size], sent);
        }
        assert_eq!(session.n_buffered_bytes(), 0);
    }
}

#[test]
fn a_key_update_is_answered_with_the_next_record() {
    let (mut client, mut session) = connected(&rustls::version::TLS13);
    let mut cipher = Vec::new();
    for round in 0..3 {
        client.refresh_traffic_keys().expect("new keys");
        send_to(&mut session, &mut client, 5);
        let sent = format!("round {round}");
        let n = session
            .encrypt(sent.as_bytes(), &mut cipher)
            .expect("a record");
        session.keep(&cipher[..n]);
        receive_from(&mut session, &mut client);
        assert_eq!(read_all(&mut client), sent.as_bytes());
        client.writer().write_all(b"said").expect("plain text");
        send_to(&mut session, &mut client, usize::MAX);
        let mut read = [0; 8];
        assert_eq!(session.read(&mut read), 4);
    }
}

/// Remembers under which secret a client sends.
#[derive(Debug, Default)]
struct Secret(Mutex<Vec<u8>>);

impl KeyLog for Secret {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().expect("no panic") = secret.to_vec();
        }
    }
}

/// What RFC 8446, 7.1 calls HKDF-Expand-Label, without a context.
fn expand<const N: usize>(suite: &Tls13CipherSuite, secret: &[u8], label: &str) -> [u8; N] {
    let label = format!("tls13 {label}");
    let length = u16::try_from(N).expect("short").to_be_bytes();
    let n_label = [u8::try_from(label.len()).expect("short")];
    let info = [&length[..], &n_label, label.as_bytes(), &[0]];
    let mut out = [0; N];
    let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
    expander.expand_slice(&info, &mut out).expect("short");
    out
}

/// So many times new keys and a record of nothing, as no client sends them.
fn silent_records(n: usize, client: &ClientConnection, secret: &Secret) -> Vec<u8> {
    let suite = client.negotiated_cipher_suite().expect("a suite");
    let suite = suite.tls13().expect("of TLS 1.3");
    let mut secret = secret.0.lock().expect("no panic").clone();
    let mut bytes = Vec::new();
    let mut number = 0;
    for _ in 0..n {
        let key = AeadKey::from(expand::<32>(suite, &secret, "key"));
        let iv = Iv::new(expand(suite, &secret, "iv"));
        let mut encrypter = suite.aead_alg.encrypter(key, iv);
        let mut push = |typ, payload: &[u8]| {
            let message = OutboundPlainMessage {
                typ,
                version: ProtocolVersion::TLSv1_2,
                payload: payload.into(),
            };
            let record = encrypter.encrypt(message, number).expect("a record");
            bytes.extend(record.encode());
            number += 1;
        };
        push(ContentType::ApplicationData, b"");
        // KeyUpdate, with none wanted in return (RFC 8446, 4.6.3).
        push(ContentType::Handshake, &[24, 0, 0, 1, 0]);
        secret = expand::<48>(suite, &secret, "traffic upd").to_vec();
        number = 0;
    }
    bytes
}

async fn readable(stream: &TlsStream) {
    let socket = stream.socket();
    let ready = std::future::poll_fn(|cx| socket.poll_read_ready(cx)).await;
    ready.expect("something to read");
}

#[tokio::test]
async fn a_client_that_never_stops_to_say_nothing_is_given_up() {
    for is_subscriber in [false, true] {
        let files = Files::new();
        let tls = files.load();
        let version = &rustls::version::TLS13;
        let mut config = Arc::unwrap_or_clone(client_config(current(&tls), version));
        let secret = Arc::new(Secret::default());
        config.key_log = Arc::clone(&secret) as Arc<dyn KeyLog>;
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("a.test").expect("a name");
        let (client, stream) = tokio::join!(
            connector.connect(name, theirs),
            TlsStream::accept(Socket::Unix(ours), tls.config(), held(&Budget::unlimited()))
        );
        let (client, mut stream) = (client.expect("a client"), stream.expect("a stream"));
        let (mut theirs, client) = client.into_inner();
        let records = silent_records(1000, &client, &secret);
        // A few now and then do no harm.
        let (few, many) = records.split_at(records.len() / 100);
        theirs.write_all(few).await.expect("room");
        readable(&stream).await;
        let error = stream.try_read(&mut [0; 16]).expect_err("nothing");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        theirs.write_all(many).await.expect("room");
        readable(&stream).await;
        let said = if is_subscriber {
            stream.try_read(&mut [0; 16])
        } else {
            let mut space = [0; 16];
            let patience = Duration::from_secs(10);
            let said = tokio::time::timeout(patience, stream.read(&mut space)).await;
            said.expect("it is not read for ever")
        };
        let error = said.expect_err("nothing is said");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    }
}

#[test]
fn we_say_when_nothing_follows() {
    for version in VERSIONS {
        let (mut client, mut session) = connected(version);
        session.close().expect("an alert");
        session.close().expect("nothing more");
        receive_from(&mut session, &mut client);
        let state = client.process_new_packets().expect("records");
        assert!(state.peer_has_closed());
        assert!(!session.has_peer_closed());
        session.receive(b"anything").expect("what nobody reads");
    }
}

#[test]
fn the_peer_is_heard_after_our_last_word() {
    for version in VERSIONS {
        let (mut client, mut session) = connected(version);
        session.hear_on();
        session.close().expect("an alert");
        receive_from(&mut session, &mut client);
        for said in [&b"more"[..], b"and more"] {
            client.writer().write_all(said).expect("plain text");
            send_to(&mut session, &mut client, 7);
            let mut heard = [0; 16];
            let n = session.read(&mut heard);
            assert_eq!(&heard[..n], said);
        }
        client.send_close_notify();
        send_to(&mut session, &mut client, usize::MAX);
        assert!(session.has_peer_closed());
    }
}

#[test]
fn the_peer_says_when_nothing_follows() {
    for version in VERSIONS {
        let (mut client, mut session) = connected(version);
        client.send_close_notify();
        send_to(&mut session, &mut client, usize::MAX);
        assert!(session.has_peer_closed());
        session.close().expect("an alert");
    }
}

#[test]
fn whoever_sends_nonsense_is_told_and_costs_nothing() {
    let (mut client, mut session) = connected(&rustls::version::TLS13);
    client.writer().write_all(b"said").expect("plain text");
    let mut record = Vec::new();
    client.write_tls(&mut record).expect("to memory");
    *record.last_mut().expect("a byte") ^= 1;
    session.receive(&record).expect_err("a forged record");
    assert!(!session.unsent().is_empty(), "an alert");
    let mut bytes = session.unsent();
    client.read_tls(&mut bytes).expect("from memory");
    client.process_new_packets().expect_err("an alert");
}

#[test]
fn new_files_are_used_and_broken_ones_are_not() {
    let files = Files::new();
    let tls = files.load();
    let first = current(&tls);
    assert_eq!(tls.reread(), Reread::Unchanged);
    let second = files.renew();
    assert_eq!(tls.reread(), Reread::Replaced);
    assert_eq!(current(&tls), second);
    assert_ne!(first, second);
    // New handshakes see it.
    let (client, _) = shake_hands(&tls, client_config(second.clone(), &rustls::version::TLS13));
    assert_eq!(client.peer_certificates(), Some(&[second.clone()][..]));
    let key = fs::read(&files.files.key).expect("a key");
    for broken in [&b""[..], b"nonsense", b"-----BEGIN PRIVATE KEY-----\n"] {
        fs::write(&files.files.key, broken).expect("a file");
        assert_eq!(tls.reread(), Reread::Failed);
        assert_eq!(current(&tls), second);
    }
    // The key of another pair, as it is while a pair is being replaced.
    fs::write(
        &files.files.key,
        KeyPair::generate().expect("a key").serialize_pem(),
    )
    .expect("a file");
    assert_eq!(tls.reread(), Reread::Failed);
    fs::remove_file(&files.files.key).expect("the key");
    assert_eq!(tls.reread(), Reread::Failed);
    assert_eq!(current(&tls), second);
    fs::write(&files.files.key, key).expect("a file");
    assert_eq!(tls.reread(), Reread::Unchanged);
    assert_eq!(
        tls.files(),
        [files.files.certificate.clone(), files.files.key.clone()]
    );
    drop(files.directory);
    assert_eq!(tls.reread(), Reread::Failed);
}

#[test]
fn a_key_with_a_passphrase_is_said_to_be_one() {
    let files = Files::new();
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(&files.files.key, text).expect("a file");
    let error = ServerTls::load("test", &ListenTls::Files(vec![files.files]));
    let error = error.expect_err("a key that nobody can read").to_string();
    assert!(error.contains("encrypted"), "{error}");
}

#[test]
fn a_certificate_says_when_it_can_be_used() {
    let day = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    let validity = Validity {
        certificate: "a".into(),
        not_before: now - 10 * day,
        not_after: now + 15 * day,
    };
    for (at, standing) in [
        (now - 11 * day, Standing::NotYetValid),
        (now, Standing::Fine),
        (now + 2 * day, Standing::ExpiresSoon),
        (now + 16 * day, Standing::Expired),
    ] {
        assert_eq!(validity.standing(at), standing);
    }
    let made = ServerTls::load("test", &ListenTls::SelfSigned).expect("a certificate");
    assert_eq!(made.validity()[0].standing(now + day), Standing::Fine);
    assert_eq!(made.reread(), Reread::Unchanged);
}

#[tokio::test]
async fn a_stream_reads_writes_and_moves() {
    for version in VERSIONS {
        let files = Files::new();
        let tls = files.load();
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let budget = Budget::unlimited();
        let connector = TlsConnector::from(client_config(current(&tls), version));
        let name = ServerName::try_from("a.test").expect("a name");
        let (client, stream) = tokio::join!(
            connector.connect(name, theirs),
            TlsStream::accept(Socket::Unix(ours), tls.config(), held(&budget))
        );
        let (mut client, stream) = (client.expect("a client"), stream.expect("a stream"));
        let moved = stream.unbind().expect("off the reactor");
        let mut stream = moved.bind().expect("onto the reactor");
        let sent: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let echo = async {
            let mut read = vec![0; sent.len()];
            stream.read_exact(&mut read).await.expect("all of it");
            stream.write_all(&read).await.expect("all of it");
            stream.shutdown().await.expect("the end");
        };
        let back = async {
            client.write_all(&sent).await.expect("all of it");
            client.flush().await.expect("all of it");
            let mut read = Vec::new();
            client
                .read_to_end(&mut read)
                .await
                .expect("an end that is said");
            read
        };
        let ((), read) = tokio::join!(echo, back);
        assert!(read == sent, "{version:?}");
    }
}

#[tokio::test]
async fn pieces_go_out_in_few_records_and_stop_with_the_socket() {
    let files = Files::new();
    let tls = files.load();
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let budget = Budget::unlimited();
    let connector = TlsConnector::from(client_config(current(&tls), &rustls::version::TLS13));
    let name = ServerName::try_from("a.test").expect("a name");
    let (client, stream) = tokio::join!(
        connector.connect(name, theirs),
        TlsStream::accept(Socket::Unix(ours), tls.config(), held(&budget))
    );
    let (mut client, mut stream) = (client.expect("a client"), stream.expect("a stream"));
    let pieces: Vec<Vec<u8>> = (0..100_usize).map(|n| vec![b'a'; n * 37]).collect();
    let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let whole: usize = pieces.iter().map(Vec::len).sum();
    let mut n_taken = 0;
    // The socket stops at some time; then there is at most one record that it did not take.
    loop {
        match stream.try_write_vectored(&slices) {
            Ok(n) => n_taken += n,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
        assert!(n_taken < 100 * whole, "the socket never stops");
    }
    assert!(stream.wants_flush());
    let used = budget.used_for(WhatFor::Tls);
    let most = TlsStream::IDLE_BYTES + 17 * 1024;
    assert!((TlsStream::IDLE_BYTES + 1..most).contains(&used), "{used}");
    let flushing = async {
        while !stream.try_flush().expect("the client is there") {
            std::future::poll_fn(|cx| stream.socket().poll_write_ready(cx))
                .await
                .expect("the client is there");
        }
    };
    let mut read = vec![0; n_taken];
    let (outcome, ()) = tokio::join!(client.read_exact(&mut read), flushing);
    outcome.expect("what was taken");
    assert!(read.iter().all(|byte| *byte == b'a'));
    assert!(!stream.wants_flush());
    assert_eq!(budget.used_for(WhatFor::Tls), TlsStream::IDLE_BYTES);
    drop(stream);
    assert_eq!(budget.used(), 0);
}

/// What a client says first.
fn client_hello() -> Vec<u8> {
    let files = Files::new();
    let config = client_config(current(&files.load()), &rustls::version::TLS13);
    let name = ServerName::try_from("a.test").expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("to memory");
    bytes
}

/// Gives a session all of it, whatever it says to that, and lets it speak.
fn give(session: &mut Session, parts: &[Vec<u8>]) {
    let mut cipher = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        let outcome = session.receive(part);
        let plain = session.read(&mut [0; 64]);
        assert!(plain == 0 || outcome.is_ok());
        session.note_sent(session.unsent().len());
        // What can't be said is an error, and nothing else.
        if session.encrypt(b"said", &mut cipher).is_err() {
            assert!(session.is_handshaking() || session.has_failed() || session.has_closed());
        }
        if n == 5 && session.close().is_err() {
            assert!(session.has_failed());
        }
        assert!(session.n_buffered_bytes() < 256 * 1024);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_received_without_a_panic(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..8),
    ) {
        let tls = ServerTls::load("test", &ListenTls::SelfSigned).expect("a certificate");
        give(&mut Session::new(tls.config()).expect("a session"), &parts);
    }

    #[test]
    fn a_hello_with_one_part_replaced_is_received_without_a_panic(
        at in 0..300_usize,
        part in prop::collection::vec(any::<u8>(), 0..6),
        step in 1..400_usize,
    ) {
        let tls = ServerTls::load("test", &ListenTls::SelfSigned).expect("a certificate");
        let mut hello = client_hello();
        let at = at.min(hello.len());
        let end = (at + part.len()).min(hello.len());
        hello.splice(at..end, part);
        let parts: Vec<Vec<u8>> = hello.chunks(step).map(<[u8]>::to_vec).collect();
        give(&mut Session::new(tls.config()).expect("a session"), &parts);
    }

    #[test]
    fn any_bytes_after_the_handshake_are_received_without_a_panic(
        version in 0..2_usize,
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..8),
    ) {
        let (_, mut session) = connected(VERSIONS[version]);
        give(&mut session, &parts);
    }
}
