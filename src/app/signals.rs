//! Runs a gateway until the process is asked to stop.

use std::future::Future;
use std::io;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{App, RunError};

/// Runs a gateway until SIGTERM or SIGINT.
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
        let stop = stop_signal().map_err(RunError::Signals)?;
        let (mut app, companion) = start()?;
        let outcome = app.run(stop).await;
        Ok::<_, E>((app, companion, outcome))
    })?;
    app.stop();
    drop(companion);
    Ok(outcome?)
}

/// Ready when the process is asked to stop.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
