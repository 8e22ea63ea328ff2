//! `upstream_tls`: whom the gateway trusts as an origin, and as whom it introduces itself.
//!
//! Plain types and the checks between their keys. The files are read by `net::client_tls`.

use std::path::PathBuf;

use crate::config::file_path::FilePath;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::reader::Setting;
use crate::config::schema::UpstreamTlsTable;

/// How https upstreams are spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// The authorities to trust, instead of the platform's.
    pub ca: Option<PathBuf>,
    /// What the gateway shows when the origin asks who it is.
    pub identity: Option<ClientIdentity>,
    /// The name that the origin's certificate must have; `None`: the URL's host.
    pub server_name: Option<String>,
    /// Whether the origin's certificate is looked at.
    pub verification: Verification,
}

/// `upstream_tls.certificate` and `upstream_tls.key`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientIdentity {
    /// The certificate and what leads from it to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `upstream_tls.dangerously_skip_verification`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Verification {
    /// Who can't prove that it is the origin is refused.
    #[default]
    Required,
    /// Anybody may be the origin.
    Skipped,
}

impl UpstreamTls {
    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let identity = self.identity.iter();
        let pair = identity.flat_map(|files| [&files.certificate, &files.key]);
        self.ca.iter().chain(pair)
    }

    /// For another origin than the one that was configured: it is trusted by the same authorities,
    /// but has its own name, and it is not told who the gateway is.
    pub fn elsewhere(&self) -> Self {
        Self {
            identity: None,
            server_name: None,
            ..self.clone()
        }
    }

    /// Whether nothing was configured.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a channel's table means, defaults inherited.
pub(super) fn meant(table: &UpstreamTlsTable) -> UpstreamTls {
    let path = |setting: &Setting<FilePath>| setting.written().map(|path| path.0.clone());
    let identity = path(&table.certificate)
        .zip(path(&table.key))
        .map(|(certificate, key)| ClientIdentity { certificate, key });
    UpstreamTls {
        ca: path(&table.ca),
        identity,
        server_name: table.server_name.written().map(|name| name.0.clone()),
        verification: table
            .dangerously_skip_verification
            .get_or(Verification::Required),
    }
}

/// What must hold between the keys of one table.
pub(super) fn check(table: &UpstreamTlsTable, findings: &mut Findings) {
    let pair = [
        ("certificate", &table.certificate, "key", &table.key),
        ("key", &table.key, "certificate", &table.certificate),
    ];
    for (key, setting, other_key, other) in pair {
        if let Some(span) = setting.span()
            && other.is_absent()
        {
            let message = format!("means nothing without `upstream_tls.{other_key}`");
            let ending = if other_key == "key" { "key" } else { "pem" };
            let advice = format!("add `{other_key} = \"/etc/ssecast/tls/client.{ending}\"`");
            let mistake = Mistake::new(message, advice);
            findings.error(span, mistake.of(&format!("upstream_tls.{key}")));
        }
    }
    let skip = &table.dangerously_skip_verification;
    let Some(span) = skip.span() else { return };
    if skip.written() != Some(&Verification::Skipped) {
        return;
    }
    let key = "upstream_tls.dangerously_skip_verification";
    let message = "is on: whoever answers in the origin's place is believed, and is sent what is \
                   meant for it";
    let advice = "trust the origin's own authority instead: \
                  `upstream_tls = { ca = \"/etc/ssecast/tls/ca.pem\" }`";
    findings.warn(span, Mistake::new(message, advice).of(key));
    if let Some(span) = table.ca.span() {
        let message = "is not looked at: `dangerously_skip_verification` is on";
        let advice = "remove `dangerously_skip_verification`";
        findings.warn(span, Mistake::new(message, advice).of("upstream_tls.ca"));
    }
}
