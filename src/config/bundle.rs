//! `[bundles.NAME]`: several channels on one connection.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use crate::config::Access;
use crate::config::Bundle;
use crate::config::Channel;
use crate::config::Connect;
use crate::config::Join;
use crate::config::OnLag;
use crate::config::channel::EventTypes;
use crate::config::checks;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::reader::FromText;
use crate::config::schema::NamedBundle;
use crate::config::schema::NamedChannel;
use crate::config::schema::Settings;
use crate::config::suggestion;
use crate::config::values::OneOrMany;

/// The name of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChannelName(pub(super) String);

/// Most channels of a bundle. Ids name all that a client asks for, and are sent back in a header field.
pub(super) const MOST_CHANNELS: usize = 64;

impl FromText for ChannelName {
    const EXAMPLE: &'static str = "\"prices\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        Ok(Self(text.to_owned()))
    }
}

/// What a bundle says of its own, before it inherits: nothing of an upstream.
pub(super) fn check_own(bundle: &NamedBundle, findings: &mut Findings) {
    let (place, s) = (&bundle.channel.place, &bundle.channel.settings);
    let of_upstreams: [(&str, Option<Range<usize>>); 22] = [
        ("upstream", place.upstream.span()),
        ("key.query", place.key.query.span()),
        ("key.headers", place.key.headers.span()),
        ("connect", s.connect.span()),
        ("linger", s.linger.span()),
        ("first_answer", s.first_answer.span()),
        ("max_instances", s.max_instances.span()),
        ("same_source", s.same_source.span()),
        ("upstream_headers", s.upstream_headers.span()),
        ("upstream_http", s.upstream_http.span()),
        ("upstream_compression", s.upstream_compression.span()),
        ("connect_timeout", s.connect_timeout.span()),
        ("response_timeout", s.response_timeout.span()),
        ("idle_timeout", s.idle_timeout.span()),
        ("return_after", s.return_after.span()),
        ("on_status", s.on_status.span()),
        ("max_redirects", s.max_redirects.span()),
        ("max_line_bytes", s.max_line_bytes.span()),
        ("max_event_bytes", s.max_event_bytes.span()),
        ("ids", s.ids.span()),
        ("coalesce", s.coalesce.span()),
        ("ready", s.ready.span()),
    ];
    for (key, span) in of_upstreams {
        let Some(span) = span else { continue };
        let message = "means nothing for a bundle, which has no upstream of its own";
        let advice = "write it where its channels are";
        findings.error(span, Mistake::new(message, advice).of(key));
    }
}

