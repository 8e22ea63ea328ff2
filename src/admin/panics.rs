//! Counts panics. A panic is a bug that has broken one connection, a channel or a shard; that the
//! process goes on must not hide it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{PanicHookInfo, set_hook};
use std::sync::atomic::{AtomicU64, Ordering};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// From now on panics are counted and logged, instead of printed.
pub fn install_hook() {
    set_hook(Box::new(note));
}

/// Panics so far.
pub(super) fn count() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

fn note(info: &PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("something that is no text");
    let place = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    // Only with RUST_BACKTRACE.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(
        message_of_panic = message,
        place,
        thread = thread.name(),
        backtrace = backtrace.as_ref().map(tracing::field::display),
        "a panic; this is a bug, please report it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted() {
        let before = count();
        let other = std::panic::take_hook();
        install_hook();
        let outcome = std::panic::catch_unwind(|| panic!("as the test wants it"));
        set_hook(other);
        assert!(outcome.is_err());
        assert!(count() > before);
    }
}
