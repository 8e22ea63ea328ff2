//! How many connections, or subscribers, each address and each network has.
//!
//! There is one table for the process, under one lock, which is taken when somebody comes and when
//! somebody leaves, never per event. An entry is there only while it counts somebody, so the table is
//! never larger than the crowd.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use super::peer::PeerAddr;
use super::permit::Limit;
use crate::config::AddressLimits;

/// A handle to the table.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    shared: Arc<Shared>,
}

/// Who somebody is, and its place in the table if it is counted there; dropping it gives the place
/// back. On the heap, because most gateways have no use for it and a place for it in everybody.
#[derive(Debug)]
pub struct Identity {
    address: PeerAddr,
    /// `None`: nobody counts it.
    _counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    shared: Arc<Shared>,
    address: IpAddr,
    /// As it was cut when it came: a reload may change that.
    network: Option<IpNet>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    limits: AddressLimits,
    by_address: HashMap<IpAddr, usize>,
    by_network: HashMap<IpNet, usize>,
}

impl Addresses {
    /// Changes the limits; those who are there stay. Who came while there was no limit is not counted.
    pub fn set_limits(&self, limits: AddressLimits) {
        self.shared.lock().limits = limits;
    }

    /// Counts one more of this address.
    ///
    /// # Errors
    ///
    /// The limit that it would exceed; it is not counted then.
    pub fn enter(&self, address: PeerAddr) -> Result<Box<Identity>, Limit> {
        let mut state = self.shared.lock();
        let counted = match address.ip() {
            Some(ip) if !state.limits.are_off() => Some(self.count(&mut state, ip)?),
            Some(_) | None => None,
        };
        Ok(Box::new(Identity {
            address,
            _counted: counted,
        }))
    }

    /// How many addresses are in the table.
    pub fn n_addresses(&self) -> usize {
        self.shared.lock().by_address.len()
    }

    /// How many networks are in the table.
    pub fn n_networks(&self) -> usize {
        self.shared.lock().by_network.len()
    }

    fn count(&self, state: &mut State, address: IpAddr) -> Result<Counted, Limit> {
        let AddressLimits {
            per_address,
            per_network,
        } = state.limits;
        let network = per_network.and_then(|limit| {
            let bits = if address.is_ipv4() {
                limit.ipv4
            } else {
                limit.ipv6
            };
            Some(IpNet::new(address, bits).ok()?.trunc())
        });
        let n_of_address = state.by_address.get(&address).copied().unwrap_or_default();
        if per_address.is_some_and(|max| n_of_address >= max) {
            return Err(Limit::Address);
        }
        let of_network = network.and_then(|network| state.by_network.get(&network));
        let n_of_network = of_network.copied().unwrap_or_default();
        if per_network.is_some_and(|limit| n_of_network >= limit.max) {
            return Err(Limit::Network);
        }
        *state.by_address.entry(address).or_default() += 1;
        if let Some(network) = network {
            *state.by_network.entry(network).or_default() += 1;
        }
        Ok(Counted {
            shared: Arc::clone(&self.shared),
            address,
            network,
        })
    }
}

impl Identity {
    /// Somebody whom nobody counts.
    pub fn uncounted(address: PeerAddr) -> Box<Self> {
        Box::new(Self {
            address,
            _counted: None,
        })
    }

    /// Its address.
    pub fn address(&self) -> PeerAddr {
        self.address
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        leave(state.by_address.entry(self.address));
        if let Some(network) = self.network {
            leave(state.by_network.entry(network));
        }
        state.give_back_memory();
    }
}

impl State {
    /// A crowd that has gone leaves a large table behind.
    fn give_back_memory(&mut self) {
        const WORTH_KEEPING: usize = 1024;
        if self.by_address.capacity() > WORTH_KEEPING.max(self.by_address.len() * 8) {
            self.by_address.shrink_to(self.by_address.len() * 2);
        }
        if self.by_network.capacity() > WORTH_KEEPING.max(self.by_network.len() * 8) {
            self.by_network.shrink_to(self.by_network.len() * 2);
        }
    }
}

