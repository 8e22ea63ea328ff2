//! Files that can't be read, or that are put in each other's place: what is noticed, and what is not
//! taken for an empty file.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use crate::reload::{config, status, subscribe};
use crate::support::{Connector, Gateway, Origin, Pair, client_config, table, until_true};

const INCLUDE: &str = "include = [\"conf.d/*.toml\"]\n";

fn channel(name: &str, origin: &Origin) -> String {
    format!(
        "[channels.{name}]\npath = \"/{name}\"\nupstream = \"{}\"\n",
        origin.url()
    )
}

fn put(folder: &Path, file: &str, text: &str) {
    fs::create_dir_all(folder).expect("a directory");
    fs::write(folder.join(file), text).expect("a file");
}

async fn until_there(gateway: &Gateway, path: &str) {
    let what = format!("{path} to be there");
    until_true(&what, async || status(gateway, path).await == 200).await;
}

#[tokio::test]
async fn a_directory_that_can_not_be_read_is_not_an_empty_one() {
    let origin = Origin::start().await;
    // Root reads everything, unless it gives that up.
    let preparation = "if [ \"$(id -u)\" = 0 ]; then \
                       set -- setpriv --bounding-set=-dac_override,-dac_read_search \"$@\"; fi";
    let plain = config(&[("a", &origin, "")]);
    let main = format!("{INCLUDE}{plain}");
    let gateway = Gateway::after(preparation, &main).await;
    let folder = gateway.directory().join("conf.d");
    put(&folder, "b.toml", &channel("b", &origin));
    gateway.reload(&main, "applied").await;
    let mut sub = subscribe(&gateway, "b").await;
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode));
    mode(0).expect("it is ours");
    let log = gateway.reload(&main, "rejected").await;
    mode(0o755).expect("it is ours");
    assert!(log.contains("conf.d can't be read"), "{log}");
    assert!(log.contains("ssecast.toml\" line=1"), "{log}");
    origin.connection(2).await.send("data: a\n\n").await;
    sub.expect_event("a").await;
}

#[tokio::test]
async fn what_a_rejected_file_names_is_watched_until_it_is_right() {
    let origin = Origin::start().await;
    let pair = Pair::new(&["gateway.test"]);
    let plain = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&plain).await;
    let (folder, certificates) = (
        gateway.directory().join("conf.d"),
        gateway.directory().join("tls"),
    );
    // Not by the ending that is usual.
    put(&folder, "b.conf", "[channels.b]\npath = \"/b\"\n");
    let main = format!("include = \"conf.d/*.conf\"\n{plain}");
    gateway.reload(&main, "rejected").await;
    fs::write(folder.join("b.conf"), channel("b", &origin)).expect("a file");
    until_there(&gateway, "/b").await;

    // The same of a certificate.
    fs::create_dir(&certificates).expect("a directory");
    let there = |file: &Path| certificates.join(file.file_name().expect("a name"));
    let (certificate, key) = (pair.certificate_file(), pair.key_file());
    let secure = format!(
        "{main}\n[listen.secure]\naddress = \"127.0.0.1:0\"\ntls = {}\n",
        table(&there(&certificate), &there(&key))
    );
    fs::write(there(&certificate), "nonsense").expect("a file");
    fs::copy(&key, there(&key)).expect("a copy");
    gateway.reload(&secure, "rejected").await;
    fs::write(
        there(&certificate),
        fs::read(&certificate).expect("a certificate"),
    )
    .expect("a file");
    gateway.logged(1, &[" listening ", "\"secure\""]).await;
}

/// As a deployment does that puts all of its files in place at once.
#[tokio::test]
async fn a_directory_that_takes_the_place_of_another_is_watched() {
    let origin = Origin::start().await;
    let gateway =
        Gateway::with_config(&format!("{INCLUDE}{}", config(&[("a", &origin, "")]))).await;
    let at = |name: &str| gateway.directory().join(name);
    put(&at("conf.d"), "b.toml", &channel("b", &origin));
    until_there(&gateway, "/b").await;
    put(&at("new"), "b.toml", &channel("c", &origin));
    fs::rename(at("conf.d"), at("old")).expect("it is there");
    fs::rename(at("new"), at("conf.d")).expect("it is there");
    until_there(&gateway, "/c").await;
    put(&at("conf.d"), "b.toml", &channel("d", &origin));
    until_there(&gateway, "/d").await;
}

