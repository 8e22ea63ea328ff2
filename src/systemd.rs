//! What systemd is told about the process: `sd_notify(3)`. Without systemd all of it does nothing.
//!
//! Nothing fails here: a process that can't tell how it is goes on. systemd notices that by itself,
//! at the start and by the watchdog, and acts on it.

use std::env;
use std::fmt::Display;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// The time that systemd gives a stop before it kills: `TimeoutStopSec=` of `systemd/ssecast.service`.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the status is looked at. It changes with every client that comes and goes, and who reads
/// it is a person.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Says that the process serves: its listeners are bound, and its configuration is applied. Also the
/// end of a reload, whatever came of it.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Says that a reload has begun. [`ready`] says that it is over.
pub fn reloading() {
    // In one datagram, since systemd refuses the one without the other.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "can't tell systemd of a reload: no clock"),
    }
}

/// Says that the process is on its way to its end.
pub fn stopping(status: &str) {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status(&one_line(status)),
    ]);
}

/// Keeps systemd informed for as long as it is polled: the status when it has changed, and a beat for
/// the watchdog while `beat` finds that everything turns within the time that it is given.
///
/// It must be polled by the thread without which the process is dead too.
pub async fn inform<E: Display>(
    status: impl Fn() -> String,
    beat: impl AsyncFn(Duration) -> Result<(), E>,
) -> ! {
    let tell_status = async {
        if !is_supervised() {
            std::future::pending::<()>().await;
        }
        keep_status(STATUS_INTERVAL, status, |status| {
            tell(&[NotifyState::Status(&one_line(status))]);
        })
        .await
    };
    let feed_watchdog = async {
        let Some(patience) = sd_notify::watchdog_enabled() else {
            return std::future::pending().await;
        };
        keep_fed(patience, beat, || tell(&[NotifyState::Watchdog])).await
    };
    let (never, _) = tokio::join!(feed_watchdog, tell_status);
    never
}

/// Tells the status when it is another one than before.
async fn keep_status(period: Duration, status: impl Fn() -> String, tell: impl Fn(&str)) -> ! {
    let mut told = String::new();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = status();
        if now != told {
            tell(&now);
            told = now;
        }
    }
}

/// Feeds the watchdog twice in the time after which it bites, as `sd_watchdog_enabled(3)` advises, but
/// only if everything turns.
async fn keep_fed<E: Display>(
    patience: Duration,
    beat: impl AsyncFn(Duration) -> Result<(), E>,
    feed: impl Fn(),
) -> ! {
    let period = patience / 2;
    loop {
        let next = Instant::now() + period;
        match beat(period).await {
            Ok(()) => feed(),
            Err(error) => tracing::error!(%error, "the watchdog is not fed"),
        }
        sleep_until(next).await;
    }
}

/// Whether somebody wants to be told.
fn is_supervised() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "can't tell systemd");
    }
}

/// The protocol is made of lines.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::sync::Notify;

    use super::*;

    const PERIOD: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn the_watchdog_is_fed_only_while_everything_turns() {
        let (n_beats, fed) = (Cell::new(0), RefCell::new(Vec::new()));
        let done = Notify::new();
        let beat = async |patience: Duration| {
            assert_eq!(patience, PERIOD);
            n_beats.set(n_beats.get() + 1);
            match n_beats.get() {
                3..=5 => Err("shard 0 does not turn"),
                _ => Ok(()),
            }
        };
        let feed = || {
            fed.borrow_mut().push(n_beats.get());
            if fed.borrow().len() == 4 {
                done.notify_one();
            }
        };
        tokio::select! {
            () = done.notified() => {}
            never = keep_fed(PERIOD * 2, beat, feed) => never,
        }
        assert_eq!(*fed.borrow(), [1, 2, 6, 7]);
    }

    #[tokio::test]
    async fn the_status_is_told_when_it_has_changed() {
        let (told, done) = (RefCell::new(Vec::new()), Notify::new());
        let mut script = [0, 0, 7, 7, 0].into_iter();
        let script = RefCell::new(&mut script);
        let status = || {
            let n_clients = script.borrow_mut().next();
            if n_clients.is_none() {
                done.notify_one();
            }
            format!("{} clients", n_clients.unwrap_or_default())
        };
        tokio::select! {
            () = done.notified() => {}
            never = keep_status(PERIOD, status, |status| told.borrow_mut().push(status.to_owned())) => never,
        }
        assert_eq!(*told.borrow(), ["0 clients", "7 clients", "0 clients"]);
    }

    #[test]
    fn a_text_cannot_say_more_than_it_is() {
        assert_eq!(one_line("fine\nREADY=1\r\n"), "fine READY=1  ");
    }
}
