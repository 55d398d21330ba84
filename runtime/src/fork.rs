//! Forked children.
//!
//! A child has the one thread that forked, and all the memory. So there are no workers, no poller and
//! no pool threads, whatever the memory says, and whoever waits for something that they were to do
//! waits for ever. What would hang is an error where there is one to return, else a panic:
//!
//! | in the child | what happens |
//! |---|---|
//! | spawning on a runtime of the parent's | an error |
//! | joining a thread of such a runtime that has not ended | a panic |
//! | the green thread that forked waits | a panic; where it cannot be unwound, the process aborts |
//! | that thread ends, or a `blocking` closure or a callback of a runtime's (`on_hold`, say) that forked returns | the process aborts: nothing is left that could run there |
//! | an OS thread waits without a limit, and is the only one | a panic |
//! | it waits for a lock or a channel of bine's | as with std's: nobody can say who holds it |
//! | `blocking` | runs in place |
//! | dropping a runtime of the parent's | returns at once |
//! | descriptors | see bine-io |
//!
//! An OS thread may build a runtime of its own in the child, and all works there. `exec` ends all this.
//!
//! # How
//!
//! The fork itself has a handler called in the child ([`watch`]), which counts one *generation* more;
//! a runtime keeps the generation that it was built in. If the thread that forked is a worker's, the
//! handler also sees to it that nothing but its green thread runs there again: the worker behaves
//! as if its runtime was being shut down, has no thread ids left to give, and the green thread has
//! something to attend to before it next waits (`interrupt.rs`). So all these look where they look
//! anyhow, and those who never fork pay nothing.
//!
//! An OS thread that starts has locks of std's and of the allocator's for a moment, which no thread
//! could start without in a child that was forked then. So no fork comes while a thread of bine's
//! starts: [`start_thread`].
//!
//! What goes unnoticed is a fork by a bare system call, except by what spawns. And a child may hang
//! at a lock that another thread of the parent's held when it was forked, as with any other library:
//! std's, for one, where an OS thread of the program's own starts or ends.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{fs, io, process, thread};

use bine_arch::stack;

#[cfg(debug_assertions)]
use crate::check_tls::turn;
use crate::worker;

/// The error of whoever wants the workers of the parent's to do something.
pub(crate) const WITHOUT_WORKERS: &str = "this process was forked from one that runs bine, whose workers are not in the child: \
     start the runtime after the fork, or exec";

/// The panic of a green thread that has forked, and would wait.
pub(crate) const GREEN_WAITS: &str = "this process was forked by a green thread, which would wait for ever: the workers and the other \
     green threads are in the parent. Have the child exec or exit, or fork from an OS thread";

const ALONE: &str = "this process was forked from one that runs bine, and its only thread would wait for ever for one \
     that is in the parent: start what the child needs after the fork, or exec";

/// How often this process was forked from one that watched.
static GENERATION: AtomicU32 = AtomicU32::new(0);
static WATCHING: AtomicBool = AtomicBool::new(false);

fn generation() -> u32 {
    // Relaxed: a child starts with one thread, and whatever it starts later has this before it.
    GENERATION.load(Ordering::Relaxed)
}

/// Which process this is, among those that were forked from each other. Both are needed: a fork by a
/// bare system call counts no generation, and ids come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    id: u32,
    generation: u32,
}

impl Process {
    /// This one.
    pub(crate) fn current() -> Self {
        Self { id: process::id(), generation: generation() }
    }

    /// Whether it is the one that runs.
    pub(crate) fn is_here(self) -> bool {
        self == Self::current()
    }

    /// Whether the one that runs was forked from it. Without a system call, so a fork that skips glibc
    /// goes unnoticed.
    pub(crate) fn has_forked(self) -> bool {
        self.generation != generation()
    }
}

/// Whether this process was forked from one that watched.
pub(crate) fn in_child() -> bool {
    generation() != 0
}

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> libc::c_int;
}

/// Held while an OS thread of bine's starts, and while one forks. Comes before the depots' locks, none
/// of which is held by who starts a thread.
static STARTING: Mutex<()> = Mutex::new(());

std::thread_local! {
    /// Of a thread that is about to fork.
    static NOBODY_STARTS: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// Starts an OS thread, and waits until it has come to `body`: no child is forked before that.
/// `headroom` is dropped when the thread is made: it may be what the thread needs to come so far.
///
/// # Errors
///
/// As of `spawn`.
pub(crate) fn start_thread<H, T: Send + 'static>(
    builder: thread::Builder,
    headroom: H,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    let runs = Arc::new(OnceLock::new());
    let tell = Arc::clone(&runs);
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let started = builder.spawn(move || {
        let told = tell.set(());
        debug_assert!(told.is_ok(), "a thread starts once");
        drop(tell);
        body()
    })?;
    drop(headroom);
    runs.wait();
    Ok(started)
}

/// Runs before the fork, on the thread that forks.
extern "C" fn before_fork() {
    #[cfg(debug_assertions)]
    turn::before_fork();
    // In a destructor of a thread-local that comes after this one's, the child has to take its chance.
    let _ = NOBODY_STARTS.try_with(|held| {
        held.borrow_mut()
            .get_or_insert_with(|| STARTING.lock().unwrap_or_else(PoisonError::into_inner));
    });
    stack::fork::before();
}

/// Runs after the fork, in the parent and in the child.
fn after_fork() {
    stack::fork::after();
    let _ = NOBODY_STARTS.try_with(RefCell::take);
}

/// Runs in the parent, before `fork` returns there.
extern "C" fn in_parent() {
    after_fork();
    #[cfg(debug_assertions)]
    turn::in_parent();
}

/// Runs in the child, before `fork` returns there. Takes no lock, and calls no allocator.
extern "C" fn mark_child() {
    after_fork();
    #[cfg(debug_assertions)]
    turn::in_child();
    GENERATION.fetch_add(1, Ordering::Relaxed);
    if let Some(core) = worker::core() {
        core.forked();
    }
    if let Some((_, task)) = worker::green() {
        // SAFETY: the thread that runs is alive.
        unsafe { task.as_ref() }.interrupts.forked();
    }
}

/// Has children that are forked from now on marked.
pub(crate) fn watch() -> io::Result<()> {
    // Relaxed: a second handler that is registered by chance counts twice, which does no harm.
    if WATCHING.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: these are functions of this program; `mark_child` does nothing that is not allowed
    // between a fork and an exec.
    let error = unsafe { pthread_atfork(Some(before_fork), Some(in_parent), Some(mark_child)) };
    if error != 0 {
        let error = io::Error::from_raw_os_error(error);
        let text = format!("cannot register a fork handler: {error}");
        return Err(io::Error::new(error.kind(), text));
    }
    WATCHING.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether the calling OS thread is the only one. No where it cannot be told.
pub(crate) fn is_alone() -> bool {
    fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// For an OS thread in a child that [is alone](is_alone) and has not been woken.
pub(crate) fn panic_alone() -> ! {
    panic!("{ALONE}");
}

/// The child has come to where only its parent could go on.
pub(crate) fn abort_child() -> ! {
    let text = "fatal: this process was forked by a green thread, or from within `blocking` or a \
                callback of a runtime's, and has come to where only its parent can go on: what \
                forked has ended, or waits where it cannot be unwound. Have the child exec or exit, \
                or fork from an OS thread\n";
    // Not by way of std, whose lock another thread of the parent's may have held.
    // SAFETY: the text is valid for its length. There is nobody to tell of a failure.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    process::abort();
}
