//! `ssecast check FILE`

use std::path::Path;

use super::Finished;
use crate::config::Config;

/// Says what is wrong with a file, or what is in it.
pub(super) fn run(file: &Path) -> Finished {
    let loaded = match Config::load(file) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
    };
    let (n_channels, n_listeners) = (loaded.config.channels.len(), loaded.config.listeners.len());
    let (channels, listeners) = (
        plural(n_channels, "channel"),
        plural(n_listeners, "listener"),
    );
    let output = format!("{}: fine: {channels}, {listeners}\n", file.display());
    Finished {
        complaint: loaded.warnings.to_string(),
        ..Finished::fine(output)
    }
}

fn plural(n: usize, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{ending}")
}
