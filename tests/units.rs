//! The systemd units, as systemd itself reads them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a failed helper is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ssecast::systemd::STOP_TIMEOUT;
use tempfile::TempDir;

/// Exposure that is allowed, in tenths: of 10, where 0 is a service that can do nothing.
const MOST_EXPOSURE: &str = "15";

/// The units, as they are for the binary under test.
struct Units {
    directory: TempDir,
    files: Vec<PathBuf>,
}

impl Units {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
        let mut files = Vec::new();
        for entry in fs::read_dir(source).expect("the units") {
            let path = entry.expect("a unit").path();
            let text = fs::read_to_string(&path).expect("a unit");
            let text = text.replace("/usr/bin/ssecast", env!("CARGO_BIN_EXE_ssecast"));
            let copy = directory.path().join(path.file_name().expect("a name"));
            fs::write(&copy, text).expect("a copy");
            files.push(copy);
        }
        Self { directory, files }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).expect("a unit")
    }
}

fn analyze(arguments: &[&str], units: &[PathBuf]) -> Output {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .args(units)
        .output();
    output.unwrap_or_else(|error| panic!("systemd-analyze (Debian package systemd): {error}"))
}

fn setting<'a>(unit: &'a str, key: &str) -> &'a str {
    unit.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("{key}= is not there"))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let units = Units::new();
    assert_eq!(units.files.len(), 3, "a service and two sockets");
    let output = analyze(&["verify", "--man=no"], &units.files);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
}

#[test]
fn the_service_can_do_little_but_its_work() {
    let units = Units::new();
    let service = units.directory.path().join("ssecast.service");
    let threshold = format!("--threshold={MOST_EXPOSURE}");
    let output = analyze(
        &["security", "--offline=true", "--no-pager", &threshold],
        &[service],
    );
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_time_for_a_stop_is_what_the_check_believes() {
    let service = Units::new().text("ssecast.service");
    let seconds = STOP_TIMEOUT.as_secs();
    assert_eq!(setting(&service, "TimeoutStopSec"), format!("{seconds}s"));
}

#[test]
fn the_sockets_start_the_one_service_and_have_names() {
    let units = Units::new();
    let (http, https) = (
        units.text("ssecast.socket"),
        units.text("ssecast-https.socket"),
    );
    assert_eq!(setting(&http, "FileDescriptorName"), "http");
    assert_eq!(setting(&https, "FileDescriptorName"), "https");
    assert_eq!(setting(&https, "Service"), "ssecast.service");
}
