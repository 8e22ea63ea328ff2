//! The origin: one server with an event stream for each channel of each group.
//!
//! `GET /gG/cN` is channel N of group G; every server under test reads a group of its own, so that
//! one can be loaded while another is idle. The origin sends nothing until it is told to
//! ([`Origin::play`]), and counts the connections of every channel: there must be exactly one.

mod connection;
mod plan;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;

use crate::clock;
use crate::clock::Deadline;

pub(crate) use self::plan::Pace;
pub(crate) use self::plan::Plan;
pub(crate) use self::plan::Played;
use self::world::Order;
use self::world::World;

/// A running origin; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    orders: mpsc::Sender<Order>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Starts an origin on a free port.
    pub(crate) fn start() -> Self {
        let (orders, orders_rx) = mpsc::channel();
        let world = World::new(orders_rx);
        let address = world.address();
        let waker = world.waker();
        Self {
            address,
            orders,
            waker,
            thread: Some(thread::spawn(move || world.run())),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to send the events of a plan.
    pub(crate) fn play(&self, plan: Plan) -> Playing {
        let (done_tx, done) = mpsc::channel();
        self.order(Order::Play(plan, done_tx));
        Playing {
            done,
            timeout: plan.duration() + Duration::from_secs(20),
        }
    }

    /// How many connections the channels of a group have.
    pub(crate) fn census(&self, group: u32) -> Census {
        let (census_tx, census) = mpsc::channel();
        self.order(Order::Census(group, census_tx));
        census
            .recv_timeout(Duration::from_secs(10))
            .expect("the origin does not answer")
    }

    /// Waits until every channel of a group is connected.
    pub(crate) fn wait_for_channels(&self, group: u32, n_channels: u32) {
        let deadline = Deadline::after(Duration::from_secs(60));
        loop {
            let census = self.census(group);
            if census.n_open == n_channels {
                return;
            }
            assert!(
                !deadline.is_over(),
                "of {n_channels} channels these are connected: {census:?}"
            );
            clock::pause(Duration::from_millis(10));
        }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the origin has ended");
        self.waker.wake().unwrap();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if self.orders.send(Order::Stop).is_ok() && self.waker.wake().is_ok() {
            // A panic of the origin has been printed and seen by whoever waited for it.
            self.thread.take().map(JoinHandle::join);
        }
    }
}

/// The connections of a group's channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Channels that have a connection now.
    pub(crate) n_open: u32,
    /// Connections beyond the first of a channel, ever.
    pub(crate) n_surplus: u32,
}

/// A plan that is being played.
#[derive(Debug)]
pub(crate) struct Playing {
    done: mpsc::Receiver<Played>,
    timeout: Duration,
}

impl Playing {
    /// Waits until the last event is written.
    pub(crate) fn wait(self) -> Played {
        self.done
            .recv_timeout(self.timeout)
            .expect("the origin did not finish its plan")
    }
}
