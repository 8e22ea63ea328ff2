//! Churn: clients of every kind come, leave, stall and come back while the configuration is reloaded
//! and the origin breaks off, and afterwards nothing of it is left.
//!
//! `SOAK_SECONDS` says for how long; `tests/run soak` makes it a minute. Each client knows the number
//! that it saw last, so a gap, a duplicate or a change of order fails at once, with the place.

mod teller;
mod visitor;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use self::teller::Teller;
use self::visitor::{Tally, Visitor, stand};
use crate::support::{ANYWHERE, Admin, DEADLINE, Gateway, Pair, until_async};

/// Clients that come and go.
const N_VISITORS: u64 = 40;

/// What a soak runs for without being told.
const SHORT: u64 = 5;

struct World {
    gateway: Gateway,
    admin: Admin,
    teller: Teller,
    pair: Pair,
}

/// What must end where it began.
#[derive(Debug)]
struct Levels {
    n_descriptors: usize,
    n_threads: usize,
    n_connections: f64,
    n_subscribers: f64,
    n_instances: f64,
    /// What counts to the budget, without the histories.
    held_bytes: f64,
    /// Resident memory, without the histories.
    resident_bytes: f64,
}

impl World {
    async fn start() -> Self {
        let teller = Teller::start().await;
        let pair = Pair::new(&["gateway.test"]);
        let gateway = Gateway::with_config(&config(&teller, &pair, 0)).await;
        let admin = Admin::of(&gateway).await;
        Self {
            gateway,
            admin,
            teller,
            pair,
        }
    }

    /// Reloads again and again, each time something else.
    async fn reload_until(&self, end: Instant) -> u64 {
        let mut n_reloads = 0;
        while Instant::now() < end {
            n_reloads += 1;
            let config = config(&self.teller, &self.pair, n_reloads);
            self.gateway.reload(&config, "applied").await;
            sleep_until(Instant::now() + Duration::from_millis(300)).await;
        }
        self.gateway
            .reload(&config(&self.teller, &self.pair, 0), "applied")
            .await;
        n_reloads
    }

    /// The levels once only the standing clients are there.
    async fn settled(&self, n_standing: u32) -> Levels {
        until_async("the visitors to be gone", async || {
            let levels = self.levels().await;
            let wanted = f64::from(n_standing);
            let now = (
                levels.n_connections,
                levels.n_subscribers,
                levels.n_instances,
            );
            if now == (wanted, wanted, 0.0) {
                Ok(levels)
            } else {
                Err(format!("{levels:?}"))
            }
        })
        .await
    }

    async fn levels(&self) -> Levels {
        let metrics = self.admin.metrics().await;
        let sum = |name: &str, without: &str| -> f64 {
            let samples = metrics.text.lines().filter(|line| line.starts_with(name));
            samples
                .filter(|line| without.is_empty() || !line.contains(without))
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum()
        };
        let events = sum("ssecast_memory_bytes{", "") - sum("ssecast_memory_bytes{", "\"events\"");
        Levels {
            n_descriptors: self.gateway.n_descriptors(),
            n_threads: self.gateway.n_threads(),
            n_connections: sum("ssecast_connections ", ""),
            n_subscribers: sum("ssecast_subscribers{", ""),
            n_instances: sum("ssecast_instances{", ""),
            held_bytes: sum("ssecast_memory_bytes{", "\"events\""),
            resident_bytes: metrics.value("process_resident_memory_bytes") - events,
        }
    }

    /// Lets visitors come and go, the origin break off and the configuration change; returns what was
    /// seen, when all visitors are gone.
    async fn churn(&self, duration: Duration) -> (Tally, u64) {
        let end = Instant::now() + duration;
        let addresses: Arc<[String]> = self.gateway.addresses().into();
        let visits: Vec<JoinHandle<Tally>> = (0..N_VISITORS)
            .map(|number| tokio::spawn(Visitor::new(number, &addresses).visit_until(end)))
            .collect();
        let (n_reloads, ()) = tokio::join!(self.reload_until(end), self.teller.fail_until(end));
        let mut tally = Tally::default();
        for visits in visits {
            tally += visits.await.expect("a visitor got what it should");
        }
        (tally, n_reloads)
    }
}

