//! `ssecast check FILE`

use std::path::Path;

use super::Finished;
use crate::app::upstream_tls_errors;
use crate::config::Config;
use crate::net::client_tls::ClientTls;

/// Says what is wrong with a file, or what is in it.
pub(super) fn run(file: &Path) -> Finished {
    let loaded = match Config::load(file) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
    };
    let errors = upstream_tls_errors(&loaded.config, &ClientTls::default());
    if !errors.is_empty() {
        let errors: String = (errors.iter())
            .map(|error| format!("error: {error}\n  --> {}\n", file.display()))
            .collect();
        return Finished::failed(format!("{}{errors}", loaded.warnings));
    }
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
