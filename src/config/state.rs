//! Where a process leaves its state to its successor.

use std::path::PathBuf;

use crate::config::findings::Mistake;
use crate::config::reader::FromText;

/// `state`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateKeeping {
    /// In this directory.
    At(PathBuf),
    /// In the directory that the service manager gave, if it gave one (`$STATE_DIRECTORY`).
    Managed,
    /// Nowhere.
    Off,
}

impl FromText for StateKeeping {
    const EXAMPLE: &'static str = "\"/var/lib/ssecast\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let refuse = |message: &str, advice: &str| Err(Mistake::new(message, advice));
        match text {
            "none" => Ok(Self::Off),
            "" | "false" | "never" | "no" | "off" => refuse(
                "must be the path of a directory",
                "for none at all, write `\"none\"`",
            ),
            _ if text.contains('\0') => refuse(
                "must be the path of a directory",
                "like `\"/var/lib/ssecast\"`",
            ),
            _ if !text.starts_with('/') => refuse(
                "must be an absolute path",
                "write it from the root on, like `\"/var/lib/ssecast\"`",
            ),
            _ => Ok(Self::At(PathBuf::from(text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_would_be_right() {
        let at = StateKeeping::At(PathBuf::from("/var/lib/ssecast"));
        assert_eq!(StateKeeping::from_text("/var/lib/ssecast"), Ok(at));
        assert_eq!(StateKeeping::from_text("none"), Ok(StateKeeping::Off));
        for (text, right) in [("state", "from the root on"), ("", "none"), ("off", "none")] {
            let mistake = StateKeeping::from_text(text).unwrap_err();
            assert!(mistake.advice.contains(right), "{text}: {mistake:?}");
        }
    }
}
