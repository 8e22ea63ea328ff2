//! The bounds of single values, beyond what their types say.

use std::time::Duration;

use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::reader::Setting;
use crate::config::schema::Http2Table;
use crate::config::schema::ProxyTable;
use crate::config::schema::ServerTable;
use crate::config::schema::Settings;
use crate::config::units::Bytes;
use crate::config::units::show_bytes;
use crate::config::values::Count;
use crate::config::values::OrNever;

/// A data line of one byte is seven on the wire; this keeps every event far below 4 GiB there.
const MOST_EVENT_BYTES: Bytes = Bytes::kib(64 * 1024);

/// A few of the largest events by default, and some clients; less could not do its work.
const LEAST_MEMORY: Bytes = Bytes::mib(16);
/// What hyper needs to hold of a request head before it can answer.
const LEAST_HEADER_BYTES: Bytes = Bytes::kib(8);
/// More threads than any machine has cores for.
const MOST_THREADS: Count = Count(1024);
/// A connection gives each of its streams a turn before others have one.
const MOST_STREAMS: Count = Count(1024);
/// An idle client is not worth a packet more often.
const LEAST_PING_INTERVAL: Duration = Duration::from_secs(1);
/// An idle client is not worth a packet more often.
const LEAST_HEARTBEAT: Duration = Duration::from_secs(1);
/// What is sent in bursts, or over a network that loses packets, waits for longer than that.
const LEAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Less would be a storm of its own.
const LEAST_MAX_AGE: Duration = Duration::from_secs(1);
/// Below this, coming back costs more than staying.
const SHORT_MAX_AGE: Duration = Duration::from_secs(60);
/// More than this is felt as delay.
const MOST_COALESCE: Duration = Duration::from_secs(1);
/// Clients and proxies give up a request that has no answer.
const MOST_FIRST_ANSWER: Duration = Duration::from_secs(30);
/// As many as browsers follow.
const MOST_REDIRECTS: Count = Count(20);
/// Origins that send heartbeats mostly do so every 15 to 30 seconds.
const SHORT_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A key with its value as written, for checks.
struct Checked<'a, T> {
    key: &'a str,
    setting: &'a Setting<T>,
}

impl<T> Checked<'_, T> {
    fn refuse_if(&self, is_wrong: impl Fn(&T) -> bool, mistake: Mistake, findings: &mut Findings) {
        if let (Some(value), Some(span)) = (self.setting.written(), self.setting.span())
            && is_wrong(value)
        {
            findings.error(span, mistake.of(self.key));
        }
    }
}

impl Checked<'_, Duration> {
    fn refuse_zero(&self, findings: &mut Findings) {
        let mistake = Mistake::new("cannot be zero", "write a longer time, like `\"10s\"`");
        self.refuse_if(Duration::is_zero, mistake, findings);
    }
}

impl Checked<'_, Bytes> {
    fn refuse_zero(&self, advice: &str, findings: &mut Findings) {
        self.refuse_if(
            |size| size.0 == 0,
            Mistake::new("cannot be zero", advice),
            findings,
        );
    }
}

impl Checked<'_, Count> {
    fn refuse_zero(&self, findings: &mut Findings) {
        let mistake = Mistake::new("cannot be zero", "write at least 1, or leave it out");
        self.refuse_if(|count| count.0 == 0, mistake, findings);
    }
}

fn check<'a, T>(key: &'a str, setting: &'a Setting<T>) -> Checked<'a, T> {
    Checked { key, setting }
}

/// `[server]`
pub(super) fn server(table: &ServerTable, findings: &mut Findings) {
    let message = format!("is more than {}", MOST_THREADS.0);
    let mistake = Mistake::new(message, "write 0 for one thread per core");
    check("threads", &table.threads).refuse_if(|n| *n > MOST_THREADS, mistake, findings);
    check("max_connections", &table.max_connections).refuse_zero(findings);
    check("handshake_timeout", &table.handshake_timeout).refuse_zero(findings);
    check("header_timeout", &table.header_timeout).refuse_zero(findings);
    let least = show_bytes(LEAST_MEMORY.0);
    let mistake = Mistake::new("is too small", format!("write at least `\"{least}\"`"));
    check("memory", &table.memory).refuse_if(|size| *size < LEAST_MEMORY, mistake, findings);
    let least = show_bytes(LEAST_HEADER_BYTES.0);
    let mistake = Mistake::new("is too small", format!("write at least `\"{least}\"`"));
    check("max_header_bytes", &table.max_header_bytes).refuse_if(
        |size| *size < LEAST_HEADER_BYTES,
        mistake,
        findings,
    );
    http2(&table.http2, findings);
}

