//! What a channel leaves to its successor in the next process: its history, and where it is in the
//! origin's stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Channel, Kind, Upstream};
use crate::config::{self, Connect, Key, UrlTemplate};
use crate::log::{Implausible, Retained, Writer};
use crate::memory::Budget;

/// What a channel leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legacy<'a> {
    /// The channel's name.
    pub name: &'a str,
    /// Which instance of a channel on demand it was; `None`: it was there whoever asked.
    #[serde(borrow)]
    pub key: Option<KeyLeft<'a>>,
    /// Where it was in the origin's stream; `None`: it never was there.
    bookmark: Option<Bookmark>,
    #[serde(borrow)]
    retained: Retained<'a>,
}

/// The key of an instance. Keys with header fields are never written down: those may be credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLeft<'a> {
    /// What the key is made of, as [`rules_of`] tells.
    rules: u32,
    #[serde(borrow)]
    values: Vec<&'a str>,
    query: &'a str,
}

/// What instances of an earlier process left to those that are made in this one.
pub trait Heirlooms: Send + Sync {
    /// Gives what belongs to this key, and how old it is; once.
    fn take(&mut self, key: &Key, give: &mut dyn FnMut(&Legacy<'_>, Duration));
}

/// A place in an origin's stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bookmark {
    /// Whose stream, as [`source_of`] tells.
    pub(super) source: String,
    /// The origin's last event id.
    pub(super) last_event_id: Option<String>,
}

/// Where the upstream is. What it says is never ahead of the log: who resumes from there may get
/// again what the log has, but misses nothing.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// In a box, which an upstream that never opened does not need.
    bookmark: Mutex<Option<Box<Bookmark>>>,
}

/// What tells one source from another: the URL, whose query may be secret, so that only its checksum
/// is written down.
pub(super) fn source_of(upstream: &config::Upstream, place: usize) -> String {
    let url = upstream.urls.get(place).map(UrlTemplate::text);
    let checksum = crc32fast::hash(url.unwrap_or_default().as_bytes());
    format!("{}#{checksum:08x}", upstream.shown_url(place))
}

/// A checksum of all that gives the values of a channel's keys their meaning.
pub fn rules_of(settings: &config::Channel) -> u32 {
    let rules = &settings.key;
    let query = rules.query.iter().map(String::as_str);
    let headers = rules.headers.iter().map(HeaderName::as_str);
    // No path and no name has a line end; an empty line tells parameters and fields apart.
    let parts = std::iter::once(settings.path.as_str()).chain(query);
    let parts: Vec<&str> = parts.chain(std::iter::once("")).chain(headers).collect();
    crc32fast::hash(parts.join("\n").as_bytes())
}

impl Legacy<'_> {
    /// Checks all that a channel relies on.
    ///
    /// # Errors
    ///
    /// What is not as a channel would have left it.
    pub fn check(&self) -> Result<(), Implausible> {
        self.retained.check()
    }

    /// The history alone.
    #[cfg(test)]
    pub(crate) fn retained(&self) -> &Retained<'_> {
        &self.retained
    }

    /// How many events there are.
    pub fn n_events(&self) -> usize {
        self.retained.n_events()
    }
}

impl Channel {
    /// Gives what the channel leaves, of its history no more than the newest `max_bytes`. It is at its
    /// end: the rest is evicted.
    pub fn leave<T>(
        &self,
        max_bytes: usize,
        now: Instant,
        take: impl FnOnce(&Legacy<'_>) -> T,
    ) -> T {
        // Before the log, so that it is not ahead of it.
        let bookmark = self.shared.place.lock().as_deref().cloned();
        let key = self.key();
        let settings = self.settings();
        let key = (settings.connect == Connect::OnDemand).then(|| KeyLeft {
            rules: rules_of(&settings),
            values: key.values().collect(),
            query: key.query(),
        });
        self.log().export(max_bytes, now, |retained| {
            take(&Legacy {
                name: self.name(),
                key,
                bookmark,
                retained,
            })
        })
    }

    /// A channel with what its predecessor left `age` ago, and the upstream that goes on from there.
    ///
    /// # Errors
    ///
    /// If no channel left that.
    pub fn succeed(
        settings: Arc<config::Channel>,
        budget: &Budget,
        (legacy, age): (&Legacy<'_>, Duration),
    ) -> Result<(Self, Upstream), Implausible> {
        inherit(Self::within(&Kind::new(settings), budget), legacy, age)
    }

    /// The same, for the instance of a template.
    pub(super) fn succeed_instance(
        (kind, key): (&Kind, &Arc<Key>),
        budget: &Budget,
        (legacy, age): (&Legacy<'_>, Duration),
    ) -> Result<(Self, Upstream), Implausible> {
        let made = Self::instance(kind, Arc::clone(key), budget);
        inherit(made, legacy, age)
    }
}

fn inherit(
    (channel, mut writer): (Channel, Writer),
    legacy: &Legacy<'_>,
    age: Duration,
) -> Result<(Channel, Upstream), Implausible> {
    writer.restore(&legacy.retained, age, Instant::now())?;
    let mut upstream = Upstream::new(channel.clone(), writer);
    if let Some(bookmark) = legacy.bookmark.clone() {
        upstream.go_on_from(bookmark);
    }
    Ok((channel, upstream))
}

impl KeyLeft<'_> {
    /// What it is made of: a key of other rules means something else by the same values.
    pub fn rules(&self) -> u32 {
        self.rules
    }

    /// The key.
    pub fn to_key(&self) -> Key {
        Key::restored(self.values.iter().copied(), self.query)
    }
}

impl Place {
    /// Notes that the stream of `source` is open, and what it was asked to go on after.
    pub(super) fn open(&self, source: String, last_event_id: Option<&str>) {
        self.set(Bookmark {
            source,
            last_event_id: last_event_id.map(str::to_owned),
        });
    }

    /// The origin's last event id.
    pub(super) fn last_event_id(&self) -> Option<String> {
        self.lock()
            .as_ref()
            .and_then(|bookmark| bookmark.last_event_id.clone())
    }

    pub(super) fn set(&self, bookmark: Bookmark) {
        *self.lock() = Some(Box::new(bookmark));
    }

    /// Notes the origin's last event id, once the log has all that came before it. An empty one takes
    /// the last one back (WHATWG HTML, 9.2.6).
    pub(super) fn move_to(&self, last_event_id: &str) {
        let mut bookmark = self.lock();
        let Some(Bookmark {
            last_event_id: last,
            ..
        }) = bookmark.as_deref_mut()
        else {
            return;
        };
        match last {
            _ if last_event_id.is_empty() => *last = None,
            Some(last) if last == last_event_id => {}
            // It may be a new one with every read: its memory is kept.
            Some(last) => last_event_id.clone_into(last),
            None => *last = Some(last_event_id.to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Bookmark>>> {
        self.bookmark.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
