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
use super::tunnel::Wish;
use super::visitor::Visitor;
use crate::delivery::random_time;
use crate::proxy::tunnel::{Opened, Switch};
use crate::proxy::{Asked, Proxy};

/// What comes of a request that was passed on.
#[derive(Debug)]
pub(super) enum Passed {
    /// An answer, and what watches over how the client takes it.
    Answer(Response<Reply>, Option<PaceKeeper>),
    /// An answer after which the connection, or the stream, is a tunnel.
    Switch(Response<Reply>, Box<Switch>),
}

/// Passes a request on. What comes of it is an answer in any case.
///
/// # Cancel safety
///
/// If it is dropped, the request is cancelled upstream.
pub(super) async fn pass(
    visitor: &Visitor<'_>,
    proxy: &Arc<Proxy>,
    (head, body): (&Parts, Incoming),
) -> Passed {
    let current = Arc::clone(&visitor.gateway.current());
    let asked = Asked {
        head,
        peer: visitor.address,
        trusted: &current.server.trusted_proxies,
        scheme: visitor.scheme,
        memory: &visitor.gateway.memory,
        shard: visitor.shard,
    };
    let opened = match Wish::of(proxy.settings(), head, &body) {
        Wish::Ordinary => proxy.forward(&asked, body).await.map(Opened::Answered),
        // Boxed: there are many of the others, which need not have room for it.
        Wish::Switch(offer) => Box::pin(proxy.open(&asked, &offer)).await,
        Wish::Connect(offer, head) => {
            let asked = Asked {
                head: &head,
                ..asked
            };
            Box::pin(proxy.open(&asked, &offer)).await
        }
        Wish::Unknown => return refuse(head, &Refusal::UnknownProtocol),
    };
    match opened {
        Ok(Opened::Answered(response)) => {
            let (pace, keeper) = Pace::of(proxy).unzip();
            let response = response.map(|body| Reply::Proxied(Paced::new(body, pace)));
            Passed::Answer(response, keeper)
        }
        Ok(Opened::Switched(response, switch)) => {
            Passed::Switch(response.map(|()| Reply::empty()), switch)
        }
        Err(failure) => refuse(
            head,
            &Refusal::NotPassedOn(failure, random_time(&REFUSED_RETRY)),
        ),
    }
}

fn refuse(head: &Parts, refusal: &Refusal) -> Passed {
    let form = preferred_form(&head.headers);
    Passed::Answer(refusal.answer(form).map(Reply::short), None)
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
