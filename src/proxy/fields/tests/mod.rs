//! What goes on, what stays, and what is refused, head by head.

mod answers;
mod lengths;
mod properties;
mod requests;
mod senders;

use std::net::IpAddr;

use http::header::HeaderName;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};

use super::fuzz::{self, STRANGER, fuzz_fields, fuzz_path, hop};
use super::{
    Content, Hop, Refused, Unusable, request, request_trailers, response, response_trailers,
};
use crate::config::UpstreamHttp;
use crate::net::peer::PeerAddr;

const PROXY: PeerAddr = PeerAddr::Ip(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

/// A request's head, of text as HTTP/1.1 has it, but for its version.
fn head(text: &str) -> Parts {
    let mut lines = text.lines();
    let (method, target) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .expect("a line");
    let mut request = Request::new(());
    *request.method_mut() = method.parse().expect("a method");
    *request.uri_mut() = target.parse().expect("a target");
    for line in lines {
        let (name, value) = line.split_once(':').expect("a field");
        let name: HeaderName = name.parse().expect("a name");
        request
            .headers_mut()
            .append(name, value.trim().parse().expect("a value"));
    }
    request.into_parts().0
}

/// The fields that are sent, in their order, but for those that say whom it is for.
fn sent_by(text: &str, hop: &Hop<'_>) -> Vec<String> {
    let sent = request(&head(text), hop).unwrap_or_else(|refused| panic!("{text}: {refused}"));
    let fields = sent
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    let is_told =
        |field: &String| field.starts_with("x-forwarded-") || field.starts_with("forwarded");
    fields.filter(|field| !is_told(field)).collect()
}

fn sent(text: &str) -> Vec<String> {
    sent_by(text, &hop("plain", STRANGER))
}

/// The value of a field that is sent.
fn told(name: &str, text: &str, hop: &Hop<'_>) -> String {
    let sent = request(&head(text), hop).unwrap_or_else(|refused| panic!("{text}: {refused}"));
    let mut values = sent.headers.get_all(name).iter();
    let value = values
        .next()
        .map(|value| value.to_str().expect("text").to_owned());
    assert_eq!(values.next(), None, "{name} is there once");
    value.unwrap_or_default()
}

fn refused(text: &str) -> Option<Refused> {
    request(&head(text), &hop("plain", STRANGER)).err()
}

fn posted(fields: &str, content: Content) -> Result<Parts, Refused> {
    let hop = Hop {
        content,
        ..hop("plain", STRANGER)
    };
    request(&head(&format!("POST /\nhost: a\n{fields}")), &hop)
}

fn answered(
    status: u16,
    asked: &Method,
    fields: &[(&'static str, &str)],
) -> Result<Vec<String>, Unusable> {
    let (mut answer, ()) = Response::new(()).into_parts();
    answer.status = StatusCode::from_u16(status).expect("a status");
    answer.version = Version::HTTP_10;
    for (name, value) in fields {
        answer
            .headers
            .append(*name, value.parse().expect("a value"));
    }
    response(&mut answer, asked)?;
    assert_eq!(answer.version, Version::HTTP_11);
    // In which order fields of different names stand means nothing (RFC 9110, 5.3).
    let mut fields: Vec<_> = answer.headers.iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    let fields = fields.into_iter();
    let fields = fields.map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
    Ok(fields.collect())
}
