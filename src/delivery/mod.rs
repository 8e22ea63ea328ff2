//! Delivery: from the logs to the sockets.
//!
//! The subscribers are divided among shards, one thread each. A shard has, per channel, a *group* of
//! subscribers and an index of the bytes that they have yet to get. Nothing per subscriber crosses
//! threads, and a pass over the crowd allocates nothing, locks nothing and makes one system call per
//! client.
//!
//! **Never Wait For A Subscriber**: a socket that does not take its bytes makes its subscriber a
//! straggler, which waits for its own socket, alone.

mod ages;
mod body;
mod budget;
mod goodbyes;
mod group;
mod heartbeat;
mod inbox;
mod lag;
mod pass;
mod prologue;
mod pulse;
mod relief;
mod shard;
mod subscriber;
mod tail;
mod tally;
#[cfg(test)]
mod tests;
mod transport;
mod wire;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use self::body::{BodyWriter, CAPACITY, Cut, Ending, EventBody, Taken, WasCut, body};
pub use self::goodbyes::{return_time, spread_goodbyes};
use self::inbox::Inbox;
pub use self::prologue::{push_framed, random_time};
pub use self::pulse::{Lag, StuckShard, Survey, beat, survey};
pub use self::relief::keep_within;
use self::shard::{GOODBYE_GRACE, Shard};
use self::transport::Transport;
pub use self::wire::Framing;
use crate::channel::{Channel, Seat};
use crate::net::permit::Standing;
use crate::net::socket::{Socket, Unbound};

/// All shards.
#[derive(Debug)]
pub struct Delivery {
    shards: Arc<[ShardHandle]>,
    /// One for each thread, closed when it ends.
    threads: Vec<Receiver<()>>,
    /// Told by a shard that broke.
    broken: Arc<Notify>,
}

/// A handle to one shard.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    inbox: Arc<Inbox>,
    runtime: Handle,
    /// Held by connections that have something to send after the last subscriber has left.
    lingering: TaskTracker,
    /// Told when a task broke that the process can't do without.
    broken: Arc<Notify>,
}

/// A new subscriber on its way to a shard.
#[derive(Debug)]
pub struct Arrival {
    /// What it subscribes to.
    pub channel: Channel,
    /// Its connection; nothing was written to it yet.
    pub socket: Handover,
    /// How events are framed for it.
    pub framing: Framing,
    /// The event that it has seen last.
    pub last_event_id: Option<String>,
    /// The response head, which goes out first.
    pub head: Vec<u8>,
    /// Its place in the channel and among the connections.
    pub places: (Seat, Standing),
}

/// How a socket comes to its shard.
#[derive(Debug)]
pub enum Handover {
    /// It stays with its connection, which is on this thread: a stream of HTTP/2.
    Http2(BodyWriter),
    /// From another thread.
    OtherShard(Unbound),
    /// It is registered with the shard's reactor already.
    SameShard(Socket),
}

/// Turns of tasks after which a busy thread looks at its sockets and timers. It looks after each turn of
/// a shard, too (`yield_now`), so that a small channel waits for no more than that and these; of which
/// none takes longer than some tenths of a millisecond. To look more often costs requests that pass
/// through dear: of every two or three answers that come at once, one would find its client asleep.
const TURNS_BETWEEN_EVENTS: u32 = 8;

/// How long connections may take to end after the last subscriber has left.
const LINGER: Duration = Duration::from_millis(500);

impl Handover {
    fn receive(self) -> io::Result<Transport> {
        match self {
            Self::Http2(body) => Ok(Transport::Http2(body)),
            Self::OtherShard(socket) => socket.bind().map(Transport::Socket),
            Self::SameShard(socket) => Ok(Transport::Socket(socket)),
        }
    }
}

