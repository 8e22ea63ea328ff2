//! Imports point downwards only. A module that needs something from above it is in the wrong layer,
//! or the thing is.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed helper is a failed test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up; modules of one layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &["count", "memory", "sse", "sync", "systemd"],
    &["config"],
    &["net", "log"],
    &["channel", "proxy"],
    &["delivery", "state"],
    &["http"],
    &["admin"],
    &["app"],
    &["demo"],
    &["cli"],
];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn source_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The top-level modules that a text names after `crate::`, also in a group.
fn imported_modules(text: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let group = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        for part in group
            .unwrap_or(rest)
            .split(',')
            .take(group.map_or(1, |_| usize::MAX))
        {
            let name = part
                .trim()
                .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .next();
            modules.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    modules
}

/// Every import that does not point downwards, as text.
fn violations(module: &str, text: &str) -> Vec<String> {
    let own = layer_of(module).unwrap_or_else(|| panic!("{module} is in no layer"));
    imported_modules(text)
        .into_iter()
        .filter(|other| other != module)
        .filter(|other| layer_of(other).is_some_and(|layer| layer >= own))
        .map(|other| format!("{module} imports {other}"))
        .collect()
}

#[test]
fn imports_point_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&root, &mut files);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&root).unwrap();
        let first = inside
            .components()
            .next()
            .expect("a path")
            .as_os_str()
            .to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        if matches!(module.as_str(), "main" | "lib") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        found.extend(
            violations(&module, &text)
                .into_iter()
                .map(|what| format!("{}: {what}", inside.display())),
        );
        seen.insert(module);
    }
    let expected: BTreeSet<String> = LAYERS
        .iter()
        .copied()
        .flatten()
        .map(|&name| name.to_owned())
        .collect();
    assert_eq!(seen, expected, "LAYERS and src/ name the same modules");
    assert!(
        found.is_empty(),
        "imports that do not point downwards:\n{}",
        found.join("\n")
    );
}

#[test]
fn an_upward_import_is_found() {
    assert_eq!(
        violations("log", "use crate::http::Gateway;"),
        ["log imports http"]
    );
    assert_eq!(
        violations("log", "use crate::{sse, delivery::Framing};"),
        ["log imports delivery"]
    );
    assert_eq!(
        violations("net", "fn f() { crate::log::Log; }"),
        ["net imports log"]
    );
    assert!(violations("http", "use crate::sse;\nuse crate::http::x;").is_empty());
}
