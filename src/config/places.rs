//! No request may belong to two channels, or to two proxies, or to a channel and a proxy.

use std::fmt;

use toml::Spanned;

use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::host::HostName;
use crate::config::path::ChannelPath;
use crate::config::reader::Setting;
use crate::config::router::PathRouter;
use crate::config::schema::NamedChannel;
use crate::config::schema::NamedProxy;
use crate::config::values::OneOrMany;

/// Something that has a place among the requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed<'a> {
    kind: Kind,
    name: &'a Spanned<String>,
    path: &'a Setting<ChannelPath>,
    host: &'a Setting<OneOrMany<HostName>>,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Channel,
    Proxy,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel => "channel",
            Self::Proxy => "proxy",
        })
    }
}

impl<'a> From<&'a NamedChannel> for Placed<'a> {
    fn from(named: &'a NamedChannel) -> Self {
        Self {
            kind: Kind::Channel,
            name: &named.name,
            path: &named.place.path,
            host: &named.place.host,
        }
    }
}

impl<'a> From<&'a NamedProxy> for Placed<'a> {
    fn from(named: &'a NamedProxy) -> Self {
        Self {
            kind: Kind::Proxy,
            name: &named.name,
            path: &named.table.path,
            host: &named.table.host,
        }
    }
}

impl Placed<'_> {
    fn start(&self) -> usize {
        self.name.span().start
    }

    fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name.get_ref() == other.name.get_ref()
    }

    /// Of two, by name.
    fn both(first: &Self, second: &Self) -> String {
        let (a, b) = (first.name.get_ref(), second.name.get_ref());
        match (first.kind, second.kind) {
            (Kind::Channel, Kind::Channel) => format!("the channels `{a}` and `{b}`"),
            (Kind::Proxy, Kind::Proxy) => format!("the proxies `{a}` and `{b}`"),
            (one, other) => format!("the {one} `{a}` and the {other} `{b}`"),
        }
    }
}

/// Reports those that have the same place as one before them in the file.
pub(super) fn distinct(mut placed: Vec<Placed<'_>>, findings: &mut Findings) {
    placed.sort_by_key(|one| one.start());
    let mut router: PathRouter<Placed<'_>> = PathRouter::default();
    for second in placed {
        let Some(path) = second.path.written() else {
            continue;
        };
        let hosts: Vec<String> = match (second.host.written(), second.host.is_absent()) {
            (Some(OneOrMany(hosts)), _) => {
                hosts.iter().map(|one| one.get_ref().0.clone()).collect()
            }
            // What is for any host is behind what names it, so they do not conflict.
            (None, true) => Vec::new(),
            (None, false) => continue,
        };
        let first = router.insert(&hosts, &path.0, &second).err();
        let first = first.and_then(|taken| taken.by);
        // A host that is given twice is another mistake.
        let Some(first) = first.filter(|first| !first.is(&second)) else {
            continue;
        };
        let (Some(span), Some(other)) = (second.path.span(), first.path.span()) else {
            continue;
        };
        let both = Placed::both(&first, &second);
        let message = if first.path.written() == Some(path) {
            format!("{both} have the same path and host")
        } else {
            format!("the paths of {both} lead to the same requests")
        };
        let advice = "give one of them another `path`, or each its own `host`";
        let finding = Finding::new(Severity::Error, Some(span), Mistake::new(message, advice));
        let note = format!("the path of `{}`", first.name.get_ref());
        findings.push(finding.with_note(note, other));
    }
}
