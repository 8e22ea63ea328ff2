//! What is made from the definitions of the commands: completions for shells and manual pages. So
//! neither can tell of an option that is not there.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Finished};

/// `ssecast completions SHELL`
pub(super) fn completions(shell: Shell) -> Finished {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ssecast", &mut script);
    Finished::fine(String::from_utf8_lossy(&script).into_owned())
}

/// `ssecast man DIRECTORY`
pub(super) fn man_pages(directory: &Path) -> Finished {
    let written = clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
        let directory = directory.display();
        format!("can't write the manual pages to {directory}: {error}")
    });
    Finished::from_result(written)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let script = completions(*shell).output;
            for command in Cli::command().get_subcommands() {
                let name = command.get_name();
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(man_pages(directory.path()).complaint, "");
        let written: BTreeSet<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut expected = BTreeSet::from(["ssecast.1".to_owned()]);
        for command in Cli::command().get_subcommands() {
            expected.insert(format!("ssecast-{}.1", command.get_name()));
        }
        assert_eq!(written, expected);
        let serve = std::fs::read_to_string(directory.path().join("ssecast-serve.1")).unwrap();
        assert!(serve.contains("upstream"), "{serve}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_told() {
        let complaint = man_pages(Path::new("/nonexistent/man")).complaint;
        assert!(complaint.contains("/nonexistent/man"), "{complaint}");
    }
}
