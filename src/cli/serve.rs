//! `ssecast serve`

use super::{Finished, Serve};
use crate::app::{App, RunError, run_until_signal};
use crate::config::{Config, Diagnostics, FileLess};

/// Runs the gateway until it is told to stop.
pub(super) fn run(serve: &Serve) -> Finished {
    let config = match load(serve) {
        Ok(config) => config,
        Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
    };
    Finished::from_result(run_until_signal(|| {
        let app = App::start(config, &[])?;
        Ok::<_, RunError>((app, ()))
    }))
}

fn load(serve: &Serve) -> Result<Config, Diagnostics> {
    if let Some(file) = &serve.config {
        let loaded = Config::load(file)?;
        for warning in loaded.warnings.iter() {
            tracing::warn!(
                file = warning.file(),
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
