//! `ssecast serve`

use super::{Finished, Serve};
use crate::app::{App, RunError, run_until_signal, tell};
use crate::config::{Config, Diagnostics, FileLess, ListenAddress, ListenTls};

/// Runs the gateway until it is told to stop.
pub(super) fn run(serve: &Serve) -> Finished {
    if let Some(file) = &serve.config {
        let loaded = match Config::load(file) {
            Ok(loaded) => loaded,
            Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
        };
        tell(&loaded.warnings);
        return Finished::from_result(run_until_signal(|| {
            let app = App::start_from_file(file, loaded)?;
            Ok::<_, RunError>((app, ()))
        }));
    }
    let config = match without_file(serve) {
        Ok(config) => config,
        Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
    };
    let stream = config.channels.first().map(|channel| channel.path.clone());
    let path = stream.unwrap_or_else(|| "/".to_owned());
    Finished::from_result(run_until_signal(|| {
        let app = App::start(config, &[])?;
        if serve.tls_self_signed {
            for address in app.addresses() {
                tracing::warn!(
                    url = self_signed_url(address, &path),
                    "a development certificate, which no client trusts unless it is told to \
                     (curl -k)"
                );
            }
        }
        Ok::<_, RunError>((app, ()))
    }))
}

/// Where a client on this machine finds the stream.
fn self_signed_url(address: &ListenAddress, path: &str) -> String {
    match address {
        ListenAddress::Tcp(tcp) if tcp.ip().is_loopback() || tcp.ip().is_unspecified() => {
            format!("https://localhost:{}{path}", tcp.port())
        }
        other => format!("https://{other}{path}"),
    }
}

fn without_file(serve: &Serve) -> Result<Config, Diagnostics> {
    let default_listen = serve.tls_self_signed.then_some("127.0.0.1:8443");
    let file_less = FileLess {
        upstream: serve.upstream.as_deref(),
        proxy: serve.proxy.as_deref(),
        path: serve.path.as_deref(),
        listen: serve.listen.as_deref().or(default_listen),
        admin: serve.admin.as_deref(),
    };
    let mut config = Config::for_upstream(file_less)?;
    if serve.tls_self_signed {
        for listener in &mut config.listeners {
            listener.tls = Some(ListenTls::SelfSigned);
        }
    }
    for channel in &config.channels {
        tracing::info!(
            path = channel.path,
            upstream = channel.upstream.shown_url(0),
            "no file: pages of any origin may read the stream, without credentials"
        );
    }
    for proxy in &config.proxies {
        tracing::info!(
            path = proxy.path,
            upstream = proxy.shown_urls().next(),
            "no file: what is for no stream passes through to the backend"
        );
    }
    Ok(config)
}
