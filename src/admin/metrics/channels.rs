//! The metrics of channels, each with the channel's name: of a channel on demand, those of all its
//! instances together. A channel that is removed takes its series with it.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::families::{Described, counters, gauges, histograms};
use super::process::unix_seconds;
use crate::channel::{
    Channel, Counters, Departure, FirstAnswered, RefusedBy, Replayed, Source, State, UpstreamError,
    Views,
};
use crate::config::OnLag;
use crate::delivery::{Lag, Survey};
use crate::log::Size;

/// A channel as a scrape sees it.
struct Seen<'a> {
    source: &'a Source,
    /// Its instances; if it is not on demand, itself.
    channels: Vec<Channel>,
    lag: Lag,
}

/// A counter of a channel, and how it is read.
type ChannelCounter = (Described, fn(&Counters) -> u64);

/// Counters of a channel that have no other label.
const COUNTERS: &[ChannelCounter] = &[
    (
        ("ssecast_connects", "Subscribers that came to the channel"),
        |counters| counters.arrivals.value(),
    ),
    (
        (
            "ssecast_fetches",
            "Answers with what the channel had at the moment, as JSON",
        ),
        |counters| counters.fetches.value(),
    ),
    (
        (
            "ssecast_delivered_events",
            "Events that the sockets of subscribers took, replayed ones included",
        ),
        |counters| counters.delivered_events.value(),
    ),
    (
        (
            "ssecast_replayed_events",
            "Events that subscribers took before they had caught up, a part of the delivered ones",
        ),
        |counters| counters.replayed_events.value(),
    ),
    (
        (
            "ssecast_delivered_bytes",
            "Bytes that the sockets of subscribers took, heads and heartbeats included",
        ),
        |counters| counters.delivered_bytes.value(),
    ),
    (
        (
            "ssecast_resets",
            "Subscribers that could not resume where they were",
        ),
        |counters| counters.resets.value(),
    ),
    (
        (
            "ssecast_gaps",
            "Times that the upstream could not go on where it was, so that events may be missing",
        ),
        |counters| counters.gaps.value(),
    ),
];

/// The same of what comes from an upstream.
const UPSTREAM_COUNTERS: &[ChannelCounter] = &[
    (
        ("ssecast_upstream_events", "Events that the origin sent"),
        |counters| counters.events.value(),
    ),
    (
        (
            "ssecast_upstream_bytes",
            "Bytes of the origin's event stream",
        ),
        |counters| counters.upstream_bytes.value(),
    ),
    (
        (
            "ssecast_upstream_repeated_events",
            "Events that the origin repeated after a reconnect and that were dropped",
        ),
        |counters| counters.repeats.value(),
    ),
    (
        (
            "ssecast_upstream_connects",
            "Upstream connections that opened",
        ),
        |counters| counters.upstream_opened.value(),
    ),
    (
        (
            "ssecast_upstream_failovers",
            "Changes from one of the upstream's URLs to another",
        ),
        |counters| counters.failovers.value(),
    ),
];

/// A counter of what became of slow subscribers, by the policy.
type LagCounter = (Described, fn(&Counters, OnLag) -> u64);

/// Counters of slow subscribers.
const LAG_COUNTERS: &[LagCounter] = &[
    (
        (
            "ssecast_lagged",
            "Times that a subscriber was too far behind, by what became of it",
        ),
        |counters, policy| counters.lagged(policy).value(),
    ),
    (
        (
            "ssecast_lag_missed_events",
            "Events that subscribers did not get because they were too far behind, by the policy",
        ),
        |counters, policy| counters.lag_missed(policy).value(),
    ),
];

/// Writes all families of channels.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    sources: &[Source],
    survey: &Survey,
) -> fmt::Result {
    let seen = sources.iter().map(|source| {
        let channels = source.channels();
        Seen {
            source,
            lag: survey.lag_of_all(&source.all()),
            channels,
        }
    });
    let seen: Vec<Seen<'_>> = seen.collect();
    for (described, value) in COUNTERS {
        let values = seen.iter().map(|one| (one.label(), value(one.counters())));
        counters(encoder, *described, values)?;
    }
    encode_subscribers(encoder, &seen)?;
    encode_instances(encoder, &seen)?;
    encode_views(encoder, &seen)?;
    // A bundle has no upstream, and no log: what its clients read are its views.
    let has_upstream = |one: &Seen<'_>| one.source.kind().settings().bundle.is_none();
    let seen: Vec<Seen<'_>> = seen.into_iter().filter(has_upstream).collect();
    for (described, value) in UPSTREAM_COUNTERS {
        let values = seen.iter().map(|one| (one.label(), value(one.counters())));
        counters(encoder, *described, values)?;
    }
    encode_upstreams(encoder, &seen)?;
    encode_logs(encoder, &seen)
}

