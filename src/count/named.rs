//! A counter for each name of a closed set.

use super::Counter;

/// A counter for each of a few names.
#[derive(Debug)]
pub struct Named(Box<[(&'static str, Counter)]>);

impl Named {
    /// Nothing is counted yet. A name that comes again is the same.
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        let mut distinct: Vec<(&'static str, Counter)> = Vec::new();
        for name in names {
            if !distinct.iter().any(|(known, _)| *known == name) {
                distinct.push((name, Counter::default()));
            }
        }
        Self(distinct.into())
    }

    /// Adds one to a name's. One that is not in the set is a mistake of the program, and not counted.
    pub fn count(&self, name: &str) {
        let found = self.0.iter().find(|(known, _)| *known == name);
        debug_assert!(found.is_some(), "`{name}` is none of {:?}", self.0);
        if let Some((_, counter)) = found {
            counter.add(1);
        }
    }

    /// Every name with its number.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0
            .iter()
            .map(|(name, counter)| (*name, counter.value()))
    }

    /// All together.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|(_, counter)| counter.value()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own() {
        let named = Named::new(["a", "b", "a"]);
        named.count("b");
        named.count("b");
        assert_eq!(named.values().collect::<Vec<_>>(), [("a", 0), ("b", 2)]);
        assert_eq!(named.sum(), 2);
    }
}
