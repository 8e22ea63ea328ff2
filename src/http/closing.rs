//! The end of a connection from our side.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// How long a client may go on sending after its last answer.
const LINGER: Duration = Duration::from_secs(1);

/// Says that nothing more comes, and reads what the client still sends until it has closed, too.
///
/// A system that closes a socket with unread bytes resets the connection, and a reset takes the last
/// answer away from a client that has not read it yet (RFC 9112, 9.6).
///
/// # Cancel safety
///
/// May be dropped at any time; the connection may then be reset.
pub(super) async fn close(stream: impl AsyncRead + AsyncWrite + Unpin) {
    // Boxed: the task of a connection need not have room for what is thrown away.
    if let Ok(Err(error)) = timeout(LINGER, Box::pin(drain(stream))).await {
        tracing::debug!(%error, "a client broke its connection before it was closed");
    }
}

async fn drain(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let mut wasted = [0; 4096];
    while stream.read(&mut wasted).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn what_a_client_still_sends_is_read_until_it_closes() {
        let (mut client, ours) = duplex(8);
        let sending = async {
            assert_eq!(client.read(&mut [0; 8]).await.expect("no error"), 0);
            client.write_all(&[b'x'; 10_000]).await.expect("it is read");
            drop(client);
        };
        tokio::join!(sending, close(ours));
    }

    #[tokio::test]
    async fn a_client_that_never_closes_is_left() {
        let (_client, ours) = duplex(8);
        let begun = Instant::now();
        close(ours).await;
        assert!(begun.elapsed() >= LINGER);
    }
}