/// The channels that a bundle has, ordered; `None`: there is something wrong with them, which is
/// reported.
pub(super) fn meant(
    bundle: &NamedBundle,
    channels: &[NamedChannel],
    meant: &[Channel],
    findings: &mut Findings,
) -> Option<Bundle> {
    let name = bundle.channel.name.get_ref();
    if bundle.own.channels.is_absent() || bundle.channel.place.path.is_absent() {
        let message = format!("the bundle `{name}` has no `channels` or no `path`");
        let advice = format!(
            "add lines like `path = \"/{name}\"` and `channels = [\"prices\", \"scores\"]`"
        );
        findings.missing(
            Some(bundle.channel.name_span()),
            Mistake::new(message, advice),
        );
        return None;
    }
    if let Some(twin) = channels.iter().find(|one| one.name.get_ref() == name) {
        let message = format!("`{name}` is a channel, too");
        let advice = "give the bundle another name: logs and metrics tell them apart by it";
        let span = Some(bundle.channel.name_span());
        let finding = Finding::new(Severity::Error, span, Mistake::new(message, advice));
        findings.push(finding.with_note("the channel", twin.name_span()));
    }
    if bundle
        .channel
        .place
        .path
        .written()
        .is_some_and(|path| path.0.contains('{'))
    {
        let message = "a bundle has no variables: it would not be known which channel they are for";
        let advice = "write a path without `{…}`";
        let span = bundle.channel.place.path.span().unwrap_or_default();
        findings.error(span, Mistake::new(message, advice).of("path"));
    }
    let OneOrMany(names) = bundle.own.channels.written()?;
    let span = bundle.own.channels.span().unwrap_or_default();
    if names.is_empty() || names.len() > MOST_CHANNELS {
        let message = format!("a bundle has 1 to {MOST_CHANNELS} channels");
        let advice = "name those that clients may ask for";
        findings.error(span, Mistake::new(message, advice).of("channels"));
    }
    let mut by_tag: BTreeMap<u32, &str> = BTreeMap::new();
    for name in names {
        check_member(name, channels, meant, findings);
        let text = name.get_ref().0.as_str();
        let twin = by_tag.insert(crc32fast::hash(text.as_bytes()), text);
        if let Some(twin) = twin {
            let message = format!("`{twin}` and `{text}` can't be told apart in ids");
            let advice = "name each once; if these are two, give one another name";
            findings.error(name.span(), Mistake::new(message, advice).of("channels"));
        }
    }
    check_access(bundle, names, channels, findings);
    check_keys(&bundle.channel.settings, findings);
    let mut names: Vec<String> = names.iter().map(|one| one.get_ref().0.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let event_types = bundle.own.event_types.get_or(EventTypes::Plain);
    Some(Bundle {
        channels: names,
        event_types,
    })
}

fn check_member(
    name: &Spanned<ChannelName>,
    channels: &[NamedChannel],
    meant: &[Channel],
    findings: &mut Findings,
) {
    let text = name.get_ref().0.as_str();
    if !channels.iter().any(|one| one.name.get_ref() == text) {
        let known: Vec<&str> = channels
            .iter()
            .map(|one| one.name.get_ref().as_str())
            .collect();
        let message = format!("there is no channel `{text}`");
        let advice = match suggestion::nearest(text, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add a table `[channels.{text}]`, or leave it out"),
        };
        findings.error(name.span(), Mistake::new(message, advice).of("channels"));
    } else if meant
        .iter()
        .any(|one| one.name == text && one.connect == Connect::OnDemand)
    {
        let message =
            format!("the channel `{text}` is on demand, and a bundle's channels always run");
        let advice = "write `connect = \"eager\"` there, or leave it out here";
        findings.error(name.span(), Mistake::new(message, advice).of("channels"));
    }
}

/// What holds of a channel that uses a credential holds of a bundle that shows it.
fn check_access(
    bundle: &NamedBundle,
    names: &[Spanned<ChannelName>],
    channels: &[NamedChannel],
    findings: &mut Findings,
) {
    let access = &bundle.channel.settings.access;
    if access.written() == Some(&Access::Public) || access.is_wrong() {
        return;
    }
    let private = names.iter().find(|name| {
        let text = name.get_ref().0.as_str();
        let member = channels.iter().find(|one| one.name.get_ref() == text);
        member.is_some_and(|member| checks::credential(member).is_some())
    });
    let Some(private) = private else { return };
    let message = format!(
        "the bundle `{}` shows `{}`, which uses a credential, but does not say who may subscribe",
        bundle.channel.name.get_ref(),
        private.get_ref().0
    );
    let advice = "if everybody may read it, write `access = \"public\"`";
    findings.error(bundle.channel.name_span(), Mistake::new(message, advice));
}

/// Views do not know events by their keys.
fn check_keys(s: &Settings, findings: &mut Findings) {
    let latest = matches!(s.join.written(), Some(Join::Latest)).then(|| s.join.span());
    let conflates = matches!(s.lag.then.written(), Some(OnLag::Conflate));
    let conflates = conflates.then(|| s.lag.then.span());
    for (key, span) in [("join", latest), ("lag.then", conflates)] {
        let Some(span) = span.flatten() else { continue };
        let message = "a bundle does not know events by keys: its clients get the whole history \
                       instead of the newest event of each key, and skip instead of conflating";
        let advice = "say something else for the bundle; who needs the state asks its channels";
        findings.warn(span, Mistake::new(message, advice).of(key));
    }
}
