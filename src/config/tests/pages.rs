//! What we ship: the files are right, and the pages say what is so.

use super::*;
use crate::config::reader::Table as _;
use crate::config::schema::{
    AdminTable, BackoffTable, BundleTable, CertificateTable, ConnectionRateTable, CorsTable,
    HistoryTable, Http2Table, KeyTable, LagTable, ListenTable, NetworkLimitTable, Place,
    ProxyTable, RetryTable, ServerTable, Settings, UpstreamTlsTable,
};

#[test]
fn files_that_we_ship_are_valid_and_give_no_warning() {
    let files = files("config", "toml");
    for file in &files {
        let loaded = Config::load(file).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
    assert_eq!(files.len(), 2);
}

#[test]
fn the_reference_has_every_key() {
    let tables = [
        ServerTable::KEYS,
        ConnectionRateTable::KEYS,
        NetworkLimitTable::KEYS,
        Http2Table::KEYS,
        ListenTable::KEYS,
        CertificateTable::KEYS,
        AdminTable::KEYS,
        Place::KEYS,
        BundleTable::KEYS,
        ProxyTable::KEYS,
        Settings::KEYS,
        UpstreamTlsTable::KEYS,
        BackoffTable::KEYS,
        HistoryTable::KEYS,
        RetryTable::KEYS,
        LagTable::KEYS,
        CorsTable::KEYS,
        KeyTable::KEYS,
    ];
    for key in tables.concat() {
        let is_mentioned = REFERENCE.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            let is_key = |part: &str| part.split(" = ").next() == Some(key);
            is_key(line) || line.split(['{', ',']).any(|part| is_key(part.trim()))
        });
        assert!(is_mentioned, "config/ssecast.toml does not mention `{key}`");
    }
}

#[test]
fn the_reference_tells_the_real_defaults() {
    let mut section = "";
    let mut rest = String::new();
    let mut n_left_out = 0;
    for line in REFERENCE.lines() {
        section = if line.starts_with('[') { line } else { section };
        if matches!(section, "[server]" | "[admin]" | "[defaults]") {
            n_left_out += usize::from(line.starts_with(|c: char| c.is_ascii_lowercase()));
        } else {
            rest.push_str(line);
            rest.push('\n');
        }
    }
    // All but `max_connections`, `connection_rate`, the limits per address and network, `state`,
    // `max_subscribers`, `access` and `connect`, which have none.
    assert_eq!(
        n_left_out,
        ServerTable::KEYS.len() + AdminTable::KEYS.len() + Settings::KEYS.len() - 8
    );
    assert_eq!(parse(&rest).config, parse(REFERENCE).config);
}

/// The example of a proxy in the reference, as it would be without the comments.
fn example_of_a_proxy() -> String {
    let (_, section) = REFERENCE.split_once("# [proxies.api]\n").unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("# "));
    let settings = lines.filter(|line| {
        let key = line.split(" = ").next().unwrap_or_default();
        ProxyTable::KEYS.contains(&key)
    });
    settings.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_reference_tells_the_real_defaults_of_a_proxy() {
    let proxy = |settings: &str| parse(&format!("{LISTENER}[proxies.api]\n{settings}")).config;
    let example = example_of_a_proxy();
    let of_its_own = |line: &&str| {
        ["path", "host", "upstream"]
            .iter()
            .any(|key| line.starts_with(&format!("{key} = ")))
    };
    let least: String = (example.lines().filter(of_its_own))
        .map(|line| format!("{line}\n"))
        .collect();
    // All but `access`, which has none.
    assert_eq!(example.lines().count(), ProxyTable::KEYS.len() - 1);
    assert_eq!(proxy(&least), proxy(&example));
}

#[test]
fn the_page_on_reloads_says_for_every_key_what_a_change_of_it_touches() {
    const PAGE: &str = include_str!("../../../docs/reload.md");
    let rows: Vec<&str> = PAGE
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let says = |key: &str| rows.iter().any(|row| row.contains(&format!("`{key}`")));
    let with = |table: &str, keys: &[&str]| -> Vec<String> {
        keys.iter().map(|key| format!("{table}{key}")).collect()
    };
    for key in [
        with("", schema::TOP_KEYS),
        with("server.", ServerTable::KEYS),
        with("", Http2Table::KEYS),
        with("admin.", AdminTable::KEYS),
        with("listen.", ListenTable::KEYS),
        with("", CertificateTable::KEYS),
        with("", Place::KEYS),
        with("", Settings::KEYS),
        with("proxies.", ProxyTable::KEYS),
    ]
    .concat()
    {
        assert!(says(&key), "docs/reload.md has no row for `{key}`");
    }
}
