//! Which events a view has.

use std::sync::Arc;

use crate::sse::DEFAULT_TYPE;

/// The event types that a view has; the same types are the same selection, however they were asked
/// for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selection {
    /// Ordered, each once, never empty. `None`: all events.
    types: Option<Arc<[Box<str>]>>,
}

/// What the types of the gateway's own events begin with.
const OURS: &[u8] = b"ssecast.";

impl Selection {
    /// All events.
    pub fn all() -> Self {
        Self { types: None }
    }

    /// The events of these types; an empty one is the default type. All, if there are none.
    pub fn of(types: impl IntoIterator<Item = String>) -> Self {
        let named = types.into_iter().map(|name| {
            if name.is_empty() {
                DEFAULT_TYPE.into()
            } else {
                name.into_boxed_str()
            }
        });
        let mut types: Vec<Box<str>> = named.collect();
        types.sort_unstable();
        types.dedup();
        Self {
            types: (!types.is_empty()).then(|| types.into()),
        }
    }

    /// The same where clients see the types of one source as `name:type`: those that are named so, and
    /// those that are named without any source, which are of all. It may be none.
    #[must_use]
    pub(super) fn within(&self, name: &str) -> Self {
        let Some(types) = self.types() else {
            return self.clone();
        };
        let of_this = types.iter().filter_map(|text| {
            let rest = text.strip_prefix(name)?.strip_prefix(':')?;
            (!rest.is_empty()).then(|| Box::from(rest))
        });
        let mut types: Vec<Box<str>> = of_this.chain(types.iter().cloned()).collect();
        types.sort_unstable();
        types.dedup();
        Self {
            types: Some(types.into()),
        }
    }

    /// The types; `None`: all.
    pub fn types(&self) -> Option<&[Box<str>]> {
        self.types.as_deref()
    }

    /// Whether it has the events of this type.
    pub(in crate::log) fn has(&self, event_type: &[u8]) -> bool {
        let Some(types) = self.types() else {
            return true;
        };
        let named = types.binary_search_by(|name| name.as_bytes().cmp(event_type));
        named.is_ok() || Self::is_for_all(event_type)
    }

    /// Whether events of this type belong to every selection: what the gateway tells, or another one
    /// that is this one's origin. **Every Loss Is Told**, also to those who did not ask.
    pub(in crate::log) fn is_for_all(event_type: &[u8]) -> bool {
        event_type.starts_with(OURS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(types: &[&str]) -> Selection {
        Selection::of(types.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn a_selection_is_its_types_and_not_their_order() {
        assert_eq!(of(&["b", "a", "b"]), of(&["a", "b"]));
        assert_eq!(of(&[""]), of(&["message"]));
        assert_ne!(of(&["a"]), of(&["a", "b"]));
        assert_eq!(of(&[]), Selection::all());
    }

    #[test]
    fn a_type_may_be_named_as_clients_of_several_sources_see_it() {
        let selection = of(&["a:price", "b:a:price", "trade", "a:"]);
        for (name, event_type, has) in [
            ("a", "price", true),
            ("a", "trade", true),
            ("b", "price", false),
            ("b", "trade", true),
            ("b", "a:price", true),
            ("ab", "price", false),
            ("a", "", false),
            ("b", "ssecast.gap", true),
        ] {
            let within = selection.within(name);
            assert_eq!(
                within.has(event_type.as_bytes()),
                has,
                "{name}: {event_type}"
            );
        }
        assert_eq!(Selection::all().within("a"), Selection::all());
    }

    #[test]
    fn notices_belong_to_every_selection() {
        let selection = of(&["price", "message"]);
        for (event_type, has) in [
            ("price", true),
            ("message", true),
            ("prices", false),
            ("pric", false),
            ("", false),
            ("ssecast.gap", true),
            ("ssecast", false),
        ] {
            assert_eq!(selection.has(event_type.as_bytes()), has, "{event_type}");
        }
    }
}
