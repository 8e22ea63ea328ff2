//! The gateway's binary, with a configuration of the test.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;

use super::client::{Client, Connector, Subscriber};
use super::origin::Origin;
use super::until;

/// A running gateway; it is killed when it is dropped, and its log is printed if the test fails.
pub(crate) struct Gateway {
    child: Child,
    directory: TempDir,
    /// What clients connect to, in the order of the configuration.
    addresses: Vec<String>,
}

/// How a gateway ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None`: by a signal.
    pub(crate) code: Option<i32>,
    /// All that it wrote to standard error.
    pub(crate) log: String,
}

impl Gateway {
    /// A gateway with one channel at `/events`.
    pub(crate) async fn start(origin: &Origin) -> Self {
        Self::with("", origin).await
    }

    /// A gateway with one channel at `/events` and these lines in its table. Other tables may follow
    /// them.
    pub(crate) async fn with(lines: &str, origin: &Origin) -> Self {
        Self::with_config(&one_channel(&origin.url(), lines)).await
    }

    /// A gateway with this configuration.
    pub(crate) async fn with_config(config: &str) -> Self {
        let mut gateway = Self::spawn(Some(config), &[]);
        gateway.listen().await;
        gateway
    }

    /// A gateway with this configuration, and a variable in its environment.
    pub(crate) async fn with_environment(config: &str, name: &str, value: &Path) -> Self {
        let export = format!("export {name}='{}'", value.display());
        let mut gateway = Self::spawn_in_shell(&export, Some(config), &[]);
        gateway.listen().await;
        gateway
    }

    /// A gateway that is started without a file.
    pub(crate) async fn without_file(arguments: &[&str]) -> Self {
        let mut gateway = Self::spawn(None, arguments);
        gateway.listen().await;
        gateway
    }

    /// A gateway with this configuration that may have so many descriptors and no more.
    pub(crate) async fn with_descriptors(n: usize, config: &str) -> Self {
        let mut gateway = Self::spawn_in_shell(&format!("ulimit -n {n}"), Some(config), &[]);
        gateway.listen().await;
        gateway
    }

    /// A gateway that a shell starts after it has run `preparation`.
    pub(crate) async fn after(preparation: &str, config: &str) -> Self {
        let mut gateway = Self::spawn_in_shell(preparation, Some(config), &[]);
        gateway.listen().await;
        gateway
    }

    /// A gateway that a shell starts after it has run `preparation`, and that does not get as far as
    /// listening.
    pub(crate) async fn fail_to_start_after(preparation: &str, config: &str) -> Ended {
        Self::spawn_in_shell(preparation, Some(config), &[])
            .ended()
            .await
    }

    /// A gateway that inherits sockets with these names, as systemd passes them: two at most.
    pub(crate) async fn with_sockets(config: &str, sockets: Vec<(&str, OwnedFd)>) -> Self {
        let mut gateway = Self::spawn_with_sockets(config, sockets);
        gateway.listen().await;
        gateway
    }

    /// A gateway that inherits sockets and does not get as far as listening.
    pub(crate) async fn fail_to_start_with_sockets(
        config: &str,
        sockets: Vec<(&str, OwnedFd)>,
    ) -> Ended {
        Self::spawn_with_sockets(config, sockets).ended().await
    }

    /// The sockets come as the standard input and output of the shell, which moves them to where
    /// `sd_listen_fds(3)` says that they are.
    fn spawn_with_sockets(config: &str, sockets: Vec<(&str, OwnedFd)>) -> Self {
        let (names, sockets): (Vec<&str>, Vec<OwnedFd>) = sockets.into_iter().unzip();
        let preparation = format!(
            "exec 3<&0 4<&1 < /dev/null > /dev/null && \
             export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}",
            names.len(),
            names.join(":")
        );
        let mut sockets = sockets.into_iter().map(Stdio::from);
        let mut next = || sockets.next().unwrap_or_else(Stdio::null);
        let streams = [next(), next()];
        Self::spawn_with_streams(&preparation, Some(config), &[], streams)
    }

