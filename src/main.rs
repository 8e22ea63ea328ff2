//! The process: parses the command line, does what it says, prints, and decides the exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use ssecast::admin::install_hook;
use ssecast::cli::{Cli, for_stderr, install_log};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(message) = install_log(cli.log_filter()) {
        return print("", &format!("error: {message}\n"), ExitCode::from(2));
    }
    install_hook();
    let finished = cli.run();
    print(&finished.output, &finished.complaint, finished.code)
}

/// Prints both texts. What could not be printed is a failure, unless the reader went away, as
/// `| head` does.
fn print(output: &str, complaint: &str, code: ExitCode) -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let printed = out
        .write_all(output.as_bytes())
        .and_then(|()| err.write_all(for_stderr(complaint).as_bytes()));
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) => code,
    }
}
