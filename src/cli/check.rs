//! `ssecast check FILE`

use std::path::Path;
use std::time::SystemTime;

use super::{Finished, machine};
use crate::app::{RunError, upstream_tls_errors};
use crate::config::{Config, Listener, Severity};
use crate::net::client_tls::ClientTls;
use crate::net::tls::{ServerTls, Standing, Validity};

/// Says what is wrong with a file, or what is in it.
pub(super) fn run(file: &Path) -> Finished {
    let loaded = match Config::load(file) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
    };
    let beyond = loaded.beyond(&machine::look(&loaded.config));
    let mut complaint = format!("{}{beyond}", loaded.warnings);
    let upstreams = upstream_tls_errors(&loaded.config, &ClientTls::default());
    let upstreams = upstreams
        .iter()
        .map(|error| (Severity::Error, error.to_string()));
    let listeners = loaded.config.listeners.iter().flat_map(doubts);
    let mut are_fine = true;
    for (severity, message) in upstreams.chain(listeners) {
        are_fine &= severity == Severity::Warning;
        let file = file.display();
        complaint.push_str(&format!("{severity}: {message}\n  --> {file}\n"));
    }
    if !are_fine {
        return Finished::failed(complaint);
    }
    let Config {
        channels,
        proxies,
        listeners,
        ..
    } = &loaded.config;
    let mut parts = Vec::new();
    if !channels.is_empty() {
        parts.push(plural(channels.len(), ("channel", "channels")));
    }
    if !proxies.is_empty() {
        parts.push(plural(proxies.len(), ("proxy", "proxies")));
    }
    parts.push(plural(listeners.len(), ("listener", "listeners")));
    let output = format!("{}: fine: {}\n", file.display(), parts.join(", "));
    Finished {
        complaint,
        ..Finished::fine(output)
    }
}

/// What is wrong with the certificates of a listener, or soon will be.
fn doubts(listener: &Listener) -> Vec<(Severity, String)> {
    let name = listener.name.clone();
    let tls = listener.tls.as_ref().map(|tls| ServerTls::load(&name, tls));
    match tls {
        None => Vec::new(),
        Some(Err(cause)) => {
            let error = RunError::Certificate { name, cause };
            vec![(Severity::Error, error.to_string())]
        }
        Some(Ok(tls)) => {
            let now = SystemTime::now();
            let doubts = tls
                .validity()
                .into_iter()
                .filter_map(|one| doubt(&one, now));
            doubts.map(|doubt| (Severity::Warning, doubt)).collect()
        }
    }
}

/// What clients say of a certificate, or soon will.
fn doubt(validity: &Validity, now: SystemTime) -> Option<String> {
    let what = match validity.standing(now) {
        Standing::Fine => return None,
        Standing::Expired => "has expired",
        Standing::ExpiresSoon => "expires soon",
        Standing::NotYetValid => "is not valid yet",
    };
    let file = validity.certificate.display();
    let [from, to] = [validity.not_before, validity.not_after].map(httpdate::fmt_http_date);
    Some(format!(
        "{file}: the certificate {what} (it is valid from {from} to {to})"
    ))
}

fn plural(n: usize, (one, many): (&str, &str)) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
