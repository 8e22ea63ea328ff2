//! Reads the values that are not text with a grammar of their own: numbers, words, switches, lists.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::JsonPointer;
use crate::config::OnStatus;
use crate::config::UnknownPath;
use crate::config::admission::ProxyProtocol;
use crate::config::channel::Access;
use crate::config::channel::Compression;
use crate::config::channel::ConflateBy;
use crate::config::channel::Connect;
use crate::config::channel::Credentials;
use crate::config::channel::CursorOnConnect;
use crate::config::channel::End;
use crate::config::channel::EventTypes;
use crate::config::channel::HeartbeatForm;
use crate::config::channel::Ids;
use crate::config::channel::Join;
use crate::config::channel::Notices;
use crate::config::channel::OnGap;
use crate::config::channel::OnLag;
use crate::config::channel::OnNewUrl;
use crate::config::channel::Ready;
use crate::config::channel::Refuse;
use crate::config::channel::SelectEvents;
use crate::config::channel::UpstreamHttp;
use crate::config::channel::WhileDown;
use crate::config::findings::Findings;
use crate::config::findings::Mistake;
use crate::config::proxy::ForwardedFields;
use crate::config::reader::Entry;
use crate::config::reader::FromText;
use crate::config::reader::Read;
use crate::config::suggestion;
use crate::config::units::Bytes;
use crate::config::upstream_tls::Verification;

/// A number of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Count(pub(super) usize);

/// `"…"` or `["…", "…"]`.
#[derive(Debug, Clone)]
pub(super) struct OneOrMany<T>(pub(super) Vec<Spanned<T>>);

/// A value, or a word that says that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OrNever<T>(pub(super) Option<T>);

impl Read for Count {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let refuse = |message: String, advice: &str, findings: &mut Findings| {
            entry.refuse(Mistake::new(message, advice), findings);
            None
        };
        match entry.value.get_ref() {
            DeValue::Integer(number) => {
                // TOML's underscores are gone from `as_str`.
                match usize::from_str_radix(number.as_str(), number.radix()) {
                    Ok(count) => Some(Self(count)),
                    Err(_) if number.as_str().starts_with('-') => {
                        refuse("cannot be negative".to_owned(), "write 0 or more", findings)
                    }
                    Err(_) => refuse(
                        "is too large".to_owned(),
                        "write a smaller number",
                        findings,
                    ),
                }
            }
            DeValue::String(text) if text.parse::<usize>().is_ok() => {
                let message = "must be a number, not a string".to_owned();
                refuse(
                    message,
                    &format!("write `{text}`, without the quotes"),
                    findings,
                )
            }
            _ => {
                let message = format!("must be a whole number, not {}", entry.kind());
                refuse(message, "write a whole number, like `100`", findings)
            }
        }
    }
}

impl<T: Read> Read for OneOrMany<T> {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let Some(list) = entry.value.get_ref().as_array() else {
            let value = T::read(entry, findings)?;
            return Some(Self(vec![Spanned::new(entry.value.span(), value)]));
        };
        let mut values = Vec::new();
        for value in list.iter() {
            let key_span = entry.key_span.clone();
            let entry = Entry {
                key: entry.key.clone(),
                key_span,
                value,
            };
            if let Some(read) = T::read(&entry, findings) {
                values.push(Spanned::new(value.span(), read));
            }
        }
        (values.len() == list.len()).then_some(Self(values))
    }
}

/// A boolean in the file, two words in the program.
fn read_switch(entry: &Entry<'_>, findings: &mut Findings) -> Option<bool> {
    let advice = match entry.value.get_ref() {
        DeValue::Boolean(flag) => return Some(*flag),
        DeValue::String(text) => match text.as_ref() {
            "true" | "yes" | "on" => "write `true`, without quotes",
            "false" | "no" | "off" => "write `false`, without quotes",
            _ => "write `true` or `false`",
        },
        _ => "write `true` or `false`",
    };
    let message = format!("must be `true` or `false`, not {}", entry.kind());
    entry.refuse(Mistake::new(message, advice), findings);
    None
}

