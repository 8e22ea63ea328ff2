//! A child process of the bench: started on a processor, told by lines, killed when dropped.
//!
//! A child is started through the hidden role `pinned` of this same binary, which takes its
//! processor, asks the kernel to be killed with its parent, and becomes the program. So there is no
//! way to leave the bench, not even `kill -9`, that leaves a child behind.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustix::process::getpriority_process;
use rustix::process::set_parent_process_death_signal;
use rustix::process::setpriority_process;

use crate::clock;
use crate::clock::Deadline;
use crate::machine;

/// Where and how gladly a child runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its processor.
    pub(crate) processor: usize,
    /// How much nicer it is than the bench.
    pub(crate) nicer_by: u8,
}

/// What becomes of a child's standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Output<'a> {
    /// Lines for [`Process::reply`].
    Lines,
    /// This file, together with standard error.
    Log(&'a Path),
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Process {
    /// Starts a program.
    pub(crate) fn start(place: Place, program: &[OsString], output: Output<'_>) -> Self {
        let (stdout, stderr) = match output {
            Output::Lines => (Stdio::piped(), Stdio::inherit()),
            Output::Log(path) => {
                let log = File::create(path).unwrap();
                (log.try_clone().unwrap().into(), log.into())
            }
        };
        let mut child = Command::new(env::current_exe().unwrap())
            .arg("pinned")
            .args([
                "--processor",
                &place.processor.to_string(),
                "--nicer-by",
                &place.nicer_by.to_string(),
            ])
            .arg("--")
            .args(program)
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("cannot start a child process");
        let input = child.stdin.take().unwrap();
        let (lines_tx, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            // Owned by the child: it ends at the end of the child's output.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if lines_tx.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self {
            child,
            input,
            lines,
        }
    }

    /// Starts another role of this binary.
    pub(crate) fn start_role(place: Place, arguments: &[String]) -> Self {
        let mut program = vec![env::current_exe().unwrap().into_os_string()];
        program.extend(arguments.iter().map(OsString::from));
        Self::start(place, &program, Output::Lines)
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a line.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("child process is gone");
    }

    /// Waits for its next line.
    pub(crate) fn reply(&self, timeout: Duration) -> String {
        self.lines
            .recv_timeout(timeout)
            .expect("no answer from a child process")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.kill().is_err() {
            // It has ended before.
        }
        if self.child.wait().is_err() {
            // Nothing is left to wait for.
        }
    }
}

/// The role `pinned`: becomes `program` on a processor.
pub(crate) fn become_pinned(place: Place, program: &[OsString]) -> ! {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    machine::pin(place.processor);
    if place.nicer_by > 0 {
        // Kept by the new program. Relative, so that the whole bench can be run with `nice`.
        let nice = getpriority_process(None).unwrap() + i32::from(place.nicer_by);
        setpriority_process(None, nice).unwrap();
    }
    let (name, arguments) = program.split_first().expect("a program to become");
    panic!(
        "cannot start {name:?}: {}",
        Command::new(name).args(arguments).exec()
    );
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Waits until a child accepts connections.
pub(crate) fn wait_until_listening(
    process: &mut Process,
    address: SocketAddr,
) -> Result<(), String> {
    let deadline = Deadline::after(Duration::from_secs(20));
    while TcpStream::connect(address).is_err() {
        if !process.is_running() {
            return Err("it ended before it listened".to_owned());
        }
        if deadline.is_over() {
            return Err(format!("it does not listen on {address}"));
        }
        clock::pause(Duration::from_millis(5));
    }
    Ok(())
}
