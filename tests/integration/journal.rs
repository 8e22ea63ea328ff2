//! The log of a gateway whose standard error is the journal.

use crate::support::{Gateway, Origin};

/// What systemd says of the standard error that it gives a service; here it is a file.
const STDERR_IS_JOURNAL: &str = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)";

/// What it says of another standard error: the service's was redirected since.
const STDERR_IS_REDIRECTED: &str = "export JOURNAL_STREAM=1:1";

fn config(origin: &Origin) -> String {
    let upstream = origin.url();
    format!(
        "[server]\ndrain = \"0s\"\n\n[listen.public]\naddress = \"127.0.0.1:0\"\n\n\
         [channels.events]\npath = \"/events\"\nupstream = \"{upstream}\"\n"
    )
}

#[tokio::test]
async fn each_line_for_the_journal_has_a_priority_and_no_time() {
    let origin = Origin::start().await;
    let config = config(&origin);
    let mut gateway = Gateway::after(STDERR_IS_JOURNAL, &config).await;
    let _sub = gateway.subscribe().await;
    gateway.signal("TERM");
    let log = gateway.ended().await.log;
    let year = "20";
    for line in log.lines() {
        let (priority, text) = line
            .strip_prefix('<')
            .and_then(|line| line.split_once('>'))
            .unwrap_or_else(|| panic!("no priority: {line}"));
        assert!(["3", "4", "6", "7"].contains(&priority), "{line}");
        assert!(
            !text.starts_with(year) && !text.contains('\u{1b}'),
            "{line}"
        );
        assert!(!text.contains("INFO") && !text.contains("DEBUG"), "{line}");
    }
    for (priority, phrase) in [("<6>", "started"), ("<7>", "connecting to the origin")] {
        assert!(
            log.lines()
                .any(|line| line.starts_with(priority) && line.contains(phrase)),
            "{priority}{phrase}: {log}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_file_reaches_the_journal_as_an_error() {
    let ended = Gateway::fail_to_start_after(STDERR_IS_JOURNAL, "[listen.public]\naddres = 1\n");
    let log = ended.await.log;
    assert!(log.lines().count() > 3, "{log}");
    assert!(log.lines().all(|line| line.starts_with("<3>")), "{log}");
    // Its picture is still one.
    assert!(log.contains("<3>2 | addres = 1\n<3>  | ^^^^^^"), "{log}");
}

#[tokio::test]
async fn a_redirected_log_is_none_for_the_journal() {
    let origin = Origin::start().await;
    let config = config(&origin);
    let gateway = Gateway::after(STDERR_IS_REDIRECTED, &config).await;
    assert!(gateway.log().contains(" INFO "), "{}", gateway.log());
}
