//! How a subscription begins: a seat in the channel that the route leads to, or a refusal.

use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, Request, Version};

use super::accept::{names_event_stream, preferred_form};
use super::answer::Refusal;
use super::head::{describe_heartbeat, describe_stream};
use super::route::{Bundle, Route, Target};
use super::selection::Selected;
use super::service::{Content, Outcome};
use super::standing::turned_away;
use super::visitor::Visitor;
use crate::channel::{Channel, Instance, NoSeat, RefusedBy, Seat, WantedView};
use crate::config::{EventTypes, Key, Refuse};
use crate::delivery::{Framing, random_time, return_time};
use crate::log::{Selection, Tagging, id_for_origin};
use crate::net::addresses::Identity;
use crate::net::permit::Admission;
use crate::sse;

/// A stream that says when to come back, and no more.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) framing: Framing,
    /// The header fields of the response.
    pub(super) fields: HeaderMap,
    /// What the stream says.
    pub(super) block: Vec<u8>,
}

/// An accepted subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) channel: Channel,
    /// The shard of the channel's upstream.
    pub(super) home: usize,
    pub(super) seat: Seat,
    /// Whose it is, if the connection does not know.
    pub(super) identity: Option<Box<Identity>>,
    pub(super) framing: Framing,
    pub(super) last_event_id: Option<String>,
    /// The header fields of the response.
    pub(super) fields: HeaderMap,
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// After how long a refused client is told to come back: random, so that those who were refused
/// together do not return together.
pub(super) const REFUSED_RETRY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(30);

/// How long a refused client may take for its few bytes.
pub(super) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Where somebody was seated.
pub(super) struct Seated {
    pub(super) channel: Channel,
    /// The shard of the channel's upstream.
    home: usize,
    pub(super) seat: Seat,
}

/// Why somebody was not, as far as that matters to what it is told.
pub(super) enum Unseated {
    /// By a limit, which is counted.
    Limit,
    /// For another reason.
    Refusal(Refusal),
}

/// Why somebody was not.
enum NotSeated {
    /// By a limit.
    Limit(RefusedBy),
    /// For another reason.
    Refusal(Refusal),
}

impl From<RefusedBy> for NotSeated {
    fn from(by: RefusedBy) -> Self {
        Self::Limit(by)
    }
}

impl From<NoSeat> for NotSeated {
    fn from(why: NoSeat) -> Self {
        match why {
            NoSeat::Limit(by) => Self::Limit(by),
            NoSeat::Origin(refused) => Self::Refusal(Refusal::ByOrigin(refused)),
        }
    }
}

/// Subscribes who may be subscribed. `fields` are those of the response.
///
/// # Errors
///
/// Why not, for others than limits.
///
/// # Cancel safety
///
/// May be dropped at any time: a seat that was taken is given back.
pub(super) async fn subscribe(
    (route, key, selected): (&Route, Key, &Selected),
    visitor: &Visitor<'_>,
    request: &Request<Content>,
    fields: &mut HeaderMap,
) -> Result<Outcome, Refusal> {
    let framing = if request.version() == Version::HTTP_11 {
        Framing::Chunked
    } else {
        Framing::Plain
    };
    let last_event_id = last_event_id(request);
    let seen = last_event_id.as_deref();
    let asked = (route, key, selected);
    let (seated, identity) = match be_seated(asked, visitor, request, seen).await {
        Ok(taken) => taken,
        Err(Unseated::Refusal(refusal)) => return Err(refusal),
        Err(Unseated::Limit) => {
            let fields = std::mem::take(fields);
            return Ok(refuse_at_limit(route, framing, request, fields));
        }
    };
    if let Some(refusal) = turned_away(&seated.channel, last_event_id.as_deref()) {
        if matches!(refusal, Refusal::UpstreamDown(_)) {
            let counters = route.target.counters();
            counters.refusals(RefusedBy::UpstreamDown).add(1);
        }
        return Err(refusal);
    }
    describe_stream(fields);
    describe_heartbeat(fields, &route.settings);
    Ok(Outcome::Subscribe(Subscription {
        channel: seated.channel,
        home: seated.home,
        seat: seated.seat,
        identity,
        framing,
        last_event_id,
        fields: std::mem::take(fields),
    }))
}

/// A seat for somebody who may have one, and whose it is counted to.
pub(super) async fn be_seated(
    (route, key, selected): (&Route, Key, &Selected),
    visitor: &Visitor<'_>,
    request: &Request<Content>,
    last_event_id: Option<&str>,
) -> Result<(Seated, Option<Box<Identity>>), Unseated> {
    let identity = match visitor.admission {
        Admission::Admitted => visitor.identify(request.version(), request.headers()),
        // No upstream and no instance is made for it.
        Admission::Refused(limit) => Err(limit),
    };
    let taken = match identity {
        Ok(identity) => {
            let seated = match &route.target {
                Target::Bundle(bundle) => take_seat_in_bundle(bundle, selected).await,
                _ => match take_seat(route, key, last_event_id).await {
                    Ok(seated) if selected.events != Selection::all() => {
                        change_to_view(seated, selected.events.clone()).await
                    }
                    other => other,
                },
            };
            seated.map(|seated| (seated, identity))
        }
        Err(limit) => Err(RefusedBy::from(limit).into()),
    };
    taken.map_err(|why| match why {
        NotSeated::Refusal(refusal) => Unseated::Refusal(refusal),
        NotSeated::Limit(by) => {
            route.target.counters().refusals(by).add(1);
            let channel = &route.settings.name;
            let client = visitor.client(request.headers());
            tracing::debug!(channel, reason = by.name(), %client, "refused a subscriber");
            Unseated::Limit
        }
    })
}

