//! `ssecast demo`, from outside: its process, its output, its page and its event streams.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed helper is a failed test"
)]

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Only a failure takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running demo; killed if the test is over and it still runs.
struct Demo {
    process: Child,
    /// What it prints, line by line; disconnected when it has ended.
    output: Receiver<String>,
    address: SocketAddr,
}

/// The answer to a request, from its head on.
struct Answer {
    path: &'static str,
    lines: BufReader<TcpStream>,
}

impl Demo {
    /// Starts it and waits until it says where it is.
    fn start() -> Self {
        let mut demo = Self::spawn("127.0.0.1:0", Stdio::inherit());
        demo.address = demo.find_address();
        demo
    }

    fn spawn(listen: &str, stderr: Stdio) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_ssecast"))
            .args(["demo", "--listen", listen])
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (output_tx, output) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if output_tx.send(line).is_err() {
                    break; // The test has ended.
                }
            }
        });
        Self {
            process,
            output,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        }
    }

    /// The address in the URL that a person is told to open.
    fn find_address(&self) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.output.recv_timeout(deadline - Instant::now()) {
                Ok(line) => {
                    let url = line.split("http://").nth(1);
                    if let Some((address, _)) = url.and_then(|url| url.split_once('/')) {
                        return address.parse().expect("an address in the URL");
                    }
                    seen.push(line);
                }
                Err(error) => panic!("no URL was printed ({error}), but:\n{}", seen.join("\n")),
            }
        }
    }

    fn get(&self, path: &'static str) -> Answer {
        self.get_after(path, "")
    }

    fn get_after(&self, path: &'static str, last_event_id: &str) -> Answer {
        let mut socket = TcpStream::connect(self.address).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nLast-Event-ID: {last_event_id}\r\n\r\n",
            self.address
        )
        .unwrap();
        let lines = BufReader::new(socket);
        Answer { path, lines }
    }

    /// Asks it to end; returns its exit code.
    fn stop_within(mut self, limit: Duration) -> Option<i32> {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.wait(limit)
    }

    /// Waits until it has ended, which closes its output; returns its exit code.
    fn wait(&mut self, limit: Duration) -> Option<i32> {
        let deadline = Instant::now() + limit;
        loop {
            match self.output.recv_timeout(deadline - Instant::now()) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it still runs after {limit:?}"),
            }
        }
        self.process.wait().unwrap().code()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("the demo may still run: {error}");
        }
    }
}

impl Answer {
    /// The first line that has `text`, and all before it.
    fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        loop {
            let patience = deadline - Instant::now();
            assert!(!patience.is_zero(), "{self} has no {text:?}, but:\n{seen}");
            self.lines
                .get_ref()
                .set_read_timeout(Some(patience))
                .unwrap();
            let start = seen.len();
            match self.lines.read_line(&mut seen) {
                Ok(0) => panic!("{self} ended without {text:?}:\n{seen}"),
                Ok(_) if seen.get(start..).unwrap().contains(text) => return seen,
                Ok(_) => {}
                Err(error) => panic!("{self} has no {text:?} ({error}), but:\n{seen}"),
            }
        }
    }

    /// The next event ID.
    fn next_id(&mut self) -> String {
        let seen = self.until("id: ");
        let line = seen.lines().last().unwrap();
        line.strip_prefix("id: ")
            .expect("a line of its own")
            .to_owned()
    }

    /// Waits for the end of the connection, however it comes.
    fn until_end(mut self) {
        self.lines
            .get_ref()
            .set_read_timeout(Some(PATIENCE))
            .unwrap();
        let mut rest = Vec::new();
        self.lines
            .read_to_end(&mut rest)
            .expect("the connection ends");
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer to GET {}", self.path)
    }
}

#[test]
fn two_clients_share_one_upstream_connection_and_sigterm_ends_it_all() {
    let demo = Demo::start();

    let mut page = demo.get("/");
    let head = page.until("<!doctype html>").to_lowercase();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.contains("content-type: text/html; charset=utf-8\r\n"),
        "{head}"
    );
    page.until("</html>");

    let mut clients = [demo.get("/ticks"), demo.get("/ticks")];
    for client in &mut clients {
        client.until("event: tick");
        client.until("data: {\"n\":");
    }
    let mut stats = demo.get("/stats");
    stats.until("\"clients\":2,\"upstream_connections\":1,");

    let code = demo.stop_within(Duration::from_secs(3));
    assert_eq!(code, Some(0), "the exit code");
    for client in clients {
        client.until_end();
    }
}

#[test]
fn a_client_that_comes_back_with_its_id_gets_what_it_missed() {
    let demo = Demo::start();
    let mut steady = demo.get("/ticks");
    let first = steady.next_id();
    let missed = [steady.next_id(), steady.next_id()];

    let mut back = demo.get_after("/ticks", &first);
    let replayed = [back.next_id(), back.next_id()];
    assert_eq!(replayed, missed, "what followed {first}");
    assert_eq!(back.next_id(), steady.next_id(), "and then it is live");
    assert_eq!(demo.stop_within(Duration::from_secs(3)), Some(0));
}

#[test]
fn a_port_that_is_taken_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut demo = Demo::spawn(&address, Stdio::piped());
    assert_eq!(demo.wait(PATIENCE), Some(1), "the exit code");
    let mut complaint = String::new();
    let mut stderr = demo.process.stderr.take().unwrap();
    stderr.read_to_string(&mut complaint).unwrap();
    for text in [&*format!("{address} is taken"), "--listen 127.0.0.1:0"] {
        assert!(complaint.contains(text), "{text:?} in {complaint}");
    }
}
