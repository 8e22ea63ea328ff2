//! Requests that the gateway passes through: who asks, who answers, and who else could stand between.
//!
//! Those are real ones, wrk and nginx, except where time is measured to the microsecond.

mod first_byte;
mod nginx;
mod wrk;

pub(crate) use self::first_byte::Asking;
pub(crate) use self::first_byte::Trickle;
pub(crate) use self::nginx::Nginx;
pub(crate) use self::wrk::Wrk;
