//! `ssecast explain URL…`: what a request is for, and whether two are for the same.
//!
//! Nothing is asked of anybody: the file says it all. No value of a header field is shown, nor that of a
//! parameter that looks like a credential.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::{Explain, Finished, explain_proxy, explain_view};
use crate::channel::{describe, is_seed};
use crate::config::{
    self, Config, Connect, Key, KeyRules, PathRouter, SelectEvents, TrustedProxies, UnknownPath,
    without_secrets,
};
use crate::http::Selected;

pub(super) const ABOUT: &str = "\
Say what a request is for: which channel and which of its instances, or which proxy, and what would go \
upstream.

Two URLs are compared: clients that ask for them share an upstream connection, or the difference is \
told that keeps them apart. Nothing is sent to anybody.";

/// What a request leads to.
enum Found<'a> {
    Channel(Asked<'a>),
    /// The name of a proxy.
    Proxy(String),
}

/// What a path leads to.
#[derive(Debug, Clone)]
enum Place {
    Channel(Arc<config::Channel>),
    Proxy(Arc<config::Proxy>),
}

/// A request that leads to a channel.
struct Asked<'a> {
    /// As it was typed.
    url: &'a str,
    channel: Arc<config::Channel>,
    key: Key,
    /// Which of its events, or channels.
    selected: Selected,
    /// The parameters of its query, decoded.
    parameters: Vec<(String, String)>,
}

type Router = PathRouter<Place>;

/// Explains one URL, or compares two.
pub(super) fn run(arguments: &Explain) -> Finished {
    let loaded = match Config::load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return Finished::failed(diagnostics.to_string()),
    };
    let fields = match fields(&arguments.headers) {
        Ok(fields) => fields,
        Err(message) => return Finished::failed(format!("error: {message}\n")),
    };
    let router = router(&loaded.config);
    let trusted = &loaded.config.server.trusted_proxies;
    let mut output = String::new();
    let mut asked = Vec::new();
    for url in &arguments.urls {
        match ask(url, (&fields, &mut output), (&router, trusted)) {
            Ok(found) => {
                if let Found::Channel(one) = &found {
                    one.explain(&fields, &mut output);
                }
                asked.push(found);
            }
            Err(message) => {
                let complaint = format!("error: {}: {message}\n", without_secrets(url));
                return Finished {
                    output,
                    ..Finished::failed(complaint)
                };
            }
        }
    }
    if let [one, other] = asked.as_slice() {
        compare(one, other, &mut output);
    }
    Finished::fine(output)
}

/// All paths of a configuration.
fn router(config: &Config) -> Router {
    let mut router = Router::default();
    let channels = config.channels.iter();
    let channels = channels.map(|one| (&one.hosts, &one.path, Place::Channel(Arc::clone(one))));
    let proxies = config.proxies.iter();
    let proxies = proxies.map(|one| (&one.hosts, &one.path, Place::Proxy(Arc::clone(one))));
    let proxies: Vec<_> = proxies.collect();
    for (hosts, path, place) in channels.chain(proxies.iter().cloned()) {
        // The file is right, so no two lead the same request elsewhere.
        if let Err(taken) = router.insert(hosts, path, &place) {
            tracing::debug!(%taken, "a path leads nowhere");
        }
    }
    for (hosts, path, place) in proxies {
        router.insert_empty_rest(hosts, path, &place);
    }
    router
}

