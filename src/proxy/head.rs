//! What the head of a message becomes on its way: a stand-in for `fields`.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, response};

use super::Asked;
use super::error::Error;
use crate::config::{self, ProxyUrl, UpstreamHttp};

const HOP_BY_HOP: [HeaderName; 5] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

pub(super) fn request(
    asked: &Asked<'_>,
    settings: &config::Proxy,
    url: &ProxyUrl,
) -> Result<Parts, Error> {
    let head = asked.head;
    let captured = settings.captured(head.uri.path());
    let path = url
        .path(head.uri.path(), &captured)
        .ok_or(Error::NoEndpoint)?;
    let query = head
        .uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = head.method.clone();
    parts.headers = head.headers.clone();
    strip(&mut parts.headers);
    parts.headers.remove(CONTENT_LENGTH);
    let host = match (head.uri.authority(), head.headers.get(HOST)) {
        (Some(authority), _) => authority.to_string(),
        (None, Some(host)) => host.to_str().unwrap_or_default().to_owned(),
        (None, None) => url.authority().to_string(),
    };
    let uri = match settings.http {
        UpstreamHttp::One => {
            let host = HeaderValue::from_str(&host).map_err(|_invalid| Error::NoEndpoint)?;
            parts.headers.insert(HOST, host);
            format!("{path}{query}")
        }
        UpstreamHttp::Two => {
            parts.headers.remove(HOST);
            parts.version = Version::HTTP_2;
            format!("{}://{host}{path}{query}", url.scheme())
        }
    };
    parts.uri = uri.parse().map_err(|_invalid| Error::NoEndpoint)?;
    Ok(parts)
}

pub(super) fn response(head: &mut response::Parts) {
    strip(&mut head.headers);
    head.version = Version::HTTP_11;
}

fn strip(fields: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
}
