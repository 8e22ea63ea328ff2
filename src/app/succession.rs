//! How a process begins where the one before has ended, and what it leaves itself.

use std::env;
use std::path::PathBuf;

use super::channels::Channels;
use crate::config::StateKeeping;
use crate::state::StateDirectory;

/// The directory that the configuration means; `None` if there is none, or it can't be used, which is
/// told and no reason not to start.
pub(super) fn state_directory(keeping: &StateKeeping) -> Option<StateDirectory> {
    let path = match keeping {
        StateKeeping::At(path) => path.clone(),
        StateKeeping::Managed => managed()?,
        StateKeeping::Off => return None,
    };
    match StateDirectory::open(&path) {
        Ok(directory) => Some(directory),
        Err(error) => {
            tracing::warn!(
                directory = %path.display(),
                %error,
                advice = "clients that resume after a restart will be told that their history is \
                          incomplete; let this process write there, or set `state = \"none\"`",
                "the state of the process before can't be read, and none is kept"
            );
            None
        }
    }
}

/// Writes down what the channels retain.
pub(super) fn leave(directory: &StateDirectory, channels: &Channels) {
    let mut all = channels.all();
    // Who has the key of such an instance has a credential, and no file shall have it.
    all.retain(|channel| !channel.key().has_fields());
    match directory.leave(all.iter()) {
        Ok(()) => tracing::info!("the state is kept for the next process"),
        Err(error) => tracing::error!(
            %error,
            advice = "clients that resume will be told that their history is incomplete",
            "the state could not be kept"
        ),
    }
}

/// What the service manager gave; the first, if it gave several.
fn managed() -> Option<PathBuf> {
    let paths = env::var_os("STATE_DIRECTORY")?;
    env::split_paths(&paths)
        .next()
        .filter(|path| path.is_absolute())
}
