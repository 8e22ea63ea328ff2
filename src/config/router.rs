//! Which path of the configuration a request is for. Pure.
//!
//! Of the paths that a request fits, the one that says most goes first, segment by segment: what is
//! literal before a variable, and a variable before a rest. One `matchit::Router` can't have a variable
//! and a rest in the same place, so there is one for each place where a rest begins.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use matchit::InsertError;
use matchit::Match;
use matchit::Router;

use crate::config::path::normalize_path;

/// Paths with variables, by host.
#[derive(Debug, Clone)]
pub struct PathRouter<T> {
    /// By host, in lower case.
    by_host: HashMap<String, Paths<T>>,
    /// Those of any host.
    of_any: Paths<T>,
}

/// A path that leads elsewhere already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<T> {
    /// As it is there.
    pub path: String,
    /// What it leads to.
    pub by: Option<T>,
}

/// The paths of a host.
#[derive(Debug, Clone)]
struct Paths<T> {
    /// By how many segments there are before the rest; `None`: there is no rest.
    by_depth: BTreeMap<Option<usize>, Router<Leads<T>>>,
}

#[derive(Debug, Clone)]
struct Leads<T> {
    to: T,
    says: Vec<Says>,
}

/// What a path says of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    Rest,
    Variable,
    PartlyLiteral,
    Literal,
}

impl<T> Default for PathRouter<T> {
    fn default() -> Self {
        Self {
            by_host: HashMap::new(),
            of_any: Paths::default(),
        }
    }
}

impl<T: Clone> PathRouter<T> {
    /// Leads requests for a path of these hosts, or of any if there are none, to `what`.
    ///
    /// # Errors
    ///
    /// If another path leads the same requests elsewhere. A configuration that was read has none.
    pub fn insert(&mut self, hosts: &[String], path: &str, what: &T) -> Result<(), Taken<T>> {
        let any = [String::new()];
        let hosts = if hosts.is_empty() { &any[..] } else { hosts };
        for host in hosts {
            self.paths_of(host).insert(path, depth(path), what)?;
        }
        Ok(())
    }

    /// Leads requests for a path that ends with `/{*rest}` to `what` where the rest is empty, too, unless
    /// they lead elsewhere already. So it comes after all of `insert`.
    pub fn insert_empty_rest(&mut self, hosts: &[String], path: &str, what: &T) {
        let Some(start) = path.rfind("/{*").and_then(|slash| path.get(..=slash)) else {
            return;
        };
        let any = [String::new()];
        let hosts = if hosts.is_empty() { &any[..] } else { hosts };
        for host in hosts {
            // Whoever has it has said so in more words.
            drop(self.paths_of(host).insert(start, None, what));
        }
    }

    /// What a path leads to, and what its variables stand for, in their order and in its normal form. A
    /// path of the host goes before one of any.
    pub fn find(&self, host: &str, path: &str) -> Option<(&T, Vec<String>)> {
        self.lead(host, path, |what, captured| {
            (what, captured.map(str::to_owned).collect())
        })
    }

    /// The same, for who has its own use for them.
    pub fn lead<'a, R>(
        &'a self,
        host: &str,
        path: &str,
        found: impl FnOnce(&'a T, &mut dyn Iterator<Item = &str>) -> R,
    ) -> Option<R> {
        let path = normalize_path(path)?;
        let of_the_host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => self.by_host.get(&host.to_ascii_lowercase()),
            false => self.by_host.get(host),
        };
        let mut paths = of_the_host.into_iter().chain([&self.of_any]);
        let best = paths.find_map(|paths| paths.find(&path))?;
        let mut captured = best.params.iter().map(|(_, value)| value);
        Some(found(&best.value.to, &mut captured))
    }

    fn paths_of(&mut self, host: &str) -> &mut Paths<T> {
        if host.is_empty() {
            return &mut self.of_any;
        }
        self.by_host.entry(host.to_ascii_lowercase()).or_default()
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self {
            by_depth: BTreeMap::new(),
        }
    }
}

