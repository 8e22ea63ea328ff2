//! The edge of linger: on threads of their own again and again, and in every order that threads can have.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::*;
use crate::channel::Kind;
use crate::config::Config;
use crate::memory::Budget;
use crate::sync::{block_on, model, spawn};

/// A set, and how many of its instances were made and are written.
struct World {
    instances: Instances<u32>,
    kind: Kind,
    n_made: AtomicUsize,
    n_written: AtomicUsize,
    linger: Duration,
    /// Where instances live.
    home: Handle,
}

fn kind() -> Kind {
    let text = "[listen.public]\naddress = \"127.0.0.1:0\"\n[channels.events]\n\
                path = \"/events\"\nupstream = \"http://127.0.0.1:1/\"\n\
                max_subscribers = 3\n";
    let config = Config::parse("test.toml", text).expect("a configuration");
    Kind::new(Arc::clone(&config.config.channels[0]))
}

impl World {
    fn new(linger: Duration) -> Arc<Self> {
        Arc::new(Self {
            instances: Instances::default(),
            kind: kind(),
            n_made: AtomicUsize::new(0),
            n_written: AtomicUsize::new(0),
            linger,
            home: Handle::current(),
        })
    }

    fn enter(self: &Arc<Self>, key: u32, max: usize) -> Result<(Instance, Seat), RefusedBy> {
        let make = || -> Result<Instance, RefusedBy> {
            self.n_made.fetch_add(1, Ordering::SeqCst);
            let n_written = self.n_written.fetch_add(1, Ordering::SeqCst);
            assert_eq!(n_written, 0, "two upstreams at once");
            let (channel, writer) = Channel::within(&self.kind, &Budget::unlimited());
            let (world, known) = (Arc::clone(self), channel.clone());
            let task = self.home.spawn(async move {
                let _writer = writer;
                let end = || {
                    world.n_written.fetch_sub(1, Ordering::SeqCst);
                };
                let mut alarm = Alarm::default();
                poll_fn(|cx| {
                    let (instances, instance) = (&world.instances, (&key, &known));
                    instances.poll_left(cx, instance, &mut alarm, (|_: &_| world.linger, end))
                })
                .await;
            });
            Ok(Instance {
                channel,
                home: 0,
                task: task.abort_handle(),
            })
        };
        self.instances.enter(&key, max, make)
    }

    async fn until_empty(&self) {
        let empty = async {
            while !self.instances.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), empty)
            .await
            .expect("nobody is there, and the instance stays");
    }
}

#[tokio::test]
async fn an_instance_lingers_and_who_comes_back_finds_it() {
    let world = World::new(Duration::from_secs(30));
    let (first, seat) = world.enter(1, 1).expect("a seat");
    drop(seat);
    for _ in 0..100 {
        yield_now().await;
    }
    let (again, _seat) = world.enter(1, 1).expect("a seat");
    assert_eq!(first.channel.identity(), again.channel.identity());
    assert_eq!(world.n_made.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn limits_refuse_newcomers_and_make_nothing() {
    let world = World::new(Duration::from_secs(30));
    let seats: Vec<_> = (0..3).map(|_| world.enter(1, 1).expect("a seat")).collect();
    let refused = |key| world.enter(key, 1).expect_err("a limit");
    assert_eq!(refused(1), RefusedBy::MaxSubscribers);
    assert_eq!(refused(2), RefusedBy::MaxInstances);
    world.instances.close(Instant::now());
    assert_eq!(refused(1), RefusedBy::Stop);
    assert_eq!(refused(2), RefusedBy::Stop);
    assert_eq!(world.n_made.load(Ordering::SeqCst), 1);
    drop(seats);
}

/// The edge of linger: the last leaves and the first returns, at every moment relative to each
/// other, on threads of their own.
#[tokio::test]
async fn last_leaves_and_first_returns_never_make_two_nor_lose_one() {
    /// It takes more rounds than that.
    const EDGES: usize = 3_000;
    let world = World::new(Duration::ZERO);
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let world = Arc::clone(&world);
            thread::spawn(move || visit(&world, EDGES))
        })
        .collect();
    let visits = async {
        while !clients.iter().all(thread::JoinHandle::is_finished) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), visits)
        .await
        .expect("rounds end");
    for client in clients {
        client.join().expect("no client fails");
    }
    world.until_empty().await;
    assert_eq!(world.n_written.load(Ordering::SeqCst), 0, "a leak");
}

