//! Networks that can go away, and clients in them.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::support::{Gateway, until};

/// A namespace that is linked to this one.
pub(crate) struct Network {
    name: String,
    number: usize,
}

/// A client in a network: it writes what it gets to a file.
pub(crate) struct Curl {
    process: Child,
    directory: TempDir,
}

impl Network {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            name: format!("half-open-{number}"),
            number,
        };
        let Self { name, .. } = &network;
        let ours = format!("gw{number}");
        ip(&["netns", "add", name]);
        ip(&[
            "link", "add", &ours, "type", "veth", "peer", "name", "client", "netns", name,
        ]);
        ip(&[
            "address",
            "add",
            &format!("10.89.{number}.1/24"),
            "dev",
            &ours,
        ]);
        ip(&["link", "set", &ours, "up"]);
        let theirs = format!("10.89.{number}.2/24");
        ip(&["-n", name, "address", "add", &theirs, "dev", "client"]);
        network.raise_link();
        network
    }

    /// From now on, packets are lost in both directions, and nobody is told.
    pub(crate) fn drop_link(&self) {
        ip(&["-n", &self.name, "link", "set", "client", "down"]);
    }

    pub(crate) fn raise_link(&self) {
        ip(&["-n", &self.name, "link", "set", "client", "up"]);
    }

    /// From now on, little gets through to there in a second, and little waits on the way.
    pub(crate) fn slow_down(&self, rate: &str) {
        let device = format!("gw{}", self.number);
        let shape = ["qdisc", "add", "dev", &device, "root", "tbf", "rate", rate];
        let limits = ["burst", "1600", "limit", "6000"];
        command("tc", &[&shape[..], &limits].concat());
    }

    /// A connection from there to the gateway.
    pub(crate) fn connect(&self, gateway: &Gateway) -> tokio::net::TcpStream {
        let (_, port) = gateway.address().rsplit_once(':').expect("a port");
        let address = format!("10.89.{}.1:{port}", self.number);
        let stream = self.inside(|| TcpStream::connect(address));
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        tokio::net::TcpStream::from_std(stream).expect("a socket")
    }

    /// An origin there, and its URL.
    pub(crate) fn listen(&self) -> (tokio::net::TcpListener, String) {
        let address = format!("10.89.{}.2:0", self.number);
        let listener = self.inside(|| TcpListener::bind(address));
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener);
        (listener.expect("a socket"), format!("http://{address}"))
    }

    /// Makes a socket there. It stays there, whoever uses it.
    fn inside<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name));
        let namespace = namespace.expect("the namespace");
        std::thread::scope(|scope| {
            let making = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), network)?;
                make()
            });
            making.join().expect("no panic").expect("a socket")
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its devices go with it.
        let outcome = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        if !std::thread::panicking() {
            assert!(outcome.is_ok_and(|status| status.success()));
        }
    }
}

impl Curl {
    /// Subscribes to `/events`.
    pub(crate) fn start(network: &Network, gateway: &Gateway, options: &[&str]) -> Self {
        let (_, port) = gateway.address().rsplit_once(':').expect("a port");
        let scheme = if options.contains(&"--insecure") {
            "https"
        } else {
            "http"
        };
        let url = format!("{scheme}://10.89.{}.1:{port}/events", network.number);
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("ip");
        command
            .args([
                "netns",
                "exec",
                &network.name,
                "curl",
                "--silent",
                "--no-buffer",
            ])
            .args(["--output".as_ref(), output(&directory).as_os_str()])
            .args(["-H", "Accept: text/event-stream"])
            .args(options)
            .arg(url)
            .stdin(Stdio::null());
        let process = command.spawn().expect("ip and curl");
        Self { process, directory }
    }

    /// Waits until the data of its events are these.
    pub(crate) async fn until_data(&self, wanted: &[&str]) {
        until("the client to get its events", || {
            let text = fs::read_to_string(output(&self.directory)).unwrap_or_default();
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let data: Vec<&str> = data.collect();
            if data == wanted {
                Ok(())
            } else {
                Err(format!("{data:?}"))
            }
        })
        .await;
    }

    /// How much it has got.
    pub(crate) fn n_bytes(&self) -> u64 {
        let output = fs::metadata(output(&self.directory));
        output.map_or(0, |output| output.len())
    }

    /// Has it do nothing any more.
    pub(crate) fn freeze(&self) {
        // `ip netns exec` becomes what it executes.
        let id = self.process.id().to_string();
        let status = Command::new("kill").args(["-STOP", &id]).status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Curl {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn output(directory: &TempDir) -> PathBuf {
    directory.path().join("output")
}

fn ip(arguments: &[&str]) {
    command("ip", arguments);
}

fn command(name: &str, arguments: &[&str]) {
    let outcome = Command::new(name).args(arguments).output();
    let outcome = outcome.unwrap_or_else(|error| panic!("the command {name}: {error}"));
    assert!(
        outcome.status.success(),
        "{name} {arguments:?}: {}",
        String::from_utf8_lossy(&outcome.stderr)
    );
}