fn leave<K>(entry: Entry<'_, K, usize>) {
    if let Entry::Occupied(mut entry) = entry {
        if *entry.get() > 1 {
            *entry.get_mut() -= 1;
        } else {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetworkLimit;

    fn limited(per_address: Option<usize>, per_network: Option<usize>) -> Addresses {
        let addresses = Addresses::default();
        addresses.set_limits(AddressLimits {
            per_address,
            per_network: per_network.map(|max| NetworkLimit {
                max,
                ipv4: 24,
                ipv6: 56,
            }),
        });
        addresses
    }

    fn enter(addresses: &Addresses, address: &str) -> Result<Box<Identity>, Limit> {
        let address: IpAddr = address.parse().expect("an address");
        addresses.enter(PeerAddr::from(address))
    }

    fn why(entered: Result<Box<Identity>, Limit>) -> Option<Limit> {
        entered.err()
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let addresses = limited(Some(2), None);
        let one = enter(&addresses, "192.0.2.1").expect("the first");
        // The same, as a socket of IPv6 sees it.
        let _two = enter(&addresses, "::ffff:192.0.2.1").expect("the second");
        assert_eq!(why(enter(&addresses, "192.0.2.1")), Some(Limit::Address));
        assert_eq!(why(enter(&addresses, "192.0.2.2")), None);
        drop(one);
        assert_eq!(why(enter(&addresses, "192.0.2.1")), None);
        assert_eq!(addresses.n_addresses(), 1, "who has left is forgotten");
    }

    #[test]
    fn a_network_has_its_share() {
        let addresses = limited(None, Some(2));
        let _v4 = ["192.0.2.1", "192.0.2.255"].map(|one| enter(&addresses, one).expect("room"));
        assert_eq!(why(enter(&addresses, "192.0.2.9")), Some(Limit::Network));
        assert_eq!(why(enter(&addresses, "192.0.3.1")), None);
        let v6 = ["2001:db8:0:1::1", "2001:db8:0:ff::1"];
        let v6 = v6.map(|one| enter(&addresses, one).expect("room"));
        assert_eq!(
            why(enter(&addresses, "2001:db8:0:2::")),
            Some(Limit::Network)
        );
        assert_eq!(why(enter(&addresses, "2001:db8:0:100::")), None);
        drop(v6);
        assert_eq!(why(enter(&addresses, "2001:db8:0:2::")), None);
        assert_eq!((addresses.n_addresses(), addresses.n_networks()), (2, 1));
    }

    #[test]
    fn who_is_refused_takes_no_place() {
        let addresses = limited(Some(1), Some(2));
        let _one = enter(&addresses, "192.0.2.1").expect("room");
        for _ in 0..10 {
            assert_eq!(why(enter(&addresses, "192.0.2.1")), Some(Limit::Address));
        }
        let _two = enter(&addresses, "192.0.2.2").expect("room");
        assert_eq!(why(enter(&addresses, "192.0.2.3")), Some(Limit::Network));
        assert_eq!(addresses.n_addresses(), 2);
    }

    #[test]
    fn limits_that_change_bind_newcomers_only() {
        let addresses = limited(None, None);
        let _uncounted = enter(&addresses, "192.0.2.1").expect("no limit");
        assert_eq!(addresses.n_addresses(), 0);
        addresses.set_limits(AddressLimits {
            per_address: Some(1),
            per_network: None,
        });
        let counted = enter(&addresses, "192.0.2.1").expect("the first that is counted");
        assert_eq!(why(enter(&addresses, "192.0.2.1")), Some(Limit::Address));
        // What was counted is given back, whatever the limits are by then.
        addresses.set_limits(AddressLimits::default());
        drop(counted);
        assert_eq!(addresses.n_addresses(), 0);
    }

    #[test]
    fn who_has_no_address_is_not_counted() {
        let addresses = limited(Some(1), Some(1));
        let all: Vec<_> = (0..10).map(|_| addresses.enter(PeerAddr::Unix)).collect();
        assert!(all.iter().all(Result::is_ok) && addresses.n_addresses() == 0);
    }

    #[test]
    fn thousands_that_come_and_go_leave_nothing_behind() {
        let addresses = limited(Some(1), Some(100_000));
        for _ in 0..3 {
            let crowd = (0..20_000_u32).map(|n| addresses.enter(IpAddr::V4(n.into()).into()));
            let crowd: Vec<_> = crowd.map(|one| one.expect("room")).collect();
            assert_eq!(
                (addresses.n_addresses(), addresses.n_networks()),
                (20_000, 79)
            );
            drop(crowd);
        }
        assert_eq!((addresses.n_addresses(), addresses.n_networks()), (0, 0));
        let state = addresses.shared.lock();
        assert!(
            state.by_address.capacity() < 4096,
            "{}",
            state.by_address.capacity()
        );
    }
}