/// Comes and goes until the instance was made so often.
fn visit(world: &Arc<World>, n_edges: usize) {
    while world.n_made.load(Ordering::SeqCst) < n_edges {
        let (instance, seat) = world.enter(1, 1).expect("a seat");
        for _ in 0..fastrand::u8(0..4) {
            thread::yield_now();
        }
        let known = world.instances.get(&1).expect("who is seated keeps it");
        assert_eq!(known.channel.identity(), instance.channel.identity());
        drop(seat);
        // Sometimes long enough for it to go.
        for _ in 0..fastrand::u8(0..16) {
            thread::yield_now();
        }
    }
}

/// Switches that no thread had to make. Nearly all faults show with two.
const PREEMPTIONS: usize = 3;

/// A set in a model, whose locks are the model's. What is not a lock happens at once.
struct Modelled {
    instances: Instances<u32>,
    kind: Kind,
    budget: Budget,
    /// Of a task that is none: nobody is aborted here.
    task: AbortHandle,
    n_written: AtomicUsize,
    n_made: Arc<AtomicUsize>,
    writers: Mutex<Vec<loom::thread::JoinHandle<()>>>,
}

impl Modelled {
    /// Enters, looks around, and leaves.
    fn visit(self: &Arc<Self>) {
        let (instance, seat) = (self.instances)
            .enter(&1, 1, || Ok::<_, RefusedBy>(self.make()))
            .expect("a seat");
        let known = self.instances.get(&1).expect("who is seated keeps it");
        assert_eq!(known.channel.identity(), instance.channel.identity());
        assert_eq!(self.n_written.load(Ordering::SeqCst), 1, "it is written");
        drop(seat);
    }

    fn make(self: &Arc<Self>) -> Instance {
        let n_written = self.n_written.fetch_add(1, Ordering::SeqCst);
        assert_eq!(n_written, 0, "two upstreams at once");
        self.n_made.fetch_add(1, Ordering::SeqCst);
        let (channel, _writer) = Channel::within(&self.kind, &self.budget);
        let (world, known) = (Arc::clone(self), channel.clone());
        let writer = spawn(move || world.write(&known));
        self.writers.lock().expect("no poison").push(writer);
        Instance {
            channel,
            home: 0,
            task: self.task.clone(),
        }
    }

    /// Is there until nobody is in the instance.
    fn write(&self, channel: &Channel) {
        let mut alarm = Alarm::default();
        block_on(poll_fn(|cx| {
            let end = || {
                self.n_written.fetch_sub(1, Ordering::SeqCst);
            };
            let instance = (&1, channel);
            (self.instances).poll_left(cx, instance, &mut alarm, (|_: &_| Duration::ZERO, end))
        }));
    }
}

/// A wake-up that is lost is a writer that never ends: a deadlock, which fails the model.
#[test]
fn in_any_order_there_is_one_that_is_written_while_somebody_is_seated_and_none_after() {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let task = runtime.spawn(pending::<()>()).abort_handle();
    // On a thread of its own: those of the model have a small stack.
    let kind = thread::spawn(kind).join().expect("a kind");
    let most_made = Arc::new(AtomicUsize::new(0));
    let most = Arc::clone(&most_made);
    model(PREEMPTIONS, move || {
        let n_made = Arc::new(AtomicUsize::new(0));
        let world = Arc::new(Modelled {
            instances: Instances::default(),
            kind: kind.clone(),
            budget: Budget::unlimited(),
            task: task.clone(),
            n_written: AtomicUsize::new(0),
            n_made: Arc::clone(&n_made),
            writers: Mutex::new(Vec::new()),
        });
        let other = Arc::clone(&world);
        let visiting = spawn(move || other.visit());
        world.visit();
        visiting.join().expect("a visitor");
        let writers = std::mem::take(&mut *world.writers.lock().expect("no poison"));
        for writer in writers {
            writer.join().expect("a writer");
        }
        assert!(world.instances.is_empty());
        assert_eq!(world.n_written.load(Ordering::SeqCst), 0, "a leak");
        most.fetch_max(n_made.load(Ordering::SeqCst), Ordering::SeqCst);
    });
    // In some order the second comes when the first has left, and its instance has gone.
    assert_eq!(most_made.load(Ordering::SeqCst), 2);
}
