//! Who is let in, how fast, and who a client is: the rate of new connections, limits per address and
//! network, and the proxies that are believed.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::reader::Entry;
use crate::config::reader::FromText;
use crate::config::reader::Read;
use crate::config::reader::Setting;
use crate::config::reader::TableReader;
use crate::config::schema::ConnectionRateTable;
use crate::config::schema::ListenTable;
use crate::config::schema::NetworkLimitTable;
use crate::config::schema::PLACES;
use crate::config::schema::ServerTable;
use crate::config::units::show_duration;
use crate::config::values::Count;

/// `[server] connection_rate`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionRate {
    /// New connections that are begun in a second.
    pub per_second: NonZeroU32,
    /// New connections that are begun at once, after a pause.
    pub burst: NonZeroU32,
    /// Most connections that wait for their turn.
    pub queue: usize,
}

/// `[server] max_connections_per_address` and `max_connections_per_network`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressLimits {
    /// Most of one address.
    pub per_address: Option<usize>,
    /// Most of one network.
    pub per_network: Option<NetworkLimit>,
}

/// `[server] max_connections_per_network`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkLimit {
    /// Most of one network.
    pub max: usize,
    /// How many bits of an IPv4 address are its network.
    pub ipv4: u8,
    /// How many bits of an IPv6 address are its network.
    pub ipv6: u8,
}

/// `[server] trusted_proxies`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Networks of IPv4 proxies hold no IPv4-mapped IPv6 addresses: those are IPv4.
    networks: Vec<IpNet>,
    has_unix: bool,
}

/// `proxy_protocol` of a listener
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Connections begin with what the client sends.
    Off,
    /// Connections begin with the PROXY protocol, which says who the client is.
    Required,
}

/// One of `trusted_proxies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrustedProxy {
    Network(IpNet),
    /// Whoever connects to a unix socket.
    Unix,
}

/// Longer than this in the queue, and clients and proxies in front give up.
const LONG_WAIT: Duration = Duration::from_secs(30);

/// How long the last of a queue waits whose length nobody has chosen.
const DEFAULT_WAIT_SECONDS: usize = 10;

/// What is begun at once, as a part of a second's worth, if nobody has chosen.
const DEFAULT_BURST_SHARE: u32 = 10;

/// About the prefix that a household or a company gets.
const DEFAULT_IPV4_BITS: Count = Count(24);
const DEFAULT_IPV6_BITS: Count = Count(56);

impl AddressLimits {
    /// Whether nobody need be counted.
    pub fn are_off(&self) -> bool {
        self.per_address.is_none() && self.per_network.is_none()
    }
}

impl TrustedProxies {
    /// Whether what this address says of others is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|one| one.contains(&address))
    }

    /// Whether what comes by a unix socket is believed.
    pub fn trusts_unix(&self) -> bool {
        self.has_unix
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.has_unix
    }
}

impl FromIterator<TrustedProxy> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = TrustedProxy>>(proxies: I) -> Self {
        let mut trusted = Self::default();
        for proxy in proxies {
            match proxy {
                TrustedProxy::Network(network) => trusted.networks.push(network),
                TrustedProxy::Unix => trusted.has_unix = true,
            }
        }
        trusted
    }
}

impl FromText for TrustedProxy {
    const EXAMPLE: &'static str = "\"10.0.0.0/8\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        if text == "unix:" {
            return Ok(Self::Unix);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(IpNet::from(address.to_canonical())));
        }
        let not_one = format!("`\"{text}\"` is not a proxy's address");
        let Ok(network) = text.parse::<IpNet>() else {
            let advice = match text.split_once('/') {
                _ if text.starts_with("unix:") => {
                    "for whoever connects to a unix socket, write `\"unix:\"`".to_owned()
                }
                Some((address, bits)) if address.parse::<IpAddr>().is_ok() => {
                    let most = if address.contains(':') { 128 } else { 32 };
                    format!("`{bits}` is no number of bits: write 0 to {most}")
                }
                _ => format!(
                    "write an IP address, a network like `{}`, or `\"unix:\"`; names are not looked up",
                    Self::EXAMPLE
                ),
            };
            return Err(Mistake::new(not_one, advice));
        };
        if network.addr() != network.network() {
            let message = format!(
                "`\"{text}\"` has bits beyond its first {}",
                network.prefix_len()
            );
            let advice = format!(
                "write `\"{}\"` for the network, or `\"{}\"` for the address alone",
                network.trunc(),
                network.addr()
            );
            return Err(Mistake::new(message, advice));
        }
        if let IpAddr::V4(address) = network.addr().to_canonical()
            && network.addr().is_ipv6()
            && let Some(bits) = network.prefix_len().checked_sub(96)
        {
            let message = format!("`\"{text}\"` is IPv4 in the clothes of IPv6");
            return Err(Mistake::new(
                message,
                format!("write `\"{address}/{bits}\"`"),
            ));
        }
        Ok(Self::Network(network))
    }
}

