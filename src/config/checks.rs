//! What must hold between values: within a channel, and between channels.
//!
//! A setting that was refused before is not looked at again.

use std::ops::Range;
use std::time::Duration;

use crate::config::Access;
use crate::config::Config;
use crate::config::ConflateBy;
use crate::config::Credentials;
use crate::config::Ids;
use crate::config::Join;
use crate::config::OnLag;
use crate::config::Origins;
use crate::config::SelectEvents;
use crate::config::defaults;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::host::HostName;
use crate::config::origin::AllowedOrigins;
use crate::config::path::ChannelPath;
use crate::config::reader::Setting;
use crate::config::schema::CorsTable;
use crate::config::schema::NamedChannel;
use crate::config::schema::ServerTable;
use crate::config::schema::Settings;
use crate::config::units::show_bytes;
use crate::config::units::show_duration;
use crate::config::upstream_urls;
use crate::config::values::Count;
use crate::config::values::OneOrMany;
use crate::config::values::OrNever;

const HEARTBEAT_ADVICE: &str = "write `\"15s\"`; load balancers and proxies cut connections that are silent for 60s\n\
                                (AWS ALB, nginx), and so does another gateway that reads here (`idle_timeout`)";

/// Less than what load balancers and proxies take for silence, by default: 60 s.
const LONG_HEARTBEAT: Duration = Duration::from_secs(55);

/// What must hold between the settings of a channel, inherited or not.
pub(super) fn between_settings(s: &Settings, findings: &mut Findings) {
    let backoff = [
        ("backoff.first", &s.backoff.first),
        ("backoff.max", &s.backoff.max),
    ];
    ordered(
        backoff,
        [defaults::BACKOFF_FIRST, defaults::BACKOFF_MAX],
        findings,
    );
    let retry = [("retry.min", &s.retry.min), ("retry.max", &s.retry.max)];
    ordered(retry, [defaults::RETRY_MIN, defaults::RETRY_MAX], findings);
    sizes(s, findings);
    newcomers(s, findings);
    heartbeat(s, findings);
    cors(&s.cors, findings);
}

fn ordered(
    [(low_key, low), (high_key, high)]: [(&str, &Setting<Duration>); 2],
    [low_default, high_default]: [Duration; 2],
    findings: &mut Findings,
) {
    let (least, most) = (low.get_or(low_default), high.get_or(high_default));
    if low.is_wrong() || high.is_wrong() || least <= most || least.is_zero() || most.is_zero() {
        return;
    }
    let show = |key: &str, setting: &Setting<Duration>, value: Duration| {
        let value = show_duration(value);
        let by_default = if setting.is_absent() {
            ", by default"
        } else {
            ""
        };
        format!("`{key}` (`\"{value}\"`{by_default})")
    };
    let (low_shown, high_shown) = (show(low_key, low, least), show(high_key, high, most));
    let mistake = Mistake::new(
        format!("{low_shown} is longer than {high_shown}"),
        format!("make `{high_key}` at least `\"{}\"`", show_duration(least)),
    );
    let (Some(span), other) = (match (low.span(), high.span()) {
        (Some(low), high) => (Some(low), high),
        (None, high) => (high, None),
    }) else {
        return;
    };
    let finding = Finding::new(Severity::Error, Some(span), mistake);
    findings.push(match other {
        Some(other) => finding.with_note(format!("`{high_key}` is set here"), other),
        None => finding,
    });
}

/// Who waits for bytes takes a connection for dead that brings none.
fn heartbeat(s: &Settings, findings: &mut Findings) {
    let (Some(OrNever(interval)), Some(span)) = (s.heartbeat.written(), s.heartbeat.span()) else {
        return;
    };
    let message = match interval {
        None => "is off, so connections without events look dead".to_owned(),
        Some(_) => return long_heartbeat(&s.heartbeat, findings),
    };
    findings.warn(
        span,
        Mistake::new(message, HEARTBEAT_ADVICE).of("heartbeat"),
    );
}

/// A heartbeat that comes too late is none.
pub(super) fn long_heartbeat(heartbeat: &Setting<OrNever<Duration>>, findings: &mut Findings) {
    if let (Some(OrNever(Some(interval))), Some(span)) = (heartbeat.written(), heartbeat.span())
        && *interval > LONG_HEARTBEAT
    {
        let message = format!("is longer than {}", show_duration(LONG_HEARTBEAT));
        findings.warn(
            span,
            Mistake::new(message, HEARTBEAT_ADVICE).of("heartbeat"),
        );
    }
}

