//! Gathering: sockets that are looked at together, at most once per window.
//!
//! A thread that serves thousands of quiet upstreams spends most of its time waking up: once per
//! event. Sockets in a [`Gather`] are registered with a poll of their own. When the first of them
//! becomes readable, the gather waits for its window, and then wakes the readers of all that are
//! readable by then, in one go; and so on, window by window, until nothing comes for a while. So a
//! busy upstream is read, and its subscribers are written to, once per window, and many quiet ones
//! share a wake-up.
//!
//! ```text
//!   socket ─┐
//!   socket ─┼─▶ mio poll ──readable──▶ reactor of the shard ──▶ drive: wait, then wake the readers
//!   socket ─┘
//! ```

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use mio::{Events, Interest, Registry, Token};
use slab::Slab;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest as Readiness, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::coop::poll_proceed;

/// A set of sockets that share their wake-ups.
#[derive(Debug, Clone)]
pub struct Gather {
    shared: Arc<Shared>,
}

/// A gather, if somebody else still uses it.
#[derive(Debug)]
pub(super) struct WeakGather {
    shared: Weak<Shared>,
}

/// The half that waits and wakes; [`Driver::run`] must run for as long as the gather is in use.
#[derive(Debug)]
pub struct Driver {
    poll: mio::Poll,
    /// Gone with the last handle and the last socket.
    shared: Weak<Shared>,
    /// Told when it is.
    unused: Arc<Notify>,
    window: Duration,
}

/// A connected socket in a gather.
#[derive(Debug)]
pub struct Gathered {
    stream: mio::net::TcpStream,
    key: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Registry,
    slots: Mutex<Slab<Slot>>,
    /// Tells the driver that nobody is left.
    unused: Arc<Notify>,
}

/// What is known of one socket, and who waits for it.
#[derive(Debug, Default)]
struct Slot {
    is_readable: bool,
    /// The peer has sent its last byte. No further event will say so: `is_readable` must stay set.
    is_read_closed: bool,
    is_writable: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Windows without an event after which the driver stops looking at every window and waits to be
/// woken. Beginning to wait costs the kernel a walk over all sockets of the poll, which must not be
/// paid per event; looking in vain costs a wake-up.
const EMPTY_WINDOWS: u32 = 16;

/// Readiness events taken from the kernel at a time.
const EVENTS: usize = 1024;

impl Gather {
    /// A gather that looks at its sockets at most once per `window`, and its driver.
    ///
    /// # Errors
    ///
    /// If the kernel gives no poll.
    pub fn new(window: Duration) -> io::Result<(Self, Driver)> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let unused = Arc::<Notify>::default();
        let shared = Arc::new(Shared {
            registry,
            slots: Mutex::default(),
            unused: Arc::clone(&unused),
        });
        let driver = Driver {
            poll,
            shared: Arc::downgrade(&shared),
            unused,
            window,
        };
        Ok((Self { shared }, driver))
    }

    pub(super) fn downgrade(&self) -> WeakGather {
        WeakGather {
            shared: Arc::downgrade(&self.shared),
        }
    }

    /// Moves a connected socket into the gather.
    ///
    /// # Errors
    ///
    /// If the socket can't be taken off its reactor or registered with the gather's.
    pub fn adopt(&self, stream: TcpStream) -> io::Result<Gathered> {
        let mut stream = mio::net::TcpStream::from_std(stream.into_std()?);
        let key = self.shared.lock().insert(Slot::default());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self
            .shared
            .registry
            .register(&mut stream, Token(key), interest)
        {
            self.shared.lock().remove(key);
            return Err(error);
        }
        Ok(Gathered {
            stream,
            key,
            shared: Arc::clone(&self.shared),
        })
    }
}

impl WeakGather {
    pub(super) fn upgrade(&self) -> Option<Gather> {
        self.shared.upgrade().map(|shared| Gather { shared })
    }

    pub(super) fn is_used(&self) -> bool {
        self.shared.strong_count() > 0
    }
}

impl Driver {
    /// Waits and wakes, until nobody uses the gather any more.
    ///
    /// # Errors
    ///
    /// If the reactor or the poll fails, which leaves the sockets of this gather deaf.
    pub async fn run(self) -> io::Result<()> {
        let Self {
            mut poll,
            shared,
            unused,
            window,
        } = self;
        let mut events = Events::with_capacity(EVENTS);
        let mut n_empty = EMPTY_WINDOWS;
        loop {
            if n_empty == EMPTY_WINDOWS {
                tokio::select! {
                    ready = readable(&poll) => ready?,
                    () = unused.notified() => return Ok(()),
                }
            }
            tokio::time::sleep(window).await;
            let Some(shared) = shared.upgrade() else {
                return Ok(());
            };
            n_empty = if look(&mut poll, &mut events, &shared)? {
                0
            } else {
                n_empty + 1
            };
        }
    }
}