/// Header fields as curl takes them.
fn fields(written: &[String]) -> Result<HeaderMap, String> {
    let mut fields = HeaderMap::new();
    for (n, field) in written.iter().enumerate() {
        // Not quoted: it may be a credential, and the name may be missing.
        let wrong = |what: &str| format!("header field {}: {what}", n + 1);
        let Some((name, value)) = field.split_once(':') else {
            return Err(wrong("write it like `-H 'Name: value'`"));
        };
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        let name = name.map_err(|_invalid| wrong("what is before the `:` is not a name"))?;
        let value = HeaderValue::from_str(value.trim());
        let value = value.map_err(|_invalid| wrong("no header field can have this value"))?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// Finds what a URL leads to; says it, if that is a proxy.
fn ask<'a>(
    url: &'a str,
    (fields, out): (&HeaderMap, &mut String),
    (router, trusted): (&Router, &TrustedProxies),
) -> Result<Found<'a>, String> {
    let without_fragment = url.split('#').next().unwrap_or(url);
    if !(without_fragment.starts_with('/') || without_fragment.contains("://")) {
        return Err("write a URL, or a path that begins with `/`".to_owned());
    }
    let uri: Uri = (without_fragment.parse())
        .map_err(|_invalid| "this is not a URL: is everything percent-encoded?".to_owned())?;
    let named = fields.get(http::header::HOST);
    let named = named.and_then(|host| host.to_str().ok());
    let named = named.map(|host| host.split(':').next().unwrap_or(host));
    let host = uri.host().or(named).unwrap_or_default();
    let (place, captured) = router.find(host, uri.path()).ok_or_else(|| {
        let host = if host.is_empty() { "any host" } else { host };
        format!(
            "404: no channel and no proxy has the path `{}` for {host}",
            uri.path()
        )
    })?;
    let channel = match place {
        Place::Channel(channel) => channel,
        Place::Proxy(proxy) => {
            write_rows(
                url,
                explain_proxy::rows(proxy, trusted, (&uri, fields))?,
                out,
            );
            return Ok(Found::Proxy(proxy.name.clone()));
        }
    };
    let captured = captured.iter().map(String::as_str);
    let key = channel.key.key(captured, uri.query(), fields);
    let key = key.map_err(|error| format!("400, at the channel `{}`: {error}", channel.name))?;
    // Whoever has the file may know what is in it.
    let selected = Selected::of(channel, uri.query(), UnknownPath::ListPaths);
    let selected = selected
        .map_err(|bad| format!("400, at the channel `{}`: {}", channel.name, bad.detail()))?;
    let query = uri.query().unwrap_or_default().as_bytes();
    let parameters = url::form_urlencoded::parse(query).into_owned().collect();
    Ok(Found::Channel(Asked {
        url,
        channel: Arc::clone(channel),
        key,
        selected,
        parameters,
    }))
}