/// All that channels may keep, against what the process may.
pub(super) fn memory(config: &Config, table: &ServerTable, findings: &mut Findings) {
    let sizes = config.channels.iter().map(|channel| channel.history.bytes);
    let together = sizes.fold(0, usize::saturating_add);
    let memory = config.server.memory;
    if together <= memory || table.memory.is_wrong() {
        return;
    }
    let message = format!(
        "the histories of {} channels may take {} together, more than `memory` ({}): the oldest \
         events will be given up before their time",
        config.channels.len(),
        show_bytes(together),
        show_bytes(memory)
    );
    let advice = "make `memory` larger, or `history.bytes` smaller";
    let mistake = Mistake::new(message, advice);
    findings.push(Finding::new(
        Severity::Warning,
        table.memory.span(),
        mistake,
    ));
}

/// Warns where one limit makes another pointless.
fn sizes(s: &Settings, findings: &mut Findings) {
    let history = s.history.bytes.get_or(defaults::HISTORY_BYTES);
    let event = s.max_event_bytes.get_or(defaults::MAX_EVENT_BYTES);
    let keeps = s.history.events.get_or(Count(1)).0 > 0;
    let is_wrong = s.history.bytes.is_wrong() || s.max_event_bytes.is_wrong();
    let span = s.history.bytes.span().or_else(|| s.max_event_bytes.span());
    if let Some(span) = span.filter(|_| keeps && !is_wrong && event > history && history.0 > 0) {
        let (history, event) = (show_bytes(history.0), show_bytes(event.0));
        let message = format!(
            "an event may be larger (`max_event_bytes`, {event}) than the whole history \
             (`history.bytes`, {history})"
        );
        let advice =
            format!("set `max_event_bytes` to at most `\"{history}\"`, or keep more history");
        findings.warn(span, Mistake::new(message, advice));
    }
    if let (Some(limit), Some(span)) = (s.lag.limit.written(), s.lag.limit.span())
        && *limit > history
        && !s.history.bytes.is_wrong()
    {
        let history = show_bytes(history.0);
        let message = format!("never applies: the history keeps no more than {history}");
        let advice = format!("write at most `\"{history}\"`, or make `history.bytes` larger");
        findings.warn(span, Mistake::new(message, advice).of("lag.limit"));
    }
    if let (Some(line), Some(span)) = (s.max_line_bytes.written(), s.max_line_bytes.span())
        && *line > event
        && !s.max_event_bytes.is_wrong()
    {
        let event = show_bytes(event.0);
        let message = format!("never applies: an event has no more than {event}");
        let advice = format!("write at most `\"{event}\"`, or make `max_event_bytes` larger");
        findings.warn(span, Mistake::new(message, advice).of("max_line_bytes"));
    }
}

/// What newcomers get, and what there is to give.
fn newcomers(s: &Settings, findings: &mut Findings) {
    let kept = s.history.events.get_or(defaults::HISTORY_EVENTS);
    if let (Some(Join::Newest(n)), Some(span)) = (s.join.written(), s.join.span())
        && *n > kept.0
        && !s.history.events.is_wrong()
    {
        let message = format!(
            "is more than the history has (`history.events`, {})",
            kept.0
        );
        let advice = format!(
            "write at most {}, or `\"all\"`; or make `history.events` larger",
            kept.0
        );
        findings.warn(span, Mistake::new(message, advice).of("join"));
    }
    let shows_ids = s.ids.get_or(Ids::Fill) != Ids::Gateway && !s.ids.is_wrong();
    if let (Some(ConflateBy::Id), Some(span)) = (s.conflate_by.written(), s.conflate_by.span())
        && shows_ids
    {
        let message =
            "an id that comes again is no place in the stream: who has seen it last can't resume";
        let advice = "write `ids = \"gateway\"` too, so that clients get ids of the gateway's";
        findings.warn(span, Mistake::new(message, advice).of("conflate_by"));
    }
    let knows_keys = matches!(s.join.written(), Some(Join::Latest))
        || matches!(s.lag.then.written(), Some(OnLag::Conflate));
    if let (Some(SelectEvents::Allow), Some(span)) =
        (s.select_events.written(), s.select_events.span())
        && knows_keys
    {
        let message = "who asks for some event types gets the whole history where others get the \
                       newest event of each key, and skips where others conflate";
        let advice = "give it a channel of its own, if that matters";
        findings.warn(span, Mistake::new(message, advice).of("select_events"));
    }
}