fn http2(table: &Http2Table, findings: &mut Findings) {
    let key = "http2.max_concurrent_streams";
    check(key, &table.max_concurrent_streams).refuse_zero(findings);
    let advice = format!("write at most {}", MOST_STREAMS.0);
    check(key, &table.max_concurrent_streams).refuse_if(
        |n| *n > MOST_STREAMS,
        Mistake::new("is too many for one connection", advice),
        findings,
    );
    let advice = "write at least `\"1s\"`; for none at all, write `\"off\"`";
    check("http2.ping_interval", &table.ping_interval).refuse_if(
        |OrNever(interval)| interval.is_some_and(|interval| interval < LEAST_PING_INTERVAL),
        Mistake::new("is too short", advice),
        findings,
    );
    check("http2.ping_timeout", &table.ping_timeout).refuse_zero(findings);
    check("http2.idle_timeout", &table.idle_timeout).refuse_zero(findings);
}

/// Single values of `[defaults]`, or of a channel that has inherited.
pub(super) fn settings(s: &Settings, findings: &mut Findings) {
    for (key, setting) in [
        ("connect_timeout", &s.connect_timeout),
        ("response_timeout", &s.response_timeout),
        ("idle_timeout", &s.idle_timeout),
        ("backoff.first", &s.backoff.first),
        ("backoff.max", &s.backoff.max),
        ("retry.min", &s.retry.min),
        ("retry.max", &s.retry.max),
    ] {
        check(key, setting).refuse_zero(findings);
    }
    for (key, setting, advice) in [
        (
            "max_line_bytes",
            &s.max_line_bytes,
            "write the longest line that is allowed",
        ),
        (
            "max_event_bytes",
            &s.max_event_bytes,
            "write the largest event that is allowed",
        ),
        (
            "history.bytes",
            &s.history.bytes,
            "for no history, write `history = { events = 0 }`",
        ),
    ] {
        check(key, setting).refuse_zero(advice, findings);
    }
    let most = show_bytes(MOST_EVENT_BYTES.0);
    let mistake = Mistake::new("is too large", format!("write at most `\"{most}\"`"));
    check("max_event_bytes", &s.max_event_bytes).refuse_if(
        |size| *size > MOST_EVENT_BYTES,
        mistake,
        findings,
    );
    check("max_subscribers", &s.max_subscribers).refuse_zero(findings);
    check("latest.keys", &s.latest.keys).refuse_zero(findings);
    let advice = "write how much is kept for keys that do not change, like `\"4MiB\"`";
    check("latest.bytes", &s.latest.bytes).refuse_zero(advice, findings);
    max_age(s, findings);
    check("max_instances", &s.max_instances).refuse_zero(findings);
    let advice = "write at most `\"30s\"`; a request waits for it";
    check("first_answer", &s.first_answer).refuse_if(
        |time| *time > MOST_FIRST_ANSWER,
        Mistake::new("is too long", advice),
        findings,
    );
    check("max_views", &s.max_views).refuse_zero(findings);
    let advice = "for any age, write `\"none\"`; for no history, `history = { events = 0 }`";
    check("history.age", &s.history.age).refuse_if(
        |age| age.0 == Some(Duration::ZERO),
        Mistake::new("cannot be zero", advice),
        findings,
    );
    lag(s, findings);
    let advice = "write at least `\"1s\"`; for none at all, write `\"off\"`";
    check("heartbeat", &s.heartbeat).refuse_if(
        |OrNever(interval)| interval.is_some_and(|interval| interval < LEAST_HEARTBEAT),
        Mistake::new("is too short", advice),
        findings,
    );
    check("coalesce", &s.coalesce).refuse_if(
        |coalesce| *coalesce > MOST_COALESCE,
        Mistake::new(
            "is too long: all events wait for it",
            "write at most `\"1s\"`",
        ),
        findings,
    );
    let mistake = Mistake::new(
        "is too large",
        format!("write at most {}", MOST_REDIRECTS.0),
    );
    check("max_redirects", &s.max_redirects).refuse_if(|n| *n > MOST_REDIRECTS, mistake, findings);
    upstream(s, findings);
}