    /// A gateway that does not get as far as listening.
    pub(crate) async fn fail_to_start(config: &str) -> Ended {
        let mut gateway = Self::spawn(Some(config), &[]);
        gateway.ended().await
    }

    /// A gateway that does not get as far as listening, with so many descriptors.
    pub(crate) async fn fail_to_start_with_descriptors(n: usize, config: &str) -> Ended {
        let mut gateway = Self::spawn_in_shell(&format!("ulimit -n {n}"), Some(config), &[]);
        gateway.ended().await
    }

    fn spawn(config: Option<&str>, arguments: &[&str]) -> Self {
        Self::spawn_in_shell(":", config, arguments)
    }

    /// Spawns a gateway in the place of a shell that has run `preparation`.
    fn spawn_in_shell(preparation: &str, config: Option<&str>, arguments: &[&str]) -> Self {
        let streams = [Stdio::null(), Stdio::null()];
        Self::spawn_with_streams(preparation, config, arguments, streams)
    }

    fn spawn_with_streams(
        preparation: &str,
        config: Option<&str>,
        arguments: &[&str],
        [stdin, stdout]: [Stdio; 2],
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the gateway");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{preparation} && exec \"$@\""), "sh"]);
        command.args([env!("CARGO_BIN_EXE_ssecast"), "--log", "debug", "serve"]);
        if let Some(config) = config {
            let file = config_file(directory.path());
            fs::write(&file, completed(config)).expect("the configuration can be written");
            command.arg("--config").arg(file);
        }
        // A file takes the log without a reader, and its last line is there when the gateway is dead.
        let log = File::create(log_file(directory.path())).expect("a file for the log");
        let child = command
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(log)
            .spawn()
            .expect("the gateway can be started");
        Self {
            child,
            directory,
            addresses: Vec::new(),
        }
    }

    async fn listen(&mut self) {
        self.addresses = until("the gateway to listen", || {
            if let Some(status) = self.child.try_wait().expect("the gateway is our child") {
                panic!("the gateway did not start: {status}");
            }
            let log = self.log();
            let started = log.lines().any(|line| line.contains(" started "));
            let addresses: Vec<String> = log
                .lines()
                .filter(|line| line.contains(" listening "))
                .filter_map(|line| field(line, "address"))
                .map(str::to_owned)
                .collect();
            // The listeners are told one after another.
            if started && addresses.len() >= self.n_addresses() {
                Ok(addresses)
            } else {
                Err("it does not".to_owned())
            }
        })
        .await;
    }

    /// How many addresses the configuration names, each in quotes; without a file, one.
    fn n_addresses(&self) -> usize {
        let config = fs::read_to_string(config_file(self.directory.path()));
        config.map_or(1, |config| {
            let tables = config
                .split("\n[")
                .filter(|table| !table.starts_with("admin]"));
            let lines = tables.flat_map(str::lines);
            let lines = lines.filter(|line| line.starts_with("address = "));
            lines.map(|line| line.matches('"').count() / 2).sum()
        })
    }

    /// A client of the first listener.
    pub(crate) async fn connect(&self) -> Client {
        Connector::default().connect(self).await
    }

    /// A subscriber of `/events`, once it has read the head of the answer.
    pub(crate) async fn subscribe(&self) -> Subscriber {
        self.subscribe_with("").await
    }

    /// A subscriber of `/events` that sends these header fields more.
    pub(crate) async fn subscribe_with(&self, fields: &str) -> Subscriber {
        self.connect().await.subscribe("/events", fields).await
    }

    /// A subscriber of `/events` that has seen this event last.
    pub(crate) async fn resume_after(&self, id: &str) -> Subscriber {
        self.subscribe_with(&format!("Last-Event-ID: {id}\r\n"))
            .await
    }

    /// The address of the first listener.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        read_log(self.directory.path())
    }

    /// The first `n` lines of the log that have all these parts, once they are there.
    pub(crate) async fn logged(&self, n: usize, parts: &[&str]) -> Vec<String> {
        until(&format!("{n} log lines with {parts:?}"), || {
            let log = self.log();
            let mut found: Vec<String> = log
                .lines()
                .filter(|line| parts.iter().all(|part| line.contains(part)))
                .map(str::to_owned)
                .collect();
            let n_found = found.len();
            found.truncate(n);
            if n_found >= n {
                Ok(found)
            } else {
                Err(format!("{n_found} such lines"))
            }
        })
        .await
    }

    /// Puts another configuration in the place of the present one, as an editor does, and does not
    /// ask for it.
    pub(crate) fn write_config(&self, config: &str) {
        let file = config_file(self.directory.path());
        let new = file.with_extension("new");
        fs::write(&new, completed(config)).expect("the new configuration can be written");
        fs::rename(&new, &file).expect("the new configuration can take the place of the old one");
    }

    /// Puts another configuration in the place of the present one and waits until this has come of
    /// it: `applied`, `rejected`, `wait for a restart`. Returns what the gateway has logged since.
    pub(crate) async fn reload(&self, config: &str, outcome: &str) -> String {
        let before = fs::metadata(log_file(self.directory.path()))
            .expect("a log")
            .len();
        self.write_config(config);
        self.signal("HUP");
        until(&format!("a reload: {outcome}"), || {
            let new = read_log_from(self.directory.path(), before);
            // The field comes last: the line is complete.
            let is_it = |line: &&str| {
                let is_reload = line.contains(" reload") && line.contains(outcome);
                is_reload && line.contains("reload_seconds=")
            };
            match new.lines().find(is_it) {
                Some(_) if new.ends_with('\n') => Ok(new),
                _ => Err(new),
            }
        })
        .await
    }

    /// Where its files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sends a signal: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        self.signals(&[name]);
    }

    /// Sends signals, one right after the other.
    pub(crate) fn signals(&self, names: &[&str]) {
        let kills = names
            .iter()
            .map(|name| format!("kill -s {name} {}", self.child.id()));
        let kill = kills.collect::<Vec<_>>().join(" && ");
        let status = Command::new("sh")
            .args(["-c", &kill])
            .status()
            .expect("a shell");
        assert!(status.success(), "{kill}: {status}");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> Ended {
        let child = &mut self.child;
        let status: ExitStatus = until("the gateway to end", || {
            child
                .try_wait()
                .expect("the gateway is our child")
                .ok_or("it runs".to_owned())
        })
        .await;
        Ended {
            code: status.code(),
            log: self.log(),
        }
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        let status = self.child.try_wait();
        status.expect("the gateway is our child").is_none()
    }

    /// Allows it only so many descriptors from now on; returns how many it was allowed.
    pub(crate) fn limit_descriptors(&self, n: u64) -> u64 {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.child.id()));
        let limits = limits.expect("the gateway runs");
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let fields = line.expect("a limit").split_whitespace();
        let [soft, hard] = fields
            .take(2)
            .map(|field| field.parse().expect("a number"))
            .collect::<Vec<u64>>()[..]
        else {
            panic!("a soft and a hard limit");
        };
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let limit = Rlimit {
            current: Some(n),
            maximum: Some(hard),
        };
        prlimit(pid, Resource::Nofile, limit).expect("the limit of the gateway");
        soft
    }

    /// The processor time that it has used.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("the gateway runs");
        // proc_pid_stat(5): after the name in parentheses, the times are the 12th and the 13th field.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = [fields[11], fields[12]].map(|field| field.parse::<u64>().expect("ticks"));
        let per_second = u32::try_from(clock_ticks_per_second()).expect("a small number");
        Duration::from_secs(ticks.iter().sum()) / per_second
    }

    /// Its open descriptors.
    pub(crate) fn n_descriptors(&self) -> usize {
        let list = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        list.expect("the gateway runs").count()
    }

    /// Whether it has this file open.
    pub(crate) fn has_open(&self, file: &Path) -> bool {
        let list = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        let mut open = list
            .expect("the gateway runs")
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        open.any(|target| target == file)
    }

    /// How many descriptors each of its epoll instances watches.
    pub(crate) fn sockets_per_reactor(&self) -> Vec<usize> {
        let list = fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()));
        let infos = list.expect("the gateway runs").filter_map(|entry| {
            // A descriptor may be closed between the list and the look.
            fs::read_to_string(entry.ok()?.path()).ok()
        });
        let watched = infos.map(|info| {
            let targets = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
            let numbers = targets.filter_map(|line| line.split_whitespace().next());
            numbers.map(str::to_owned).collect::<BTreeSet<String>>()
        });
        // An instance may have several descriptors, which say the same.
        let reactors: BTreeSet<_> = watched.filter(|targets| !targets.is_empty()).collect();
        reactors.iter().map(BTreeSet::len).collect()
    }

    /// Its threads.
    pub(crate) fn n_threads(&self) -> usize {
        let list = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        list.expect("the gateway runs").count()
    }

    /// Its resident memory.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it has had.
    pub(crate) fn peak_resident_bytes(&self) -> usize {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .expect("a number of kB");
        kib.trim().parse::<usize>().expect("a number") * 1024
    }
}

