//! Which path of the configuration a request is for. Pure.

use std::collections::HashMap;

use matchit::InsertError;
use matchit::Router;

use crate::config::path::normalize_path;

/// Paths with variables, by host.
#[derive(Debug, Clone)]
pub struct PathRouter<T> {
    /// By host, in lower case; an empty one is any.
    by_host: HashMap<String, Router<T>>,
}

impl<T> Default for PathRouter<T> {
    fn default() -> Self {
        Self {
            by_host: HashMap::new(),
        }
    }
}

impl<T: Clone> PathRouter<T> {
    /// Leads requests for a path of these hosts, or of any if there are none, to `what`.
    ///
    /// # Errors
    ///
    /// If another path leads the same requests elsewhere. A configuration that was read has none.
    pub fn insert(&mut self, hosts: &[String], path: &str, what: &T) -> Result<(), InsertError> {
        let any = [String::new()];
        let hosts = if hosts.is_empty() { &any[..] } else { hosts };
        for host in hosts {
            let router = self.by_host.entry(host.to_ascii_lowercase()).or_default();
            router.insert(path, what.clone())?;
        }
        Ok(())
    }

    /// What a path leads to, and what its variables stand for, in their order and as it is written. A
    /// path of the host goes before one of any, and of those a literal one before a variable.
    pub fn find(&self, host: &str, path: &str) -> Option<(&T, Vec<String>)> {
        let path = normalize_path(path)?;
        let host = host.to_ascii_lowercase();
        let routers = [host.as_str(), ""].map(|host| self.by_host.get(host));
        let found = routers.into_iter().flatten();
        let found = found.filter_map(|router| router.at(&path).ok()).next()?;
        let captured = found.params.iter().map(|(_, value)| value.to_owned());
        Some((found.value, captured.collect()))
    }
}
