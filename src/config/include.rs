//! Files that a file includes: `include = ["conf.d/*.toml"]`.
//!
//! Included files may hold `[channels.NAME]` and `[listen.NAME]`. Each is looked at alone first, so
//! that what is wrong with its syntax stays in it. Then they are read as if they stood at the end of
//! the file that includes them: so a table that is given twice is found wherever the two are. Places
//! in the whole are places in the files by [`Part`].

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use glob::GlobError;
use glob::MatchOptions;
use glob::Pattern;
use glob::glob_with;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::config::Diagnostics;
use crate::config::credential;
use crate::config::diagnostics::Diagnostic;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::reader::FromText;
use crate::config::snippet::Part;
use crate::config::snippet::Source;
use crate::config::syntax;

/// The files that a configuration was read from, and where more may appear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The files, the one that includes the others first.
    pub files: Vec<PathBuf>,
    /// The directories in which a new file may be one of them.
    pub directories: Vec<PathBuf>,
}

/// `include`: a path that may have wildcards, relative to the file that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IncludePattern(String);

/// A file and those that it includes, as one text.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) text: String,
    /// Where the included files begin.
    pub(super) parts: Vec<Part>,
    pub(super) sources: Sources,
}

/// Characters that make a path a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];

/// Hidden files are not meant: editors leave them beside those that are being changed, and Kubernetes
/// keeps what a `ConfigMap` links to in hidden directories.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: false,
    require_literal_leading_dot: true,
};

/// What may stand in an included file.
const TABLES: [&str; 4] = ["bundles", "channels", "listen", "proxies"];

impl Sources {
    /// What a file leads to at present, however wrong it is: what is watched until it is right.
    pub fn of(path: &Path) -> Self {
        look(path, &super::read_text(path).unwrap_or_default()).0
    }
}

impl FromText for IncludePattern {
    const EXAMPLE: &'static str = "\"conf.d/*.toml\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let advice = format!("write a path with wildcards, like `{}`", Self::EXAMPLE);
        if text.is_empty() {
            return Err(Mistake::new("cannot be empty", advice));
        }
        match Pattern::new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(Mistake::new(
                format!("is no pattern: {}", error.msg),
                advice,
            )),
        }
    }
}

/// Reads the files that a file includes.
///
/// # Errors
///
/// Everything that is wrong with them alone; what is wrong with the file itself is not looked at.
pub(super) fn gather(path: &Path, mut text: String) -> Result<Gathered, Diagnostics> {
    let (sources, mut found) = look(path, &text);
    let mut parts = Vec::new();
    for file in sources.files.iter().skip(1) {
        match super::read_text(file) {
            Ok(included) => {
                let name = file.display().to_string();
                found.extend(check(&name, &included));
                text.push('\n');
                let start = text.len();
                parts.push(Part { start, name });
                // A byte order mark is one only where a text begins.
                text.push_str(&included.replacen('\u{FEFF}', "   ", 1));
            }
            Err(diagnostics) => found.extend(diagnostics),
        }
    }
    if found.is_empty() {
        Ok(Gathered {
            text,
            parts,
            sources,
        })
    } else {
        Err(Diagnostics::of(found.into_iter()))
    }
}

/// The files that a file includes, which are not read, and what is wrong with how it names them.
fn look(path: &Path, text: &str) -> (Sources, Vec<Diagnostic>) {
    let mut sources = Sources {
        files: vec![path.to_owned()],
        directories: Vec::new(),
    };
    let mut findings = Vec::new();
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut files = BTreeSet::new();
    for (pattern, span) in patterns(text) {
        let whole = directory.join(&pattern);
        sources.directories.extend(directories(directory, &pattern));
        let (matching, unreadable) = matching(directory, &pattern);
        let is_missing = matching.is_empty() && !pattern.contains(WILDCARDS);
        let missing = is_missing.then(|| {
            let message = format!("there is no file {}", whole.display());
            let advice = "check the path, which is relative to this file; with a wildcard, as in \
                          `\"conf.d/*.toml\"`, there may be none";
            Mistake::new(message, advice)
        });
        let unreadable = unreadable.iter().map(|error| {
            let message = format!(
                "{} can't be read: {}",
                error.path().display(),
                error.error()
            );
            let advice = "let the user that runs the gateway read the directory";
            Mistake::new(message, advice)
        });
        let mistakes = missing.into_iter().chain(unreadable);
        findings.extend(
            mistakes.map(|mistake| Finding::new(Severity::Error, Some(span.clone()), mistake)),
        );
        files.extend(matching);
    }
    sources.files.extend(files);
    let name = path.display().to_string();
    let found = locate(&name, text, findings);
    (sources, found.into_iter().collect())
}

