//! Reloads: what each change touches, and what it does not.

mod channels;
mod files;
mod listeners;
mod many;
mod outcomes;
mod upstreams;

use crate::support::{Gateway, Origin, Subscriber};

/// A configuration of one listener and these channels, each with its origin and lines. The path of a
/// channel is its name.
fn config(channels: &[(&str, &Origin, &str)]) -> String {
    with_head("", channels)
}

/// The same, with these lines before all else.
fn with_head(head: &str, channels: &[(&str, &Origin, &str)]) -> String {
    let mut config = format!("{head}\n[listen.public]\naddress = \"127.0.0.1:0\"\n");
    for (name, origin, lines) in channels {
        let url = origin.url();
        config.push_str(&format!(
            "\n[channels.{name}]\npath = \"/{name}\"\nupstream = \"{url}\"\n{lines}\n"
        ));
    }
    config
}

async fn subscribe(gateway: &Gateway, name: &str) -> Subscriber {
    let client = gateway.connect().await;
    client.subscribe(&format!("/{name}"), "").await
}

/// The status that a request for this path gets.
async fn status(gateway: &Gateway, path: &str) -> u16 {
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut client = gateway.connect().await;
    client.send(request).await;
    client.head().await.status
}
