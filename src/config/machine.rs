//! What a configuration asks for, against what the machine allows.
//!
//! A file is right or wrong wherever it is read; whether a machine can do what it says is another
//! question, asked of a configuration that is right. Nothing here looks at the machine: who asks
//! brings what it has seen.

use crate::config::Config;
use crate::config::Loaded;
use crate::config::diagnostics::Diagnostic;
use crate::config::diagnostics::Diagnostics;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::schema::ServerTable;
use crate::config::snippet::Snippet;
use crate::config::snippet::Source;
use crate::config::units::show_bytes;

/// What a process of this user may have on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// The hard limit on open descriptors.
    pub descriptors: u64,
    /// How many connections those allow, less what the configuration needs for itself.
    pub connections: usize,
    /// The memory that it may use; `None`: nobody says.
    pub memory: Option<MemoryLimit>,
}

/// How much memory there is, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// The limit of the control group.
    Group(u64),
    /// What is built in.
    Installed(u64),
}

/// Where a file says what a machine may not allow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    file: String,
    max_connections: Option<Snippet>,
    queue: Option<Snippet>,
    memory: Option<Snippet>,
}

impl Places {
    pub(super) fn find(table: &ServerTable, source: &Source<'_>) -> Self {
        Self {
            file: source.name.to_owned(),
            max_connections: table
                .max_connections
                .span()
                .map(|span| source.snippet(span)),
            queue: table
                .connection_rate
                .written()
                .and_then(|rate| rate.queue.span())
                .map(|span| source.snippet(span)),
            memory: table.memory.span().map(|span| source.snippet(span)),
        }
    }
}

impl Loaded {
    /// What this machine may not allow.
    pub fn beyond(&self, machine: &Machine) -> Diagnostics {
        let Self { config, places, .. } = self;
        let connections = connections(config, machine).map(|it| (it, &places.max_connections));
        let queue = queue(config, machine).map(|it| (it, &places.queue));
        let memory = memory(config, machine).map(|it| (it, &places.memory));
        let found = [connections, queue, memory].into_iter().flatten();
        Diagnostics::of(found.map(|(mistake, snippet)| {
            Diagnostic::about_file(Severity::Warning, &mistake, &places.file, snippet.clone())
        }))
    }
}

fn connections(config: &Config, machine: &Machine) -> Option<Mistake> {
    let Machine {
        descriptors,
        connections,
        ..
    } = machine;
    let wanted = config.server.max_connections.unwrap_or(1);
    if wanted <= *connections {
        return None;
    }
    let limit = format!("the hard limit of {descriptors} descriptors here");
    let raise = "raise the limit (`ulimit -Hn`, or `LimitNOFILE=` of the systemd unit, whose limit \
                 may be another than that of this shell)";
    Some(if *connections == 0 {
        let message = format!("{limit} leaves none for clients");
        Mistake::new(message, raise)
    } else {
        let message = format!(
            "is {wanted}, but {limit} allows {connections}, besides what the gateway needs itself"
        );
        let advice = format!("{raise}, or write at most {connections}");
        Mistake::new(message, advice).of("max_connections")
    })
}

/// Who waits has a connection.
fn queue(config: &Config, machine: &Machine) -> Option<Mistake> {
    let server = &config.server;
    let (queue, rate) = server.connection_rate.map(|rate| (rate.queue, rate))?;
    let connections = server.max_connections.unwrap_or(usize::MAX);
    let there = connections.min(machine.connections);
    if queue <= there || there == 0 {
        return None;
    }
    let message =
        format!("is {queue}, but there may be {there} connections, those who wait included");
    let per_second = rate.per_second;
    let advice = format!("write at most {there}; {per_second} of them are let in each second");
    Some(Mistake::new(message, advice).of("connection_rate.queue"))
}

fn memory(config: &Config, machine: &Machine) -> Option<Mistake> {
    let (there, whose) = match machine.memory? {
        MemoryLimit::Group(bytes) => (bytes, "the control group here allows (`MemoryMax=`)"),
        MemoryLimit::Installed(bytes) => (bytes, "this machine has"),
    };
    let there = usize::try_from(there).unwrap_or(usize::MAX);
    // The allocator and the process itself have their share.
    let advisable = there - there / 4;
    let memory = config.server.memory;
    if memory <= advisable {
        return None;
    }
    let message = format!(
        "is {}, which leaves too little of the {} that {whose}",
        show_bytes(memory),
        show_rounded(there)
    );
    let advice = format!("write at most `\"{}\"`", show_rounded(advisable));
    Some(Mistake::new(message, advice).of("memory"))
}

/// A size as one would write it: whole MiB where it is more than that.
fn show_rounded(bytes: usize) -> String {
    const MIB: usize = 1024 * 1024;
    show_bytes(if bytes > MIB {
        bytes / MIB * MIB
    } else {
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        descriptors: 1024,
        connections: 900,
        memory: Some(MemoryLimit::Installed(8 << 30)),
    };

    fn said(server: &str, machine: &Machine) -> String {
        let text = format!(
            "[server]\n{server}\n[listen.public]\naddress = \"127.0.0.1:8080\"\n\
             [channels.events]\npath = \"/events\"\nupstream = \"http://127.0.0.1:3000/\"\n"
        );
        let loaded = Config::parse("test.toml", &text).expect("a configuration");
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        loaded.beyond(machine).to_string()
    }

    #[test]
    fn what_a_machine_allows_is_not_warned_of() {
        for server in ["", "max_connections = 900", "memory = \"6GiB\""] {
            assert_eq!(said(server, &MACHINE), "", "{server}");
        }
        let silent = Machine {
            memory: None,
            ..MACHINE
        };
        assert_eq!(said("memory = \"1024GiB\"", &silent), "");
    }

    #[test]
    fn more_connections_than_descriptors_are_warned_of_at_their_place() {
        assert_eq!(
            said("max_connections = 901", &MACHINE),
            "\
warning: `max_connections` is 901, but the hard limit of 1024 descriptors here allows 900, besides what the gateway needs itself
 --> test.toml:2:19
  |
2 | max_connections = 901
  |                   ^^^
  = help: raise the limit (`ulimit -Hn`, or `LimitNOFILE=` of the systemd unit, whose limit may be another than that of this shell), or write at most 900
"
        );
        let none = Machine {
            connections: 0,
            ..MACHINE
        };
        let said = said("", &none);
        assert!(said.contains("leaves none for clients"), "{said}");
        assert!(said.contains("--> test.toml\n"), "{said}");
    }

    #[test]
    fn more_memory_than_there_is_is_warned_of_written_or_not() {
        let said_of = |server: &str, memory| {
            let machine = Machine {
                memory: Some(memory),
                ..MACHINE
            };
            said(server, &machine)
        };
        let group = said_of("memory = \"1GiB\"", MemoryLimit::Group(1 << 30));
        for part in ["test.toml:2:10", "MemoryMax=", "at most `\"768MiB\"`"] {
            assert!(group.contains(part), "{part}: {group}");
        }
        let by_default = said_of("", MemoryLimit::Installed(1 << 30));
        for part in [
            "`memory` is 2GiB",
            "1GiB that this machine has",
            "--> test.toml\n",
        ] {
            assert!(by_default.contains(part), "{part}: {by_default}");
        }
    }
}
