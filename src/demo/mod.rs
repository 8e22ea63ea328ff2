//! `ssecast demo`: an origin that ticks, the gateway in front of it, and a page to look at.
//!
//! The gateway is the real one: it knows the origin by its URL only, and reaches it over HTTP. All of
//! it is one process, so that nothing else is needed to see it work.

mod origin;
mod source;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::task::JoinSet;

use self::origin::{Origin, Streams};
use self::source::{send_stats, send_ticks};
use crate::app::{App, RunError, run_until_signal};
use crate::channel::Channel;
use crate::config::{Config, CursorOnConnect, Diagnostics, FileLess, ListenAddress};
use crate::http::Page;

/// Why the demo can't run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// `--listen` is no address.
    #[error(transparent)]
    Address(#[from] Diagnostics),
    /// Somebody else listens there.
    #[error(
        "{0} is taken by another process; \
         `ssecast demo --listen 127.0.0.1:0` takes any port that is free"
    )]
    AddressInUse(String),
    /// The address can't be had for another reason.
    #[error("can't listen on {address}: {cause}")]
    Listen {
        /// As it was written.
        address: String,
        /// What the kernel says.
        cause: io::Error,
    },
    /// `--listen` is the path of a unix socket.
    #[error("a browser can't open a unix socket; write an address like `127.0.0.1:8080`")]
    NoPort,
    /// No port for the origin.
    #[error("can't start the demo's origin: {0}")]
    Origin(io::Error),
    /// The gateway can't start.
    #[error(transparent)]
    Start(RunError),
}

const PAGE: Page = Page {
    media_type: "text/html; charset=utf-8",
    text: include_str!("page.html"),
};

/// The channel that the demo is about; the other one is `stats`.
const TICKS: &str = "ticks";

/// Runs the demo until SIGTERM or SIGINT.
pub(crate) fn run(listen: &str) -> Result<(), DemoError> {
    run_until_signal(|| start(listen))
}

/// Starts the gateway, and the origin behind it, whose tasks end as the set is dropped.
fn start(listen: &str) -> Result<(App, JoinSet<()>), DemoError> {
    let origin = Origin::bind().map_err(DemoError::Origin)?;
    let app = App::start(config(listen, &origin)?, &[("/", PAGE)])?;
    // With the port that the kernel chose.
    let url = app
        .addresses()
        .find_map(page_url)
        .ok_or(DemoError::NoPort)?;
    let mut tasks = JoinSet::new();
    let is_ticks = |channel: &Channel| channel.name() == TICKS;
    if let Some(ticks) = app.channels().into_iter().find(is_ticks) {
        spawn_origin(&mut tasks, origin, ticks);
    }
    greet(&url);
    Ok((app, tasks))
}

/// Serves the origin, whose stats are about `channel`.
fn spawn_origin(tasks: &mut JoinSet<()>, origin: Origin, channel: Channel) {
    let streams = Arc::new(Streams::default());
    let (ticks, stats) = (Arc::clone(&streams), Arc::clone(&streams));
    tasks.spawn(async move { origin.serve(streams).await });
    tasks.spawn(async move { send_ticks(&ticks).await });
    tasks.spawn(async move { send_stats(&stats, &channel).await });
}

/// A gateway in front of both event streams of the origin.
fn config(listen: &str, origin: &Origin) -> Result<Config, DemoError> {
    let for_stream = |name: &str| {
        let path = format!("/{name}");
        let mut config = Config::for_upstream(FileLess {
            upstream: Some(&origin.url(&path)),
            path: Some(&path),
            listen: Some(listen),
            ..FileLess::default()
        })?;
        for channel in &mut config.channels {
            let channel = Arc::make_mut(channel);
            name.clone_into(&mut channel.name);
            channel.cursor_on_connect = CursorOnConnect::Send;
        }
        Ok::<_, DemoError>(config)
    };
    let mut config = for_stream("stats")?;
    config.channels.extend(for_stream(TICKS)?.channels);
    let mut addresses = config.listeners.iter().flat_map(|one| &one.addresses);
    if addresses.all(|address| page_url(address).is_none()) {
        return Err(DemoError::NoPort);
    }
    Ok(config)
}

/// Where a browser on this machine finds the page; `None` for a unix socket, which none can open.
fn page_url(address: &ListenAddress) -> Option<String> {
    let ListenAddress::Tcp(mut address) = *address else {
        return None;
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(format!("http://{address}/"))
}

/// Tells a person what to do. Nobody need listen.
fn greet(url: &str) {
    let text = format!(
        "\
The demo runs: an origin that ticks every second, and the gateway in front of it.

  Open {url}
  Then, in another terminal, be one more client, or 200:
    curl -N {url}ticks
    seq 200 | xargs -P200 -I_ curl -sNo /dev/null {url}ticks

However many clients there are, the origin has one connection. The page has a button that cuts
yours: what you missed is replayed when you are back.

Ctrl-C ends it.
"
    );
    let mut out = io::stdout();
    let told = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = told {
        tracing::debug!(%error, "standard output is closed");
    }
}

impl From<RunError> for DemoError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Listen { address, cause, .. } => match cause.kind() {
                io::ErrorKind::AddrInUse => Self::AddressInUse(address.to_string()),
                _ => Self::Listen {
                    address: address.to_string(),
                    cause,
                },
            },
            error => Self::Start(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_url_that_a_browser_can_open() {
        for (address, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080/"),
            ("[::]:8080", "http://[::1]:8080/"),
            ("192.0.2.1:8080", "http://192.0.2.1:8080/"),
        ] {
            let address = ListenAddress::Tcp(address.parse().expect("an address"));
            assert_eq!(page_url(&address).as_deref(), Some(url));
        }
        assert_eq!(page_url(&ListenAddress::Unix("/run/a.sock".into())), None);
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for link in ["src=", "href=\"http", "url(http", "@import", "https://"] {
            assert!(!PAGE.text.contains(link), "{link}");
        }
    }
}
