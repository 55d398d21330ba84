//! The deadlines that a thread has set for what it calls, by [`timeout`](crate::time::timeout).
//!
//! Each deadline is an entry in a list of its thread's. A thread that is about to wait looks at the
//! list, where it also looks whether it was cancelled (`interrupt.rs`), and unwinds with an
//! [`Expired`] if a deadline has passed; the call of `timeout` that has set it catches that. A
//! green thread has a timer set meanwhile, which unparks it, so that it looks. An OS thread waits
//! until its next deadline at most, wherever it waits.
//!
//! What is not interrupted: a section that was shielded since the deadline was set, and a thread
//! that unwinds.
//!
//! # Coroutines
//!
//! A frame of `timeout` may lie on the stack of a coroutine, and that may be suspended while its
//! thread goes on elsewhere, or go on on another thread. So a deadline that was set on the thread's
//! first stack holds wherever the thread is, since all else is called from there; one that was set
//! on a coroutine's holds while its thread is on that very stack. A frame that ends on another
//! thread takes its entry out of the list of the one that it began on: hence the lock, for which
//! nobody contends otherwise.

use std::any::Any;
use std::cell::OnceCell;
use std::ops::Range;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use bine_arch::stack;
use parking_lot::Mutex;

/// The list of one thread.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    set: Mutex<Set>,
    /// How many shields an OS thread has raised while it had deadlines. Those of green threads are
    /// counted elsewhere. Relaxed, as there.
    shields: AtomicU32,
    /// An OS thread unwinds since a deadline has passed, or did. Relaxed: its own.
    unwinding: AtomicBool,
}

#[derive(Debug, Default)]
struct Set {
    /// In the order of their setting.
    entries: Vec<Entry>,
    next_id: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    at: Instant,
    /// The pooled stack that the frame which has set it lies on; none is that of an OS thread.
    stack: Option<Range<usize>>,
    /// That is the thread's first stack.
    on_first: bool,
    /// How many shields were raised then.
    shields: u32,
}

/// The payload of the unwinding that ends what a deadline was set for.
#[derive(Debug)]
pub(crate) struct Expired {
    list: usize,
    id: u64,
}

impl Expired {
    /// Whether the call that has set the deadline `id` of `list` is to catch this.
    pub(crate) fn is_for(&self, list: &Arc<Deadlines>, id: u64) -> bool {
        self.list == Arc::as_ptr(list).addr() && self.id == id
    }
}

/// What a thread that sets a deadline is like.
#[derive(Debug)]
pub(crate) struct Setter {
    pub(crate) list: Arc<Deadlines>,
    /// How many shields are raised.
    pub(crate) shields: u32,
    /// An address in its first stack; none, for an OS thread.
    pub(crate) first_stack: Option<usize>,
}

impl Setter {
    /// Sets a deadline, for a call on the stack that this runs on. Its id.
    pub(crate) fn enter(&self, at: Instant) -> u64 {
        let stack = stack::current();
        let on_first = match (&stack, self.first_stack) {
            (Some(stack), Some(first)) => stack.contains(&first),
            (stack, first) => stack.is_none() && first.is_none(),
        };
        let mut set = self.list.set.lock();
        let id = set.next_id;
        set.next_id += 1;
        set.entries.push(Entry { id, at, stack, on_first, shields: self.shields });
        id
    }
}

impl Deadlines {
    /// Takes one out, by whichever thread its frame ends on.
    pub(crate) fn leave(&self, id: u64) {
        let mut set = self.set.lock();
        let place = set.entries.iter().rposition(|entry| entry.id == id);
        set.entries.remove(place.expect("a deadline is set until its call ends"));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.lock().entries.is_empty()
    }

    /// Of the deadlines that have passed and hold here, under so many shields, the one that was set
    /// first.
    pub(crate) fn expired(self: &Arc<Self>, shields: u32) -> Option<Expired> {
        let set = self.set.lock();
        // Looks at the clock and at where it is once, if any deadline asks for it.
        let (mut now, mut stack) = (None, None);
        let entry = set.entries.iter().find(|entry| {
            entry.shields == shields
                && entry.at <= *now.get_or_insert_with(Instant::now)
                && (entry.on_first || entry.stack == *stack.get_or_insert_with(stack::current))
        })?;
        Some(Expired { list: Arc::as_ptr(self).addr(), id: entry.id })
    }

