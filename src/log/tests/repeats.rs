//! What a reconnected origin says again, and what it says for the first time.
//!
//! Two things must not happen, whatever an origin does: a new event is dropped, or events are
//! missing and nobody is told.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::testing::{append, event, roomy};
use super::super::{Log, Repeats, Verdict, Writer};
use crate::config::{History, Ids};
use crate::sse::Event;

/// The id that the origin gives, and the data.
type Said<'a> = (Option<&'a str>, &'a str);

/// A channel whose connection broke, and came back.
struct Reconnected {
    log: Log,
    writer: Writer,
    repeats: Option<Repeats>,
    now: Instant,
}

impl Reconnected {
    /// After the origin has said `before` and the connection broke; it was asked to resume after
    /// the last id.
    fn after(before: &[Said<'_>], limits: History, ids: Ids) -> Self {
        let (log, mut writer) = Log::new(limits, ids);
        let now = Instant::now();
        append(&mut writer, before, now);
        let mut identified = before.iter().rev().filter_map(|(id, _)| *id);
        let last_id = identified.next().expect("a stream that can be resumed");
        let repeats = Some(writer.expect_repeats(last_id, now));
        Self {
            log,
            writer,
            repeats,
            now,
        }
    }

    fn usual(before: &[Said<'_>]) -> Self {
        Self::after(before, roomy(), Ids::Fill)
    }

    /// What becomes of an event: `=` it is dropped, `+` it is delivered, `!` it is delivered after a
    /// gap was told.
    fn receive(&mut self, event: &Event<'_>) -> char {
        let mut mark = '+';
        if let Some(repeats) = &mut self.repeats {
            match self.writer.judge(repeats, event, self.now) {
                Verdict::Repeat => return '=',
                Verdict::Undecided => {}
                Verdict::Resumed => self.repeats = None,
                Verdict::Missed => {
                    self.repeats = None;
                    self.writer.push_notice("ssecast.gap", "{}");
                    mark = '!';
                }
            }
        }
        self.writer.push(event);
        self.writer.commit(self.now);
        mark
    }

    fn say(&mut self, said: &[Said<'_>]) -> String {
        let marks = said
            .iter()
            .map(|(id, data)| self.receive(&event(*id, data)));
        marks.collect()
    }
}

/// Short for an event with an id, or without one if that is `-`.
fn said(text: &'static str) -> Vec<Said<'static>> {
    text.split_whitespace()
        .map(|word| {
            let (id, data) = word.split_at(word.len() - 1);
            ((id != "-").then_some(id), data)
        })
        .collect()
}

/// Each row: what was said before the break, what is said after it, and what becomes of that.
fn check_table(ids: Ids, rows: &[(&'static str, &'static str, &str)]) {
    for (before, after, expected) in rows {
        let mut channel = Reconnected::after(&said(before), roomy(), ids);
        let marks = channel.say(&said(after));
        assert_eq!(&marks, expected, "{ids:?}: {before} | {after}");
    }
}

#[test]
fn counted_ids() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        check_table(
            ids,
            &[
                // It goes on after the last ID, as it was asked to.
                ("1a 2b 3c", "4d 5e", "++"),
                // It counts more than it sends here.
                ("1a 5b 7c", "9d", "+"),
                // It begins with the last, or earlier, or at the beginning, and goes on.
                ("1a 2b 3c", "3c 4d", "=+"),
                ("1a 2b 3c", "2b 3c 4d 5e", "==++"),
                ("1a 2b 3c", "1a 2b 3c 4d", "===+"),
                // It restarts and counts from 1 again.
                ("1a 2b 3c", "1x 2y 3z 4w", "!+++"),
                // The same with the same content is the same bytes, and dropped as far as it goes.
                ("1a 2b 3c", "1a 2b 3c 4d", "===+"),
                // It says a part again, and then something else: that ends it for good.
                ("1a 2b 3c", "1a 2x 3c 4d", "=!++"),
                ("1a 2b 3c", "1a 3c 4d", "=!+"),
                ("1a 2b 3c", "1a 2b 9z", "==!"),
                // Only part of what it says is old, but not the first event.
                ("1a 2b 3c", "0z 1a 2b", "!++"),
                ("1a 2b 3c", "2x 3c", "!+"),
            ],
        );
    }
}

/// It did not go on where it was asked to, or it counts more than it sends here. A row of
/// consecutive numbers tells the one from the other.
#[test]
fn a_counter_that_jumps_has_left_something_out() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        check_table(
            ids,
            &[
                ("1a 2b 3c", "5e 6f", "!+"),
                ("1a 2b -x 3c", "5e 6f", "!+"),
                ("1a 2b 3c", "4d 6f", "++"),
                ("1a 2b", "5e 6f", "++"),
                ("1a 3c 4d 5e", "7g", "+"),
                ("1a 2b 3c", "pz", "+"),
            ],
        );
    }
}

