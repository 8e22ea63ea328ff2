//! `key`: which parts of a request tell the instances of a channel from each other.

use http::HeaderName;
use toml::Spanned;

use crate::config::Connect;
use crate::config::findings::Finding;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::findings::Severity;
use crate::config::header;
use crate::config::key::KeyRules;
use crate::config::key::OUR_PARAMETERS;
use crate::config::reader::FromText;
use crate::config::schema::KeyTable;
use crate::config::schema::NamedChannel;
use crate::config::template;
use crate::config::values::OneOrMany;

/// The name of a query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParameterName(pub(super) String);

/// The name of a header field of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldName(pub(super) HeaderName);

/// Fields that are about the request to the gateway, and that a request of the gateway has of its own.
const NOT_THEIRS: [&str; 4] = ["cache-control", "host", "origin", "user-agent"];

impl FromText for ParameterName {
    const EXAMPLE: &'static str = "\"lang\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        if OUR_PARAMETERS.contains(&text) {
            let message = format!("the parameter `{text}` is the gateway's own");
            let advice = "it says what a client gets of a stream, and can't choose between streams";
            return Err(Mistake::new(message, advice));
        }
        if text.is_empty() || text.chars().any(|c| c.is_control() || "&=#?".contains(c)) {
            let message = format!(
                "`{}` is not the name of a query parameter",
                text.escape_debug()
            );
            return Err(Mistake::new(
                message,
                "write the name alone, like `\"lang\"`",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromText for FieldName {
    const EXAMPLE: &'static str = "\"Accept-Language\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let name = header::name_of(text)?;
        if NOT_THEIRS.contains(&name.as_str()) {
            let message =
                format!("the header field `{name}` does not tell streams from each other");
            return Err(Mistake::new(
                message,
                "remove it; the gateway sends its own",
            ));
        }
        Ok(Self(name))
    }
}

/// The rules that a channel's tables mean.
pub(super) fn meant(named: &NamedChannel) -> KeyRules {
    let path = named.place.path.written();
    let KeyTable { query, headers } = &named.place.key;
    let query = query.written().map_or(&[][..], |list| &list.0);
    let headers = headers.written().map_or(&[][..], |list| &list.0);
    KeyRules {
        variables: path
            .map(|path| template::variables(&path.0))
            .unwrap_or_default(),
        query: query.iter().map(|name| name.get_ref().0.clone()).collect(),
        headers: headers
            .iter()
            .map(|name| name.get_ref().0.clone())
            .collect(),
    }
}

/// What must hold of a key, and of how a channel with one connects.
pub(super) fn check(named: &NamedChannel, findings: &mut Findings) {
    let KeyTable { query, headers } = &named.place.key;
    if let Some(OneOrMany(query)) = query.written() {
        distinct(query, "key.query", findings);
        parameters_of_urls(named, query, findings);
    }
    if let Some(OneOrMany(headers)) = headers.written() {
        distinct(headers, "key.headers", findings);
        let ours = named.settings.upstream_headers.written();
        for name in headers {
            let field = &name.get_ref().0;
            if ours.is_some_and(|ours| ours.0.iter().any(|(other, _)| other == field)) {
                let message =
                    format!("`{field}` is in `upstream_headers`, too: which should go upstream?");
                let advice = "remove it from one of them";
                findings.error(name.span(), Mistake::new(message, advice).of("key.headers"));
            }
        }
    }
    let connect = &named.settings.connect;
    if let (Some(Connect::Eager), Some(span)) = (connect.written(), connect.span())
        && !meant(named).is_empty()
    {
        let message = format!(
            "the channel `{}` has as many instances as clients ask for, and can't ask for all of them",
            named.name.get_ref()
        );
        let advice = "write `connect = \"on-demand\"`, or leave it out";
        let finding = Finding::new(
            Severity::Error,
            Some(span),
            Mistake::new(message, advice).of("connect"),
        );
        let note = "what tells its instances from each other is here";
        let key = named
            .place
            .path
            .span()
            .filter(|_| named.place.key.is_empty());
        findings.push(match key.or_else(|| named.place.key.span()) {
            Some(key) => finding.with_note(note, key),
            None => finding,
        });
    }
}

fn distinct<T: PartialEq>(list: &[Spanned<T>], key: &str, findings: &mut Findings) {
    for (n, name) in list.iter().enumerate() {
        let mut before = list.iter().take(n);
        if let Some(first) = before.find(|other| other.get_ref() == name.get_ref()) {
            let mistake = Mistake::new("this name is given twice", "remove one of them").of(key);
            let finding = Finding::new(Severity::Error, Some(name.span()), mistake);
            findings.push(finding.with_note("it is given first here", first.span()));
        }
    }
}

/// A parameter that the URL has already would be there twice.
fn parameters_of_urls(
    named: &NamedChannel,
    query: &[Spanned<ParameterName>],
    findings: &mut Findings,
) {
    let Some(OneOrMany(urls)) = named.place.upstream.written() else {
        return;
    };
    for url in urls {
        let Some((_, theirs)) = url.get_ref().0.text().split_once('?') else {
            continue;
        };
        for name in query {
            let is_there = |pair: &str| pair.split('=').next() == Some(name.get_ref().0.as_str());
            if theirs.split('&').any(is_there) {
                let message = format!("`{}` is in the URL of `upstream`, too", name.get_ref().0);
                let advice = "remove it from one of them";
                let mistake = Mistake::new(message, advice).of("key.query");
                let finding = Finding::new(Severity::Error, Some(name.span()), mistake);
                findings.push(finding.with_note("the URL", url.span()));
            }
        }
    }
}

impl KeyTable {
    fn is_empty(&self) -> bool {
        self.query.is_absent() && self.headers.is_absent()
    }

    fn span(&self) -> Option<std::ops::Range<usize>> {
        self.query.span().or_else(|| self.headers.span())
    }
}
