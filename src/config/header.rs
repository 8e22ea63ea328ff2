//! The header fields that a request to an upstream carries besides the gateway's own.
//!
//! All values are marked as sensitive: `Debug` does not show them and HTTP/2 does not index them.

use http::HeaderName;
use http::HeaderValue;
use http::header;
use http::uri::Authority;

use crate::config::credential;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::reader::Entry;
use crate::config::reader::Read;
use crate::config::reader::TableReader;

/// `upstream_headers`, in the file's order.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers(pub(super) Vec<(HeaderName, HeaderValue)>);

/// Fields of one connection (RFC 9110, 7.6.1) or of a message's framing: HTTP's own.
const OF_THE_CONNECTION: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-encoding",
];

/// Fields that a proxy sends by rules of their own, and the key that has a say in them.
const OF_THE_PROXY: [(&str, &str); 2] = [("host", "upstream_host"), ("forwarded", "forwarded")];

/// Fields that say what the gateway asks for.
const OF_THE_GATEWAY: [&str; 3] = ["accept", "accept-encoding", "last-event-id"];

impl Headers {
    /// The first field that looks like a credential.
    pub(super) fn credential(&self) -> Option<&HeaderName> {
        credential(&self.0)
    }
}

impl Read for Headers {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        read(entry, name_of, findings).map(Self)
    }
}

/// The first field that looks like a credential.
pub(super) fn credential(headers: &[(HeaderName, HeaderValue)]) -> Option<&HeaderName> {
    headers
        .iter()
        .map(|(name, _)| name)
        .find(|name| credential::is_credential(name.as_str()))
}

/// Reads a table of header fields whose names `name_of` knows.
pub(super) fn read(
    entry: &Entry<'_>,
    name_of: fn(&str) -> Result<HeaderName, Mistake>,
    findings: &mut Findings,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let Some(table) = entry.value.get_ref().as_table() else {
        let message = format!("must be a table, not {}", entry.kind());
        let advice = "write `upstream_headers = { Authorization = \"Bearer …\" }`";
        entry.refuse(Mistake::new(message, advice), findings);
        return None;
    };
    let mut headers = Vec::new();
    let mut is_right = true;
    for field in TableReader::entries(table, &entry.key) {
        let name = field
            .key
            .strip_prefix(&format!("{}.", entry.key))
            .unwrap_or(&field.key);
        let name = name_of(name)
            .map_err(|mistake| findings.error(field.key_span.clone(), mistake))
            .ok()
            .filter(|name| !is_repeated(&headers, name, &field, findings));
        let value = name
            .as_ref()
            .and_then(|name| value_of(name, &field, findings));
        is_right &= value.is_some();
        headers.extend(name.zip(value));
    }
    is_right.then_some(headers)
}

/// The name of a header field that may be sent.
pub(super) fn name_of(name: &str) -> Result<HeaderName, Mistake> {
    let parsed = of_a_request(name)?;
    if OF_THE_GATEWAY.contains(&parsed.as_str()) {
        let message = format!("the header field `{name}` is set by the gateway");
        return Err(Mistake::new(message, "remove it"));
    }
    Ok(parsed)
}

/// The name of a header field that a proxy may send in place of the client's.
pub(super) fn proxy_name_of(name: &str) -> Result<HeaderName, Mistake> {
    let parsed = of_a_request(name)?;
    let own = OF_THE_PROXY
        .iter()
        .find(|(field, _)| *field == parsed.as_str());
    if let Some((_, key)) = own {
        let message = format!("the header field `{name}` has a key of its own");
        return Err(Mistake::new(
            message,
            format!("remove it, and write `{key} = …`"),
        ));
    }
    Ok(parsed)
}

/// The name of a header field that is not HTTP's own.
fn of_a_request(name: &str) -> Result<HeaderName, Mistake> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        let advice = "field names are made of letters, digits and `-`, like `X-Api-Version`";
        return Err(Mistake::new(
            format!("`{name}` is not the name of a header field"),
            advice,
        ));
    };
    let lower = parsed.as_str();
    if OF_THE_CONNECTION.contains(&lower) {
        let message = format!("the header field `{name}` belongs to HTTP itself");
        return Err(Mistake::new(
            message,
            "remove it; the gateway sends what is needed",
        ));
    }
    Ok(parsed)
}

/// Reports a name that differs from an earlier one in case at most.
fn is_repeated(
    headers: &[(HeaderName, HeaderValue)],
    name: &HeaderName,
    field: &Entry<'_>,
    findings: &mut Findings,
) -> bool {
    let is_repeated = headers.iter().any(|(other, _)| other == name);
    if is_repeated {
        let message = format!("the header field `{name}` is given twice");
        let advice = "remove one; upper and lower case are the same in field names";
        findings.error(field.key_span.clone(), Mistake::new(message, advice));
    }
    is_repeated
}

/// The value of a field. No message quotes it.
fn value_of(name: &HeaderName, field: &Entry<'_>, findings: &mut Findings) -> Option<HeaderValue> {
    let mut refuse = |message: &str, advice: &str| {
        field.refuse(Mistake::new(message, advice), findings);
        None
    };
    let Some(text) = field.value.get_ref().as_str() else {
        return refuse(
            "must be a string",
            "put the value in quotes; a field has one value",
        );
    };
    if text.trim() != text {
        return refuse("begins or ends with white space", "remove the white space");
    }
    if *name == header::HOST && text.parse::<Authority>().is_err() {
        return refuse(
            "is not a host",
            "write a name and, where needed, a port: `\"a.example:3000\"`",
        );
    }
    let Ok(mut value) = HeaderValue::from_str(text) else {
        let message = "contains a character that a header field cannot carry";
        return refuse(
            message,
            "only printable ASCII characters and tabs are allowed",
        );
    };
    if text.contains("${") {
        let message = "contains `${`, which is sent as it stands: variables are not expanded";
        let advice = "write the value itself, and let nobody else read the file";
        findings.warn(
            field.value.span(),
            Mistake::new(message, advice).of(&field.key),
        );
    }
    value.set_sensitive(true);
    Some(value)
}
