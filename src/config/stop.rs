//! Whether a stop has the time that it takes.

use std::time::Duration;

use crate::config::defaults;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::schema::NamedChannel;
use crate::config::schema::ServerTable;
use crate::config::units::show_duration;
use crate::config::values::OrNever;
use crate::systemd::STOP_TIMEOUT;

/// What a stop takes besides `drain`: for the threads to end, and for the state to be written.
const MARGIN: Duration = Duration::from_secs(10);

/// When a client is back that a stop has sent away, counted from when it was: once the last one is
/// gone, some seconds later.
const RETURN: Duration = Duration::from_secs(5);

/// Warns if systemd would kill the process before it has stopped, or if clients that come back would
/// not find the events that they have missed.
pub(super) fn check(server: &ServerTable, channels: &[NamedChannel], findings: &mut Findings) {
    if server.drain.is_wrong() {
        return;
    }
    let drain = server.drain.get_or(defaults::DRAIN);
    if let Some(span) = server.drain.span()
        && drain + MARGIN > STOP_TIMEOUT
    {
        let (limit, most) = (
            show_duration(STOP_TIMEOUT),
            show_duration(STOP_TIMEOUT - MARGIN),
        );
        let message =
            format!("is so long that systemd kills the process first (`TimeoutStopSec={limit}`)");
        let advice = format!(
            "write at most `\"{most}\"`, or raise `TimeoutStopSec` (systemctl edit ssecast) to at \
             least {}",
            show_duration(drain + MARGIN)
        );
        findings.warn(span, Mistake::new(message, advice).of("drain"));
    }
    for channel in channels {
        check_age(drain, server, channel, findings);
    }
}

fn check_age(
    drain: Duration,
    server: &ServerTable,
    channel: &NamedChannel,
    findings: &mut Findings,
) {
    let age = &channel.settings.history.age;
    let Some(OrNever(Some(kept))) = age.written().copied() else {
        return;
    };
    let away = drain + RETURN;
    if drain.is_zero() || kept.is_zero() || kept >= away {
        return;
    }
    let message = format!(
        "is shorter than a client is away while the gateway is restarted (up to {}: `drain` and \
         some seconds)",
        show_duration(away)
    );
    let advice = format!(
        "write at least `\"{}\"`, or a shorter `drain`",
        show_duration(away)
    );
    let mistake = Mistake::new(message, advice).of("history.age");
    let finding = Finding::new(Severity::Warning, age.span(), mistake);
    findings.push(match server.drain.span() {
        Some(span) => finding.with_note("`drain` is set here", span),
        None => finding,
    });
}