impl Read for ConnectionRateTable {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let example = "connection_rate = { per_second = 500 }";
        let mut reader = inline(entry, example, findings)?;
        let mut table = Self::take(&mut reader);
        reader.finish(PLACES);
        table.per_second = reader.forgive("per_second", table.per_second);
        must_have("per_second", &table.per_second, entry, (example, findings))?;
        Some(table)
    }
}

impl Read for NetworkLimitTable {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let example = "max_connections_per_network = { max = 1000 }";
        let mut reader = inline(entry, example, findings)?;
        let mut table = Self::take(&mut reader);
        reader.finish(PLACES);
        table.max = reader.forgive("max", table.max);
        must_have("max", &table.max, entry, (example, findings))?;
        Some(table)
    }
}

fn inline<'a, 'f>(
    entry: &Entry<'a>,
    example: &str,
    findings: &'f mut Findings,
) -> Option<TableReader<'a, 'f>> {
    if entry.value.get_ref().as_table().is_none() {
        let message = format!("must be a table, not {}", entry.kind());
        entry.refuse(
            Mistake::new(message, format!("write `{example}`")),
            findings,
        );
        return None;
    }
    TableReader::inline(entry, findings)
}

/// `None`: the key is not there, which is reported.
fn must_have(
    key: &str,
    setting: &Setting<Count>,
    entry: &Entry<'_>,
    (example, findings): (&str, &mut Findings),
) -> Option<()> {
    if setting.is_absent() {
        let mistake = Mistake::new(format!("has no `{key}`"), format!("write `{example}`"));
        entry.refuse(mistake, findings);
        return None;
    }
    Some(())
}

/// What `connection_rate` means; `None`: as fast as they come.
pub(super) fn connection_rate(
    table: &ServerTable,
    findings: &mut Findings,
) -> Option<ConnectionRate> {
    let (rate, span) = (
        table.connection_rate.written()?,
        table.connection_rate.span()?,
    );
    let at_least_one = |key, setting: &Setting<Count>, findings: &mut Findings| {
        let Count(n) = *setting.written()?;
        let n = u32::try_from(n).ok().and_then(NonZeroU32::new);
        if n.is_none()
            && let Some(span) = setting.span()
        {
            let mistake = Mistake::new("is no number of connections", "write at least 1");
            findings.error(span, mistake.of(key));
        }
        n
    };
    let burst = at_least_one("connection_rate.burst", &rate.burst, findings);
    let per_second = at_least_one("connection_rate.per_second", &rate.per_second, findings)?;
    let per_second_count = usize::try_from(per_second.get()).unwrap_or(usize::MAX);
    let default_burst =
        NonZeroU32::new(per_second.get() / DEFAULT_BURST_SHARE).unwrap_or(NonZeroU32::MIN);
    let default_queue = per_second_count.saturating_mul(DEFAULT_WAIT_SECONDS);
    let Count(queue) = rate.queue.get_or(Count(default_queue));
    let wait = Duration::from_secs((queue / per_second_count) as u64);
    if wait > LONG_WAIT {
        let message = format!(
            "lets the last of a full queue wait for {}, longer than many clients and proxies do",
            show_duration(wait)
        );
        let most = per_second_count.saturating_mul(30);
        let advice = format!("write `queue = {most}` at most, or more `per_second`");
        findings.warn(span, Mistake::new(message, advice).of("connection_rate"));
    }
    Some(ConnectionRate {
        per_second,
        burst: burst.unwrap_or(default_burst),
        queue,
    })
}

/// What the limits per address and network mean.
pub(super) fn address_limits(table: &ServerTable, findings: &mut Findings) -> AddressLimits {
    let per_address = table.max_connections_per_address.written();
    let per_address = per_address.map(|count| count.0);
    if let (Some(0), Some(span)) = (per_address, table.max_connections_per_address.span()) {
        let mistake = Mistake::new("cannot be zero", "write at least 1, or leave it out");
        findings.error(span, mistake.of("max_connections_per_address"));
    }
    let per_network = network_limit(table, findings);
    if let (Some(address), Some(network)) = (per_address, per_network)
        && network.max < address
        && let Some(span) = table.max_connections_per_address.span()
    {
        let message = format!(
            "is {address}, more than its network may have ({})",
            network.max
        );
        let advice = "write less than `max_connections_per_network` has, which more than one share";
        let mistake = Mistake::new(message, advice).of("max_connections_per_address");
        findings.warn(span, mistake);
    }
    AddressLimits {
        per_address,
        per_network,
    }
}

