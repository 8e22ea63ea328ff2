//! What is written, what is meant by it, and what is said of mistakes.

mod file_less;
mod meaning;
mod mistakes;
mod pages;

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

const REFERENCE: &str = include_str!("../../../config/ssecast.toml");

const MINIMAL: &str = "\
[listen.public]
address = \"127.0.0.1:8080\"
[channels.events]
path = \"/events\"
upstream = \"http://127.0.0.1:3000/events\"
";

const LISTENER: &str = "[listen.public]\naddress = \"127.0.0.1:8080\"\n";

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = (fs::read_dir(&folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == extension))
        .collect();
    files.sort();
    files
}

fn parse(text: &str) -> Loaded {
    Config::parse("test.toml", text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// The rendered errors of a text that is refused.
fn refused(text: &str) -> String {
    Config::parse("test.toml", text)
        .expect_err(text)
        .to_string()
}

/// A channel of the minimal file with more settings.
fn channel(settings: &str) -> Arc<Channel> {
    let loaded = parse(&format!("{MINIMAL}{settings}\n"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    Arc::clone(&loaded.config.channels[0])
}

fn proxy(settings: &str) -> Arc<Proxy> {
    let least = "[proxies.api]\npath = \"/{*rest}\"\nupstream = \"http://127.0.0.1:3000\"\n";
    let loaded = parse(&format!("{LISTENER}{least}{settings}\n"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert!(loaded.config.channels.is_empty());
    Arc::clone(&loaded.config.proxies[0])
}
