//! `ssecast serve`

use std::io;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::{Finished, Serve};
use crate::app::App;
use crate::config::{Config, Diagnostics, FileLess};
use crate::http::Page;

/// Runs the gateway until it is told to stop.
pub(super) fn run(serve: &Serve) -> Finished {
    let config = match load(serve) {
        Ok(config) => config,
        Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
    };
    Finished::from_result(run_until_signal(config, &[]))
}

fn load(serve: &Serve) -> Result<Config, Diagnostics> {
    if let Some(file) = &serve.config {
        let loaded = Config::load(file)?;
        for warning in loaded.warnings.iter() {
            tracing::warn!(
                line = warning.line(),
                advice = warning.advice(),
                "{}",
                warning.message()
            );
        }
        return Ok(loaded.config);
    }
    let file_less = FileLess {
        upstream: serve.upstream.as_deref().unwrap_or_default(),
        path: serve.path.as_deref(),
        listen: serve.listen.as_deref(),
    };
    let config = Config::for_upstream(file_less)?;
    tracing::info!("no file: pages of any origin may read the stream, without credentials");
    Ok(config)
}

/// Runs a gateway until SIGTERM or SIGINT.
fn run_until_signal(config: Config, pages: &[(&'static str, Page)]) -> Result<(), String> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("can't start: {error}"))?;
    let app = runtime.block_on(async {
        let stop = stop_signal().map_err(|error| format!("can't watch for signals: {error}"))?;
        let mut app = App::start(config, pages).map_err(|error| error.to_string())?;
        app.run(stop).await;
        Ok::<_, String>(app)
    })?;
    app.stop();
    Ok(())
}

/// Ready when the process is asked to stop.
///
/// # Errors
///
/// If the signals can't be watched.
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
