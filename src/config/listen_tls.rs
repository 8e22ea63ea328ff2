//! How a listener speaks TLS: its certificates, as files. Nothing here reads one.

use std::ops::Range;
use std::path::PathBuf;

use crate::config::file_path::FilePath;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::reader::Entry;
use crate::config::reader::Read;
use crate::config::reader::Setting;
use crate::config::reader::TableReader;
use crate::config::schema::CertificateTable;
use crate::config::schema::ListenTable;

/// `tls` of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenTls {
    /// Certificates of files; never empty. The first is for clients that name no host, or one that
    /// no certificate is for.
    Files(Vec<CertificateFiles>),
    /// A certificate that is made at the start, for development.
    SelfSigned,
}

/// A certificate with its chain, and its private key: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and those that lead from it to a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl ListenTls {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Files(list) => list
                .iter()
                .flat_map(|files| [files.certificate.clone(), files.key.clone()])
                .collect(),
            Self::SelfSigned => Vec::new(),
        }
    }
}

/// Where systemd puts the credentials of its services (`systemd.exec(5)`, `LoadCredential=`).
const CREDENTIALS: &str = "/run/credentials";

const EXAMPLE: &str = "`{ certificate = \"/etc/ssecast/tls/fullchain.pem\", \
                       key = \"/etc/ssecast/tls/key.pem\" }`";

impl Read for CertificateTable {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let Some(mut reader) = TableReader::inline(entry, findings) else {
            let message = format!("must be a table, or a list of tables, not {}", entry.kind());
            entry.refuse(Mistake::new(message, format!("write {EXAMPLE}")), findings);
            return None;
        };
        let mut table = Self::take(&mut reader);
        reader.finish(crate::config::schema::PLACES);
        table.certificate = reader.forgive("certificate", table.certificate);
        table.key = reader.forgive("key", table.key);
        Some(table)
    }
}

/// What the table of a listener means; `None`: no TLS, or nothing that can be used, which is
/// reported.
pub(super) fn meant(table: &ListenTable, findings: &mut Findings) -> Option<ListenTls> {
    let (written, span) = (table.tls.written()?, table.tls.span()?);
    if written.0.is_empty() {
        let advice = format!("write {EXAMPLE}, or leave `tls` out");
        findings.error(span, Mistake::new("the list is empty", advice).of("tls"));
    }
    let mut files = Vec::new();
    for one in &written.0 {
        files.extend(pair(one.get_ref(), one.span(), findings));
    }
    (!files.is_empty()).then_some(ListenTls::Files(files))
}

fn pair(
    table: &CertificateTable,
    span: Range<usize>,
    findings: &mut Findings,
) -> Option<CertificateFiles> {
    for (key, is_absent) in [
        ("certificate", table.certificate.is_absent()),
        ("key", table.key.is_absent()),
    ] {
        if is_absent {
            let message = format!("`tls` has no `{key}`");
            let advice = format!("both are needed: {EXAMPLE}");
            findings.missing(Some(span.clone()), Mistake::new(message, advice));
        }
    }
    warn_of_credential("tls.certificate", &table.certificate, findings);
    warn_of_credential("tls.key", &table.key, findings);
    Some(CertificateFiles {
        certificate: table.certificate.written()?.0.clone(),
        key: table.key.written()?.0.clone(),
    })
}

/// What systemd's `LoadCredential=` gave the service at its start stays as it is until the next, so
/// the renewal of a certificate would not be seen.
fn warn_of_credential(key: &str, file: &Setting<FilePath>, findings: &mut Findings) {
    if let (Some(FilePath(path)), Some(span)) = (file.written(), file.span())
        && path.starts_with(CREDENTIALS)
    {
        let message = "a credential of systemd does not change while the service runs";
        let advice = "restart the service after each renewal, as a reload finds the old file; or \
                      name a file that the service may read itself";
        findings.warn(span, Mistake::new(message, advice).of(key));
    }
}
