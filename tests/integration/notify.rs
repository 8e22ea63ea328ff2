//! What the gateway tells systemd: a datagram socket of the test takes the place of systemd's.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::{Gateway, Origin, until};

/// Takes what a service manager is told.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
    /// All messages.
    told: Vec<String>,
    /// Those that were waited for.
    n_seen: usize,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for a socket");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        Self {
            directory,
            socket,
            told: Vec::new(),
            n_seen: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// What a shell runs so that the gateway knows of us.
    fn environment(&self) -> String {
        format!("export NOTIFY_SOCKET='{}'", self.path().display())
    }

    /// The first message since the last that was waited for which has this line.
    async fn told(&mut self, line: &str) -> String {
        until(&format!("the gateway tells {line:?}"), || {
            self.take();
            let unseen = self.told.iter().skip(self.n_seen);
            let mut unseen = unseen.enumerate();
            let found = unseen.find(|(_, message)| message.lines().any(|told| told == line));
            let Some((index, message)) = found else {
                return Err(format!("{:?}", self.told));
            };
            self.n_seen += index + 1;
            Ok(message.clone())
        })
        .await
    }

    fn take(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(n) = self.socket.recv(&mut bytes) {
            let message = String::from_utf8_lossy(&bytes[..n]);
            self.told.push(message.into_owned());
        }
    }
}

#[tokio::test]
async fn readiness_is_told_when_clients_are_served_and_the_stop_when_it_begins() {
    let origin = Origin::start().await;
    let mut manager = Manager::new();
    let file = config(&origin, "127.0.0.1:0");
    let mut gateway = Gateway::after(&manager.environment(), &file).await;
    let ready = manager.told("READY=1").await;
    assert!(ready.contains("STATUS=1 channel, 0 clients\n"), "{ready}");

    let _one = gateway.subscribe().await;
    manager.told("STATUS=1 channel, 1 client").await;

    gateway.signal("TERM");
    manager.told("STOPPING=1").await;
    assert_eq!(gateway.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_gateway_that_cannot_listen_never_tells_that_it_is_ready() {
    let origin = Origin::start().await;
    let mut manager = Manager::new();
    let file = config(&origin, &origin.address().to_string());
    let ended = Gateway::fail_to_start_after(&manager.environment(), &file).await;
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    manager.take();
    assert_eq!(manager.told, [""; 0]);
}

#[tokio::test]
async fn a_reload_is_told_with_its_time_until_it_is_over_whatever_comes_of_it() {
    let origin = Origin::start().await;
    let mut manager = Manager::new();
    let file = config(&origin, "127.0.0.1:0");
    let gateway = Gateway::after(&manager.environment(), &file).await;
    manager.told("READY=1").await;
    for (change, outcome, status) in [
        ("heartbeat = \"7s\"\n", "applied", "0 clients"),
        (
            "heartbeat = 7\n",
            "rejected",
            "the last reload was rejected",
        ),
    ] {
        gateway.reload(&format!("{file}{change}"), outcome).await;
        let begun = manager.told("RELOADING=1").await;
        assert!(begun.contains("MONOTONIC_USEC="), "{begun}");
        let over = manager.told("READY=1").await;
        assert!(over.contains(status), "{over}");
    }
}

/// The second time that an address can't be had is no news, and nobody would say that it is over.
#[tokio::test]
async fn a_change_that_comes_to_nothing_leaves_no_reload_under_way() {
    let origin = Origin::start().await;
    let mut manager = Manager::new();
    let file = config(&origin, "127.0.0.1:0");
    let gateway = Gateway::after(&manager.environment(), &file).await;
    manager.told("READY=1").await;
    let taken = format!("{file}[listen.taken]\naddress = \"{}\"\n", origin.address());
    gateway.write_config(&taken);
    gateway.logged(1, &["reload rejected"]).await;
    let nothing = ["reload: nothing has changed"];
    let log = gateway.log();
    let n_before = log.lines().filter(|line| line.contains(nothing[0])).count();
    gateway.write_config(&taken);
    gateway.logged(n_before + 1, &nothing).await;
    manager.take();
    let count = |what: &str| {
        manager
            .told
            .iter()
            .filter(|told| told.contains(what))
            .count()
    };
    let (n_begun, n_over) = (count("RELOADING=1"), count("READY=1") - 1);
    assert!(n_begun <= n_over, "{:?}", manager.told);
}

#[tokio::test]
async fn the_watchdog_is_fed_in_time() {
    let origin = Origin::start().await;
    let mut manager = Manager::new();
    let environment = format!("{} && export WATCHDOG_USEC=100000", manager.environment());
    let file = config(&origin, "127.0.0.1:0");
    let _gateway = Gateway::after(&environment, &file).await;
    for _ in 0..3 {
        manager.told("WATCHDOG=1").await;
    }
}

#[tokio::test]
async fn nobody_feeds_a_watchdog_that_is_for_another_process() {
    let origin = Origin::start().await;
    let mut manager = Manager::new();
    let environment = format!(
        "{} && export WATCHDOG_USEC=1000 WATCHDOG_PID=1",
        manager.environment()
    );
    let file = config(&origin, "127.0.0.1:0");
    let mut gateway = Gateway::after(&environment, &file).await;
    manager.told("READY=1").await;
    gateway.signal("TERM");
    manager.told("STOPPING=1").await;
    assert_eq!(gateway.ended().await.code, Some(0));
    assert!(
        !manager.told.iter().any(|told| told.contains("WATCHDOG")),
        "{:?}",
        manager.told
    );
}

fn config(origin: &Origin, address: &str) -> String {
    let upstream = origin.url();
    format!(
        "[server]\ndrain = \"0s\"\n\n[listen.public]\naddress = \"{address}\"\n\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{upstream}\"\n"
    )
}
