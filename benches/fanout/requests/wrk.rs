//! wrk, which asks as fast as it is answered.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use super::Page;
use crate::load::Faults;
use crate::process::Output;
use crate::process::Place;
use crate::process::Process;

/// A wrk under way; killed when dropped.
#[derive(Debug)]
pub(crate) struct Wrk {
    process: Process,
    time: Duration,
    _files: TempDir,
}

/// What it was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Whole answers.
    pub(crate) n_answers: u64,
    /// For how long it asked, in seconds.
    pub(crate) seconds: f64,
    /// Answers that are not what they should be, connections that broke, requests without an answer.
    pub(crate) faults: Faults,
}

/// Tells what it knows in a form to be read.
const SCRIPT: &str = r#"
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() n_wrong = 0 end
done = function(summary)
  local e = summary.errors
  local n_faults = e.connect + e.read + e.write + e.status + e.timeout
  for _, thread in ipairs(threads) do n_faults = n_faults + thread:get("n_wrong") end
  print(string.format("asked %d %d %d", summary.requests, summary.duration, n_faults))
end
"#;

/// Compares each answer with what it should be. A large one it would have to copy first.
fn comparison(page: Page) -> String {
    if page == Page::Large {
        return String::new();
    }
    format!(
        "local expected = \"{}\"\n\
         response = function(status, headers, body)\n\
         if status ~= 200 or body ~= expected then n_wrong = n_wrong + 1 end\n\
         end\n",
        page.content()
    )
}

impl Wrk {
    /// Starts to ask this server for so many seconds, by this many connections, for one page.
    pub(crate) fn start(
        place: Place,
        server: SocketAddr,
        (n_connections, page): (u32, Page),
        seconds: u64,
    ) -> Self {
        let files = TempDir::with_prefix("ssecast-bench-").unwrap();
        let script = files.path().join("wrk.lua");
        fs::write(&script, format!("{SCRIPT}{}", comparison(page))).unwrap();
        let program = [
            "wrk".into(),
            "--threads=1".into(),
            format!("--connections={n_connections}").into(),
            format!("--duration={seconds}s").into(),
            // Late is not lost: a machine that does something else must not make faults.
            "--timeout=10s".into(),
            "--script".into(),
            script.into_os_string(),
            format!("http://{server}{}", page.path()).into(),
        ];
        Self {
            process: Process::start(place, &program, Output::Lines),
            time: Duration::from_secs(seconds),
            _files: files,
        }
    }

    /// Whether it still asks.
    pub(crate) fn is_asking(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits until it has asked for as long as it was told.
    pub(crate) fn wait(self) -> Asked {
        loop {
            let line = self.process.reply(self.time + Duration::from_secs(20));
            let Some(numbers) = line.strip_prefix("asked ") else {
                continue;
            };
            let mut numbers = numbers.split(' ').map(|word| word.parse::<u64>().unwrap());
            let mut next = || numbers.next().expect("three numbers");
            return Asked {
                n_answers: next(),
                seconds: next() as f64 / 1e6,
                faults: Faults::cut(next()),
            };
        }
    }
}
