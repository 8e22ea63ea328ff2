//! What the bench and its load clients say to each other: a word and numbers, a line each.

use std::fmt;
use std::fmt::Display;

use super::faults::Faults;

/// What a load client is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Forget what was received; make room for so many bytes on each client.
    Begin { n_bytes: u64 },
    /// Open connections; the answer is a [`Connected`].
    Connect(Connect),
    /// Receive the rest of a window and verify it; the answers are [`Received`] and [`Verified`].
    Finish(Finish),
}

/// Connections to open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connect {
    /// How many.
    pub(crate) n_clients: u64,
    /// The channel of the first.
    pub(crate) first_channel: u64,
    /// They are dealt out to so many channels from there, in turn.
    pub(crate) n_channels: u64,
    /// How many may wait for their answer at a time.
    pub(crate) n_in_flight: u64,
}

/// What every client of a window must get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    /// The number of the first event.
    pub(super) first_seq: u64,
    /// How many events.
    pub(super) n_events: u64,
    /// Their size.
    pub(super) size: u64,
    /// When to stop waiting.
    pub(super) timeout_ms: u64,
}

/// How connecting went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connected {
    /// Clients that have a response head and the first byte of a body.
    pub(crate) n_ready: u64,
    /// Clients that were refused, cut, or answered with another status.
    pub(crate) n_refused: u64,
    /// From the first attempt until the last client was ready.
    pub(crate) elapsed: u64,
}

/// How a window ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// When the last byte was read.
    pub(crate) last_at: u64,
}

/// What a window held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verified {
    /// Events that arrived as they should.
    pub(crate) n_delivered: u64,
    /// What was wrong.
    pub(crate) faults: Faults,
    /// Half of the latencies are at most this, in nanoseconds.
    pub(crate) p50: u64,
    /// 99 of 100 are at most this.
    pub(crate) p99: u64,
    /// None is more than this.
    pub(crate) longest: u64,
}

impl Order {
    /// Reads an order.
    pub(super) fn parse(line: &str) -> Self {
        match line.split_once(' ').expect("an order") {
            ("begin", numbers) => {
                let [n_bytes] = numbers_of(numbers);
                Self::Begin { n_bytes }
            }
            ("connect", numbers) => {
                let [n_clients, first_channel, n_channels, n_in_flight] = numbers_of(numbers);
                Self::Connect(Connect {
                    n_clients,
                    first_channel,
                    n_channels,
                    n_in_flight,
                })
            }
            ("finish", numbers) => {
                let [first_seq, n_events, size, timeout_ms] = numbers_of(numbers);
                Self::Finish(Finish {
                    first_seq,
                    n_events,
                    size,
                    timeout_ms,
                })
            }
            (other, _) => panic!("not an order: {other}"),
        }
    }
}

impl Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin { n_bytes } => write!(f, "begin {n_bytes}"),
            Self::Connect(Connect {
                n_clients,
                first_channel,
                n_channels,
                n_in_flight,
            }) => {
                write!(
                    f,
                    "connect {n_clients} {first_channel} {n_channels} {n_in_flight}"
                )
            }
            Self::Finish(Finish {
                first_seq,
                n_events,
                size,
                timeout_ms,
            }) => {
                write!(f, "finish {first_seq} {n_events} {size} {timeout_ms}")
            }
        }
    }
}

impl Connected {
    /// Reads an answer.
    pub(super) fn parse(line: &str) -> Self {
        let [n_ready, n_refused, elapsed] = numbers_of(answer(line, "connected"));
        Self {
            n_ready,
            n_refused,
            elapsed,
        }
    }
}

impl Display for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            n_ready,
            n_refused,
            elapsed,
        } = self;
        write!(f, "connected {n_ready} {n_refused} {elapsed}")
    }
}

impl Received {
    /// Reads an answer.
    pub(super) fn parse(line: &str) -> Self {
        let [last_at] = numbers_of(answer(line, "received"));
        Self { last_at }
    }
}

impl Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "received {}", self.last_at)
    }
}

impl Verified {
    /// Reads an answer.
    pub(super) fn parse(line: &str) -> Self {
        let [
            n_delivered,
            p50,
            p99,
            longest,
            n_missing,
            n_duplicated,
            n_reordered,
            n_corrupt,
            n_stray,
            n_cut,
        ] = numbers_of(answer(line, "verified"));
        let faults = Faults {
            n_missing,
            n_duplicated,
            n_reordered,
            n_corrupt,
            n_stray,
            n_cut,
            ..Faults::default()
        };
        Self {
            n_delivered,
            faults,
            p50,
            p99,
            longest,
        }
    }
}

impl Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            n_delivered,
            faults,
            p50,
            p99,
            longest,
        } = self;
        let Faults {
            n_missing,
            n_duplicated,
            n_reordered,
            n_corrupt,
            n_stray,
            n_cut,
            ..
        } = faults;
        write!(
            f,
            "verified {n_delivered} {p50} {p99} {longest} \
             {n_missing} {n_duplicated} {n_reordered} {n_corrupt} {n_stray} {n_cut}"
        )
    }
}

/// The numbers of an answer.
fn answer<'a>(line: &'a str, word: &str) -> &'a str {
    match line.split_once(' ') {
        Some((first, numbers)) if first == word => numbers,
        _ => panic!("a load client answered {line:?} instead of {word}"),
    }
}

fn numbers_of<const N: usize>(text: &str) -> [u64; N] {
    let numbers: Vec<u64> = text
        .split(' ')
        .map(|word| word.parse().expect("a number"))
        .collect();
    numbers.try_into().expect("so many numbers")
}