fn network_limit(table: &ServerTable, findings: &mut Findings) -> Option<NetworkLimit> {
    let limit = table.max_connections_per_network.written()?;
    let bits =
        |key, setting: &Setting<Count>, (default, most): (Count, u8), findings: &mut Findings| {
            let Count(bits) = setting.get_or(default);
            let bits = u8::try_from(bits)
                .ok()
                .filter(|bits| (1..=most).contains(bits));
            if bits.is_none()
                && let Some(span) = setting.span()
            {
                let message = "is no number of bits of such an address";
                let mistake = Mistake::new(message, format!("write 1 to {most}"));
                findings.error(span, mistake.of(key));
            }
            bits
        };
    let key = "max_connections_per_network.ipv4";
    let ipv4 = bits(key, &limit.ipv4, (DEFAULT_IPV4_BITS, 32), findings);
    let key = "max_connections_per_network.ipv6";
    let ipv6 = bits(key, &limit.ipv6, (DEFAULT_IPV6_BITS, 128), findings);
    let Count(max) = *limit.max.written()?;
    if let (0, Some(span)) = (max, limit.max.span()) {
        let mistake = Mistake::new("cannot be zero", "write at least 1");
        findings.error(span, mistake.of("max_connections_per_network.max"));
    }
    Some(NetworkLimit {
        max,
        ipv4: ipv4?,
        ipv6: ipv6?,
    })
}

/// What `trusted_proxies` means.
pub(super) fn trusted_proxies(table: &ServerTable, findings: &mut Findings) -> TrustedProxies {
    let written = table
        .trusted_proxies
        .written()
        .map_or(&[][..], |list| &list.0);
    for one in written {
        if let TrustedProxy::Network(network) = one.get_ref()
            && network.prefix_len() == 0
        {
            let message = "trusts everybody to say who they are, so limits per address bind nobody";
            let advice = "name the networks of your proxies";
            let mistake = Mistake::new(message, advice).of("trusted_proxies");
            findings.warn(one.span(), mistake);
        }
    }
    written.iter().map(|one| *one.get_ref()).collect()
}

/// A listener that nobody may speak to.
pub(super) fn proxy_protocol(
    table: &ListenTable,
    trusted: &TrustedProxies,
    findings: &mut Findings,
) -> ProxyProtocol {
    let meant = table.proxy_protocol.get_or(ProxyProtocol::Off);
    if let (ProxyProtocol::Required, Some(span)) = (meant, table.proxy_protocol.span())
        && trusted.is_empty()
    {
        let message = "is only believed from `trusted_proxies`, and there are none";
        let advice = "name the proxy in `[server]`, like `trusted_proxies = [\"10.0.0.1\"]`";
        findings.error(span, Mistake::new(message, advice).of("proxy_protocol"));
    }
    meant
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(texts: &[&str]) -> TrustedProxies {
        let proxies = texts.iter().map(|text| TrustedProxy::from_text(text));
        proxies.map(|proxy| proxy.expect("a proxy")).collect()
    }

    #[test]
    fn proxies_are_trusted_by_network_and_mapped_addresses_are_ipv4() {
        let proxies = trusted(&[
            "10.0.0.0/8",
            "127.0.0.1",
            "2001:db8::/32",
            "::ffff:192.0.2.1",
        ]);
        for (address, is_trusted) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:11.0.0.1", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("192.0.2.1", true),
        ] {
            let ip = address.parse().expect("an address");
            assert_eq!(proxies.trusts(ip), is_trusted, "{address}");
        }
        assert!(!proxies.trusts_unix() && trusted(&["unix:"]).trusts_unix());
        assert!(TrustedProxies::default().is_empty() && !proxies.is_empty());
    }

    #[test]
    fn says_what_would_be_right() {
        for (text, right) in [
            ("10.0.0.1/8", "`\"10.0.0.0/8\"`"),
            ("2001:db8::1/32", "`\"2001:db8::/32\"`"),
            ("10.0.0.0/33", "0 to 32"),
            ("::/129", "0 to 128"),
            ("10.0.0.0/", "0 to 32"),
            ("10.0.0.0/-1", "0 to 32"),
            ("::ffff:10.0.0.0/104", "`\"10.0.0.0/8\"`"),
            ("localhost", "names are not looked up"),
            ("unix:/run/a.sock", "`\"unix:\"`"),
            ("unix", "`\"unix:\"`"),
            ("10.0.0", "an IP address"),
            ("", "an IP address"),
        ] {
            let mistake = TrustedProxy::from_text(text).expect_err(text);
            assert!(mistake.advice.contains(right), "{text}: {mistake:?}");
        }
    }
}
