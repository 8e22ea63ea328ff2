//! What comes back of what was left, and what becomes of a file that is not as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::Instant;

use super::format::fuzz_state;
use super::*;
use crate::config::{self, Config};
use crate::log::testing::{event, read_chunked, wire_bytes};
use crate::log::{Replay, Writer};
use crate::memory::Budget;

const NOBODY_KNOWS: &str = "nobody-knows";

/// A process with channels of these names.
struct Process {
    directory: StateDirectory,
    channels: Vec<(Channel, Writer)>,
}

fn settings(name: &str, keys: &str) -> Arc<config::Channel> {
    let text = format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n\
         [channels.{name}]\npath = \"/{name}\"\nupstream = \"http://127.0.0.1:1/\"\n{keys}\n"
    );
    let loaded = Config::parse("test.toml", &text);
    let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
    Arc::clone(&config.channels[0])
}

impl Process {
    fn start(path: &Path, names: &[&str]) -> Self {
        let channels = names
            .iter()
            .map(|name| Channel::with_writer(settings(name, "")));
        Self {
            directory: StateDirectory::open(path).expect("a directory"),
            channels: channels.collect(),
        }
    }

    fn say(&mut self, data: &[&str]) {
        for (_, writer) in &mut self.channels {
            for data in data {
                writer.push(&event(None, data));
                writer.commit(Instant::now());
            }
        }
    }

    fn stop(self) {
        let channels = self.channels.iter().map(|(channel, _)| channel);
        self.directory.leave(channels).expect("it is written");
    }
}

/// The successor of a channel.
fn succeed(inheritance: &Inheritance, name: &str, keys: &str) -> Channel {
    let (legacy, age) = inheritance.of(name).expect("the channel left something");
    let succeeded = Channel::succeed(settings(name, keys), &Budget::unlimited(), (&legacy, age));
    succeeded.expect("it is plausible").0
}

