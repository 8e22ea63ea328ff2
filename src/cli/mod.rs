//! The command line: what may be typed, and what each command does.

mod check;
mod explain;
mod generate;
mod log;
mod machine;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Parser, Subcommand};

pub use self::log::{for_stderr, install as install_log};
use crate::demo::{self, DemoError};

/// Fans one upstream event stream (SSE) per channel out to thousands of clients.
#[derive(Debug, Parser)]
#[command(name = "ssecast", version, about, long_about = LONG_ABOUT, after_help = EXAMPLES)]
#[command(
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log: error, warn, info, debug, trace, or a filter such as `ssecast::http=debug`
    /// [default: info; for the demo, warn]
    #[arg(long, global = true, value_name = "LEVEL", env = "SSECAST_LOG")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(Serve),
    /// Check a configuration file and say what is wrong with it, and where
    Check(Check),
    /// Say what a request is for: which channel or proxy, and what would go upstream
    #[command(long_about = explain::ABOUT)]
    Explain(Explain),
    /// Show it working: an origin that ticks, the gateway in front of it, and a page to look at
    Demo(Demo),
    /// Print the completions for a shell
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).multiple(true)
    .args(["config", "upstream", "proxy"]))]
#[command(group = ArgGroup::new("without-file").multiple(true).args(["upstream", "proxy"]))]
struct Serve {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", conflicts_with = "without-file")]
    config: Option<PathBuf>,
    /// The event stream of one origin, which is shared by all clients; no file is needed
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// The backend that all other requests pass through to, WebSocket included, by its URL without a
    /// path; no file is needed
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Where clients find the event stream [default: /events]; without --upstream, where it is at the
    /// backend, too
    #[arg(long, value_name = "PATH", requires = "without-file")]
    path: Option<String>,
    /// The address to listen on, `IP:PORT` or `unix:PATH`
    /// [default: 127.0.0.1:8080; with TLS, 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR", requires = "without-file")]
    listen: Option<String>,
    /// Speak TLS, with a certificate for localhost that is made now and that no client trusts
    #[arg(long, requires = "without-file")]
    tls_self_signed: bool,
    /// The address for metrics, health and status, `IP:PORT` or `unix:PATH` [default: none]
    #[arg(long, value_name = "ADDR", requires = "without-file")]
    admin: Option<String>,
}

#[derive(Debug, Args)]
struct Check {
    /// The configuration file (TOML)
    file: PathBuf,
}

#[derive(Debug, Args)]
struct Explain {
    /// One URL, as a client asks for it, or two to compare; a path alone is for any host
    #[arg(required = true, num_args = 1..=2, value_name = "URL")]
    urls: Vec<String>,
    /// A header field that the client sends; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE", default_value = "/etc/ssecast/ssecast.toml")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Demo {
    /// The address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
}

#[derive(Debug, Args)]
struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
struct Man {
    /// The directory to write them to, one for each command; it must be there
    directory: PathBuf,
}

const LONG_ABOUT: &str = "\
Fans one upstream event stream (SSE) per channel out to thousands of clients.

ssecast holds one connection to each event stream of your backend and shares it among any number \
of clients, with replay after a reconnect, heartbeats, and bounded memory.";

const EXAMPLES: &str = "\
Examples:
  ssecast demo
      Then open http://127.0.0.1:8080/ in a few tabs.
  ssecast serve --upstream http://127.0.0.1:3000/events
      Then: curl -N http://127.0.0.1:8080/events
  ssecast serve --upstream http://127.0.0.1:3000/events --proxy http://127.0.0.1:3000
      In front of a whole backend: its event stream is shared, all else passes through.
  ssecast explain 'https://example.com/rooms/a/events?lang=en' --config ssecast.toml
      Says which instance that is, and what would go upstream.
  ssecast check /etc/ssecast/ssecast.toml && ssecast serve --config /etc/ssecast/ssecast.toml";

/// What a command came to.
#[derive(Debug)]
pub struct Finished {
    /// For the parent process.
    pub code: ExitCode,
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub complaint: String,
}

impl Cli {
    /// What to log.
    pub fn log_filter(&self) -> &str {
        match (&self.log, &self.command) {
            (Some(filter), _) if !filter.is_empty() => filter,
            // Its output is for people.
            (_, Command::Demo(_)) => "warn",
            (_, _) => "info",
        }
    }

    /// Does what was typed.
    pub fn run(self) -> Finished {
        match self.command {
            Command::Check(check) => check::run(&check.file),
            Command::Completions(completions) => generate::completions(completions.shell),
            Command::Demo(demo) => match demo::run(&demo.listen) {
                Err(DemoError::Address(diagnostics)) => Finished::failed(diagnostics.to_string()),
                result => Finished::from_result(result),
            },
            Command::Explain(explain) => explain::run(&explain),
            Command::Man(man) => generate::man_pages(&man.directory),
            Command::Serve(serve) => serve::run(&serve),
        }
    }
}

impl Finished {
    fn fine(output: String) -> Self {
        Self {
            code: ExitCode::SUCCESS,
            output,
            complaint: String::new(),
        }
    }

    fn failed(complaint: String) -> Self {
        Self {
            code: ExitCode::FAILURE,
            output: String::new(),
            complaint,
        }
    }

    fn from_result(result: Result<(), impl std::fmt::Display>) -> Self {
        match result {
            Ok(()) => Self::fine(String::new()),
            Err(error) => Self::failed(format!("error: {error}\n")),
        }
    }
}