fn write_rows(url: &str, rows: impl IntoIterator<Item = (&'static str, String)>, out: &mut String) {
    let mut text = format!("{}\n", without_secrets(url));
    for (label, row) in rows {
        if !row.is_empty() {
            writeln!(text, "  {label:<10} {row}").unwrap_or_default();
        }
    }
    text.push('\n');
    out.push_str(&text);
}

impl Asked<'_> {
    fn rules(&self) -> &KeyRules {
        &self.channel.key
    }

    fn explain(&self, fields: &HeaderMap, out: &mut String) {
        let channel = &self.channel;
        let rows = [
            ("channel", format!("{}, `{}`", channel.name, channel.path)),
            ("instance", self.instance()),
            ("view", explain_view::row(&self.selected)),
            ("upstream", self.upstream()),
            ("fields", self.sent_fields()),
            ("resumes", self.resumes(fields)),
            ("ignored", self.ignored(fields)),
        ];
        write_rows(self.url, rows, out);
    }

    /// What tells it from the others.
    fn instance(&self) -> String {
        if self.channel.bundle.is_some() {
            return "none: it has views of its channels".to_owned();
        }
        let key: Vec<String> = self.parts().into_iter().filter_map(Part::shown).collect();
        match (self.rules().is_empty(), self.channel.connect) {
            (true, Connect::Eager) => "the only one; its upstream is always connected".to_owned(),
            (true, Connect::OnDemand) => {
                "the only one; connected while somebody is there".to_owned()
            }
            (false, _) if key.is_empty() => {
                "the one without any of what may be in a key".to_owned()
            }
            (false, _) => key.join(", "),
        }
    }

    /// The parts of the key.
    fn parts(&self) -> Vec<Part> {
        let rules = self.rules();
        let variables = rules.variables.iter().zip(self.key.values());
        let variables = variables.map(|(variable, value)| Part {
            name: format!("{{{}}}", variable.name),
            values: Some(vec![value.to_owned()]),
        });
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(self.key.query().as_bytes())
            .into_owned()
            .collect();
        let parameters = rules.query.iter().map(|name| {
            let values = pairs.iter().filter(|(other, _)| other == name);
            let values: Vec<String> = values.map(|(_, value)| value.clone()).collect();
            Part {
                name: name.clone(),
                values: (!values.is_empty()).then_some(values),
            }
        });
        variables.chain(parameters).collect()
    }

    /// The first of the URLs, as far as it may be shown.
    fn upstream(&self) -> String {
        if self.channel.bundle.is_some() {
            let names = explain_view::names(&self.selected.channels);
            return format!("that of {names}, always connected");
        }
        let Some((url, _)) = describe(&self.channel, &self.key) else {
            return "no usable URL".to_owned();
        };
        let n_others = self.channel.upstream.urls.len() - 1;
        let others = match n_others {
            0 => String::new(),
            n => format!(", or the same at {n} more"),
        };
        format!("GET {}{others}", without_secrets(&url))
    }

    /// The header fields that go upstream, and whose they are.
    fn sent_fields(&self) -> String {
        let Some((_, sent)) = describe(&self.channel, &self.key) else {
            return String::new();
        };
        let theirs: Vec<&HeaderName> = self
            .rules()
            .fields_of(&self.key)
            .map(|(name, _)| name)
            .collect();
        let configured = &self.channel.upstream.headers;
        let sent = sent.keys().map(|name| {
            if theirs.contains(&name) {
                format!("{name} (the client's)")
            } else if configured.iter().any(|(other, _)| other == name) {
                format!("{name} (upstream_headers)")
            } else {
                name.to_string()
            }
        });
        sent.collect::<Vec<_>>().join(", ")
    }

    /// What the client has seen last, and whether the origin would be asked to go on there.
    fn resumes(&self, fields: &HeaderMap) -> String {
        let field = fields.get("last-event-id");
        let field = field.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let parameter = || {
            let is_id = |name: &str| name == "last_event_id" || name == "lastEventId";
            let found = self
                .parameters
                .iter()
                .find(|(name, id)| is_id(name) && !id.is_empty());
            found.map(|(_, id)| id.clone())
        };
        let Some(id) = field.filter(|id| !id.is_empty()).or_else(parameter) else {
            return String::new();
        };
        let seeds = match self.channel.connect {
            Connect::OnDemand if is_seed(&id, self.channel.ids) => {
                "; a new instance asks its upstream to go on there"
            }
            Connect::OnDemand => "; not an id that the upstream gave, so it is not asked for it",
            Connect::Eager => "",
        };
        format!("after `{id}`{seeds}")
    }

    /// What is in no key.
    fn ignored(&self, fields: &HeaderMap) -> String {
        let rules = self.rules();
        let mut parameters: Vec<String> = Vec::new();
        for (name, _) in &self.parameters {
            let shown = format!("`{name}`");
            let means_nothing = match name.as_str() {
                "channel" => self.channel.bundle.is_none(),
                "event" => self.channel.select_events == SelectEvents::Ignore,
                name => !(rules.has_parameter(name) || KeyRules::is_ours(name)),
            };
            if means_nothing && !parameters.contains(&shown) {
                parameters.push(shown);
            }
        }
        let names = fields
            .keys()
            .filter(|name| !(rules.headers.contains(name) || OURS.contains(&name.as_str())));
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        let parts = [("parameter", parameters), ("header field", names)];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let parts = parts.map(|(noun, names)| {
            let ending = if names.len() == 1 { "" } else { "s" };
            format!("the {noun}{ending} {}", names.join(", "))
        });
        parts.collect::<Vec<_>>().join("; ")
    }
}

/// Header fields that say something to the gateway.
const OURS: [&str; 3] = ["accept", "host", "last-event-id"];

/// A part of a key; without values, if the request has none.
struct Part {
    name: String,
    values: Option<Vec<String>>,
}

impl Part {
    /// `None`: it is not there.
    fn shown(self) -> Option<String> {
        let name = self.name.clone();
        self.values
            .is_some()
            .then(|| format!("{name} = {}", self.value()))
    }

    fn value(&self) -> String {
        let Some(values) = &self.values else {
            return "absent".to_owned();
        };
        let is_secret = without_secrets(&format!("?{}=x", self.name)).ends_with('…');
        let shown = values.iter().map(|value| {
            if is_secret {
                "…".to_owned()
            } else {
                format!("`{value}`")
            }
        });
        shown.collect::<Vec<_>>().join(" and ")
    }
}