/// Wakes those whose sockets are ready; returns whether there were any.
fn look(poll: &mut mio::Poll, events: &mut Events, shared: &Shared) -> io::Result<bool> {
    let mut were_any = false;
    loop {
        match poll.poll(events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &*events {
            shared.note(event);
            were_any = true;
        }
        if events.iter().count() < EVENTS {
            return Ok(were_any);
        }
    }
}

/// Waits until some socket of the poll is ready.
///
/// The poll is registered with the reactor for only as long as this waits: while it is, each event
/// of each socket wakes the thread, which is what gathering is there to avoid.
async fn readable(poll: &mio::Poll) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "the replacement is unsafe; the descriptor is the poll's, which outlives this"
    )]
    let fd = AsyncFd::with_interest(poll.as_raw_fd(), Readiness::READABLE)?;
    fd.readable().await.map(|mut ready| ready.retain_ready())
}

impl Shared {
    fn note(&self, event: &mio::event::Event) {
        let mut slots = self.lock();
        // A socket may have left between the event and now.
        let Some(slot) = slots.get_mut(event.token().0) else {
            return;
        };
        let (mut reader, mut writer) = (None, None);
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            slot.is_readable = true;
            slot.is_read_closed |= event.is_read_closed() || event.is_error();
            reader = slot.reader.take();
        }
        if event.is_writable() || event.is_write_closed() || event.is_error() {
            slot.is_writable = true;
            writer = slot.writer.take();
        }
        drop(slots);
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.unused.notify_one();
    }
}

impl Gathered {
    /// Runs `f` if the slot is ready as `is_ready` says; else leaves the waker with `waiter`.
    fn with_slot<T>(&self, f: impl FnOnce(&mut Slot) -> Poll<T>) -> Poll<T> {
        self.shared
            .lock()
            .get_mut(self.key)
            .map_or(Poll::Pending, f)
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Like the runtime's own sockets: a peer that always has more must not keep the thread.
        let turn = ready!(poll_proceed(cx));
        self.with_slot(|slot| {
            if !slot.is_readable {
                slot.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let unfilled = buf.initialize_unfilled();
            let wanted = unfilled.len();
            match (&self.stream).read(unfilled) {
                Ok(n) => {
                    turn.made_progress();
                    buf.advance(n);
                    // A short read drained the socket; the next byte is a new edge.
                    slot.is_readable = n == wanted || slot.is_read_closed;
                    Poll::Ready(Ok(()))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    slot.is_readable = false;
                    slot.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            }
        })
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with_slot(|slot| {
            if !slot.is_writable {
                slot.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            match (&self.stream).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    slot.is_writable = false;
                    slot.writer = Some(cx.waker().clone());
                    Poll::Pending
                }
                other => Poll::Ready(other),
            }
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(std::net::Shutdown::Write))
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if let Err(error) = self.shared.registry.deregister(&mut self.stream) {
            tracing::debug!(%error, "can't deregister a gathered socket");
        }
        self.shared.lock().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.expect("connect"), server.expect("accept").0)
    }

    #[tokio::test]
    async fn what_comes_within_a_window_is_read_at_once() {
        // Wide enough for two writes of a thread that has to wait for its turn.
        let window = Duration::from_millis(500);
        let (gather, driver) = Gather::new(window).expect("gather");
        let driver = tokio::spawn(driver.run());
        let (near, mut far) = pair().await;
        // The window may begin with the writable edge of the new socket.
        let begin = Instant::now();
        let mut near = gather.adopt(near).expect("adopt");
        far.write_all(b"a").await.expect("write");
        far.write_all(b"b").await.expect("write");
        let mut buf = [0; 16];
        let n = near.read(&mut buf).await.expect("read");
        assert_eq!(&buf[..n], b"ab");
        assert!(
            begin.elapsed() >= window - Duration::from_millis(5),
            "{:?}",
            begin.elapsed()
        );
        driver.abort();
    }

    #[tokio::test]
    async fn data_and_the_end_in_one_window_are_both_seen() {
        let (gather, driver) = Gather::new(Duration::from_millis(5)).expect("gather");
        let driver = tokio::spawn(driver.run());
        let (near, mut far) = pair().await;
        let mut near = gather.adopt(near).expect("adopt");
        far.write_all(b"last words").await.expect("write");
        drop(far);
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), near.read_to_end(&mut all));
        read.await.expect("the end is seen").expect("read");
        assert_eq!(all, b"last words");
        driver.abort();
    }
}
