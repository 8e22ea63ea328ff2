//! The epochs that a log has had, and which of its sequence numbers each of them named.
//!
//! A new epoch begins where the events that follow are no continuation of those before: another
//! source, or a history that an earlier process kept. Numbers go on over all epochs of a log, so a
//! number belongs to one epoch only, and an id that an epoch never gave is known for a stranger.

use std::collections::VecDeque;

use super::id::{Epoch, Seq};

/// All epochs of a log that are still of use, the oldest first.
#[derive(Debug)]
pub(super) struct Epochs {
    /// Invariant: each begins after the one before, so none but the last is without numbers; and the
    /// first may be: who has seen nothing of it can prove that it has missed nothing.
    past: VecDeque<Run>,
    current: Run,
}

/// An epoch, and the first number that it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) epoch: Epoch,
    pub(super) first: Seq,
}

/// Epochs that are known after their last event is gone, so that their ids are `expired` and not
/// `unknown`. Both are told, and nothing else depends on it.
const MAX_PAST_EPOCHS: usize = 32;

impl Epochs {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            past: VecDeque::new(),
            current: Run {
                epoch,
                first: Seq::FIRST,
            },
        }
    }

    /// The epochs of an earlier log, and a new one for what follows.
    pub(super) fn restored(runs: &[(String, u64)], current: Epoch, first: Seq) -> Self {
        let past = runs.iter().filter_map(|(name, first)| {
            Some(Run {
                epoch: Epoch::named(name)?,
                first: Seq(*first),
            })
        });
        let mut n_seen = 0;
        let is_of_use = |run: &Run| {
            n_seen += 1;
            run.first < first || n_seen == 1
        };
        Self {
            past: past.filter(is_of_use).collect(),
            current: Run {
                epoch: current,
                first,
            },
        }
    }

    /// The epochs by name, each with the first number that it named, the oldest first.
    pub(super) fn runs(&self) -> impl Iterator<Item = (String, u64)> {
        let runs = self.past.iter().chain(std::iter::once(&self.current));
        runs.map(|run| (run.epoch.name(), run.first.0))
    }

    /// Begins an epoch with the number `first`. Epochs that ended before `oldest`, the oldest event
    /// that can be resumed from, are forgotten if they are too many.
    pub(super) fn begin(&mut self, epoch: Epoch, first: Seq, oldest: Seq) {
        let ended = std::mem::replace(&mut self.current, Run { epoch, first });
        if ended.first < first || self.past.is_empty() {
            self.past.push_back(ended);
        }
        while self.past.len() > MAX_PAST_EPOCHS {
            let end_of_oldest = self.past.get(1).map_or(first, |run| run.first);
            if end_of_oldest > oldest {
                break;
            }
            self.past.pop_front();
        }
    }

    /// The id of the event with this number.
    pub(super) fn id(&self, seq: Seq) -> String {
        self.epoch_of(seq).id(seq)
    }

    /// The epoch of the event with this number.
    pub(super) fn epoch_of(&self, seq: Seq) -> Epoch {
        let past = || {
            let after = self.past.partition_point(|run| run.first <= seq);
            self.past.get(after.saturating_sub(1))
        };
        let run = if seq < self.current.first {
            past()
        } else {
            None
        };
        run.unwrap_or(&self.current).epoch
    }

    /// The number in an id that one of the epochs gave, or would have given if the event had needed
    /// one. Numbers from `next` on are not given yet: a client can make any number of an id that it
    /// got.
    pub(super) fn find(&self, id: &str, next: Seq) -> Option<Seq> {
        let mut end = next;
        for run in std::iter::once(&self.current).chain(self.past.iter().rev()) {
            // Two that began in the same millisecond may have the same name.
            let seq = run.epoch.seq_of(id);
            if let Some(seq) = seq.filter(|seq| (run.first..end).contains(seq)) {
                return Some(seq);
            }
            end = run.first;
        }
        None
    }

    /// The id of the place behind the event with this number; behind none, if it is 0.
    pub(super) fn place(&self, seq: Seq) -> String {
        self.epoch_of(seq).place(seq)
    }

    /// The number in the id of a place that one of the epochs gave, or could have given.
    pub(super) fn find_place(&self, id: &str, next: Seq) -> Option<Seq> {
        let mut end = next;
        for run in std::iter::once(&self.current).chain(self.past.iter().rev()) {
            let before_all = if run.first == Seq::FIRST {
                Seq(0)
            } else {
                run.first
            };
            let seq = run.epoch.seq_of_place(id);
            if let Some(seq) = seq.filter(|seq| (before_all..end).contains(seq)) {
                return Some(seq);
            }
            end = run.first;
        }
        None
    }

    /// Whether `epoch` has named `seq`, or begins after it. Numbers from `next` on are not given yet.
    pub(super) fn has_reached(&self, epoch: Epoch, seq: Seq, next: Seq) -> bool {
        let mut end = next;
        for run in std::iter::once(&self.current).chain(self.past.iter().rev()) {
            // A client can make any number of an id; what is behind `end` may have none after it.
            if run.epoch == epoch && seq < end && run.first <= seq.next() {
                return true;
            }
            end = run.first;
        }
        false
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.past.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(n: u64) -> Epoch {
        Epoch::named(&format!("e{n}")).expect("a name")
    }

    #[test]
    fn an_id_is_found_in_the_epoch_that_gave_it_and_in_no_other() {
        let mut epochs = Epochs::new(epoch(1));
        epochs.begin(epoch(2), Seq(4), Seq(1));
        epochs.begin(epoch(3), Seq(9), Seq(1));
        let given = [(1, 1), (1, 3), (2, 4), (2, 8), (3, 9), (3, 10)];
        for (n, seq) in given {
            let id = format!("e{n}-{seq}");
            assert_eq!(epochs.id(Seq(seq)), id);
            assert_eq!(epochs.find(&id, Seq(11)), Some(Seq(seq)), "{id}");
        }
        for id in ["e1-0", "e1-4", "e2-3", "e2-9", "e3-8", "e3-11", "e4-1", "e"] {
            assert_eq!(epochs.find(id, Seq(11)), None, "{id}");
        }
    }

    #[test]
    fn epochs_that_happen_to_have_the_same_name_find_their_own() {
        let mut epochs = Epochs::new(epoch(1));
        epochs.begin(epoch(1), Seq(4), Seq(1));
        for seq in 1..6 {
            let id = epochs.id(Seq(seq));
            assert_eq!(epochs.find(&id, Seq(6)), Some(Seq(seq)), "{id}");
        }
        assert_eq!(epochs.find("e1-6", Seq(6)), None);
    }

    #[test]
    fn of_epochs_without_events_only_the_first_is_left() {
        let mut epochs = Epochs::new(epoch(1));
        for n in 2..10 {
            epochs.begin(epoch(n), Seq(1), Seq(1));
        }
        assert_eq!(epochs.len(), 2);
        assert_eq!(epochs.id(Seq(1)), "e9-1");
        assert_eq!(epochs.epoch_of(Seq(0)), epoch(1));
        assert!(epochs.has_reached(epoch(1), Seq(0), Seq(1)));
        assert!(!epochs.has_reached(epoch(1), Seq(1), Seq(2)));
        assert!(!epochs.has_reached(epoch(2), Seq(0), Seq(1)));
    }

    #[test]
    fn of_many_epochs_those_are_kept_whose_events_are() {
        let mut epochs = Epochs::new(epoch(1));
        for n in 2..=200 {
            epochs.begin(epoch(n), Seq(n), Seq(100.min(n)));
        }
        assert_eq!(epochs.find("e100-100", Seq(201)), Some(Seq(100)));
        assert_eq!(epochs.find("e99-99", Seq(201)), None);
        for n in 201..=300 {
            epochs.begin(epoch(n), Seq(n), Seq(n));
        }
        assert_eq!(epochs.len(), MAX_PAST_EPOCHS + 1);
    }
}