/// Says whether two requests share an instance, and why not.
fn compare(one: &Found<'_>, other: &Found<'_>, out: &mut String) {
    let (one, other) = match (one, other) {
        (Found::Channel(one), Found::Channel(other)) => (one, other),
        (Found::Proxy(name), _) | (_, Found::Proxy(name)) => {
            let text = format!(
                "These do not collapse: what passes through (`{name}`) is asked for each client.\n"
            );
            return out.push_str(&text);
        }
    };
    let text = if one.channel.name != other.channel.name {
        let (one, other) = (&one.channel.name, &other.channel.name);
        format!("These do not collapse: they are for two channels, `{one}` and `{other}`.\n")
    } else if one.channel.bundle.is_some() {
        explain_view::compare("These are for one bundle", &one.selected, &other.selected)
    } else if one.key == other.key {
        const SHARED: &str =
            "These collapse: they share an instance, its history and its one upstream connection";
        explain_view::compare(SHARED, &one.selected, &other.selected)
    } else {
        let mut text =
            "These do not collapse: they are for two instances of a channel.\n".to_owned();
        for (a, b) in one.parts().iter().zip(other.parts()) {
            if a.values != b.values {
                let line = format!("  {:<10} {} here, {} there\n", a.name, a.value(), b.value());
                text.push_str(&line);
            }
        }
        text
    };
    out.push_str(&text);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FILE: &str = r#"
[listen.public]
address = "127.0.0.1:0"

[channels.rooms]
path = "/rooms/{room}/events"
key = { query = ["lang", "token"], headers = ["Authorization"] }
upstream = ["http://10.0.0.1:3000/rooms/{room}/events?app=1&key=s3cret", "http://10.0.0.2:3000/rooms/{room}/events?app=1&key=s3cret"]
upstream_headers = { X-Client = "s3cret" }
access = "public"

[channels.prices]
path = "/prices"
upstream = "http://10.0.0.1:3000/prices"

[channels.scores]
path = "/scores"
select_events = true
upstream = "http://10.0.0.1:3000/scores"

[proxies.api]
path = "/api/{user}/{*rest}"
host = "a.example"
upstream = ["http://10.0.0.1:3000/v2/{*rest}", "http://10.0.0.2:3000"]
upstream_host = "upstream"
upstream_headers = { X-Version = "2" }
upgrade = []

[proxies.web]
path = "/web/{*rest}"
upstream = "https://10.0.0.3"
forwarded = "none"

[bundles.all]
path = "/all"
channels = ["scores", "prices"]
select_events = true
"#;

    fn explain(urls: &[&str], headers: &[&str]) -> (String, String) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, FILE).expect("it is written");
        let finished = run(&Explain {
            urls: urls.iter().map(|&url| url.to_owned()).collect(),
            headers: headers.iter().map(|&field| field.to_owned()).collect(),
            config: file.path().to_owned(),
        });
        (finished.output, finished.complaint)
    }

    #[test]
    fn what_a_proxy_refuses_is_told() {
        for path in ["x/../y", "%2e%2E", "x%00"] {
            let (output, complaint) = explain(&[&format!("http://b.example/web/{path}")], &[]);
            assert_eq!(output, "");
            assert!(
                complaint.contains("400, at the proxy `web`: the path has a"),
                "{complaint}"
            );
        }
    }

    #[test]
    fn what_a_request_is_for_is_told_without_secrets() {
        let url =
            "https://a.example/rooms/caf%C3%A9/events?x=1&token=s3cret&lang=en&last_event_id=7#top";
        let fields = [
            "Authorization: Bearer s3cret",
            "Cookie: id=s3cret",
            "Accept: text/event-stream",
        ];
        let (output, complaint) = explain(&[url], &fields);
        assert_eq!(complaint, "");
        assert_eq!(
            output,
            "\
https://a.example/rooms/caf%C3%A9/events?x=1&token=…&lang=en&last_event_id=7#top
  channel    rooms, `/rooms/{room}/events`
  instance   {room} = `café`, lang = `en`, token = …
  upstream   GET http://10.0.0.1:3000/rooms/caf%C3%A9/events?app=1&key=…&lang=en&token=…, or the same at 1 more
  fields     host, accept, accept-encoding, cache-control, user-agent, x-client (upstream_headers), authorization (the client's)
  resumes    after `7`; a new instance asks its upstream to go on there
  ignored    the parameter `x`; the header field `cookie`

"
        );
    }

    #[test]
    fn two_requests_are_compared() {
        let ends_with = |urls: [&str; 2], end: &str| {
            let (output, complaint) = explain(&urls, &[]);
            assert!(output.ends_with(end), "{output}{complaint}");
        };
        ends_with(
            ["/rooms/a/events?lang=en&x=1", "/rooms/%61/events?lang=e%6E"],
            "These collapse: they share an instance, its history and its one upstream connection.\n",
        );
        ends_with(
            ["/rooms/a/events?lang=en", "/rooms/b/events?lang=en&lang=de"],
            "These do not collapse: they are for two instances of a channel.\n  \
             {room}     `a` here, `b` there\n  \
             lang       `en` here, `en` and `de` there\n",
        );
        ends_with(
            ["/rooms/a/events?token=1", "/rooms/a/events"],
            "of a channel.\n  token      … here, absent there\n",
        );
        ends_with(
            ["/prices", "/rooms/a/events"],
            "they are for two channels, `prices` and `rooms`.\n",
        );
        ends_with(
            ["/prices?a=1", "http://any.example/prices"],
            "its one upstream connection.\n",
        );
    }

    #[test]
    fn what_is_asked_of_a_bundle_is_told_and_compared() {
        let asked = [
            "/all?channel=scores,prices",
            "/all?event=goal,end&channel=scores&x=1",
        ];
        let (output, complaint) = explain(&asked, &[]);
        assert_eq!(complaint, "");
        assert_eq!(
            output,
            "\
/all?channel=scores,prices
  channel    all, `/all`
  instance   none: it has views of its channels
  view       all events of `prices` and `scores`; shared by all who ask for these
  upstream   that of `prices` and `scores`, always connected

/all?event=goal,end&channel=scores&x=1
  channel    all, `/all`
  instance   none: it has views of its channels
  view       the event types `end` and `goal` of `scores`; shared by all who ask for these
  upstream   that of `scores`, always connected
  ignored    the parameter `x`

These are for one bundle, and read different events of it:
  channel    `prices` and `scores` here, `scores` there
  event      all here, `end` and `goal` there
"
        );
        let (output, _) = explain(
            &[
                "/all?channel=scores,prices",
                "/all?channel=prices&channel=scores",
            ],
            &[],
        );
        assert!(
            output.ends_with("These are for one bundle, and share a view.\n"),
            "{output}"
        );
        for (query, said) in [
            ("", "which channels? channels here: prices, scores"),
            (
                "?channel=rooms",
                "there is no channel `rooms` here; channels: prices, scores",
            ),
            ("?channel=prices&event=", "event names no event type"),
        ] {
            let (output, complaint) = explain(&[&format!("/all{query}")], &[]);
            assert_eq!(output, "");
            let said = format!("400, at the channel `all`: {said}");
            assert!(complaint.contains(&said), "{complaint}");
        }
    }

    #[test]
    fn what_is_selected_of_a_channel_is_told_where_it_may_be() {
        let (output, complaint) = explain(&["/scores?event=goal", "/scores?channel=x"], &[]);
        let view = "  view       the event types `goal`; shared by all who ask for these\n";
        assert!(output.contains(view), "{output}{complaint}");
        assert!(
            output.contains("  ignored    the parameter `channel`\n"),
            "{output}"
        );
        let compared = "its one upstream connection, and read different events of it:\n  event      `goal` here, all there\n";
        assert!(output.ends_with(compared), "{output}");
        let (output, _) = explain(&["/prices?event=goal"], &[]);
        assert!(
            output.contains("  ignored    the parameter `event`\n"),
            "{output}"
        );
        assert!(!output.contains("view"), "{output}");
    }

    #[test]
    fn what_passes_through_is_told_with_its_upstream() {
        let urls = [
            "https://a.example:8443/api/me/a%2fb?x=1&token=s3cret",
            "/web/",
        ];
        let (output, complaint) = explain(&urls, &[]);
        assert_eq!(complaint, "");
        assert_eq!(
            output,
            "\
https://a.example:8443/api/me/a%2fb?x=1&token=…
  proxy      api, `/api/{user}/{*rest}`
  upstream   http://10.0.0.1:3000/v2/a%2fb?x=1&token=…, or the same at 1 more, by HTTP/1.1
  host       `10.0.0.1:3000`
  fields     via, x-forwarded-for, x-forwarded-proto, x-forwarded-host, x-forwarded-port, forwarded, x-version (upstream_headers), and the client's, but those of its connection
  told       x-forwarded-for `192.0.2.1`, x-forwarded-proto `https`, x-forwarded-host `a.example:8443`, x-forwarded-port `8443`, forwarded `for=192.0.2.1;host=\"a.example:8443\";proto=https`, of a client at 192.0.2.1
  switches   to no other protocol

/web/
  proxy      web, `/web/{*rest}`
  upstream   https://10.0.0.3/web/, by HTTP/1.1
  host       the one that the client asks for
  fields     via, and the client's, but those of its connection
  told       nothing of the client
  switches   to websocket, if it asks for it
  path       as the client writes it, byte for byte

These do not collapse: what passes through (`api`) is asked for each client.
"
        );
        let (output, _) = explain(&["http://a.example/web/x"], &[]);
        assert!(
            output.contains("  host       `a.example`, the one"),
            "{output}"
        );
    }

    #[test]
    fn what_becomes_of_each_header_field_is_told_without_its_value() {
        let url = "http://a.example/api/me/x";
        let fields = [
            "Accept: text/html",
            "Cookie: id=s3cret",
            "Connection: X-Hop",
            "X-Hop: s3cret",
            "X_Forwarded_For: s3cret",
            "X-Forwarded-For: s3cret",
            "X-Version: s3cret",
            "Via: 1.1 other",
            "Upgrade: websocket",
        ];
        let (output, complaint) = explain(&[url], &fields);
        assert_eq!(complaint, "");
        assert_eq!(
            output,
            "\
http://a.example/api/me/x
  proxy      api, `/api/{user}/{*rest}`
  upstream   http://10.0.0.1:3000/v2/x, or the same at 1 more, by HTTP/1.1
  host       `10.0.0.1:3000`
  fields     accept (the client's), cookie (the client's), via (the client's, and ours), x-forwarded-for (not the client's), x-forwarded-proto, x-forwarded-host, x-forwarded-port, forwarded, x-version (upstream_headers)
  withheld   connection, x-hop, x_forwarded_for, upgrade
  told       x-forwarded-for `192.0.2.1`, x-forwarded-proto `http`, x-forwarded-host `a.example`, x-forwarded-port `80`, forwarded `for=192.0.2.1;host=a.example;proto=http`, of a client at 192.0.2.1
  switches   to no other protocol

"
        );
    }

    #[test]
    fn an_offer_to_switch_protocols_goes_on_where_it_may() {
        let offer = [
            "Host: a.example",
            "Connection: Upgrade",
            "Upgrade: WebSocket",
        ];
        let (output, _) = explain(&["/web/chat"], &offer);
        for row in [
            "  host       `a.example`, the one that the client asks for\n",
            "  fields     via, upgrade (the client's), connection (not the client's)\n",
            "  switches   to websocket, if the upstream agrees\n",
        ] {
            assert!(output.contains(row), "{output}");
        }
        assert!(!output.contains("withheld"), "{output}");
    }

    #[test]
    fn what_a_proxy_refuses_for_its_fields_is_told() {
        let circle = ["Via: 1.1 ssecast"; 9];
        for (fields, said) in [
            (&circle[..], "508, at the proxy `web`: the request has come"),
            (
                &["Host: a", "Host: b"],
                "400, at the proxy `web`: the request names two hosts",
            ),
            (&["Host: a b"], "400, at the proxy `web`: the host that"),
            (
                &["Host: a", "Content-Length: x"],
                "400, at the proxy `web`: Content-Length is",
            ),
            (
                &["Host: a", "Transfer-Encoding: gzip"],
                "501, at the proxy `web`: Transfer-",
            ),
        ] {
            let (output, complaint) = explain(&["/web/x"], fields);
            assert_eq!(output, "");
            assert!(complaint.contains(said), "{complaint}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_said() {
        for (url, said) in [
            (
                "/nothing?token=s3cret",
                "error: /nothing?token=…: 404: no channel and no proxy has the path `/nothing` for any host\n",
            ),
            (
                "/rooms/%2e%2e/events",
                "400, at the channel `rooms`: `room` in the path is `.` or `..`",
            ),
            ("rooms/a", "a path that begins with `/`"),
            ("/rooms/é a", "is everything percent-encoded?"),
        ] {
            let (output, complaint) = explain(&[url], &[]);
            assert_eq!(output, "");
            assert!(complaint.contains(said), "{complaint}");
        }
        let (_, complaint) = explain(&["/prices"], &["Authorization Bearer s3cret"]);
        assert_eq!(
            complaint,
            "error: header field 1: write it like `-H 'Name: value'`\n"
        );
    }
}