fn encode_views(encoder: &mut DescriptorEncoder<'_>, seen: &[Seen<'_>]) -> fmt::Result {
    let values = |of: fn(&Views) -> usize| {
        seen.iter().map(move |one| {
            let views = one.source.kind().views();
            (one.label(), views.map_or(0, of))
        })
    };
    gauges(
        encoder,
        (
            "ssecast_views",
            "Sets of event types, or of channels, that somebody reads right now",
        ),
        values(Views::len),
    )?;
    gauges(
        encoder,
        (
            "ssecast_view_log_bytes",
            "Bytes that views keep for replay, besides those of their channels",
        ),
        values(Views::held_bytes),
    )
}

fn encode_subscribers(encoder: &mut DescriptorEncoder<'_>, seen: &[Seen<'_>]) -> fmt::Result {
    gauges(
        encoder,
        ("ssecast_subscribers", "Subscribers right now"),
        seen.iter()
            .map(|one| (one.label(), one.sum(Channel::n_subscribers))),
    )?;
    gauges(
        encoder,
        (
            "ssecast_subscribers_behind",
            "Subscribers that lack bytes of the event stream right now",
        ),
        seen.iter().map(|one| (one.label(), one.lag.n_behind)),
    )?;
    gauges(
        encoder,
        (
            "ssecast_lag_bytes",
            "How far behind the subscriber is right now that is furthest behind",
        ),
        seen.iter().map(|one| (one.label(), one.lag.max_bytes)),
    )?;
    counters(
        encoder,
        (
            "ssecast_disconnects",
            "Subscribers that left, by the reason",
        ),
        seen.iter().flat_map(|one| {
            Departure::ALL.map(|reason| {
                let n = one.counters().departures(reason).value();
                (one.label_with("reason", reason.reason()), n)
            })
        }),
    )?;
    for (described, value) in LAG_COUNTERS {
        let values = seen.iter().flat_map(|one| {
            OnLag::ALL.map(|policy| {
                let n = value(one.counters(), policy);
                (one.label_with("policy", policy.name()), n)
            })
        });
        counters(encoder, *described, values)?;
    }
    counters(
        encoder,
        (
            "ssecast_refusals",
            "Requests for the channel that were refused, by what",
        ),
        seen.iter().flat_map(|one| {
            RefusedBy::ALL.map(|by| {
                let n = one.counters().refusals(by).value();
                (one.label_with("reason", by.name()), n)
            })
        }),
    )?;
    counters(
        encoder,
        (
            "ssecast_replays",
            "Subscribers that came, by what they could be given of the past",
        ),
        seen.iter().flat_map(|one| {
            Replayed::ALL.map(|outcome| {
                let n = one.counters().replays(outcome).value();
                (one.label_with("outcome", outcome.name()), n)
            })
        }),
    )?;
    histograms(
        encoder,
        (
            "ssecast_delivery_latency_seconds",
            "Time from the upstream read of an event to its write to a subscriber's socket",
        ),
        seen.iter()
            .map(|one| (one.label(), one.counters().latency.counts())),
    )
}

fn encode_instances(encoder: &mut DescriptorEncoder<'_>, seen: &[Seen<'_>]) -> fmt::Result {
    let templates = || {
        let templates = seen.iter();
        templates.filter_map(|one| Some((one, one.source.template()?)))
    };
    gauges(
        encoder,
        (
            "ssecast_instances",
            "Instances of a channel on demand right now",
        ),
        templates().map(|(one, template)| (one.label(), template.n_instances())),
    )?;
    counters(
        encoder,
        (
            "ssecast_instances_made",
            "Instances of a channel on demand that were made so far",
        ),
        templates().map(|(one, _)| (one.label(), one.counters().instances.value())),
    )?;
    counters(
        encoder,
        (
            "ssecast_first_answers",
            "What the origins of new instances said first",
        ),
        templates().flat_map(|(one, _)| {
            FirstAnswered::ALL.map(|answer| {
                let n = one.counters().first_answers(answer).value();
                (one.label_with("answer", answer.name()), n)
            })
        }),
    )
}

