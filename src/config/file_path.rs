//! The names of files in the configuration: absolute, so that they mean the same wherever the
//! process was started. Nothing here looks whether there is such a file.

use std::path::PathBuf;

use crate::config::findings::Mistake;
use crate::config::reader::FromText;

/// The absolute path of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilePath(pub(super) PathBuf);

impl FromText for FilePath {
    const EXAMPLE: &'static str = "\"/etc/ssecast/tls/ca.pem\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let example = format!("like `{}`", Self::EXAMPLE);
        let refuse = |message: &str, advice: String| Err(Mistake::new(message, advice));
        if text.starts_with("-----BEGIN") {
            let advice = format!("write it to a file, and its path here, {example}");
            return refuse("must name a file, not hold its content", advice);
        }
        if text.is_empty() || text.ends_with('/') || text.contains('\0') {
            return refuse("must name a file", example);
        }
        if !text.starts_with('/') {
            let advice = format!("write it from the root on, {example}");
            return refuse("must be an absolute path", advice);
        }
        Ok(Self(PathBuf::from(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_would_be_right() {
        assert!(FilePath::from_text("/etc/ssecast/tls/ca.pem").is_ok());
        for (text, right) in [
            ("ca.pem", "from the root on"),
            ("", "like"),
            ("/etc/", "like"),
            ("-----BEGIN CERTIFICATE-----", "to a file"),
        ] {
            let mistake = FilePath::from_text(text).unwrap_err();
            assert!(mistake.advice.contains(right), "{text}: {mistake:?}");
        }
    }
}
