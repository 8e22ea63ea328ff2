//! The addresses to listen on.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::ListenAddress;
use crate::config::findings::Mistake;
use crate::config::reader::FromText;

/// Bytes of a name in `FileDescriptorName=` (`systemd.socket(5)`).
const LONGEST_SOCKET_NAME: usize = 255;

/// Bytes of a unix socket's path: `sun_path` of `unix(7)` less its final NUL.
const LONGEST_UNIX_PATH: usize = 107;

impl FromText for ListenAddress {
    const EXAMPLE: &'static str = "\"127.0.0.1:8080\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return systemd(name);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp(address));
        }
        let message = format!("`\"{text}\"` is not an address to listen on");
        let advice = match text.rsplit_once(':') {
            _ if text.starts_with('/') => format!("for a unix socket, write `\"unix:{text}\"`"),
            _ if text.contains("://") => {
                format!("write an IP address and a port, like `{}`", Self::EXAMPLE)
            }
            _ if is_port(text) => every_interface(text),
            _ if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => {
                format!("add a port: `\"[{text}]:8080\"`")
            }
            _ if text.parse::<IpAddr>().is_ok() => format!("add a port: `\"{text}:8080\"`"),
            Some(("" | "*", port)) if is_port(port) => every_interface(port),
            Some(("localhost", port)) if is_port(port) => {
                format!("write `\"127.0.0.1:{port}\"`; names are not looked up")
            }
            Some((host, port)) if is_port(port) && host.parse::<IpAddr>().is_ok() => {
                format!("write `\"[{host}]:{port}\"`")
            }
            Some((_, port)) if is_port(port) => {
                format!("write an IP address, like `\"0.0.0.0:{port}\"`; names are not looked up")
            }
            Some((_, port))
                if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                "a port is at most 65535".to_owned()
            }
            _ => format!("write an IP address and a port, like `{}`", Self::EXAMPLE),
        };
        Err(Mistake::new(message, advice))
    }
}

fn unix(path: &str) -> Result<ListenAddress, Mistake> {
    let example = "`\"unix:/run/ssecast/http.sock\"`";
    if !path.starts_with('/') {
        let advice = format!("write it from the root on, like {example}");
        return Err(Mistake::new(
            "the path of a unix socket must be absolute",
            advice,
        ));
    }
    if let Some(rest) = path.strip_prefix("//") {
        let advice = format!("write `\"unix:/{}\"`", rest.trim_start_matches('/'));
        return Err(Mistake::new("a path, not a URL, follows `unix:`", advice));
    }
    if path.ends_with('/') || path.contains('\0') {
        let message = "the path of a unix socket must name a file";
        return Err(Mistake::new(message, format!("like {example}")));
    }
    if path.len() > LONGEST_UNIX_PATH {
        let message = format!("the path of a unix socket has at most {LONGEST_UNIX_PATH} bytes");
        return Err(Mistake::new(
            message,
            format!("write a shorter path, like {example}"),
        ));
    }
    Ok(ListenAddress::Unix(PathBuf::from(path)))
}

/// The name of an inherited socket, as `FileDescriptorName=` allows it (`systemd.socket(5)`). A socket
/// unit that sets none gives its own name.
fn systemd(name: &str) -> Result<ListenAddress, Mistake> {
    let is_fine = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b':');
    if name.is_empty() || name.len() > LONGEST_SOCKET_NAME || !is_fine {
        let message =
            "the name of an inherited socket is what FileDescriptorName= of its unit says";
        let advice = "write it like `\"systemd:http\"`";
        return Err(Mistake::new(message, advice));
    }
    Ok(ListenAddress::Systemd(name.to_owned()))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn every_interface(port: &str) -> String {
    format!("write `\"127.0.0.1:{port}\"` for this machine only, or `\"0.0.0.0:{port}\"` for any")
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        for text in [
            "127.0.0.1:8080",
            "0.0.0.0:0",
            "[::]:8080",
            "[::1]:443",
            "unix:/run/a.sock",
            "systemd:http",
            "systemd:ssecast.socket",
        ] {
            assert!(ListenAddress::from_text(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn says_what_would_be_right() {
        for (text, right) in [
            ("8080", "`\"127.0.0.1:8080\"`"),
            (":8080", "`\"0.0.0.0:8080\"`"),
            ("*:8080", "`\"0.0.0.0:8080\"`"),
            ("localhost:8080", "`\"127.0.0.1:8080\"`"),
            ("::1:8080", "add a port"),
            ("::1", "`\"[::1]:8080\"`"),
            ("fe80::1%eth0:80", "IP address"),
            ("0.0.0.0", "`\"0.0.0.0:8080\"`"),
            ("127.0.0.1:80800", "65535"),
            ("http://127.0.0.1:80", "IP address and a port"),
            ("a.example:80", "`\"0.0.0.0:80\"`"),
            ("/run/a.sock", "`\"unix:/run/a.sock\"`"),
            ("unix:a.sock", "root"),
            ("unix:///run/a.sock", "`\"unix:/run/a.sock\"`"),
            ("unix:/run/", "like"),
            ("unix:", "root"),
            ("systemd:", "`\"systemd:http\"`"),
            ("systemd:a:b", "`\"systemd:http\"`"),
            ("systemd:a b", "`\"systemd:http\"`"),
            ("", "IP address and a port"),
        ] {
            let mistake = ListenAddress::from_text(text).unwrap_err();
            assert!(mistake.advice.contains(right), "{text}: {mistake:?}");
        }
        assert!(ListenAddress::from_text(&format!("unix:/{}", "a".repeat(107))).is_err());
    }
}
