//! Runs a gateway until the process is asked to stop.

use std::io;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::{App, RunError};

/// What the process may be told.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// Within this time a second signal is an echo of the first: wrappers such as timeout(1) signal both
/// the process and its group.
const ECHO: Duration = Duration::from_millis(100);

/// Runs a gateway until SIGTERM or SIGINT, and to the end of its goodbyes, or to a second signal.
///
/// `start` is called inside the runtime whose thread will accept. What it gives besides the gateway
/// is kept until the gateway has stopped.
///
/// # Errors
///
/// What `start` says, and if the system gives no runtime or no signals, or a delivery thread broke.
pub fn run_until_signal<C, E: From<RunError>>(
    start: impl FnOnce() -> Result<(App, C), E>,
) -> Result<(), E> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let (app, companion, outcome) = runtime.block_on(async {
        let mut signals = Signals::new().map_err(RunError::Signals)?;
        let (mut app, companion) = start()?;
        let outcome = app.run(&mut signals).await;
        Ok::<_, E>((app, companion, outcome))
    })?;
    app.stop(&outcome);
    drop(companion);
    // A thread that waits for a disk is not waited for.
    runtime.shutdown_background();
    Ok(outcome?)
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ready when the process is asked to stop, once each time.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; no signal is lost.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ready when the process is asked once more to stop, after it was asked at `first`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; no signal is lost.
    pub(super) async fn stop_again(&mut self, first: Instant) {
        self.stop().await;
        while first.elapsed() < ECHO {
            self.stop().await;
        }
    }
}
