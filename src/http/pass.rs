//! A request that is passed through to a backend.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response};
use hyper::body::Incoming;
use hyper::ext::Protocol;

use super::accept::preferred_form;
use super::answer::Refusal;
use super::pace::{Pace, PaceKeeper, Paced};
use super::reply::Reply;
use super::subscribe::REFUSED_RETRY;
use super::visitor::Visitor;
use crate::delivery::random_time;
use crate::proxy::{Asked, Proxy};

/// Passes a request on. What comes of it is an answer in any case, with what watches over how the
/// client takes it.
///
/// # Cancel safety
///
/// If it is dropped, the request is cancelled upstream.
pub(super) async fn pass(
    visitor: &Visitor<'_>,
    proxy: &Arc<Proxy>,
    (head, body): (&Parts, Incoming),
) -> (Response<Reply>, Option<PaceKeeper>) {
    let current = Arc::clone(&visitor.gateway.current());
    let asked = Asked {
        head,
        peer: visitor.address,
        trusted: &current.server.trusted_proxies,
        scheme: visitor.scheme,
        memory: &visitor.gateway.memory,
        shard: visitor.shard,
    };
    match proxy.forward(&asked, body).await {
        Ok(response) => {
            let (pace, keeper) = Pace::of(proxy).unzip();
            let response = response.map(|body| Reply::Proxied(Paced::new(body, pace)));
            (response, keeper)
        }
        Err(failure) => {
            let wait = random_time(&REFUSED_RETRY);
            let form = preferred_form(&head.headers);
            let answer = Refusal::NotPassedOn(failure, wait).answer(form);
            (answer.map(Reply::short), None)
        }
    }
}

/// Whether a request is about the connection to us and not about a resource (RFC 9110, 9.3.6), or would
/// show what proxies add to it (9.3.8).
pub(super) fn is_for_nobody(method: &Method, protocol: Option<&Protocol>) -> bool {
    match *method {
        Method::CONNECT => protocol.is_none(),
        Method::TRACE => true,
        _ => false,
    }
}