    /// The next deadline to come.
    fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        self.set.lock().entries.iter().map(|entry| entry.at).filter(|at| *at > now).min()
    }
}

thread_local! {
    /// The calling OS thread's, once it has set one. Nothing here is asked for it on a green thread.
    static OF_OS_THREAD: OnceCell<Arc<Deadlines>> = const { OnceCell::new() };
}

/// The calling OS thread's list, if it has one. By value, out of line:
/// no address of a thread-local outlives a switch.
#[inline(never)]
fn of_os_thread() -> Option<Arc<Deadlines>> {
    OF_OS_THREAD.try_with(|list| list.get().cloned()).ok().flatten()
}

/// As [`of_os_thread`], made if need be. A thread whose thread-locals are being destroyed gets one
/// that nobody looks at.
#[inline(never)]
pub(crate) fn of_os_thread_or_new() -> Arc<Deadlines> {
    let list = OF_OS_THREAD.try_with(|list| Arc::clone(list.get_or_init(Arc::default)));
    list.unwrap_or_default()
}

/// How many shields the calling OS thread has raised that matter.
pub(crate) fn shields_of_os_thread() -> u32 {
    of_os_thread().map_or(0, |list| list.shields.load(Ordering::Relaxed))
}

/// The calling OS thread's deadline that has passed and holds, given how many shields are raised.
pub(crate) fn expired_on_os_thread(shields: u32) -> Option<Expired> {
    of_os_thread()?.expired(shields)
}

/// Whether [`look_on_os_thread`] would unwind.
pub(crate) fn is_os_thread_interrupted() -> bool {
    !std::thread::panicking() && expired_on_os_thread(shields_of_os_thread()).is_some()
}

/// For an OS thread that is about to wait.
///
/// # Panics
///
/// Unwinds if a deadline of its has passed.
pub(crate) fn look_on_os_thread() {
    let Some(list) = of_os_thread() else { return };
    if std::thread::panicking() {
        return;
    }
    // Whatever unwinding there was has been caught.
    list.unwinding.store(false, Ordering::Relaxed);
    if let Some(expired) = expired_on_os_thread(list.shields.load(Ordering::Relaxed)) {
        unwind_on_os_thread(Box::new(expired));
    }
}

/// Goes on with the unwinding of the calling OS thread with an [`Expired`].
pub(crate) fn unwind_on_os_thread(payload: Box<dyn Any + Send>) -> ! {
    note_unwinding_of_os_thread(true);
    // Without the panic hook: nothing went wrong.
    panic::resume_unwind(payload)
}

pub(crate) fn note_unwinding_of_os_thread(unwinding: bool) {
    if let Some(list) = of_os_thread() {
        list.unwinding.store(unwinding, Ordering::Relaxed);
    }
}

/// Whether the calling OS thread, which unwinds, does so since a deadline has passed.
pub(crate) fn unwinds_on_os_thread() -> bool {
    of_os_thread().is_some_and(|list| list.unwinding.load(Ordering::Relaxed))
}

/// Until when the calling OS thread may wait, before it has to look.
pub(crate) fn next_of_os_thread() -> Option<Instant> {
    of_os_thread()?.next()
}

/// A shield of an OS thread that has deadlines. Lowered when dropped.
#[derive(Debug)]
pub(crate) struct OsShield(Arc<Deadlines>);

impl OsShield {
    /// None where there is nothing to be shielded from.
    pub(crate) fn raise() -> Option<Self> {
        let list = of_os_thread().filter(|list| !list.is_empty())?;
        list.shields.fetch_add(1, Ordering::Relaxed);
        Some(Self(list))
    }
}

impl Drop for OsShield {
    fn drop(&mut self) {
        self.0.shields.fetch_sub(1, Ordering::Relaxed);
    }
}
