//! What becomes of a reload, and what makes one.

use std::fs;
use std::os::unix::fs::symlink;

use crate::reload::{config, status, subscribe, with_head};
use crate::support::{Gateway, Origin, until_true};

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_the_log_says_where_it_is_wrong() {
    let origin = Origin::start().await;
    let right = config(&[("a", &origin, "")]);
    let gateway = Gateway::with_config(&right).await;
    let mut sub = subscribe(&gateway, "a").await;
    let wrong = config(&[("a", &origin, "heartbeet = \"1s\""), ("b", &origin, "")]);
    let log = gateway.reload(&wrong, "rejected").await;
    assert!(log.contains("unknown key `heartbeet`"), "{log}");
    assert!(
        log.contains("line=8") && log.contains("did you mean `heartbeat`"),
        "{log}"
    );
    assert_eq!(status(&gateway, "/b").await, 404);
    origin.send("data: a\n\n").await;
    sub.expect_event("a").await;
    gateway.reload(&right, "nothing has changed").await;
    gateway
        .reload(&config(&[("b", &origin, "")]), "applied")
        .await;
}

#[tokio::test]
async fn keys_that_need_a_restart_are_named_each_time_and_the_rest_is_applied() {
    let origin = Origin::start().await;
    let gateway =
        Gateway::with_config(&with_head("[server]\nthreads = 2", &[("a", &origin, "")])).await;
    let threads = with_head(
        "[server]\nthreads = 1",
        &[("a", &origin, ""), ("b", &origin, "")],
    );
    let log = gateway.reload(&threads, "wait for a restart").await;
    assert!(log.contains("keys=\"server.threads\""), "{log}");
    assert_eq!(status(&gateway, "/b").await, 200);
    gateway.reload(&threads, "wait for a restart").await;
    let back = with_head(
        "[server]\nthreads = 2",
        &[("a", &origin, ""), ("b", &origin, "")],
    );
    gateway.reload(&back, "nothing has changed").await;
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_a_signal_and_a_burst_is_one_reload() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&config(&[("a", &origin, "")])).await;
    // It stands still meanwhile, so that it is a burst however slow the test is.
    gateway.signal("STOP");
    for n in 0..20 {
        gateway.write_config(&config(&[("a", &origin, &format!("max_redirects = {n}"))]));
    }
    gateway.write_config(&config(&[("a", &origin, ""), ("b", &origin, "")]));
    gateway.signal("CONT");
    gateway.logged(1, &["reload applied"]).await;
    assert_eq!(status(&gateway, "/b").await, 200);
    let log = gateway.log();
    assert_eq!(log.matches(" reload applied ").count(), 1, "{log}");
    // The same again is nothing.
    gateway.write_config(&config(&[("a", &origin, ""), ("b", &origin, "")]));
    let quiet = gateway.logged(1, &["DEBUG", "nothing has changed"]).await;
    assert_eq!(quiet.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_away_for_a_moment_is_not_missed() {
    let origin = Origin::start().await;
    let gateway = Gateway::with_config(&config(&[("a", &origin, "")])).await;
    let file = gateway.directory().join("ssecast.toml");
    let text = fs::read_to_string(&file).expect("the configuration");
    fs::remove_file(&file).expect("it is there");
    // What an editor may leave for a moment.
    fs::write(file.with_extension("toml~"), &text).expect("a backup");
    gateway.write_config(&config(&[("a", &origin, ""), ("b", &origin, "")]));
    until_true("the new file to be read", async || {
        status(&gateway, "/b").await == 200
    })
    .await;
    assert!(!gateway.log().contains("rejected"));
}

/// As Kubernetes mounts a `ConfigMap`: the file is a link through a link that is swapped.
#[tokio::test]
async fn a_swapped_link_is_a_change() {
    let origin = Origin::start().await;
    let mount = tempfile::tempdir().expect("a directory");
    let at = |name: &str| mount.path().join(name);
    let put = |version: &str, text: &str| {
        fs::create_dir(at(version)).expect("a version");
        fs::write(at(version).join("ssecast.toml"), text).expect("a file");
        symlink(version, at("..new")).expect("a link");
        fs::rename(at("..new"), at("..data")).expect("the swap");
    };
    let admin = "\n[admin]\naddress = \"off\"\n";
    put("..1", &format!("{}{admin}", config(&[("a", &origin, "")])));
    symlink("..data/ssecast.toml", at("ssecast.toml")).expect("a link");
    let gateway = {
        let file = at("ssecast.toml");
        Gateway::without_file(&["--config", file.to_str().expect("text")]).await
    };
    for (version, name) in [("..2", "b"), ("..3", "c"), ("..4", "d")] {
        put(
            version,
            &format!("{}{admin}", config(&[(name, &origin, "")])),
        );
        let path = format!("/{name}");
        until_true("the new version", async || {
            status(&gateway, &path).await == 200
        })
        .await;
        assert_eq!(status(&gateway, "/a").await, 404);
    }
}

#[tokio::test]
async fn files_that_appear_change_and_go_in_an_included_directory_are_noticed() {
    let origin = Origin::start().await;
    let main = |more: &str| {
        format!(
            "include = [\"conf.d/*.toml\"]\n{}{more}",
            config(&[("a", &origin, "")])
        )
    };
    let gateway = Gateway::with_config(&main("")).await;
    let mut sub = subscribe(&gateway, "a").await;
    let folder = gateway.directory().join("conf.d");
    let channel = |name: &str| {
        format!(
            "[channels.{name}]\npath = \"/{name}\"\nupstream = \"{}\"\n",
            origin.url()
        )
    };
    let is = async |path: &str, expected: u16| {
        let what = format!("{path} to be {expected}");
        until_true(&what, async || status(&gateway, path).await == expected).await;
    };
    // Not even the directory was there.
    fs::create_dir(&folder).expect("a directory");
    fs::write(folder.join("b.toml"), channel("b")).expect("a file");
    is("/b", 200).await;
    fs::write(folder.join("c.toml"), channel("c")).expect("a file");
    is("/c", 200).await;
    fs::write(folder.join("c.toml"), channel("d")).expect("a file");
    is("/d", 200).await;
    is("/c", 404).await;
    fs::write(folder.join("e.toml"), channel("b")).expect("a file");
    gateway
        .logged(1, &["`[channels.b]` is given twice", "e.toml"])
        .await;
    fs::remove_file(folder.join("b.toml")).expect("it is there");
    gateway.logged(1, &["reload", "nothing has changed"]).await;
    is("/b", 200).await;
    fs::remove_file(folder.join("e.toml")).expect("it is there");
    is("/b", 404).await;
    origin.connection(1).await.send("data: a\n\n").await;
    sub.expect_event("a").await;
}
