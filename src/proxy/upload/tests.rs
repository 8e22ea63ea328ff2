use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::proxy::test_bodies::{Scripted, script, shown};

const MINUTE: Duration = Duration::from_secs(60);

/// Counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What comes at once; `None`: nothing.
fn poll(upload: &mut Upload<Scripted>) -> Option<Result<String, UploadFailure>> {
    poll_with(upload, Waker::noop())
}

fn poll_with(
    upload: &mut Upload<Scripted>,
    waker: &Waker,
) -> Option<Result<String, UploadFailure>> {
    match Pin::new(upload).poll_frame(&mut Context::from_waker(waker)) {
        Poll::Ready(Some(frame)) => Some(frame.map(shown)),
        Poll::Ready(None) => Some(Ok("end".to_owned())),
        Poll::Pending => None,
    }
}

fn ok(text: &str) -> Option<Result<String, UploadFailure>> {
    Some(Ok(text.to_owned()))
}

fn limits(max_bytes: Option<u64>) -> Limits {
    Limits {
        max_bytes,
        idle_timeout: None,
    }
}

#[test]
fn what_the_client_sends_goes_through_with_its_trailers() {
    let (client, incoming) = script();
    let (mut upload, watch) = Upload::new(incoming, limits(Some(4)), Expectation::None);
    assert!(!watch.has_begun());
    client.data("ab");
    assert_eq!(poll(&mut upload), ok("ab"));
    assert!(watch.has_begun() && !watch.has_ended());
    client.data("cd");
    client.trailers();
    assert_eq!(poll(&mut upload), ok("cd"));
    assert_eq!(poll(&mut upload), ok("trailers"));
    assert!(watch.has_ended());
    assert_eq!(watch.failure(), None);
}

#[test]
fn one_byte_too_many_is_a_failure() {
    let (client, incoming) = script();
    let (mut upload, watch) = Upload::new(incoming, limits(Some(3)), Expectation::None);
    client.data("abc");
    client.data("d");
    assert_eq!(poll(&mut upload), ok("abc"));
    let failure = UploadFailure::TooLarge(3);
    assert_eq!(poll(&mut upload), Some(Err(failure)));
    assert_eq!(watch.failure(), Some(failure));
    assert_eq!(poll(&mut upload), Some(Err(failure)));
}

#[test]
fn a_length_that_is_too_large_is_known_before_anything_is_read() {
    let too_large = |n_bytes: usize| {
        let body = http_body_util::Full::new(Bytes::from(vec![0; n_bytes]));
        limits(Some(3)).check(&body.size_hint())
    };
    assert_eq!(too_large(3), Ok(()));
    assert_eq!(too_large(4), Err(UploadFailure::TooLarge(3)));
}

#[test]
fn a_client_is_given_up_when_nothing_moves_in_either_direction() {
    let (_client, incoming) = script();
    let (_upload, watch) = Upload::new(incoming, limits(None), Expectation::None);
    let begin = Instant::now() + MINUTE;
    let at = |seconds| begin + Duration::from_secs(seconds);
    let wait = |now| watch.look(Ok(None), |state| state.await_client(now, Some(MINUTE)));
    assert_eq!(wait(at(0)), Ok(Some(at(60))));
    assert!(watch.awaits_client());
    assert_eq!(wait(at(59)), Ok(Some(at(60))));
    // The origin answers.
    watch.touch(at(59));
    assert_eq!(wait(at(60)), Ok(Some(at(119))));
    assert_eq!(wait(at(119)), Err(UploadFailure::Silent(MINUTE)));
}

#[test]
fn time_in_which_the_origin_takes_nothing_is_not_the_clients() {
    let (client, incoming) = script();
    let (mut upload, watch) = Upload::new(incoming, limits(None), Expectation::None);
    client.data("a");
    assert_eq!(poll(&mut upload), ok("a"));
    assert!(!watch.awaits_client());
    let later = Instant::now() + MINUTE * 5;
    let wait = watch.look(Ok(None), |state| state.await_client(later, Some(MINUTE)));
    assert_eq!(wait, Ok(Some(later + MINUTE)));
}

#[tokio::test]
async fn a_content_is_not_touched_before_the_origin_asks_for_it() {
    let (client, incoming) = script();
    let (mut upload, watch) = Upload::new(incoming, limits(None), Expectation::Continue);
    client.data("a");
    let wakes = Arc::<Wakes>::default();
    assert_eq!(
        poll_with(&mut upload, &Waker::from(Arc::clone(&wakes))),
        None
    );
    assert!(!watch.has_begun() && watch.awaits_client());
    watch.permit();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert_eq!(poll(&mut upload), ok("a"));
    assert!(watch.has_begun());
}

#[tokio::test]
async fn an_origin_that_never_asks_gets_the_content_after_a_while() {
    let (client, incoming) = script();
    let (mut upload, _watch) = Upload::new(incoming, limits(None), Expectation::Continue);
    client.data("a");
    let begin = Instant::now();
    let frame = std::future::poll_fn(|cx| Pin::new(&mut upload).poll_frame(cx)).await;
    assert_eq!(frame.map(|frame| frame.map(shown)), ok("a"));
    assert!(begin.elapsed() >= PATIENCE, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_content_that_was_not_asked_for_is_never_read() {
    let (client, incoming) = script();
    let (mut upload, watch) = Upload::new(incoming, limits(None), Expectation::Continue);
    client.data("a");
    watch.answered();
    let begin = Instant::now();
    let reading = std::future::poll_fn(|cx| Pin::new(&mut upload).poll_frame(cx));
    assert!(timeout(PATIENCE + PATIENCE / 4, reading).await.is_err());
    assert!(begin.elapsed() > PATIENCE);
    watch.permit();
    assert_eq!(poll(&mut upload), None);
    watch.abandon();
    assert_eq!(poll(&mut upload), Some(Err(UploadFailure::Abandoned)));
}

#[tokio::test]
async fn who_reads_an_abandoned_content_is_told() {
    let (_client, incoming) = script();
    let (mut upload, watch) = Upload::new(incoming, limits(None), Expectation::Continue);
    let wakes = Arc::<Wakes>::default();
    assert_eq!(
        poll_with(&mut upload, &Waker::from(Arc::clone(&wakes))),
        None
    );
    watch.abandon();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert_eq!(poll(&mut upload), Some(Err(UploadFailure::Abandoned)));
}

#[test]
fn a_client_that_breaks_off_is_no_end() {
    let (client, incoming) = script();
    let (mut upload, watch) = Upload::new(incoming, limits(None), Expectation::None);
    client.fail();
    assert_eq!(poll(&mut upload), Some(Err(UploadFailure::Broken)));
    assert_eq!(watch.failure(), Some(UploadFailure::Broken));
    assert!(!watch.has_ended());
}

#[test]
fn a_request_without_content_has_nothing_to_watch() {
    let empty = http_body_util::Empty::<Bytes>::new();
    let (upload, watch) = Upload::new(empty, Limits::default(), Expectation::Continue);
    assert!(upload.is_end_stream());
    assert!(!watch.has_body());
    assert!(watch.has_ended() && !watch.has_begun());
}
