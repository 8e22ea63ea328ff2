//! `[admin]`: where metrics, health and status are asked for.
//!
//! The admin listener has no access control, so by default only this machine reaches it.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::ListenAddress;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::reader::Entry;
use crate::config::reader::Read;
use crate::config::schema::AdminTable;
use crate::config::schema::NamedListener;
use crate::config::values::OneOrMany;

/// `[admin]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admin {
    /// Addresses to bind; empty: no admin listener.
    pub addresses: Vec<ListenAddress>,
}

/// `address`: `"…"`, `["…", "…"]`, or `"off"`.
#[derive(Debug, Clone)]
pub(super) struct AdminAddresses(Vec<Spanned<ListenAddress>>);

/// `address`, where the file says nothing.
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// The word for no admin listener.
const OFF: &str = "off";

impl Read for AdminAddresses {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let is_negation = match entry.value.get_ref() {
            DeValue::String(text) if text == OFF => return Some(Self(Vec::new())),
            DeValue::String(text) => {
                matches!(
                    text.as_ref(),
                    "" | "disabled" | "false" | "never" | "no" | "none"
                )
            }
            DeValue::Boolean(flag) => !flag,
            _ => false,
        };
        if is_negation {
            let message = format!("must be an address, or `\"{OFF}\"`");
            let advice = format!("for no admin listener, write `\"{OFF}\"`");
            entry.refuse(Mistake::new(message, advice), findings);
            return None;
        }
        let OneOrMany(list) = OneOrMany::read(entry, findings)?;
        if list.is_empty() {
            let advice = format!("name at least one address, or write `\"{OFF}\"`");
            entry.refuse(Mistake::new("the list is empty", advice), findings);
            return None;
        }
        Some(Self(list))
    }
}

/// What the table means, beside these listeners.
pub(super) fn admin(
    table: &AdminTable,
    listeners: Option<&[NamedListener]>,
    findings: &mut Findings,
) -> Admin {
    let taken: Vec<&Spanned<ListenAddress>> = listeners
        .into_iter()
        .flatten()
        .filter_map(|listener| listener.table.address.written())
        .flat_map(|list| &list.0)
        .collect();
    let Some(AdminAddresses(written)) = table.address.written() else {
        if table.address.is_absent() {
            leave_room_for_default(&taken, findings);
        }
        return Admin {
            addresses: vec![ListenAddress::Tcp(DEFAULT)],
        };
    };
    for (index, address) in written.iter().enumerate() {
        let earlier = taken
            .iter()
            .copied()
            .chain(written.iter().take(index))
            .find(|other| is_same_place(other.get_ref(), address.get_ref()));
        if let Some(other) = earlier {
            refuse_twice(address.span(), other.span(), findings);
        }
        if is_reachable_from_elsewhere(address.get_ref()) {
            let message = "whoever reaches this address can read metrics and status";
            let advice = format!(
                "the admin listener has no access control: let only trusted machines reach it, \
                 or write\n`address = \"{DEFAULT}\"`"
            );
            findings.warn(address.span(), Mistake::new(message, advice).of("address"));
        }
    }
    Admin {
        addresses: (written.iter())
            .map(|address| address.get_ref().clone())
            .collect(),
    }
}

fn refuse_twice(span: Range<usize>, first: Range<usize>, findings: &mut Findings) {
    let mistake = Mistake::new("this address is given twice", "choose another").of("address");
    let finding = Finding::new(Severity::Error, Some(span), mistake);
    findings.push(finding.with_note("it is given first here", first));
}

/// A listener has the place that the admin listener would have without being told.
fn leave_room_for_default(taken: &[&Spanned<ListenAddress>], findings: &mut Findings) {
    let default = ListenAddress::Tcp(DEFAULT);
    for address in taken {
        if is_same_place(address.get_ref(), &default) {
            let message = "the admin listener is there, unless it is told otherwise";
            let advice = format!(
                "choose another port, or give the admin listener one:\n\n[admin]\naddress = \
                 \"127.0.0.1:{}\"",
                DEFAULT.port() + 1
            );
            findings.error(address.span(), Mistake::new(message, advice).of("address"));
        }
    }
}

