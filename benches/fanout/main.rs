//! The fan-out bench: the gateway beside a bare loop, driven by the same load, in one table.
//!
//! ```text
//!   processor 1                           processor 0
//!   origin ──one connection a channel──▶  the gateway, or the bare loop
//!   load client ◀──thousands of sockets──┘
//! ```
//!
//! The bare loop is the limit: a poll and writes of bytes that it does not look at. What the gateway
//! costs is told as a ratio to it, because the machine's own speed is in both. While a window is
//! timed the load client counts bytes; after it every byte of every client is checked.
//!
//! The servers and the load clients are processes of this same binary in other roles, so that
//! each has its own descriptors and its own processor time.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed helper is a failed bench"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and shares are computed as f64, and far from the limits"
)]
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it prints a table, and progress"
)]

mod arguments;
mod bare;
mod cases;
mod clock;
mod event;
mod listener;
mod load;
mod machine;
mod origin;
mod pair;
mod process;
mod requests;
mod self_test;
mod series;
mod server;
mod side;
mod streams;
mod table;
mod tls;
mod usage;

use std::net::SocketAddr;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::arguments::Role;
use crate::cases::Case;
use crate::clock::SECOND;
use crate::load::Faults;
use crate::machine::Layout;
use crate::server::Channels;
use crate::server::KEEPS_ALL;
use crate::server::Kind;
use crate::server::Setup;
use crate::server::Speaks;
use crate::table::Bar;
use crate::table::Row;

/// What every case needs to know.
#[derive(Debug)]
struct Bench {
    layout: Layout,
    gateway: PathBuf,
    scale: Scale,
    /// Descriptors that a process may open.
    max_descriptors: u64,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// Everything: some minutes.
    Full,
    /// Just enough of everything to see that it is correct: some seconds.
    Smoke,
}

fn main() -> ExitCode {
    let max_descriptors = machine::raise_descriptors();
    let arguments = Arguments::parse();
    match &arguments.role {
        Some(Role::Bare(bare)) => bare::run(bare),
        Some(Role::Load(load)) => {
            load::run(load);
            ExitCode::SUCCESS
        }
        Some(Role::TlsAlone(alone)) => tls::run(alone),
        Some(Role::Pinned(pinned)) => process::become_pinned(pinned.place(), &pinned.program),
        None => run(&arguments, max_descriptors),
    }
}

/// Does what the command line asks for.
fn run(arguments: &Arguments, max_descriptors: u64) -> ExitCode {
    if arguments.list {
        for case in cases::ALL {
            println!("{:20}{}", case.name, case.about);
        }
        return ExitCode::SUCCESS;
    }
    self_test::run();
    if arguments.is_self_test() {
        println!("the verification finds gaps, duplicates, reordering and changed bytes");
        return ExitCode::SUCCESS;
    }
    let bench = Bench {
        layout: Layout::of_this_machine(),
        gateway: arguments.gateway.clone(),
        scale: if arguments.smoke {
            Scale::Smoke
        } else {
            Scale::Full
        },
        max_descriptors,
    };
    let cases: Vec<&Case> = cases::ALL
        .iter()
        .filter(|case| arguments.wants(case))
        .collect();
    bench.introduce(cases.len());
    machine::pin(bench.layout.load);
    bench.measure(&cases)
}

impl Bench {
    /// One number for a full run, another for a smoke run.
    fn pick<T>(&self, full: T, smoke: T) -> T {
        match self.scale {
            Scale::Full => full,
            Scale::Smoke => smoke,
        }
    }

    /// The gateway, delivering as events come.
    fn gateway(&self) -> Kind {
        Kind::Gateway(self.setup())
    }

    /// The gateway, with other limits than those that nothing exceeds.
    fn gateway_that(&self, keeps: &'static str) -> Kind {
        Kind::Gateway(Setup {
            keeps,
            ..self.setup()
        })
    }

    /// The gateway with a template, of which its channels are the instances.
    fn gateway_with_template(&self, channels: Channels) -> Kind {
        Kind::Gateway(Setup {
            channels,
            ..self.setup()
        })
    }

    /// The gateway over TLS.
    fn gateway_with_tls(&self) -> Kind {
        Kind::Gateway(Setup {
            speaks: Speaks::Tls,
            ..self.setup()
        })
    }

    /// The gateway, gathering events for so long.
    fn gateway_with_coalesce(&self, time: &'static str) -> Kind {
        Kind::Gateway(Setup {
            coalesce: Some(time),
            ..self.setup()
        })
    }

    /// The gateway, which passes what is for no channel through to this origin.
    fn gateway_with_proxy(&self, upstream: SocketAddr) -> Kind {
        Kind::Gateway(Setup {
            proxies: Some(upstream),
            ..self.setup()
        })
    }

    fn setup(&self) -> Setup {
        Setup {
            binary: self.gateway.clone(),
            coalesce: None,
            keeps: KEEPS_ALL,
            speaks: Speaks::Clear,
            channels: Channels::Literal,
            proxies: None,
        }
    }

    fn introduce(&self, n_cases: usize) {
        println!(
            "The gateway beside a bare loop that only writes, both reading the same origin.\n\
             {n_cases} cases, {}. On {}.\n\
             The server runs on processor {}, origin and load client on processor {}. \
             Medians of windows in turn (least–greatest).\n\
             What else the machine does is in the numbers, too: stop it first.",
            self.pick(
                "about a quarter of an hour for all",
                "small ones: they show no speed"
            ),
            machine::describe(),
            self.layout.server,
            self.layout.load,
        );
        if self.layout.server == self.layout.load {
            println!("There is only one processor: the numbers mean little.");
        }
        if self.max_descriptors < self.pick(20_000, 1_500) {
            println!(
                "A process may open only {} descriptors: cases that need more will fail.",
                self.max_descriptors
            );
        }
        println!();
    }

    /// Runs cases one after the other. Fails if one of them did, or if anything was delivered wrong.
    fn measure(&self, cases: &[&Case]) -> ExitCode {
        let started_at = clock::now();
        let mut rows: Vec<Row> = Vec::new();
        let mut failed = Vec::new();
        for (n, case) in cases.iter().enumerate() {
            eprintln!("[{}/{}] {}: {}", n + 1, cases.len(), case.name, case.about);
            // A case that fails leaves the others their chance; its servers are gone by then.
            match panic::catch_unwind(AssertUnwindSafe(|| (case.run)(self))) {
                Ok(of_case) => {
                    for row in of_case {
                        // A small case shows no speed, so there is nothing to judge.
                        let bar = self.pick(row.bar, Bar::None);
                        let row = Row {
                            case: case.name,
                            bar,
                            ..row
                        };
                        eprintln!("  {}", table::summary(&row));
                        rows.push(row);
                    }
                }
                Err(_) => failed.push(case.name),
            }
        }
        eprintln!();
        table::print(&rows);
        let mut faults = Faults::default();
        for row in &rows {
            faults += row.faults;
        }
        println!(
            "\nfaults in all: {faults}; {} s",
            (clock::now() - started_at) / SECOND
        );
        if !failed.is_empty() {
            println!("failed: {}", failed.join(", "));
        }
        ExitCode::from(u8::from(faults.total() > 0 || !failed.is_empty()))
    }
}