#[test]
fn other_ids() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        check_table(
            ids,
            &[
                ("pa qb rc", "sd te", "++"),
                ("pa qb rc", "rc sd", "=+"),
                ("pa qb rc", "pa qb rc sd", "===+"),
                ("pa qb rc", "px qy", "!+"),
                ("pa qb rc", "pa qx rc", "=!+"),
            ],
        );
    }
}

/// Some origins give an id to what an event is about: it says nothing of what came when.
#[test]
fn an_id_that_came_more_than_once_proves_no_repeat() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        check_table(
            ids,
            &[
                ("ua 2b ua 4d", "ua 5e", "!+"),
                ("ua 2b uc 4d", "ua 5e", "!+"),
                // Inside a run that has begun, it is one of the log's, in its place.
                ("ua 2b ua 4d", "2b ua 4d 5e", "===+"),
            ],
        );
    }
}

/// An event without an id is delivered: nothing proves that it is old.
#[test]
fn streams_with_and_without_ids() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        check_table(
            ids,
            &[
                ("1a -b 3c", "1a -b 3c 4d", "=+=+"),
                ("1a -b 3c", "1a 3c -d 4e", "==++"),
                ("1a -b", "1a -b -c 2d", "=+++"),
                // It goes on after its last id, which was not its last event.
                ("1a -b -c", "-b -c -d 2e", "++++"),
                ("1a -b", "2c -d", "++"),
                // Nothing says where an event without an id belongs.
                ("1a 2b", "-c 3d", "!+"),
                // It did not go on where it was asked to, and gives no more ids: this is the last
                // chance to tell.
                ("1a -b -c", "-e -f", "!+"),
                ("1a -b -c", "-b -e -f", "+!+"),
                ("1a -b -c", "1a -e -f", "=!+"),
                ("1a -b -c", "1a -b -e -f", "=+!+"),
            ],
        );
    }
}

#[test]
fn an_empty_id_is_none() {
    let mut channel = Reconnected::usual(&[(Some("1"), "a"), (Some(""), "b")]);
    let marks = channel.say(&[(Some("1"), "a"), (Some(""), "b"), (Some("2"), "c")]);
    assert_eq!(marks, "=++");
}

#[test]
fn the_type_is_part_of_the_content() {
    let mut channel = Reconnected::usual(&[(Some("1"), "a"), (Some("2"), "b")]);
    let other = Event {
        event_type: "other",
        ..event(Some("1"), "a")
    };
    assert_eq!(channel.receive(&other), '!');
}

/// Our own notices are no events of the origin's: it neither repeats them, nor do they stand for
/// events without an id.
#[test]
fn notices_do_not_count() {
    let (_, mut writer) = Log::new(roomy(), Ids::Fill);
    let now = Instant::now();
    append(&mut writer, &[(Some("1"), "a")], now);
    writer.push_notice("ssecast.upstream", "{}");
    append(&mut writer, &[(Some("2"), "b")], now);
    writer.push_notice("ssecast.upstream", "{}");
    writer.commit(now);
    let judge = |said: &[Said<'_>]| {
        let mut repeats = writer.expect_repeats("2", now);
        let judged = said.iter().map(|(id, data)| {
            let event = event(*id, data);
            writer.judge(&mut repeats, &event, now)
        });
        judged.collect::<Vec<_>>()
    };
    let repeated = judge(&[(Some("1"), "a"), (Some("2"), "b"), (Some("3"), "c")]);
    assert_eq!(
        repeated,
        [Verdict::Repeat, Verdict::Repeat, Verdict::Resumed]
    );
    assert_eq!(judge(&[(None, "c")]), [Verdict::Missed]);
}

#[test]
fn a_pause_ends_the_run() {
    let before = said("1a 2b 3c");
    let mut channel = Reconnected::usual(&before);
    assert_eq!(channel.say(&before[..1]), "=");
    channel.now += Duration::from_secs(2);
    assert_eq!(channel.say(&before[1..2]), "=");
    channel.now += Duration::from_millis(2001);
    assert_eq!(channel.say(&before[2..]), "!");
}

/// A clock that says `id: 1` after each of its restarts, some time after it was asked.
#[test]
fn an_event_that_comes_late_is_news() {
    let before = said("1a 2b 3c");
    let mut channel = Reconnected::usual(&before);
    channel.now += Duration::from_secs(10);
    assert_eq!(channel.say(&before), "!++");
}

