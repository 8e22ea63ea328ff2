//! The admin listener: metrics, health and status, for operators and their machines.
//!
//! It runs on the control thread and has connections of its own, so that it answers when clients have
//! taken all others. Whatever it tells is read from the truth when it is asked; nothing here is kept
//! in step with anything. It has no access control: who reaches it may read it.
//!
//! `docs/admin.md` tells operators what there is.

mod answer;
mod connections;
mod facts;
mod health;
mod metrics;
mod panics;
mod process;
mod reloads;
mod status;

use std::sync::Arc;

use self::connections::Connections;
pub use self::connections::DESCRIPTORS;
pub use self::facts::{Facts, Place};
pub use self::panics::install_hook;
pub use self::reloads::{LastReload, ReloadOutcome, Reloads};
use crate::net::listener::Listener;

/// Answers on one listener for ever; ends when it is dropped, and its connections with it.
pub async fn serve(listener: Listener, facts: Arc<Facts>) {
    let mut connections = Connections::new(facts);
    loop {
        tokio::select! {
            (socket, _peer) = listener.accept() => connections.begin(socket),
            () = connections.one_ends() => {}
        }
    }
}
