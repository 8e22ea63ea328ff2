//! nginx, as the origin of small answers and as the proxy to compare with.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use super::Page;
use crate::process;
use crate::process::Output;
use crate::process::Place;
use crate::process::Process;

/// A running nginx of one process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    process: Process,
    address: SocketAddr,
    /// Its configuration, its log and what it would keep on disk.
    _files: TempDir,
}

/// Idle connections to the origin, as many as the load client has.
const IDLE_CONNECTIONS: u32 = 64;

impl Nginx {
    /// An origin with all pages.
    pub(crate) fn origin(place: Place) -> Self {
        let made = format!(
            "location = {} {{ default_type text/plain; return 200 \"{}\"; }}",
            Page::Made.path(),
            Page::Made.content(),
        );
        Self::start(place, "", &made)
    }

    /// A proxy, set up as one is where it matters: connections to the origin are kept, the origin
    /// learns who asks, nothing is logged, and a stream is not held back.
    pub(crate) fn proxy(place: Place, origin: SocketAddr) -> Self {
        let upstream = format!(
            "upstream origin {{ server {origin}; keepalive {IDLE_CONNECTIONS}; \
             keepalive_requests 1000000000; }}"
        );
        let locations = "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
             proxy_set_header Host $http_host; \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
             proxy_set_header X-Forwarded-Proto $scheme;\n\
             location / { proxy_pass http://origin; }\n\
             location /stream { proxy_pass http://origin; proxy_buffering off; }";
        Self::start(place, &upstream, locations)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    fn start(place: Place, upstream: &str, locations: &str) -> Self {
        let address = process::free_address();
        let files = TempDir::with_prefix("ssecast-bench-").unwrap();
        let path = files.path().display();
        let mut text = format!(
            // A process alone, so that none is left when it is killed.
            "daemon off; master_process off; pid {path}/pid; error_log {path}/log;\n\
             events {{ worker_connections 8192; }}\n\
             http {{\naccess_log off; keepalive_requests 1000000000; keepalive_timeout 600s;\n"
        );
        for what in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(text, "{what}_temp_path {path}/{what};").unwrap();
        }
        writeln!(
            text,
            "{upstream}\nserver {{ listen {address} backlog=4096; root {path};\n{locations}\n}}\n}}"
        )
        .unwrap();
        for page in [Page::Large, Page::Small] {
            let name = page.path().trim_start_matches('/');
            fs::write(files.path().join(name), page.content()).unwrap();
        }
        let configuration = files.path().join("nginx.conf");
        fs::write(&configuration, text).unwrap();
        let log = files.path().join("log");
        let program = [
            "nginx".into(),
            "-e".into(),
            log.into_os_string(),
            "-c".into(),
            configuration.into_os_string(),
        ];
        let mut process = Process::start(place, &program, Output::Log(&files.path().join("out")));
        if let Err(reason) = process::wait_until_listening(&mut process, address) {
            let said = ["out", "log"].map(|name| fs::read_to_string(files.path().join(name)));
            panic!("this case needs the command nginx: {reason}\n{said:?}");
        }
        Self {
            process,
            address,
            _files: files,
        }
    }
}