fn encode_upstreams(encoder: &mut DescriptorEncoder<'_>, seen: &[Seen<'_>]) -> fmt::Result {
    gauges(
        encoder,
        (
            "ssecast_upstream_state",
            "Upstreams of the channel that are in the state: one, or as many as it has instances",
        ),
        seen.iter().flat_map(|one| {
            let states = one.channels.iter().map(|channel| channel.status().state);
            let states: Vec<State> = states.collect();
            State::ALL.map(|state| {
                let n = states.iter().filter(|one| **one == state).count();
                (one.label_with("state", state.name()), n)
            })
        }),
    )?;
    gauges(
        encoder,
        (
            "ssecast_upstream_endpoint",
            "Which of the upstream's URLs is in use, or was last; 0 is the first",
        ),
        seen.iter().filter_map(|one| {
            let channel = one.source.eager()?;
            Some((one.label(), channel.status().endpoint))
        }),
    )?;
    counters(
        encoder,
        (
            "ssecast_upstream_failures",
            "Upstream connections that failed or ended, by the reason; each is followed by another",
        ),
        seen.iter().flat_map(|one| {
            UpstreamError::REASONS.map(|reason| {
                let n = one.counters().failures.of(reason);
                (one.label_with("reason", reason), n)
            })
        }),
    )?;
    gauges(
        encoder,
        (
            "ssecast_upstream_last_event_timestamp_seconds",
            "When the origin sent its last event",
        ),
        seen.iter().filter_map(|one| {
            let at = one.counters().last_event_at.time()?;
            Some((one.label(), unix_seconds(at)?))
        }),
    )
}

fn encode_logs(encoder: &mut DescriptorEncoder<'_>, seen: &[Seen<'_>]) -> fmt::Result {
    let sizes = seen.iter().map(|one| {
        let sizes = one.channels.iter().map(|channel| channel.log().size());
        (one, sizes.collect::<Vec<Size>>())
    });
    let sizes: Vec<(&Seen<'_>, Vec<Size>)> = sizes.collect();
    let sum = |sizes: &[Size], of: fn(&Size) -> usize| sizes.iter().map(of).sum::<usize>();
    gauges(
        encoder,
        ("ssecast_log_events", "Events that are kept for replay"),
        sizes
            .iter()
            .map(|(one, sizes)| (one.label(), sum(sizes, |size| size.n_events))),
    )?;
    gauges(
        encoder,
        ("ssecast_log_bytes", "Bytes that are kept for replay"),
        sizes
            .iter()
            .map(|(one, sizes)| (one.label(), sum(sizes, |size| size.held_bytes))),
    )?;
    counters(
        encoder,
        (
            "ssecast_ambiguous_ids",
            "Events whose id came again with other content, so that nobody can resume from it",
        ),
        sizes.iter().map(|(one, sizes)| {
            let present: u64 = sizes.iter().map(|size| size.n_ambiguous).sum();
            let gone = one.counters().ambiguous_ids_gone.value();
            (one.label(), present + gone)
        }),
    )?;
    gauges(
        encoder,
        (
            "ssecast_log_keys",
            "Keys whose newest event is known, where somebody wants it",
        ),
        sizes.iter().map(|(one, sizes)| {
            let n_keys: usize = sizes.iter().map(|size| size.n_keys).sum();
            (one.label(), n_keys)
        }),
    )?;
    counters(
        encoder,
        (
            "ssecast_log_keys_given_up",
            "Keys that had to be given up for want of room",
        ),
        sizes.iter().map(|(one, sizes)| {
            let n_given_up: u64 = sizes.iter().map(|size| size.n_keys_given_up).sum();
            (one.label(), n_given_up)
        }),
    )
}

impl Seen<'_> {
    fn counters(&self) -> &Counters {
        self.source.kind().counters()
    }

    fn sum(&self, of: fn(&Channel) -> usize) -> usize {
        self.channels.iter().map(of).sum()
    }

    fn label(&self) -> [(&'static str, &str); 1] {
        [("channel", self.source.kind().name())]
    }

    fn label_with(&self, key: &'static str, value: &'static str) -> [(&'static str, &str); 2] {
        [("channel", self.source.kind().name()), (key, value)]
    }
}