impl<T: Clone> Paths<T> {
    fn insert(&mut self, path: &str, depth: Option<usize>, what: &T) -> Result<(), Taken<T>> {
        let router = self.by_depth.entry(depth).or_default();
        let leads = Leads {
            to: what.clone(),
            says: path.split('/').map(Says::of).collect(),
        };
        match router.insert(path, leads) {
            Ok(()) => Ok(()),
            Err(InsertError::Conflict { with }) => {
                // Under which name it is there.
                let by = router.at(&with).ok().map(|found| found.value.to.clone());
                Err(Taken { path: with, by })
            }
            Err(_) => Err(Taken {
                path: path.to_owned(),
                by: None,
            }),
        }
    }

    fn find<'a, 'p>(&'a self, path: &'p str) -> Option<Match<'a, 'p, &'a Leads<T>>> {
        let routers = self.by_depth.values();
        let found = routers.filter_map(|router| router.at(path).ok());
        found.max_by(|a, b| a.value.says.cmp(&b.value.says))
    }
}

impl Says {
    fn of(segment: &str) -> Self {
        if segment.starts_with("{*") {
            Self::Rest
        } else if segment.starts_with('{') && segment.ends_with('}') {
            Self::Variable
        } else if segment.contains('{') {
            Self::PartlyLiteral
        } else {
            Self::Literal
        }
    }
}

impl<T> fmt::Display for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` leads elsewhere already", self.path)
    }
}

/// How many slashes there are before the rest.
fn depth(path: &str) -> Option<usize> {
    let start = path.rfind("/{*").and_then(|slash| path.get(..slash))?;
    Some(start.matches('/').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_specific_path_goes_first() {
        let mut router = PathRouter::default();
        let paths = [
            "/{*rest}",
            "/api/{*rest}",
            "/api/x",
            "/rooms/{room}/events",
            "/{page}",
            "/files/{name}/",
            "/{room}/events",
            "/{user}/{*path}",
            "/api/v-{n}/z",
            "/{a}/{b}/z",
        ];
        for path in paths {
            router.insert(&[], path, &path).unwrap();
        }
        for path in paths {
            router.insert_empty_rest(&[], path, &path);
        }
        for (path, leads_to) in [
            ("/", "/{*rest}"),
            ("//", "/{*rest}"),
            ("/a/b", "/{user}/{*path}"),
            ("/a/", "/{user}/{*path}"),
            ("/a/events", "/{room}/events"),
            ("/api/events", "/api/{*rest}"),
            ("/api/v-1/z", "/api/v-{n}/z"),
            ("/x/v-1/z", "/{a}/{b}/z"),
            ("/rooms/events", "/{room}/events"),
            ("/a", "/{page}"),
            ("/api", "/{page}"),
            ("/api/", "/api/{*rest}"),
            ("/api/x", "/api/x"),
            ("/api/x/", "/api/{*rest}"),
            ("/%61pi/y", "/api/{*rest}"),
            ("/rooms/1/events", "/rooms/{room}/events"),
            ("/rooms/1/event", "/{user}/{*path}"),
            ("/rooms/1/events/2", "/{user}/{*path}"),
            ("/files/1/", "/files/{name}/"),
            ("/files/1/2", "/{user}/{*path}"),
        ] {
            let found = router.find("a.example", path).map(|(what, _)| *what);
            assert_eq!(found, Some(leads_to), "{path}");
        }
    }

    #[test]
    fn a_place_is_taken_once() {
        for (one, other) in [
            ("/a", "/a"),
            ("/{a}", "/{b}"),
            ("/{*a}", "/{*b}"),
            ("/{a}/{*b}", "/{b}/{*c}"),
            ("/a/{*b}", "/a/{*c}"),
        ] {
            let mut router = PathRouter::default();
            router.insert(&[], one, &1).unwrap();
            router.insert(&["b.example".to_owned()], other, &2).unwrap();
            let taken = Taken {
                path: one.to_owned(),
                by: Some(1),
            };
            assert_eq!(router.insert(&[], other, &2), Err(taken), "{one} {other}");
        }
    }

    #[test]
    fn an_empty_rest_leads_where_more_was_said_of_it() {
        let mut router = PathRouter::default();
        router.insert(&[], "/{*rest}", &"all").unwrap();
        router.insert(&[], "/", &"home").unwrap();
        router.insert_empty_rest(&[], "/{*rest}", &"all");
        assert_eq!(router.find("", "/").map(|(what, _)| *what), Some("home"));
        assert_eq!(router.find("", "/x").map(|(what, _)| *what), Some("all"));
    }
}
