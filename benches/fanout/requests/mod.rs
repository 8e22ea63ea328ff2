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

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// A file of 1 MiB.
    Large,
    /// 128 bytes that the origin makes of nothing.
    Made,
    /// A file of 128 bytes.
    Small,
}

impl Page {
    /// Where it is.
    fn path(self) -> &'static str {
        match self {
            Self::Large => "/large",
            Self::Made => "/made",
            Self::Small => "/small",
        }
    }

    /// What it is.
    fn content(self) -> String {
        let n_times = match self {
            Self::Large => 64 * 1024,
            Self::Made | Self::Small => 8,
        };
        "0123456789abcdef".repeat(n_times)
    }
}
