//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;

use crate::bare::BareArguments;
use crate::cases;
use crate::cases::Case;
use crate::load::LoadArguments;
use crate::process::Place;
use crate::tls::AloneArguments;

/// Measures the gateway beside a bare loop that only writes.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are flags of a command line"
)]
#[command(name = "cargo bench --bench fanout --")]
pub(crate) struct Arguments {
    /// Small cases, a few seconds together: shows that all is delivered, not how fast
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Only this case; may be given again
    #[arg(long = "case", value_name = "NAME", value_parser = case_names())]
    cases: Vec<String>,
    /// Name the cases
    #[arg(long)]
    pub(crate) list: bool,
    /// Only show that the verification finds what it is there for
    #[arg(long)]
    self_test: bool,
    /// Another binary of the gateway
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_ssecast"))]
    pub(crate) gateway: PathBuf,
    /// What cargo says when it runs a bench
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What a process of this binary is, if not the bench itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The bare loop.
    #[command(hide = true)]
    Bare(BareArguments),
    /// A load client.
    #[command(hide = true)]
    Load(LoadArguments),
    /// A server that only shakes hands.
    #[command(hide = true)]
    TlsAlone(AloneArguments),
    /// Another program, on one processor.
    #[command(hide = true)]
    Pinned(PinnedArguments),
}

/// The arguments of the role.
#[derive(Debug, Args)]
pub(crate) struct PinnedArguments {
    /// The processor.
    #[arg(long)]
    processor: usize,
    /// How much nicer it is than the bench.
    #[arg(long)]
    nicer_by: u8,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

impl Arguments {
    /// Whether a case is to run.
    pub(crate) fn wants(&self, case: &Case) -> bool {
        let is_named = self.cases.iter().any(|name| name == case.name);
        is_named || self.cases.is_empty() && !case.is_long
    }

    /// Whether nothing else is asked for, as when `cargo test` comes by, which says nothing.
    pub(crate) fn is_self_test(&self) -> bool {
        self.self_test || !self.bench && !self.smoke && self.cases.is_empty()
    }
}

impl PinnedArguments {
    /// Where the program is to run.
    pub(crate) fn place(&self) -> Place {
        Place {
            processor: self.processor,
            nicer_by: self.nicer_by,
        }
    }
}

fn case_names() -> Vec<&'static str> {
    cases::ALL.iter().map(|case| case.name).collect()
}
