//! Looks for borrows of thread-locals on stacks that may move: `BINE_CHECK_TLS=1`, in debug builds.
//!
//! Before a green thread of a migrating runtime waits, the words in its frames are compared with the
//! addresses of its OS thread's thread-locals. A word that lies there is reported, with the frame that
//! holds it. Nothing of this is in release builds, but that the variable is looked at when a migrating
//! runtime is built.
//!
//! # Which words
//!
//! bine uses thread-locals itself, and the frames of its own functions are full of what they have left.
//! So the stack is taken apart into frames, by the unwinder, and the frames are given their names:
//!
//! ```text
//!    top of the stack
//!      TaskCell::run, catch_unwind ...      bine's and std's: not looked at
//!      the closure                          the program's  ┐
//!      LocalKey::with                       std's          │ all but bine's among them
//!      the closure of that one              the program's  ┘
//!      yield_now, Core::yield_now ...       bine's: not looked at
//!    stack pointer
//! ```
//!
//! What lies between the first and the last frame of the program is looked at. A function may keep
//! something in a call-saved register, too; bine's functions below have then spilt it, so the
//! registers are asked for where a frame that is looked at has called one that is not.
//!
//! Names are costly, so they are looked up only for words that have not been seen before: the same
//! address, in the same function, called from the same place.
//!
//! # What it cannot tell
//!
//! - Whether a word is used again. A slot of a frame that has not been written yet holds what an
//!   earlier call has left there. The report says so.
//! - A borrow without an address on the stack: an `Rc` that was cloned out of a thread-local points to
//!   the heap, and a guard of a reentrant lock to a static; a borrow may lie in a box, or on the stack
//!   of a coroutine that does not run.

use std::io;
use std::ptr::NonNull;

use crate::task::Task;

#[cfg(debug_assertions)]
mod elf;
#[cfg(debug_assertions)]
mod scan;
#[cfg(debug_assertions)]
mod symbols;
#[cfg(debug_assertions)]
mod variables;

const VARIABLE: &str = "BINE_CHECK_TLS";

/// Whether the stacks of one runtime are looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckTls {
    #[cfg(debug_assertions)]
    mode: Mode,
}

/// One look at a time, and none while the process forks: a look takes locks, std's for backtraces among
/// them, which nobody would give back in the child.
#[cfg(debug_assertions)]
pub(crate) mod turn {
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
    use std::thread;

    /// No lock that keeps a list of those who wait: they are not in the child.
    static TAKEN: AtomicBool = AtomicBool::new(false);
    /// The OS thread that has it in order to fork, or 0.
    static FORKS: AtomicI32 = AtomicI32::new(0);

    pub(crate) fn take() {
        // Acquire pairs with the Release in `give_back`.
        while TAKEN.swap(true, Ordering::Acquire) {
            thread::yield_now();
        }
    }

    pub(crate) fn give_back() {
        TAKEN.store(false, Ordering::Release);
    }

    fn caller() -> i32 {
        // SAFETY: it has no conditions.
        unsafe { libc::gettid() }
    }

    // The handlers of a fork. Each may be registered twice, and so be called twice.

    pub(crate) extern "C" fn before_fork() {
        // Relaxed, here and below: what the caller itself has stored is all that matters.
        if FORKS.load(Ordering::Relaxed) != caller() {
            take();
            FORKS.store(caller(), Ordering::Relaxed);
        }
    }

    pub(crate) extern "C" fn in_parent() {
        if FORKS.load(Ordering::Relaxed) == caller() {
            FORKS.store(0, Ordering::Relaxed);
            give_back();
        }
    }

    /// Where nobody else is there.
    pub(crate) fn in_child() {
        FORKS.store(0, Ordering::Relaxed);
        give_back();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Off,
    Report,
    /// Ends the process after the first report.
    Abort,
}

impl CheckTls {
    /// What the environment says, for a runtime whose green threads move or not.
    pub(crate) fn from_environment(migrating: bool) -> io::Result<Self> {
        if !migrating {
            return Ok(Self::new(Mode::Off));
        }
        let mode = match std::env::var_os(VARIABLE) {
            None => Mode::Off,
            Some(text) => text.to_str().and_then(parse).ok_or_else(|| unknown(&text))?,
        };
        if mode != Mode::Off
            && let Some(reason) = why_not()
        {
            eprintln!("bine: {VARIABLE} is set, but nothing is checked: {reason}");
            return Ok(Self::new(Mode::Off));
        }
        Ok(Self::new(mode))
    }

    #[cfg(debug_assertions)]
    fn new(mode: Mode) -> Self {
        Self { mode }
    }

    #[cfg(not(debug_assertions))]
    fn new(_: Mode) -> Self {
        Self {}
    }

    /// The calling green thread, which may go on on another worker than `worker`, is about to wait.
    #[inline]
    pub(crate) fn look(self, task: NonNull<Task>, worker: usize) {
        #[cfg(debug_assertions)]
        if self.mode != Mode::Off {
            turn::take();
            let found = scan::look(task, worker);
            turn::give_back();
            if found && self.mode == Mode::Abort {
                std::process::abort();
            }
        }
        #[cfg(not(debug_assertions))]
        let _ = (task, worker);
    }
}

fn parse(text: &str) -> Option<Mode> {
    match text {
        "" | "0" => Some(Mode::Off),
        "1" => Some(Mode::Report),
        "abort" => Some(Mode::Abort),
        _ => None,
    }
}

fn unknown(text: &std::ffi::OsStr) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{VARIABLE} must be 0, 1 (report) or abort (report and end), not {text:?}"),
    )
}

/// Why this build cannot check.
fn why_not() -> Option<&'static str> {
    if !cfg!(debug_assertions) {
        return Some("it takes a build with debug assertions");
    }
    if cfg!(any(bine_sanitize = "address", bine_sanitize = "thread")) {
        return Some("a sanitizer has variables and thread-locals where it wants them");
    }
    if bine_arch::tls::blocks().is_none() {
        return Some("the C library does not say where the thread-locals are");
    }
    None
}