/// The configuration after so many reloads. The channel `long` never changes; nobody there may be
/// told of a loss. Of `short`, whose history
/// is shorter than an absence, and of `room`, whose instances come and go, everybody may.
fn config(teller: &Teller, pair: &Pair, n: u64) -> String {
    let base = teller.url();
    let tls = pair.table();
    let backoff = "backoff = { first = \"20ms\", max = \"100ms\" }";
    let mut config = format!(
        "[server]\nthreads = 2\n{ANYWHERE}\n\
         [listen.public]\naddress = \"127.0.0.1:0\"\n\
         [listen.secure]\naddress = \"127.0.0.1:0\"\ntls = {tls}\n\
         [channels.long]\npath = \"/long\"\nupstream = \"{base}/long\"\n{backoff}\n\
         history = {{ events = 100000, bytes = \"256MiB\", age = \"none\" }}\n"
    );
    let (events, limit) = (5 + n % 20, 8 + n % 16);
    let then = ["disconnect", "skip"][usize::from(n.is_multiple_of(2))];
    let age = ["none", "2s"][usize::from(n % 4 > 1)];
    write!(
        config,
        "[channels.short]\npath = \"/short\"\nupstream = \"{base}/short\"\n{backoff}\n\
         history = {{ events = {events} }}\nlag = {{ limit = \"{limit}KiB\", then = \"{then}\" }}\n\
         max_age = \"{age}\"\n\
         heartbeat = \"{}s\"\n",
        1 + n % 5
    )
    .expect("text");
    write!(
        config,
        "[channels.room]\npath = \"/rooms/{{room}}\"\nupstream = \"{base}/rooms/{{room}}\"\n\
         {backoff}\nlinger = \"{}ms\"\n",
        100 + n % 3 * 200
    )
    .expect("text");
    if n % 3 == 1 {
        write!(
            config,
            "[channels.guest]\npath = \"/guest\"\nupstream = \"{base}/guest\"\n"
        )
        .expect("text");
    }
    config
}

/// Whether so much has been seen as there is to be in so many seconds.
fn is_enough(tally: &Tally, seconds: u64) -> bool {
    tally.n_resumed > 10 * seconds && tally.n_stalled > seconds
}

#[tokio::test]
async fn after_churn_nothing_is_left_and_nobody_has_missed_anything() {
    let seconds = std::env::var("SOAK_SECONDS").ok();
    let seconds = seconds.map_or(SHORT, |text| text.parse().expect("SOAK_SECONDS: seconds"));
    let world = World::start().await;
    let (stop, stopped) = watch::channel(false);
    let standing: Vec<_> = (0..3)
        .map(|kind| {
            tokio::spawn(stand(
                kind,
                world.gateway.addresses().into(),
                stopped.clone(),
            ))
        })
        .collect();
    let n_standing = u32::try_from(standing.len()).expect("a few");
    world.settled(n_standing).await;

    // What the first visitors leave behind is not counted: arenas of threads, tables that have grown.
    let (_, _) = world.churn(Duration::from_secs(seconds.div_ceil(4))).await;
    let before = world.settled(n_standing).await;
    let rest = Duration::from_secs(seconds - seconds / 4);
    let (mut tally, mut n_reloads) = world.churn(rest).await;
    // A machine that is busy otherwise takes longer for as much.
    for _ in 0..10 {
        if is_enough(&tally, seconds) {
            break;
        }
        let (more, reloads) = world.churn(rest).await;
        tally += more;
        n_reloads += reloads;
    }
    let after = world.settled(n_standing).await;

    stop.send_replace(true);
    let mut n_stood = Vec::new();
    for standing in standing {
        let ended = timeout(DEADLINE, standing).await;
        n_stood.push(ended.expect("an end").expect("a standing client got all"));
    }
    eprintln!("{seconds} s, {n_reloads} reloads, standing clients got {n_stood:?}\n{tally:?}");
    eprintln!("before {before:?}\nafter  {after:?}");
    assert!(
        n_stood.iter().all(|n| *n > 20 * seconds),
        "{n_stood:?} events"
    );
    assert!(is_enough(&tally, seconds), "{tally:?}");
    // Threads for what may block go after ten seconds without it; a look needs one.
    assert!(after.n_threads <= before.n_threads + 3, "{after:?}");
    // A connection that is tried, or a file that is read, may be open at either look.
    assert!(after.n_descriptors <= before.n_descriptors + 2, "{after:?}");
    let is_more = |now: f64, then: f64, slack: f64| now > then * 1.2 + slack;
    assert!(
        !is_more(after.held_bytes, before.held_bytes, 64e3),
        "{after:?}"
    );
    assert!(
        !is_more(after.resident_bytes, before.resident_bytes, 4e6),
        "{after:?}"
    );
}
