//! Where the process's log goes: standard error, readable by people and by journald.
//!
//! journald notes the time of each line itself, and reads its priority from a prefix
//! (`sd-daemon(3)`): so what goes to it has no time, no colours and no level in words. The native
//! protocol would carry the fields apart from the message, where `journalctl` does not show them; the
//! prefix keeps a line as it reads in a terminal.

use std::borrow::Cow;
use std::env;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{IsTerminal as _, stderr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// What the level `debug` means.
const QUIET_DEBUG: &str = "debug,h2=info";

/// Sends the log to standard error.
///
/// # Errors
///
/// If the filter can't be understood.
pub fn install(filter: &str) -> Result<(), String> {
    // A word that is no level would be taken for the name of a module, and silence all others.
    let is_word = !filter.contains(['=', ',', ':', '[']);
    let level = filter.parse::<LevelFilter>();
    if is_word && level.is_err() {
        return Err(format!(
            "--log {filter:?} is not a level; write error, warn, info, debug, trace or off, or a \
             filter such as `info,ssecast::http=debug`"
        ));
    }
    let meant = match level {
        // At `debug`, h2 writes a line per frame. Bytes are what `trace` is for.
        Ok(LevelFilter::DEBUG) if is_word => Cow::Borrowed(QUIET_DEBUG),
        // rustls warns of whatever a peer does wrong, so that anybody could fill the log. What of it
        // matters is told by whoever was to be connected.
        Ok(LevelFilter::ERROR | LevelFilter::WARN | LevelFilter::INFO) if is_word => {
            Cow::Owned(format!("{filter},rustls=off"))
        }
        _ => Cow::Borrowed(filter),
    };
    let filter = EnvFilter::try_new(meant)
        .map_err(|error| format!("--log {filter:?} is neither a level nor a filter: {error}"))?;
    let is_detailed = filter
        .max_level_hint()
        .is_none_or(|level| level > LevelFilter::INFO);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        // Who says it matters where libraries speak too.
        .with_target(is_detailed);
    if stderr_is_journal() {
        let line = Format::default()
            .without_time()
            .with_level(false)
            .with_target(is_detailed);
        log.with_ansi(false)
            .event_format(ForJournal { line })
            .init();
    } else {
        log.init();
    }
    Ok(())
}

/// A text for standard error that is not a line of the log, as it is to be written there.
pub fn for_stderr(text: &str) -> Cow<'_, str> {
    if !stderr_is_journal() {
        return Cow::Borrowed(text);
    }
    let mut priority = ERROR;
    let mut prefixed = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with("error") {
            priority = ERROR;
        } else if line.starts_with("warning") {
            priority = WARNING;
        }
        push_line(&mut prefixed, priority, line);
    }
    Cow::Owned(prefixed)
}

/// Whether what we write to standard error goes to journald (`systemd.exec(5)`, `$JOURNAL_STREAM`). The
/// variable alone does not say so: standard error may have been redirected since.
fn stderr_is_journal() -> bool {
    let Some(journal) = env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let stderr = stderr().as_fd().try_clone_to_owned().map(File::from);
    stderr
        .and_then(|stderr| stderr.metadata())
        .is_ok_and(|metadata| journal == format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// A line with the prefix of its priority; each line, if the message has several.
struct ForJournal {
    line: Format<Full, ()>,
}

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.line
            .format_event(context, Writer::new(&mut text), event)?;
        let priority = priority(*event.metadata().level());
        let mut prefixed = String::with_capacity(text.len() + 8);
        for line in text.lines() {
            push_line(&mut prefixed, priority, line);
        }
        writer.write_str(&prefixed)
    }
}

/// Priorities of `syslog(3)`.
const ERROR: u8 = 3;
const WARNING: u8 = 4;
const INFO: u8 = 6;
const DEBUG: u8 = 7;

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => ERROR,
        Level::WARN => WARNING,
        Level::INFO => INFO,
        Level::DEBUG | Level::TRACE => DEBUG,
    }
}

fn push_line(text: &mut String, priority: u8, line: &str) {
    // Writing to a string does not fail; and journald drops empty lines.
    if !line.is_empty() && writeln!(text, "<{priority}>{line}").is_err() {
        text.push('\n');
    }
}
