//! What the models of channels share.

use std::sync::Arc;

use bine_sync::channel::{Receiver, Sender};
use loom::thread::{self, JoinHandle};

/// Both sides of a channel, for several threads. Loom sees nothing of clones of these, while those of the
/// handles are counted, which multiplies the executions. The last one is the model's own, which has
/// joined all others by then.
pub type Ends = Arc<(Sender<u32>, Receiver<u32>)>;

/// Both sides of a new channel.
pub fn ends(channel: (Sender<u32>, Receiver<u32>)) -> Ends {
    Arc::new(channel)
}

/// Starts a thread that does something with a channel.
pub fn does<R: 'static>(
    ends: &Ends,
    what: impl FnOnce(&Sender<u32>, &Receiver<u32>) -> R + 'static,
) -> JoinHandle<R> {
    let ends = ends.clone();
    thread::spawn(move || what(&ends.0, &ends.1))
}
