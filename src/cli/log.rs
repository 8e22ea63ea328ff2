//! Where the process's log goes: standard error, readable by people and by journald.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Sends the log to standard error.
///
/// # Errors
///
/// If the filter can't be understood.
pub fn install(filter: &str) -> Result<(), String> {
    // A word that is no level would be taken for the name of a module, and silence all others.
    let is_word = !filter.contains(['=', ',', ':', '[']);
    if is_word && filter.parse::<LevelFilter>().is_err() {
        return Err(format!(
            "--log {filter:?} is not a level; write error, warn, info, debug, trace or off, or a \
             filter such as `info,ssecast::http=debug`"
        ));
    }
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("--log {filter:?} is neither a level nor a filter: {error}"))?;
    let is_detailed = filter
        .max_level_hint()
        .is_none_or(|level| level > LevelFilter::INFO);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        // Who says it matters where libraries speak too.
        .with_target(is_detailed)
        .init();
    Ok(())
}