/// The configuration of a channel at `/events` with this upstream and these lines in its table.
pub(crate) fn one_channel(upstream: &str, lines: &str) -> String {
    format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{upstream}\"\n{lines}\n"
    )
}

/// The configuration of a proxy of everything with this upstream and these lines in its table.
pub(crate) fn with_proxy(upstream: &str, lines: &str) -> String {
    format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\n\
         [proxies.all]\npath = \"/{{*rest}}\"\nupstream = \"{upstream}\"\n{lines}\n"
    )
}

/// The configuration, with what a test wants otherwise than a user does, unless it says so itself.
fn completed(config: &str) -> String {
    let mut whole = config.to_owned();
    let has = |table: &str| config.lines().any(|line| line == table);
    // The default is one address, and tests run side by side.
    if !has("[admin]") {
        whole.push_str("\n[admin]\naddress = \"off\"\n");
    }
    // On a busy machine everything may take a while; a test that is about a time says so.
    if !has("[defaults]") {
        whole.push_str("\n[defaults]\n");
        whole.push_str("first_answer = \"20s\"\nidle_timeout = \"10m\"\nwrite_timeout = \"10m\"\n");
    }
    whole
}

pub(crate) fn config_file(directory: &Path) -> PathBuf {
    directory.join("ssecast.toml")
}

/// The value of a field of a log line.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    rest.split(' ').next()
}

/// The time in a field of a log line, as `Debug` shows it.
pub(crate) fn logged_time(line: &str, name: &str) -> Duration {
    let text = field(line, name).expect("a time");
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
    let (number, unit) = text.split_at(at.expect("a unit"));
    let number: f64 = number.parse().expect("a number");
    match unit {
        "s" => Duration::from_secs_f64(number),
        "ms" => Duration::from_secs_f64(number / 1e3),
        "µs" => Duration::from_secs_f64(number / 1e6),
        _ => panic!("a unit: {line}"),
    }
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn read_log(directory: &Path) -> String {
    read_log_from(directory, 0)
}

/// The log without so many bytes of its begin.
fn read_log_from(directory: &Path, begin: u64) -> String {
    let mut bytes = Vec::new();
    let mut file = File::open(log_file(directory)).expect("the log is there");
    file.seek(SeekFrom::Start(begin))
        .expect("the log is a file");
    file.read_to_end(&mut bytes).expect("the log can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("the gateway could not be ended: {error}");
        }
        if std::thread::panicking() {
            eprintln!("--- the log of the gateway\n{}---", self.log());
        }
    }
}