fn max_age(s: &Settings, findings: &mut Findings) {
    let advice = "write at least `\"1s\"`; for any age, write `\"none\"`";
    check("max_age", &s.max_age).refuse_if(
        |age| age.0.is_some_and(|age| age < LEAST_MAX_AGE),
        Mistake::new("is too short", advice),
        findings,
    );
    if let (Some(OrNever(Some(age))), Some(span)) = (s.max_age.written(), s.max_age.span())
        && (LEAST_MAX_AGE..SHORT_MAX_AGE).contains(age)
    {
        let message = "is so short that clients are busy coming back";
        let advice = "write minutes or hours; a balancer that clients should move to needs no more";
        findings.warn(span, Mistake::new(message, advice).of("max_age"));
    }
}

/// How patient the gateway is with an upstream.
fn upstream(s: &Settings, findings: &mut Findings) {
    let advice = "write a time, like `\"30s\"`; for no return at all, write `\"off\"`";
    check("return_after", &s.return_after).refuse_if(
        |OrNever(time)| *time == Some(Duration::ZERO),
        Mistake::new("cannot be zero", advice),
        findings,
    );
    if let (Some(timeout), Some(span)) = (s.idle_timeout.written(), s.idle_timeout.span())
        && *timeout < SHORT_IDLE_TIMEOUT
        && !timeout.is_zero()
    {
        let message = "is so short that a healthy but quiet upstream is cut off again and again";
        let advice = "make it longer than the pause between the upstream's events or comments";
        findings.warn(span, Mistake::new(message, advice).of("idle_timeout"));
    }
}

/// How far clients may lag, and how long they may take.
fn lag(s: &Settings, findings: &mut Findings) {
    let advice = "write how far a client may lag, like `\"1MiB\"`";
    check("lag.limit", &s.lag.limit).refuse_zero(advice, findings);
    check("lag.events", &s.lag.events).refuse_zero(findings);
    check("lag.age", &s.lag.age).refuse_if(
        |age| age.0 == Some(Duration::ZERO),
        Mistake::new("cannot be zero", "for any age, write `\"none\"`"),
        findings,
    );
    check("write_timeout", &s.write_timeout).refuse_if(
        |OrNever(timeout)| timeout.is_some_and(|timeout| timeout < LEAST_WRITE_TIMEOUT),
        Mistake::new(
            "is so short that healthy clients are cut off",
            "write at least `\"1s\"`; for none at all, write `\"off\"`",
        ),
        findings,
    );
}

/// `[proxies.NAME]`
pub(super) fn proxy(t: &ProxyTable, findings: &mut Findings) {
    check("connect_timeout", &t.connect_timeout).refuse_zero(findings);
    for (key, setting) in [
        ("response_timeout", &t.response_timeout),
        ("idle_timeout", &t.idle_timeout),
        ("tunnel_idle_timeout", &t.tunnel_idle_timeout),
    ] {
        let advice = "write a longer time, like `\"60s\"`; for none at all, write `\"off\"`";
        let mistake = Mistake::new("cannot be zero", advice);
        check(key, setting).refuse_if(|time| time.0 == Some(Duration::ZERO), mistake, findings);
    }
    check("max_requests", &t.max_requests).refuse_zero(findings);
    let is_zero = |count: &Count| count.0 == 0;
    let mistake = Mistake::new("cannot be zero", "for no tunnels, write `upgrade = []`");
    check("max_tunnels", &t.max_tunnels).refuse_if(is_zero, mistake, findings);
    let advice = "to keep no connections, write `max_idle_connections = 0`";
    let mistake = Mistake::new("cannot be zero", advice);
    check("keep_alive", &t.keep_alive).refuse_if(Duration::is_zero, mistake, findings);
    let advice = "write at least `\"1s\"`; for none at all, write `\"off\"`";
    check("heartbeat", &t.heartbeat).refuse_if(
        |OrNever(interval)| interval.is_some_and(|interval| interval < LEAST_HEARTBEAT),
        Mistake::new("is too short", advice),
        findings,
    );
}