#[test]
fn what_is_no_longer_retained_cannot_be_compared() {
    let limits = History {
        events: 2,
        ..roomy()
    };
    let mut counted = Reconnected::after(&said("1a 2b 3c 4d"), limits.clone(), Ids::Fill);
    assert_eq!(counted.say(&said("1a 2b 3c 4d 5e")), "!++++");
    // What comes before the last of other ids, nobody knows.
    let mut others = Reconnected::after(&said("pa qb rc sd"), limits.clone(), Ids::Fill);
    assert_eq!(others.say(&said("pa qb te")), "+++");
    let mut retained = Reconnected::after(&said("1a 2b 3c 4d"), limits, Ids::Fill);
    assert_eq!(retained.say(&said("3c 4d 5e")), "==+");
}

/// A log may forget in the middle of a run: by age, or because of what is delivered.
#[test]
fn a_run_over_what_was_forgotten_meanwhile_is_told() {
    let age = Some(Duration::from_secs(60));
    for (next, expected) in [("2b", '!'), ("9z", '!')] {
        let limits = History { age, ..roomy() };
        let mut channel = Reconnected::after(&said("1a 2b 3c"), limits, Ids::Fill);
        assert_eq!(channel.say(&said("1a")), "=");
        channel.log.evict(channel.now + Duration::from_secs(61));
        let (id, data) = said(next)[0];
        assert_eq!(channel.receive(&event(id, data)), expected, "{next}");
    }
}

/// An ID may come without an event, so that the last one is not the log's.
#[test]
fn the_last_id_may_be_beyond_the_log() {
    let (_, mut writer) = Log::new(roomy(), Ids::Fill);
    let now = Instant::now();
    append(&mut writer, &[(Some("1"), "a")], now);
    for (id, data, expected) in [
        ("8", "h", Verdict::Resumed),
        ("7", "g", Verdict::Missed),
        ("5", "e", Verdict::Missed),
        ("1", "a", Verdict::Repeat),
    ] {
        let mut repeats = writer.expect_repeats("7", now);
        let verdict = writer.judge(&mut repeats, &event(Some(id), data), now);
        assert_eq!(verdict, expected, "{id}");
    }
}

/// Which events are dropped, by the rule itself: a leading run that repeats events of the log by id
/// and content, one after the other; those without an id are passed over.
fn n_dropped(log: &[(String, String)], said: &[(String, String)]) -> usize {
    let Some(first) = said.first() else { return 0 };
    let mut same_id = log.iter().enumerate().filter(|(_, (id, _))| *id == first.0);
    let (Some((start, known)), None) = (same_id.next(), same_id.next()) else {
        return 0;
    };
    if known != first {
        return 0;
    }
    let pairs = log[start..].iter().zip(said);
    pairs.take_while(|(known, said)| known == said).count()
}

fn any_said(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("[1-6]", "[ab]"), n)
}

proptest! {
    #[test]
    fn only_a_leading_run_is_dropped(
        before in any_said(1..6),
        n_again in 0usize..6,
        more in any_said(0..6),
        ids in prop_oneof![Just(Ids::Fill), Just(Ids::Gateway), Just(Ids::Upstream)],
    ) {
        let again = before.iter().skip(before.len().saturating_sub(n_again)).cloned();
        let after: Vec<(String, String)> = again.chain(more).collect();
        let borrow = |said: &(String, String)| (said.0.clone(), said.1.clone());
        let owned: Vec<_> = before.iter().map(borrow).collect();
        let before_said: Vec<Said<'_>> =
            owned.iter().map(|(id, data)| (Some(id.as_str()), data.as_str())).collect();
        let after_said: Vec<Said<'_>> =
            after.iter().map(|(id, data)| (Some(id.as_str()), data.as_str())).collect();
        let mut channel = Reconnected::after(&before_said, roomy(), ids);
        let marks = channel.say(&after_said);
        let expected = n_dropped(&before, &after);
        let dropped = marks.chars().take_while(|mark| *mark == '=').count();
        prop_assert_eq!(dropped, expected, "{:?} | {:?}: {}", before, after, marks);
        let is_over = !marks.chars().skip(dropped).any(|mark| mark == '=');
        prop_assert!(is_over, "{:?} | {:?}: {}", before, after, marks);
        // What counts backwards has been interrupted, and that is told.
        let last: u32 = before.last().expect("one").0.parse().expect("a number");
        if let Some((id, _)) = after.get(dropped)
            && dropped == 0
            && id.parse::<u32>().expect("a number") <= last
        {
            prop_assert!(marks.starts_with('!'), "{:?} | {:?}: {}", before, after, marks);
        }
    }
}

/// What was repeated was delivered in an earlier epoch, and with an id of that.
#[test]
fn what_an_earlier_epoch_brought_is_a_repeat_all_the_same() {
    for ids in [Ids::Fill, Ids::Gateway, Ids::Upstream] {
        let mut channel = Reconnected::after(&said("1a 2b 3c"), roomy(), ids);
        channel.writer.begin_epoch(channel.now);
        assert_eq!(channel.say(&said("2b 3c 4d 5e")), "==++", "{ids:?}");
    }
}
