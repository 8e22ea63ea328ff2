//! The process: parses the command line, does what it says, prints, and decides the exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use ssecast::cli::{Cli, install_log};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(message) = install_log(cli.log_filter()) {
        return print("", &format!("error: {message}\n"), ExitCode::from(2));
    }
    let finished = cli.run();
    print(&finished.output, &finished.complaint, finished.code)
}

/// Prints both texts. A reader that went away, as `| head` does, is no failure.
fn print(output: &str, complaint: &str, code: ExitCode) -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    if out.write_all(output.as_bytes()).is_err() || err.write_all(complaint.as_bytes()).is_err() {
        return code;
    }
    code
}
