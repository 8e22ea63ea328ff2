//! What `ssecast explain` says of a request that leads to a channel: which of its instances, and what of
//! the request has a meaning.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Uri};

use super::view;
use crate::channel::{describe, is_seed};
use crate::config::{Channel, Connect, Key, KeyRules, SelectEvents, UnknownPath, without_secrets};
use crate::http::Selected;

/// A request that leads to a channel.
#[derive(Debug)]
pub(super) struct Asked {
    channel: Arc<Channel>,
    key: Key,
    /// Which of its events, or channels.
    selected: Selected,
    /// The parameters of its query, decoded.
    parameters: Vec<(String, String)>,
}

impl Asked {
    /// What a request asks a channel for that its path has led to.
    ///
    /// # Errors
    ///
    /// What the client is answered instead.
    pub(super) fn of(
        channel: &Arc<Channel>,
        captured: &[String],
        (uri, fields): (&Uri, &HeaderMap),
    ) -> Result<Self, String> {
        let refuse = |said: String| format!("400, at the channel `{}`: {said}", channel.name);
        let captured = captured.iter().map(String::as_str);
        let key = channel.key.key(captured, uri.query(), fields);
        let key = key.map_err(|error| refuse(error.to_string()))?;
        // Whoever has the file may know what is in it.
        let selected = Selected::of(channel, uri.query(), UnknownPath::ListPaths);
        let selected = selected.map_err(|bad| refuse(bad.detail()))?;
        let query = uri.query().unwrap_or_default().as_bytes();
        let parameters = url::form_urlencoded::parse(query).into_owned().collect();
        Ok(Self {
            channel: Arc::clone(channel),
            key,
            selected,
            parameters,
        })
    }

    fn rules(&self) -> &KeyRules {
        &self.channel.key
    }

    /// The rows that say it, each with its label; one that does not apply is empty.
    pub(super) fn rows(&self, fields: &HeaderMap) -> [(&'static str, String); 7] {
        let channel = &self.channel;
        [
            ("channel", format!("{}, `{}`", channel.name, channel.path)),
            ("instance", self.instance()),
            ("view", view::row(&self.selected)),
            ("upstream", self.upstream()),
            ("fields", self.sent_fields()),
            ("resumes", self.resumes(fields)),
            ("ignored", self.ignored(fields)),
        ]
    }

    /// Whether another request shares its instance, and why not.
    pub(super) fn compare(&self, other: &Self) -> String {
        let (here, there) = (&self.channel.name, &other.channel.name);
        if here != there {
            return format!(
                "These do not collapse: they are for two channels, `{here}` and `{there}`.\n"
            );
        }
        if self.channel.bundle.is_some() {
            const COMMON: &str = "These are for one bundle";
            return view::compare(COMMON, &self.selected, &other.selected);
        }
        if self.key == other.key {
            const COMMON: &str = "These collapse: they share an instance, its history and its one \
                                  upstream connection";
            return view::compare(COMMON, &self.selected, &other.selected);
        }
        let mut text =
            "These do not collapse: they are for two instances of a channel.\n".to_owned();
        for (a, b) in self.parts().iter().zip(other.parts()) {
            if a.values != b.values {
                let line = format!("  {:<10} {} here, {} there\n", a.name, a.value(), b.value());
                text.push_str(&line);
            }
        }
        text
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
            let names = view::names(&self.selected.channels);
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
