//! Cancelling green threads; `interrupt.rs` has the protocol.

use std::io;

use super::join::JoinHandle;
use crate::worker;

impl<T> JoinHandle<T> {
    /// Asks the thread to end: the blocking call that it is in, or the next one, unwinds with a
    /// payload of type [`Cancelled`](super::Cancelled), which is then the error of
    /// [`join`](Self::join). Destructors run, the panic hook does not.
    ///
    /// Blocking calls are all those of bine's that can wait, [`yield_now`](super::yield_now) among
    /// them. A thread that makes none is not interrupted; it may look at
    /// [`cancelled`](super::cancelled) now and then. An operation whose time has come at the same
    /// moment completes: nothing that it has received is lost.
    ///
    /// What waits in a destructor while the thread unwinds, in [`shielded`](super::shielded), or for
    /// the end of a scope is not interrupted. What blocks in a destructor that runs in the normal
    /// course is: put it into `shielded`.
    ///
    /// The request stays. A thread that catches the unwinding unwinds again when it next blocks.
    ///
    /// ```
    /// use bine_runtime::thread::{self, Cancelled};
    ///
    /// bine_runtime::run(|| {
    ///     let ticker = thread::spawn(|| loop {
    ///         thread::sleep(std::time::Duration::from_secs(1));
    ///     });
    ///     ticker.cancel().unwrap();
    ///     assert!(ticker.join().unwrap_err().is::<Cancelled>());
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// `Unsupported` in a program built with `panic = "abort"`, where nothing can unwind. The thread
    /// goes on.
    pub fn cancel(&self) -> io::Result<()> {
        check_unwinding()?;
        self.task().cancel();
        Ok(())
    }
}

/// An error where panics abort: nothing can be cancelled there.
pub(crate) fn check_unwinding() -> io::Result<()> {
    if_it_unwinds(cfg!(panic = "unwind"))
}

fn if_it_unwinds(unwinds: bool) -> io::Result<()> {
    if unwinds {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "a green thread is cancelled by unwinding it, and this program is built with panic = \"abort\"",
    ))
}

/// Whether the calling green thread was cancelled. For those that compute for long without blocking.
/// False on OS threads.
#[must_use]
pub fn cancelled() -> bool {
    worker::green().is_some_and(|(core, task)| {
        // SAFETY: the thread that runs is alive.
        let interrupts = &unsafe { task.as_ref() }.interrupts;
        // One that has never waited is not on the roll, and would learn of it when it first waits.
        interrupts.is_cancelled() || (interrupts.is_new() && core.shared().roll.is_called())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_cancelled_where_panics_abort() {
        assert!(if_it_unwinds(true).is_ok());
        assert_eq!(if_it_unwinds(false).unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