fn history(channel: &Channel) -> Vec<String> {
    let start = channel.log().start(Some(NOBODY_KNOWS), Instant::now());
    let events = read_chunked(&wire_bytes(&start)).into_iter();
    events.map(|event| event.data).collect()
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The bytes of a file with some history.
fn file_with_history() -> Vec<u8> {
    let home = directory();
    let mut process = Process::start(home.path(), &["a", "b"]);
    process.say(&["one", "two", "three"]);
    process.stop();
    fs::read(home.path().join(FILE)).expect("a file")
}

#[test]
fn a_successor_has_the_history_of_every_channel_and_its_ids() {
    let home = directory();
    let mut process = Process::start(home.path(), &["a", "b"]);
    process.say(&["one", "two"]);
    let Some(tip) = process.channels[0].0.log().start(None, Instant::now()).tip else {
        panic!("there is a tip");
    };
    process.say(&["three"]);
    process.stop();
    let inheritance = StateDirectory::open(home.path())
        .expect("it is free")
        .take();
    for name in ["a", "b"] {
        assert_eq!(
            history(&succeed(&inheritance, name, "")),
            ["one", "two", "three"]
        );
    }
    let start = succeed(&inheritance, "a", "")
        .log()
        .start(Some(tip.as_str()), Instant::now());
    assert_eq!(start.replay, Replay::Complete);
    assert_eq!(read_chunked(&wire_bytes(&start))[0].data, "three");
    assert!(inheritance.of("c").is_none());
}

#[test]
fn what_is_left_is_taken_once_and_is_nobody_elses_to_read() {
    let home = directory();
    let mut process = Process::start(home.path(), &["a"]);
    process.say(&["one"]);
    process.stop();
    for name in [FILE, LOCK_FILE] {
        let about = fs::metadata(home.path().join(name)).expect("a file");
        assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(!home.path().join(NEW_FILE).exists());
    let directory = StateDirectory::open(home.path()).expect("it is free");
    assert!(directory.take().of("a").is_some());
    assert!(directory.take().of("a").is_none());
    assert!(!home.path().join(REFUSED_FILE).exists(), "nothing is wrong");
}

#[test]
fn a_directory_belongs_to_one_process() {
    let home = directory();
    let path = home.path().join("deep/er");
    let first = StateDirectory::open(&path).expect("it is made");
    let error = StateDirectory::open(&path).expect_err("it is taken");
    assert_eq!(error.to_string(), "another process uses it");
    drop(first);
    StateDirectory::open(&path).expect("it is free again");
}

#[test]
fn the_limits_of_the_successor_hold() {
    let home = directory();
    let mut process = Process::start(home.path(), &["a"]);
    process.say(&["one", "two", "three"]);
    process.stop();
    let mut inheritance = StateDirectory::open(home.path())
        .expect("it is free")
        .take();
    let few = succeed(&inheritance, "a", "history = { events = 2 }");
    assert_eq!(history(&few), ["two", "three"]);
    inheritance.age += Duration::from_secs(601);
    assert_eq!(history(&succeed(&inheritance, "a", "")), [""; 0]);
    let any_age = succeed(&inheritance, "a", "history = { age = \"none\" }");
    assert_eq!(history(&any_age).len(), 3);
}

/// However often a state is used, no two events ever get the same id.
#[test]
fn ids_are_never_given_twice() {
    let home = directory();
    let mut process = Process::start(home.path(), &["a"]);
    process.say(&["one"]);
    process.stop();
    let inheritance = StateDirectory::open(home.path())
        .expect("it is free")
        .take();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (legacy, _) = inheritance.of("a").expect("it left something");
        let (channel, mut writer) = Channel::with_writer(settings("a", ""));
        let restored = writer.restore(legacy.retained(), Duration::ZERO, Instant::now());
        restored.expect("it is plausible");
        writer.push(&event(None, "two"));
        writer.commit(Instant::now());
        let start = channel.log().start(Some(NOBODY_KNOWS), Instant::now());
        ids.extend(read_chunked(&wire_bytes(&start))[1].id.clone());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_file_that_is_not_whole_is_put_aside() {
    let whole = file_with_history();
    let home = directory();
    let state = StateDirectory::open(home.path()).expect("a directory");
    let assert_refused = |bytes: &[u8], what: &str| {
        fs::write(home.path().join(FILE), bytes).expect("it is written");
        let inheritance = state.take();
        assert!(inheritance.records.is_empty(), "{what}");
        assert!(!home.path().join(FILE).exists(), "{what}");
        assert!(home.path().join(REFUSED_FILE).exists(), "{what}");
    };
    for end in 0..whole.len() {
        assert_refused(&whole[..end], &format!("cut at {end}"));
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        assert_refused(&damaged, &format!("damaged at {at}"));
    }
    assert_refused(&[&whole[..], b"x"].concat(), "longer");
}

#[test]
fn why_a_file_is_not_used_is_said() {
    let mut other_version = file_with_history();
    other_version[MAGIC_LEN] = 7;
    for (bytes, said) in [
        (
            &other_version[..],
            "it is of version 7, and this process reads version 2",
        ),
        (b"[channels.a]\n", "it is not a state file"),
        (
            &file_with_history()[..40],
            "it is damaged: its end is missing",
        ),
    ] {
        let error = inherit(bytes.to_vec()).expect_err("it is refused");
        assert_eq!(error.to_string(), said);
    }
}

const MAGIC_LEN: usize = "ssecast state\n".len();

#[test]
fn what_is_no_file_or_too_large_is_not_even_read() {
    let home = directory();
    let file = home.path().join(FILE);
    fs::create_dir(&file).expect("a directory");
    assert_eq!(
        read(&file).expect_err("refused").to_string(),
        "it is not a file"
    );
    fs::remove_dir(&file).expect("it is empty");
    let huge = File::create(&file).expect("a file");
    huge.set_len(MAX_FILE_BYTES + 1).expect("a hole");
    let error = read(&file).expect_err("refused").to_string();
    assert_eq!(error, "it is larger than any that we write");
}

/// A file of an earlier release is read as it was written. If this fails, the form has changed: it
/// needs a new version.
#[test]
fn the_form_of_version_2_does_not_change() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/state/version-2");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&file, file_with_history()).expect("it is written");
    }
    let bytes = fs::read(&file).expect("the file is there");
    let inheritance = inherit(bytes.clone()).expect("it can be read");
    for name in ["a", "b"] {
        let channel = succeed(&inheritance, name, "history = { age = \"none\" }");
        assert_eq!(history(&channel), ["one", "two", "three"]);
        let (legacy, _) = inheritance.of(name).expect("a channel");
        let again = postcard::to_stdvec(&legacy).expect("it can be written");
        let range = inheritance.records[name].clone();
        assert_eq!(again, bytes[range], "it is written as it was");
    }
}

#[test]
fn a_share_is_fair() {
    assert_eq!(fair_share(vec![], 100), 100);
    assert_eq!(fair_share(vec![10, 20], 100), 100);
    assert_eq!(fair_share(vec![500], 100), 100);
    assert_eq!(fair_share(vec![500, 10, 500], 110), 50);
    assert_eq!(fair_share(vec![1; 200], 100), 0);
}

/// A file whose checksums are right, whatever is in it.
fn file_of(records: &[&[u8]]) -> Vec<u8> {
    let whole = file_with_history();
    let mut file = whole[..MAGIC_LEN + 4].to_vec();
    for record in records {
        file.extend(u32::try_from(record.len()).expect("small").to_le_bytes());
        file.extend(crc32fast::hash(record).to_le_bytes());
        file.extend_from_slice(record);
    }
    file
}

proptest! {
    #[test]
    fn any_bytes_are_a_file_or_refused(data in vec(any::<u8>(), 0..200)) {
        fuzz_state(&data);
        let magic = file_with_history()[..MAGIC_LEN + 4].to_vec();
        fuzz_state(&[magic, data].concat());
    }

    /// Also where somebody has made the checksum right, a log begins with it or refuses it.
    #[test]
    fn any_record_is_a_channel_or_refused(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let inheritance = inherit(file_with_history()).expect("it is whole");
        let mut record = inheritance.file[inheritance.records["a"].clone()].to_vec();
        for (at, byte) in changes {
            let at = at.index(record.len());
            record[at] = byte;
        }
        if let Some(cut) = cut {
            record.truncate(cut.index(record.len()));
        }
        // Written at once, one channel.
        let header = postcard::to_stdvec(&(Duration::ZERO, 1_u32)).expect("a header");
        let file = file_of(&[&header, &record]);
        fuzz_state(&file);
        let Ok(inheritance) = inherit(file) else {
            return Ok(());
        };
        for name in inheritance.records.keys() {
            let (legacy, age) = inheritance.of(name).expect("it was checked");
            let keys = "history = { age = \"none\", events = 2 }";
            let settings = settings("a", keys);
            let made = Channel::succeed(settings, &Budget::unlimited(), (&legacy, age));
            let (channel, _) = made.expect("it was checked");
            prop_assert!(channel.log().size().n_events <= 2);
            channel.log().start(Some("1"), Instant::now());
        }
    }
}