/// As a deployment does whose releases are directories, and a link leads to the current one.
#[tokio::test]
async fn a_link_on_the_way_to_the_file_is_watched() {
    let origin = Origin::start().await;
    let home = tempfile::tempdir().expect("a directory");
    let at = |name: &str| home.path().join(name);
    let release = |number: &str, channel: &str| {
        let config = config(&[(channel, &origin, "")]);
        let text = format!("{config}\n[admin]\naddress = \"off\"\n");
        put(&at(&format!("releases/{number}/etc")), "main.toml", &text);
        symlink(format!("releases/{number}"), at("new")).expect("a link");
        fs::rename(at("new"), at("current")).expect("the swap");
    };
    release("1", "a");
    let file = at("current/etc/main.toml");
    let gateway = Gateway::without_file(&["--config", file.to_str().expect("text")]).await;
    // What it began to watch, it has looked at again.
    gateway.logged(1, &["nothing has changed"]).await;
    release("2", "b");
    until_there(&gateway, "/b").await;
    gateway.logged(2, &["nothing has changed"]).await;
    release("3", "c");
    until_there(&gateway, "/c").await;
}

#[tokio::test]
async fn a_certificate_that_is_renewed_while_an_address_goes_is_used() {
    let origin = Origin::start().await;
    let mut pair = Pair::new(&["gateway.test"]);
    let plain = config(&[("a", &origin, "")]);
    let address = "address = \"127.0.0.1:0\"";
    let with = |addresses: &str| {
        let lines = format!("address = {addresses}\ntls = {}", pair.table());
        plain.replace(address, &lines)
    };
    let (two, one) = (
        with("[\"127.0.0.1:0\", \"[::1]:0\"]"),
        with("[\"127.0.0.1:0\"]"),
    );
    let gateway = Gateway::with_config(&two).await;
    pair.renew(&["gateway.test"]);
    gateway.reload(&one, "applied").await;
    let config = client_config(&[&pair], &[]);
    let (_, facts) = Connector::default()
        .connect_over_tls(gateway.address(), "gateway.test", &config)
        .await;
    assert_eq!(facts.certificate, pair.certificate);
}

/// Otherwise the status says for ever that the last reload was rejected.
#[tokio::test]
async fn a_mistake_that_is_taken_back_is_told() {
    let origin = Origin::start().await;
    let right = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&right).await;
    gateway.write_config(&right.replace("path", "paht"));
    gateway.logged(1, &["reload rejected"]).await;
    gateway.write_config(&right);
    gateway
        .logged(1, &["INFO", "reload: nothing has changed"])
        .await;
}

#[tokio::test]
async fn a_mistake_is_told_once_whatever_happens_beside_the_file() {
    let origin = Origin::start().await;
    let right = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&right).await;
    gateway.write_config(&right.replace("path", "paht"));
    gateway.logged(1, &["reload rejected"]).await;
    put(gateway.directory(), "other", "");
    gateway
        .logged(1, &["DEBUG", "reload: nothing has changed"])
        .await;
    let log = gateway.log();
    assert_eq!(log.matches("unknown key").count(), 1, "{log}");
    assert_eq!(log.matches("reload rejected").count(), 1, "{log}");
}

/// A disk may hang, and nobody knows for how long.
#[tokio::test]
async fn a_file_that_never_ends_keeps_nothing_from_stopping() {
    let origin = Origin::start().await;
    let mut gateway =
        Gateway::with_config(&format!("{INCLUDE}{}", config(&[("a", &origin, "")]))).await;
    origin.connection(1).await;
    let at = |name: &str| gateway.directory().join(name);
    put(&at("conf.d"), "b.toml", &channel("b", &origin));
    until_there(&gateway, "/b").await;
    let made = Command::new("mkfifo").arg(at("pipe")).status();
    assert!(made.expect("mkfifo runs").success());
    // Who opens both its ends waits for nobody.
    let both = fs::File::options().read(true).write(true).open(at("pipe"));
    let pipe = at("conf.d/pipe.toml");
    fs::rename(at("pipe"), &pipe).expect("it is there");
    until_true("it to be read", async || gateway.has_open(&pipe)).await;
    gateway.signal("TERM");
    let ended = gateway.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    drop(both);
}