/// Whether both can't be bound at once. Port 0 is another port each time.
fn is_same_place(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
            let is_same_ip = a.ip() == b.ip()
                || (a.is_ipv4() == b.is_ipv4()
                    && (a.ip().is_unspecified() || b.ip().is_unspecified()));
            a.port() == b.port() && a.port() != 0 && is_same_ip
        }
        (a, b) => a == b,
    }
}

fn is_reachable_from_elsewhere(address: &ListenAddress) -> bool {
    matches!(address, ListenAddress::Tcp(address) if !address.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Diagnostics, Loaded};

    fn load(listen: &str, admin: &str) -> Result<Loaded, Diagnostics> {
        let text = format!(
            "[listen.public]\naddress = \"{listen}\"\n[channels.events]\npath = \"/events\"\n\
             upstream = \"http://127.0.0.1:3000/events\"\n{admin}\n"
        );
        Config::parse("test.toml", &text)
    }

    fn addresses(admin: &str) -> Vec<String> {
        let loaded = load("127.0.0.1:8080", admin).unwrap_or_else(|errors| panic!("{errors}"));
        let addresses = loaded.config.admin.addresses.iter();
        addresses.map(ToString::to_string).collect()
    }

    #[test]
    fn it_is_on_loopback_unless_told_otherwise() {
        assert_eq!(addresses(""), ["127.0.0.1:9180"]);
        assert_eq!(addresses("[admin]"), ["127.0.0.1:9180"]);
        assert_eq!(
            addresses("[admin]\naddress = [\"[::1]:1\", \"unix:/run/a.sock\"]"),
            ["[::1]:1", "unix:/run/a.sock"]
        );
        assert!(addresses("[admin]\naddress = \"off\"").is_empty());
    }

    #[test]
    fn what_others_reach_is_warned_of() {
        for (address, is_warned) in [
            ("127.0.0.1:1", false),
            ("127.9.9.9:0", false),
            ("[::1]:1", false),
            ("unix:/run/a.sock", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("10.0.0.1:1", true),
        ] {
            let admin = format!("[admin]\naddress = \"{address}\"");
            let loaded = load("127.0.0.1:8080", &admin).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(!loaded.warnings.is_empty(), is_warned, "{address}");
        }
    }

    #[test]
    fn what_cannot_be_says_what_would_be_right() {
        for (listen, admin, right) in [
            ("127.0.0.1:8080", "[admin]\naddress = false", "\"off\""),
            ("127.0.0.1:8080", "[admin]\naddress = \"none\"", "\"off\""),
            ("127.0.0.1:8080", "[admin]\naddress = []", "\"off\""),
            (
                "127.0.0.1:8080",
                "[admin]\naddress = 9180",
                "127.0.0.1:9180",
            ),
            (
                "127.0.0.1:8080",
                "[admin]\naddress = \"127.0.0.1:8080\"",
                "twice",
            ),
            (
                "0.0.0.0:8080",
                "[admin]\naddress = \"127.0.0.1:8080\"",
                "twice",
            ),
            (
                "127.0.0.1:1",
                "[admin]\naddress = [\"[::1]:2\", \"[::1]:2\"]",
                "twice",
            ),
            ("0.0.0.0:9180", "", "[admin]"),
            ("127.0.0.1:9180", "", "[admin]"),
        ] {
            let errors = load(listen, admin).expect_err(admin).to_string();
            assert!(errors.contains(right), "{listen} {admin}\n{errors}");
        }
        assert!(load("[::1]:9180", "").is_ok());
        assert!(load("127.0.0.1:9180", "[admin]\naddress = \"off\"").is_ok());
    }
}