impl Read for CursorOnConnect {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        Some(if read_switch(entry, findings)? {
            Self::Send
        } else {
            Self::Omit
        })
    }
}

impl Read for SelectEvents {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        Some(if read_switch(entry, findings)? {
            Self::Allow
        } else {
            Self::Ignore
        })
    }
}

impl Read for Credentials {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        Some(if read_switch(entry, findings)? {
            Self::Allow
        } else {
            Self::Omit
        })
    }
}

impl Read for ProxyProtocol {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        Some(if read_switch(entry, findings)? {
            Self::Required
        } else {
            Self::Off
        })
    }
}

impl Read for Compression {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        Some(if read_switch(entry, findings)? {
            Self::Accept
        } else {
            Self::Decline
        })
    }
}

impl Read for OnNewUrl {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        Some(if read_switch(entry, findings)? {
            Self::Continue
        } else {
            Self::BeginEpoch
        })
    }
}

impl Read for Verification {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        Some(if read_switch(entry, findings)? {
            Self::Skipped
        } else {
            Self::Required
        })
    }
}

/// `heartbeat` and `write_timeout` say `"off"`, `history.age`, `lag.age` and `max_age` say `"none"`.
impl Read for OrNever<Duration> {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let word = if entry.key.ends_with("age") {
            "none"
        } else {
            "off"
        };
        let result = match entry.value.get_ref() {
            DeValue::String(text) if *text == word => return Some(Self(None)),
            DeValue::String(text) => match text.as_ref() {
                "" | "0" | "disabled" | "false" | "forever" | "infinite" | "never" | "no"
                | "none" | "off" | "unlimited" => Err(Mistake::new(
                    format!("`\"{text}\"` is not a duration"),
                    never(word),
                )),
                _ => Duration::from_text(text).map_err(|mistake| {
                    let advice = format!("{}; {}", mistake.advice, never(word));
                    Mistake { advice, ..mistake }
                }),
            },
            DeValue::Boolean(flag) => Err(Mistake::new(
                format!("`{flag}` is not a duration"),
                never(word),
            )),
            _ => return Duration::read(entry, findings).map(|duration| Self(Some(duration))),
        };
        match result {
            Ok(duration) => Some(Self(Some(duration))),
            Err(mistake) => {
                entry.refuse(mistake, findings);
                None
            }
        }
    }
}

/// `max_request_bytes` says `"none"`.
impl Read for OrNever<Bytes> {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        match entry.value.get_ref() {
            DeValue::String(text) if *text == "none" => Some(Self(None)),
            DeValue::String(text) => match Bytes::from_text(text) {
                Ok(bytes) => Some(Self(Some(bytes))),
                Err(mistake) => {
                    let advice = format!("{}; for any size, write `\"none\"`", mistake.advice);
                    entry.refuse(Mistake { advice, ..mistake }, findings);
                    None
                }
            },
            _ => Bytes::read(entry, findings).map(|bytes| Self(Some(bytes))),
        }
    }
}

fn never(word: &str) -> String {
    format!("for none at all, write `\"{word}\"`")
}

/// Reads an enum whose variants are written as words.
macro_rules! words {
    ($type:ty { $first:literal => $variant:ident, $($word:literal => $other:ident,)* }) => {
        impl FromText for $type {
            const EXAMPLE: &'static str = concat!("\"", $first, "\"");

            fn from_text(text: &str) -> Result<Self, Mistake> {
                match text {
                    $first => Ok(Self::$variant),
                    $($word => Ok(Self::$other),)*
                    _ => Err(unknown_word(text, &[$first, $($word),*])),
                }
            }
        }
    };
}

fn unknown_word(text: &str, words: &[&str]) -> Mistake {
    let message = format!("`\"{text}\"` is not a word that is known here");
    Mistake::new(
        message,
        match suggestion::nearest(text, words) {
            Some(near) => format!("did you mean `\"{near}\"`?"),
            None => format!("write {}", suggestion::alternatives(words)),
        },
    )
}

