//! The load client: thousands of subscribers in one thread of a process of its own.
//!
//! While a window is timed it reads bytes, counts them and notes when each read ended; it looks into
//! none of them. After the window every byte of every client is parsed and checked ([`verify`]), and
//! the latency of each event is the time of the read that completed it less the origin's time stamp.

pub(crate) mod chunks;
mod client;
mod crowd;
mod faults;
mod handle;
mod latency;
mod message;
mod stream;
pub(crate) mod verify;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use clap::Args;

use self::crowd::Crowd;
pub(crate) use self::faults::Faults;
pub(crate) use self::handle::Load;
pub(crate) use self::handle::Slowness;
pub(crate) use self::message::Connect;
use self::message::Order;

/// The arguments of the role.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArguments {
    /// The server.
    #[arg(long)]
    pub(crate) server: SocketAddr,
    /// What the server's certificate must be; without it, no TLS.
    #[arg(long)]
    pub(crate) certificate: Option<PathBuf>,
    /// Receive buffer of each socket; the kernel's own choice by default.
    #[arg(long)]
    pub(crate) receive_buffer: Option<usize>,
    /// During a window a client reads so many bytes at a time, and no more until the next time.
    #[arg(long, requires = "bite_interval_ms")]
    pub(crate) bite: Option<usize>,
    /// The time between two bites.
    #[arg(long)]
    pub(crate) bite_interval_ms: Option<u64>,
}

/// The role `load`: does what it is told on standard input until that ends.
pub(crate) fn run(arguments: &LoadArguments) {
    let mut crowd = Crowd::new(arguments);
    let waker = crowd.waker();
    let (orders_tx, orders) = mpsc::channel();
    // Ends with the input, which ends with the bench.
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if orders_tx.send(line).is_err() {
                break;
            }
            waker.wake().unwrap();
        }
        drop(orders_tx);
        waker.wake().unwrap();
    });
    loop {
        match orders.try_recv() {
            Ok(line) => obey(&mut crowd, Order::parse(&line)),
            Err(mpsc::TryRecvError::Empty) => crowd.wait(None),
            Err(mpsc::TryRecvError::Disconnected) => return,
        }
    }
}

fn obey(crowd: &mut Crowd<'_>, order: Order) {
    match order {
        Order::Begin { n_bytes } => {
            crowd.begin(n_bytes);
            println!("begun");
        }
        Order::Connect(connect) => println!("{}", crowd.connect(&connect)),
        Order::Finish(finish) => {
            println!("{}", crowd.finish(&finish));
            println!("{}", crowd.verify(&finish));
        }
    }
}
