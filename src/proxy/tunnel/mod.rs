//! Tunnels: a client and an origin that have agreed to speak something else than HTTP.
//!
//! A request that offers to switch protocols goes to the origin on a connection of its own. When the
//! origin answers 101, both connections leave hyper, and bytes go back and forth (`relay`). A client
//! of HTTP/2 asks by an extended CONNECT (RFC 8441), and one of its streams is its side of the tunnel.
//!
//! Spec: RFC 9110, 7.8; RFC 8441.

mod frames;
mod key;
mod opening;
mod pipe;
mod places;
mod protocols;
mod relay;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub use self::frames::fuzz_frames;
pub use self::opening::{Opened, Switch};
pub use self::places::{Farewell, Tunnels};
pub use self::protocols::Offer;
pub use self::relay::End;
#[cfg(test)]
use self::{
    protocols::Manners,
    relay::{Ends, Relay},
};