impl Delivery {
    /// Starts `n_shards` threads.
    ///
    /// # Errors
    ///
    /// If the system gives no thread or no reactor.
    pub fn start(n_shards: usize) -> io::Result<Self> {
        let mut shards = Vec::with_capacity(n_shards);
        let mut threads = Vec::with_capacity(n_shards);
        let broken = Arc::new(Notify::new());
        for number in 0..n_shards {
            let runtime = Builder::new_current_thread()
                .event_interval(TURNS_BETWEEN_EVENTS)
                .enable_all()
                .build()?;
            let inbox = Arc::new(Inbox::default());
            let lingering = TaskTracker::new();
            shards.push(ShardHandle {
                lingering: lingering.clone(),
                inbox: Arc::clone(&inbox),
                runtime: runtime.handle().clone(),
                broken: Arc::clone(&broken),
            });
            let shard = Shard::new(Arc::clone(&inbox));
            let broken = Arc::clone(&broken);
            let thread = std::thread::Builder::new().name(format!("shard-{number}"));
            let (running, ended) = channel();
            threads.push(ended);
            thread.spawn(move || {
                let _running: Sender<()> = running;
                // A task like the others, so that they take turns; it counts its own turns.
                let serving = tokio::task::unconstrained(shard.run());
                if let Err(error) = runtime.block_on(async { tokio::spawn(serving).await }) {
                    tracing::error!(shard = number, %error, "a shard broke");
                    broken.notify_one();
                }
                inbox.close();
                lingering.close();
                runtime.block_on(async {
                    if timeout(LINGER, lingering.wait()).await.is_err() {
                        tracing::debug!(shard = number, "some connections did not end in time");
                    }
                });
                // Connections that were on their way to become subscribers end here.
                runtime.shutdown_background();
            })?;
        }
        Ok(Self {
            shards: shards.into(),
            threads,
            broken,
        })
    }

    /// The shards.
    pub fn shards(&self) -> &Arc<[ShardHandle]> {
        &self.shards
    }

    /// Lets the shards follow the settings of these channels, which were reconfigured.
    pub fn reconfigure(&self, channels: &[Channel]) {
        if channels.is_empty() {
            return;
        }
        for shard in self.shards.iter() {
            shard.inbox.reconfigure(channels);
        }
    }

    /// Whether every shard turns: each must answer within `timeout`. A shard that has ended does not
    /// hang.
    ///
    /// # Errors
    ///
    /// The first that does not answer.
    pub async fn beat(&self, timeout: Duration) -> Result<(), StuckShard> {
        beat(&self.shards, timeout).await
    }

    /// Ready when a shard has broken, or a task that it can't do without.
    pub async fn broken(&self) {
        self.broken.notified().await;
    }

    /// Ends every stream at the end of its event, and the threads. Blocks for as long as the slowest
    /// subscriber may take for the rest of its event, and no longer: a thread that does not end is
    /// left to the end of the process.
    pub fn stop(self) {
        for shard in self.shards.iter() {
            shard.inbox.stop();
        }
        let deadline = Duration::from_secs(3);
        let begin = Instant::now();
        for (number, ended) in self.threads.iter().enumerate() {
            let left = deadline.saturating_sub(begin.elapsed());
            // Disconnected: the thread has ended, and with it its end of the channel.
            if ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                tracing::error!(shard = number, "a shard did not stop in time");
            }
        }
    }
}

impl ShardHandle {
    /// Runs a task on the shard's thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The task ends with the shard's runtime, which owns it.
        drop(self.runtime.spawn(task));
    }

    /// Runs a task on the shard's thread that the process can't do without: if it breaks, so has
    /// the shard. It ends with the shard's runtime, which owns it, or when it is aborted.
    pub fn spawn_vital(
        &self,
        task: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> AbortHandle {
        let task = self.runtime.spawn(task);
        let handle = task.abort_handle();
        let broken = Arc::clone(&self.broken);
        self.spawn(async move {
            let error = match task.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                // It was aborted, or the runtime ends, and its tasks with it.
                Err(error) if error.is_cancelled() => return,
                Err(error) => error.to_string(),
            };
            tracing::error!(error, "a task broke");
            broken.notify_one();
        });
        handle
    }

    /// The shard's thread, for who spawns tasks that watch themselves.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Notes that a task broke that the process can't do without.
    pub fn note_broken(&self) {
        self.broken.notify_one();
    }

    /// Makes those leave who are far behind, because memory has run out.
    fn relieve(&self) {
        self.inbox.relieve();
    }

    /// Keeps the shard's thread for a moment after its last subscriber has left: a subscriber on
    /// HTTP/2 has left when hyper has its last bytes, and hyper has yet to send how its stream ends.
    pub fn linger(&self) -> TaskTrackerToken {
        self.lingering.token()
    }

    /// Seats a subscriber.
    pub fn subscribe(&self, arrival: Arrival) {
        self.inbox.arrive(arrival);
    }
}