words!(EventTypes { "plain" => Plain, "prefixed" => Prefixed, });
words!(ForwardedFields {
    "both" => Both, "none" => None, "rfc7239" => Rfc7239, "x-forwarded" => XForwarded,
});
words!(UnknownPath { "list" => ListPaths, "silent" => SayNothing, });
words!(UpstreamHttp { "1.1" => One, "2" => Two, });
words!(Connect { "eager" => Eager, "on-demand" => OnDemand, });
words!(Ids { "fill" => Fill, "gateway" => Gateway, "upstream" => Upstream, });
words!(Notices { "all" => All, "losses" => Losses, "none" => None, });
words!(OnGap { "all" => All, "latest" => Latest, "live" => Live, });
words!(OnLag { "conflate" => Conflate, "disconnect" => Disconnect, "skip" => Skip, });
words!(End { "clean" => Clean, "cut" => Cut, });
words!(WhileDown { "hold" => Hold, "503" => Unavailable, });
words!(OnStatus { "give-up" => GiveUp, "over" => Over, "retry" => Retry, });
words!(Refuse { "retry" => Retry, "503" => Unavailable, });
words!(Ready { "always" => Always, "connected" => Connected, });
words!(Access { "public" => Public, });

/// A word, or a number of events.
impl Read for Join {
    fn read(entry: &Entry<'_>, findings: &mut Findings) -> Option<Self> {
        let rule = "write `\"live\"`, `\"all\"`, `\"latest\"`, or how many of the newest events, like `10`";
        let mistake = match entry.value.get_ref() {
            DeValue::Integer(_) => match Count::read(entry, findings)? {
                Count(0) => Mistake::new("cannot be zero", "for no event, write `\"live\"`"),
                Count(n) => return Some(Self::Newest(n)),
            },
            DeValue::String(text) => match text.as_ref() {
                "all" => return Some(Self::All),
                "latest" => return Some(Self::Latest),
                "live" => return Some(Self::Live),
                _ if text.parse::<usize>().is_ok() => Mistake::new(
                    "must be a number, not a string",
                    format!("write `{text}`, without the quotes"),
                ),
                _ => unknown_word(text, &["live", "all", "latest"]),
            },
            _ => Mistake::new(
                format!("must be a word or a number, not {}", entry.kind()),
                rule,
            ),
        };
        entry.refuse(mistake, findings);
        None
    }
}

impl FromText for ConflateBy {
    const EXAMPLE: &'static str = "\"/symbol\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        match text {
            "id" => Ok(Self::Id),
            "type" => Ok(Self::Type),
            _ if text.starts_with('/') => match JsonPointer::parse(text) {
                Some(pointer) => Ok(Self::Pointer(pointer)),
                None => Err(Mistake::new(
                    format!("`\"{text}\"` is not a JSON pointer"),
                    "in a member's name, write `~0` for `~` and `~1` for `/`",
                )),
            },
            _ => Err(Mistake::new(
                format!("`\"{text}\"` is not a key of events"),
                format!(
                    "write `\"type\"`, `\"id\"`, or where in the data the key is, like `{}`",
                    Self::EXAMPLE
                ),
            )),
        }
    }
}

impl FromText for HeartbeatForm {
    const EXAMPLE: &'static str = "\"event:heartbeat\"";

    fn from_text(text: &str) -> Result<Self, Mistake> {
        let rule = format!(
            "write `\"comment\"`, or an event type like `{}`",
            Self::EXAMPLE
        );
        let Some(name) = text.strip_prefix("event:") else {
            return if text == "comment" {
                Ok(Self::Comment)
            } else {
                let message = format!("`\"{text}\"` is not a form of heartbeat");
                Err(Mistake::new(message, rule))
            };
        };
        let message = if name.is_empty() {
            "the event type is empty"
        } else if name.starts_with("ssecast.") {
            "event types that begin with `ssecast.` are the gateway's own"
        } else if name.chars().any(char::is_control) {
            "an event type cannot contain control characters"
        } else if name.trim() != name {
            "an event type should not begin or end with white space"
        } else {
            return Ok(Self::Event(name.to_owned()));
        };
        Err(Mistake::new(message, rule))
    }
}