fn cors(table: &CorsTable, findings: &mut Findings) {
    let Some(span) = table.credentials.span() else {
        return;
    };
    if table.credentials.written() != Some(&Credentials::Allow) {
        return;
    }
    match table.origins.written() {
        Some(AllowedOrigins(Origins::Any)) => {
            let message = "browsers refuse credentials where `origins` is `\"*\"`";
            let advice = "name the origins, `origins = [\"https://app.example\"]`, \
                          or leave `credentials` out";
            findings.error(span, Mistake::new(message, advice).of("cors.credentials"));
        }
        Some(AllowedOrigins(Origins::Listed(list))) if list.iter().any(|o| o == "null") => {
            let message = "any page can have the origin `null`, and would be given credentials";
            let advice = "remove `\"null\"` from `origins`, or `credentials`";
            findings.warn(span, Mistake::new(message, advice).of("cors.credentials"));
        }
        _ => {}
    }
}

/// Of a channel's own table, before it inherits: credentials without any origin mean nothing.
pub(super) fn own_cors(own: &CorsTable, defaults: &CorsTable, findings: &mut Findings) {
    let origins = if own.origins.is_absent() {
        &defaults.origins
    } else {
        &own.origins
    };
    let has_none = match origins.written() {
        Some(AllowedOrigins(Origins::Listed(list))) => list.is_empty(),
        Some(AllowedOrigins(Origins::Any)) => false,
        None => !origins.is_wrong(),
    };
    if let (Some(Credentials::Allow), Some(span), true) =
        (own.credentials.written(), own.credentials.span(), has_none)
    {
        let advice = "name the origins too: `origins = [\"https://app.example\"]`";
        let mistake = Mistake::new("means nothing without `cors.origins`", advice);
        findings.error(span, mistake.of("cors.credentials"));
    }
}

/// `path`, `host`
pub(super) fn place(
    path: &Setting<ChannelPath>,
    host: &Setting<OneOrMany<HostName>>,
    findings: &mut Findings,
) {
    if let (Some(path), Some(span)) = (path.written(), path.span()) {
        let message = if path.0.replace("{*", "").contains('*') {
            "`*` stands for itself; it does not match other paths"
        } else if path.0.contains("/:") {
            "`:` stands for itself; it does not begin a variable"
        } else {
            ""
        };
        if !message.is_empty() {
            let advice = "write `{name}` for any segment, and `{*rest}` for the rest of a path";
            findings.warn(span, Mistake::new(message, advice).of("path"));
        }
    }
    let (Some(OneOrMany(hosts)), Some(span)) = (host.written(), host.span()) else {
        return;
    };
    if hosts.is_empty() {
        let advice = "name a host, or leave `host` out to answer to any";
        findings.error(span, Mistake::new("the list is empty", advice).of("host"));
    }
    let mut seen: Vec<&HostName> = Vec::new();
    for host in hosts {
        if seen.contains(&host.get_ref()) {
            let message = format!("`\"{}\"` is given twice", host.get_ref().0);
            findings.warn(host.span(), Mistake::new(message, "remove one").of("host"));
        }
        seen.push(host.get_ref());
    }
}

/// What of a channel's upstream looks like a credential, and where it is.
pub(super) fn credential(named: &NamedChannel) -> Option<(String, Option<Range<usize>>)> {
    let headers = &named.settings.upstream_headers;
    let field = headers.written().and_then(|headers| headers.credential());
    if let Some(field) = field {
        return Some((format!("the header field `{field}`"), headers.span()));
    }
    let upstream = &named.place.upstream;
    let name = upstream_urls::credential(upstream)?;
    Some((format!("the query parameter `{name}`"), upstream.span()))
}

/// A gateway that uses a credential reads for everybody what was meant for its owner.
pub(super) fn access(named: &NamedChannel, findings: &mut Findings) {
    let NamedChannel { name, settings, .. } = named;
    let is_public = settings.access.written() == Some(&Access::Public);
    if is_public || settings.access.is_wrong() {
        return;
    }
    let Some((what, span)) = credential(named) else {
        return;
    };
    let message = format!(
        "the channel `{}` uses a credential but does not say who may subscribe",
        name.get_ref()
    );
    let advice = "the gateway would turn a private stream public; if everybody may read what this\n\
                  credential can read, write `access = \"public\"`";
    let mistake = Mistake::new(message, advice);
    let finding = Finding::new(Severity::Error, Some(name.span()), mistake);
    findings.push(match span {
        Some(span) => finding.with_note(format!("{what} looks like a credential"), span),
        None => finding,
    });
}