/// When somebody may come back who was refused by a limit.
pub(super) fn return_after(route: &Route) -> Duration {
    match route.target.closing() {
        Some(deadline) => return_time(deadline),
        None => random_time(&REFUSED_RETRY),
    }
}

/// A seat in the channel that a route leads to. Who makes an instance, or comes before it is known what
/// its origin says of it, waits for that.
async fn take_seat(
    route: &Route,
    key: Key,
    last_event_id: Option<&str>,
) -> Result<Seated, NotSeated> {
    let template = match &route.target {
        Target::Bundle(Bundle { channel, .. }) => {
            return Ok(Seated {
                channel: channel.clone(),
                home: 0,
                seat: channel.join()?,
            });
        }
        Target::Channel { channel, home } => {
            return Ok(Seated {
                channel: channel.clone(),
                home: *home,
                seat: channel.join()?,
            });
        }
        Target::Template(template) => template,
    };
    let name = &route.settings.name;
    let seed = last_event_id.and_then(|id| id_for_origin(id, name));
    let (instance, seat) = template.enter(key, seed.as_deref())?;
    let Instance { channel, home, .. } = instance;
    if let Some(refused) = channel.refused().await {
        return Err(NotSeated::Refusal(Refusal::ByOrigin(refused)));
    }
    Ok(Seated {
        channel,
        home,
        seat,
    })
}

/// A seat in the view of the channels of a bundle that are asked for.
async fn take_seat_in_bundle(bundle: &Bundle, selected: &Selected) -> Result<Seated, NotSeated> {
    let members = selected.channels.iter().filter_map(|name| {
        let (name, (channel, home)) = bundle.members.get_key_value(name)?;
        Some(((name.as_str(), channel.clone()), *home))
    });
    let (sources, homes): (Vec<_>, Vec<usize>) = members.unzip();
    let channel = &bundle.channel;
    let settings = channel.settings();
    let types = settings.bundle.as_ref().map(|bundle| bundle.event_types);
    let wanted = WantedView {
        counted_in: channel,
        sources: &sources,
        selection: selected.events.clone(),
        tagging: match types {
            Some(EventTypes::Prefixed) => Tagging::EventType,
            Some(EventTypes::Plain) | None => Tagging::None,
        },
        home: homes.first().copied().unwrap_or_default(),
    };
    let views = channel.kind().views().ok_or(RefusedBy::Stop)?;
    let (view, seat) = views.enter(&wanted, channel.join()?, Vec::new())?;
    view.channel.caught_up().await;
    Ok(Seated {
        channel: view.channel,
        home: view.home,
        seat,
    })
}

/// A seat in the view of a channel that has only these events, instead of one in the channel.
async fn change_to_view(seated: Seated, selection: Selection) -> Result<Seated, NotSeated> {
    let Seated {
        channel,
        home,
        seat,
    } = seated;
    let wanted = WantedView {
        counted_in: &channel,
        sources: &[(channel.name(), channel.clone())],
        selection,
        tagging: Tagging::None,
        home,
    };
    let views = channel.kind().views().ok_or(RefusedBy::Stop)?;
    let (view, seat) = views.enter(&wanted, seat, Vec::new())?;
    view.channel.caught_up().await;
    Ok(Seated {
        channel: view.channel,
        home: view.home,
        seat,
    })
}

/// An `EventSource` gives up for ever at any status but 200: it gets a stream that ends at once.
fn refuse_at_limit(
    route: &Route,
    framing: Framing,
    request: &Request<Content>,
    mut fields: HeaderMap,
) -> Outcome {
    let wait = return_after(route);
    let is_for_streams = names_event_stream(request.headers());
    if route.settings.refuse == Refuse::Unavailable || !is_for_streams {
        let mut answer = Refusal::AtLimit(wait).answer(preferred_form(request.headers()));
        answer.headers_mut().extend(fields);
        return Outcome::Answer(answer);
    }
    describe_stream(&mut fields);
    let mut block = Vec::new();
    sse::encode_retry(&mut block, wait);
    Outcome::Refuse(Refused {
        framing,
        fields,
        block,
    })
}

/// What the client has seen last: the header field, or for an `EventSource` that was made anew and
/// can't set one, a parameter of the query.
pub(super) fn last_event_id(request: &Request<Content>) -> Option<String> {
    let field = request.headers().get(LAST_EVENT_ID);
    let from_field = field.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let from_query = || {
        let query = request.uri().query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == "last_event_id" || name == "lastEventId")
            .map(|(_, value)| value.into_owned())
            .find(|id| !id.is_empty())
    };
    // An empty one says nothing (WHATWG HTML, 9.2.3).
    from_field.filter(|id| !id.is_empty()).or_else(from_query)
}