/// What `include` says, as far as it can be read; the reader of the whole says what is wrong with it.
fn patterns(text: &str) -> Vec<(String, Range<usize>)> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let Some(value) = table.get_ref().get("include").filter(|_| errors.is_empty()) else {
        return Vec::new();
    };
    let of = |value: &toml::Spanned<DeValue<'_>>| {
        let text = value.get_ref().as_str()?;
        IncludePattern::from_text(text).ok()?;
        Some((text.to_owned(), value.span()))
    };
    match value.get_ref().as_array() {
        Some(list) => list.iter().filter_map(of).collect(),
        None => of(value).into_iter().collect(),
    }
}

/// The files that match a pattern, and which directories can't be read: what is in them is unknown,
/// which is not nothing.
fn matching(directory: &Path, pattern: &str) -> (Vec<PathBuf>, Vec<GlobError>) {
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    let found = glob_with(&absolute(directory, pattern), MATCHING);
    for found in found.into_iter().flatten() {
        match found {
            Ok(path) if !path.is_dir() => files.push(path),
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    (files, errors)
}

/// Where a file that matches a pattern may appear; of a directory that is not there, the nearest one
/// above it that is.
fn directories(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let parent = Path::new(pattern).parent().and_then(Path::to_str);
    let Some(parent) = parent.filter(|parent| !parent.is_empty()) else {
        return vec![directory.to_owned()];
    };
    let found = glob_with(&absolute(directory, parent), MATCHING);
    let mut all: Vec<PathBuf> = found.into_iter().flatten().filter_map(Result::ok).collect();
    all.retain(|path| path.is_dir());
    let steps = Path::new(parent).ancestors().filter_map(Path::to_str);
    let mut fixed = steps.filter(|step| !step.contains(WILDCARDS));
    let above = fixed.find(|step| directory.join(step).is_dir());
    all.extend(above.map(|step| directory.join(step)));
    all
}

/// The pattern from `directory` on, whatever that is called.
fn absolute(directory: &Path, pattern: &str) -> String {
    if Path::new(pattern).is_absolute() || directory.as_os_str().is_empty() {
        return pattern.to_owned();
    }
    let directory = Pattern::escape(&directory.to_string_lossy());
    format!("{directory}/{pattern}")
}

/// What is wrong with an included file, looked at alone.
fn check(name: &str, text: &str) -> Vec<Diagnostic> {
    let (whole_lines, mut errors) = syntax::without_broken_lines(text);
    let (table, more_errors) = DeTable::parse_recoverable(&whole_lines);
    errors.extend(more_errors);
    let table = table.get_ref();
    let mut findings = Findings::default();
    let advice = "begin it with `[channels.NAME]` or `[listen.NAME]`, and write the rest in the file \
                  that includes it";
    if let Some(line) = first_line(text)
        && !text.get(line.clone()).unwrap_or_default().starts_with('[')
    {
        let message = "an included file holds only tables";
        findings.error(line, Mistake::new(message, advice));
    } else {
        let others = table.keys().filter(|key| {
            let key: &str = key.get_ref();
            !TABLES.contains(&key)
        });
        for key in others {
            let message = format!("`{}` is not for an included file", key.get_ref());
            findings.error(key.span(), Mistake::new(message, advice));
        }
    }
    let mut source = Source {
        name,
        text,
        secrets: credential::secrets(text, table),
        parts: Vec::new(),
    };
    syntax::report(errors, table, &mut source, &mut findings);
    Diagnostics::locate(findings.list, &source)
        .into_iter()
        .collect()
}

fn locate(name: &str, text: &str, findings: Vec<Finding>) -> Diagnostics {
    let source = Source {
        name,
        text,
        secrets: Vec::new(),
        parts: Vec::new(),
    };
    Diagnostics::locate(findings, &source)
}

/// The first line that says something.
fn first_line(text: &str) -> Option<Range<usize>> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_start_matches('\u{FEFF}').trim();
        if !content.is_empty() && !content.starts_with('#') {
            let start = at + line.find(content).unwrap_or(0);
            return Some(start..start + content.len());
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::fs;
    use tempfile::TempDir;

    const MAIN: &str = "include = [\"conf.d/*.toml\", \"more/*/x.toml\"]\n\n\
                        [listen.public]\naddress = \"127.0.0.1:0\"\n";

    fn channel(name: &str, lines: &str) -> String {
        format!(
            "# A comment.\n\n[channels.{name}]\npath = \"/{name}\"\n\
             upstream = \"http://127.0.0.1:1/\"\n{lines}"
        )
    }

    fn directory(files: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        }
        directory
    }

    fn said(directory: &TempDir) -> String {
        let loaded = Config::load(&directory.path().join("main.toml"));
        let said = loaded.expect_err("it is wrong").to_string();
        said.replace(&format!("{}/", directory.path().display()), "")
    }

    #[test]
    fn included_files_are_read_in_the_order_of_their_names() {
        let (a, b, c) = (
            format!("\u{FEFF}{}", channel("a", "")),
            channel("b", "end = \"clean\""),
            channel("c", ""),
        );
        let directory = directory(&[
            ("main.toml", MAIN),
            ("conf.d/b.toml", &b),
            ("conf.d/a.toml", &a),
            ("conf.d/not.txt", "nothing"),
            ("conf.d/empty.toml", "# nothing\n"),
            ("more/1/x.toml", &c),
            ("more/1/y.toml", "nothing"),
        ]);
        let loaded = Config::load(&directory.path().join("main.toml"));
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
        let names: Vec<_> = loaded.config.channels.iter().map(|one| &one.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let relative = |paths: &[PathBuf]| -> Vec<String> {
            let paths = paths.iter().map(|path| path.strip_prefix(directory.path()));
            let paths = paths.map(|path| path.expect("in it").display().to_string());
            paths.collect()
        };
        assert_eq!(
            relative(&loaded.sources.files),
            [
                "main.toml",
                "conf.d/a.toml",
                "conf.d/b.toml",
                "conf.d/empty.toml",
                "more/1/x.toml"
            ]
        );
        assert_eq!(
            relative(&loaded.sources.directories),
            ["conf.d", "conf.d", "more/1", "more"]
        );
    }

    /// Emacs leaves a link that leads nowhere beside a file that is being changed; and what lies
    /// behind a `ConfigMap` of Kubernetes would be read twice.
    #[test]
    fn hidden_files_are_not_included() {
        let directory = directory(&[
            ("main.toml", MAIN),
            ("conf.d/a.toml", &channel("a", "")),
            ("conf.d/.hidden.toml", &channel("a", "")),
            ("more/1/x.toml", &channel("b", "")),
            ("more/..data/x.toml", &channel("b", "")),
        ]);
        let lock = directory.path().join("conf.d/.#a.toml");
        std::os::unix::fs::symlink("somebody@host.1", lock).expect("a link");
        let loaded = Config::load(&directory.path().join("main.toml"));
        let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.config.channels.len(), 2);
    }

    #[test]
    fn a_table_that_is_given_twice_is_named_with_both_files_and_lines() {
        let directory = directory(&[
            ("main.toml", MAIN),
            ("conf.d/a.toml", &channel("same", "")),
            ("conf.d/b.toml", &channel("same", "")),
        ]);
        let said = said(&directory);
        assert!(said.contains("`[channels.same]` is given twice"), "{said}");
        assert!(
            said.contains("--> conf.d/b.toml:3:") && said.contains("--> conf.d/a.toml:3:"),
            "{said}"
        );
    }

    #[test]
    fn what_is_wrong_is_said_of_the_file_that_it_is_in() {
        let secret = channel(
            "b",
            "upstream_headers = { Authorization = \"Bearer s3cret\" }\n",
        );
        let directory = directory(&[
            ("main.toml", &MAIN.replace("0\"", "0\"\ntypo = 1")),
            ("conf.d/a.toml", &channel("a", "heartbeet = \"1s\"\n")),
            ("conf.d/b.toml", &secret),
        ]);
        let said = said(&directory);
        assert!(said.contains("--> main.toml:5:1"), "{said}");
        assert!(said.contains("--> conf.d/a.toml:6:1"), "{said}");
        assert!(said.contains("--> conf.d/b.toml:"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }

    #[test]
    fn a_broken_file_breaks_no_other_and_only_tables_are_included() {
        for (text, part) in [
            ("[channels.a]\npath = [\"/a\"\n", "conf.d/a.toml:2:"),
            ("[channels.a\n", "conf.d/a.toml:1:"),
            (
                "path = \"/a\"\n[channels.a]\n",
                "an included file holds only tables",
            ),
            (
                "[defaults]\nheartbeat = \"1s\"\n",
                "`defaults` is not for an included file",
            ),
            ("[channels.a]\npath = \"/a\"\nx: 1\n", "conf.d/a.toml:3:"),
        ] {
            let directory = directory(&[
                ("main.toml", MAIN),
                ("conf.d/a.toml", text),
                ("conf.d/b.toml", &channel("b", "")),
            ]);
            let said = said(&directory);
            assert!(said.contains(part), "{text}\n{said}");
            assert!(
                !said.contains("b.toml") && !said.contains("main.toml"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_path_without_wildcards_must_be_there() {
        for (include, part) in [
            ("\"gone.toml\"", "there is no file"),
            ("[\"conf.d/*.toml\", \"\"]", "cannot be empty"),
            ("\"a[\"", "is no pattern"),
            ("7", "must be a string"),
        ] {
            let main = format!(
                "include = {include}\n[listen.a]\naddress = \"127.0.0.1:0\"\n{}",
                channel("a", "")
            );
            let directory = directory(&[("main.toml", &main)]);
            let said = said(&directory);
            assert!(
                said.contains(part) && said.contains("main.toml:1:"),
                "{include}\n{said}"
            );
        }
    }
}
