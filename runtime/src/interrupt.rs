//! What a green thread has to attend to before it next waits: that it was cancelled, or that it has
//! never waited before and is to enter the roll of those who have (see `roll`).
//!
//! # Protocol
//!
//! Whoever cancels a thread sets a bit in its word and then unparks it. Every wait of bine's goes
//! through [`wait::park`](crate::wait::park) or `park_until`, which look at the word first. A thread
//! that is parked thus wakes up, finds the condition that it waits for unmet, is about to park
//! again, and unwinds there; one whose condition is met meanwhile completes its operation, and
//! unwinds at the next one. A thread that looks at the word just before the bit is set finds the
//! token of the unpark, and does not park.
//!
//! The bit stays: a thread that catches the unwinding and goes on unwinds again when it next waits.
//!
//! # What is never interrupted
//!
//! - Sections of the user's ([`shielded`](crate::thread::shielded)) and of the runtime's own.
//! - A thread that unwinds already, for whatever reason: a second unwinding out of a destructor
//!   would end the process.
//! - Threads of a program that aborts on panic; there nobody can be cancelled.
//!
//! # Deadlines
//!
//! A thread that has deadlines (`deadlines.rs`) looks whether one has passed where it looks whether it
//! was cancelled: as long as it has any, a bit of its word says so. An OS thread, which has no word,
//! looks at its list where it would wait.

use std::any::Any;
use std::fmt;
use std::panic;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::deadlines::{self, Deadlines, Expired, OsShield, Setter};
use crate::fork;
use crate::request::Requests;
use crate::shared::Shared;
use crate::task::{Task, TaskRef};
use crate::{wait, worker};

/// The thread was cancelled.
const CANCELLED: u8 = 1 << 0;
/// The thread has never waited, and is thus not on its runtime's roll.
const NEW: u8 = 1 << 1;
/// This is a child that the thread has forked, and nobody would ever wake it here.
const FORKED: u8 = 1 << 2;
/// The thread has set deadlines for itself. Set and cleared by the thread.
const TIMED: u8 = 1 << 3;

/// As many threads with ids in a row are in one shard of the roll: a worker takes so many at a time.
const IDS_TOGETHER: u64 = 256;

/// The payload of the unwinding that ends a cancelled green thread, and hence the error of its join.
///
/// ```
/// use bine_runtime::thread::{self, Cancelled};
///
/// let waits = thread::spawn(|| thread::park());
/// waits.cancel().unwrap();
/// assert!(waits.join().unwrap_err().is::<Cancelled>());
/// ```
///
/// # Catching it
///
/// While a thread unwinds with it, locks whose guards it drops are not poisoned. Nobody tells the
/// runtime that the unwinding was caught: it takes that to be over when the thread next blocks. So
/// after a thread has caught it (with [`catch_unwind`](std::panic::catch_unwind)),
///
/// - a panic *before* the thread next blocks poisons no lock, and a lock that it drops then counts as
///   left in order;
/// - the same payload that is resumed by hand, with [`resume_unwind`](std::panic::resume_unwind), *after* the
///   thread has blocked ([`shielded`](crate::thread::shielded), say) poisons, as a panic does. The
///   thread need not do that: it unwinds by itself when it next blocks unshielded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the green thread was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// A thread's word, and what belongs to it; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Interrupts {
    word: Requests,
    /// How many sections that must not be interrupted the thread is in. Atomic, since a section may
    /// end on a coroutine that another thread has resumed; all accesses are Relaxed, by one at a time.
    shields: AtomicU32,
    /// The thread unwinds because it was cancelled or a deadline has passed, or did and has caught
    /// that. Accessed as `shields`.
    unwinding: AtomicBool,
    /// Made with the first deadline.
    deadlines: OnceLock<Arc<Deadlines>>,
}

impl Default for Interrupts {
    #[inline]
    fn default() -> Self {
        Self {
            word: Requests::new(NEW),
            shields: AtomicU32::new(0),
            unwinding: AtomicBool::new(false),
            deadlines: OnceLock::new(),
        }
    }
}

impl Interrupts {
    /// For the calling thread, before it waits: attends to what there is. Does not switch.
    ///
    /// # Panics
    ///
    /// As [`attend`](Self::attend).
    #[inline]
    pub(crate) fn look(&self) {
        if self.word.any() {
            self.attend();
        }
    }

    /// As [`look`](Self::look), before the thread yields. False if there is nobody to yield to.
    #[inline]
    pub(crate) fn look_to_yield(&self) -> bool {
        if self.word.any() {
            return self.attend_to_yield();
        }
        true
    }

    #[cold]
    fn attend_to_yield(&self) -> bool {
        let forked = self.word.asks(FORKED);
        if !forked {
            self.attend();
        }
        !forked
    }

    /// In a child that the thread, which calls, has just forked. Async-signal-safe.
    pub(crate) fn forked(&self) {
        // As new, so that it needs no lock of the roll's at its end: others may have held it.
        self.word.ask(FORKED | NEW);
    }

    /// Whether [`look`](Self::look) would unwind. For the calling thread, before it waits.
    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.word.any() && self.would_unwind()
    }

    #[cold]
    fn would_unwind(&self) -> bool {
        if self.word.asks(FORKED) {
            return !std::thread::panicking() && !self.is_shielded();
        }
        if let Some((_, task)) = worker::green() {
            enter_roll(task);
        }
        !std::thread::panicking() && (self.may_interrupt() || self.expired().is_some())
    }

    /// A deadline of the thread's, which calls, that has passed and is not shielded.
    fn expired(&self) -> Option<Expired> {
        self.expired_under(self.shields.load(Ordering::Relaxed))
    }

    /// As [`expired`](Self::expired), were so many shields raised.
    fn expired_under(&self, shields: u32) -> Option<Expired> {
        if !self.word.asks(TIMED) {
            return None;
        }
        self.deadlines.get()?.expired(shields)
    }

    fn may_interrupt(&self) -> bool {
        self.is_cancelled() && !self.is_shielded()
    }

    fn is_shielded(&self) -> bool {
        self.shields.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.word.asks(CANCELLED)
    }

    /// Whether the thread, which calls, has never waited.
    pub(crate) fn is_new(&self) -> bool {
        self.word.asks(NEW)
    }

    /// Does what is to be done before the calling thread waits, which may be to unwind.
    ///
    /// # Panics
    ///
    /// With [`Cancelled`] if the thread was cancelled and may be interrupted, and with [`Expired`] if a
    /// deadline has passed. In a forked child, with a message; where that cannot be, the thread waits and its worker ends the process.
    #[cold]
    fn attend(&self) {
        if self.word.asks(FORKED) {
            assert!(std::thread::panicking() || self.is_shielded(), "{}", fork::GREEN_WAITS);
            return;
        }
        if let Some((_, task)) = worker::green() {
            enter_roll(task);
        }
        if std::thread::panicking() {
            return;
        }
        // Whatever unwinding there was has been caught.
        self.unwinding.store(false, Ordering::Relaxed);
        if self.may_interrupt() {
            self.unwind();
        }
        if let Some(expired) = self.expired() {
            self.unwind_with(Box::new(expired));
        }
    }

    fn unwind(&self) -> ! {
        self.unwind_with(Box::new(Cancelled))
    }

    fn unwind_with(&self, payload: Box<dyn Any + Send>) -> ! {
        self.unwinding.store(true, Ordering::Relaxed);
        // Without the panic hook: nothing went wrong.
        panic::resume_unwind(payload)
    }

    /// Whether the thread, which unwinds, does so because it was cancelled or a deadline has passed.
    pub(crate) fn unwinds_cancelled(&self) -> bool {
        self.unwinding.load(Ordering::Relaxed)
    }
}

/// Has the calling thread, `task`, enter its runtime's roll, if it is not there.
pub(crate) fn enter_roll(task: NonNull<Task>) {
    // SAFETY: the thread that runs is alive, and its cell keeps the shared state. It leaves the roll
    // in `leave_roll` before its run reference goes.
    unsafe {
        let this = task.as_ref();
        if !this.interrupts.is_new() {
            return;
        }
        let called = this.shared.as_ref().roll.enter(this.id / IDS_TOGETHER, task);
        this.interrupts.word.clear(NEW);
        if called {
            this.interrupts.word.ask(CANCELLED);
        }
    }
}

/// Takes a thread that has ended off the roll, if it is there.
///
/// # Safety
///
/// The caller owns the run reference, and the thread waits no more.
#[inline]
pub(crate) unsafe fn leave_roll(task: NonNull<Task>) {
    // SAFETY: the caller's promise.
    unsafe {
        let this = task.as_ref();
        if !this.interrupts.is_new() {
            this.shared.as_ref().roll.leave(this.id / IDS_TOGETHER, task);
        }
    }
}

impl Shared {
    /// Cancels all threads that live, and those that are still to be spawned; not `except`, which is
    /// on the roll.
    pub(crate) fn cancel_all(&self, except: Option<NonNull<Task>>) {
        // Under the shard's lock, which nothing takes that an unpark does.
        self.roll.call(|task| {
            if Some(task) != except {
                // SAFETY: on the roll, so its run reference is there.
                unsafe { TaskRef::from_borrowed(task) }.cancel();
            }
        });
    }
}

impl TaskRef {
    /// Has the thread unwind when it next waits, or now if it waits. Nothing happens to a thread that
    /// has ended.
    pub(crate) fn cancel(&self) {
        self.interrupts.word.ask(CANCELLED);
        wait::unpark_green(self);
    }
}

/// Whether the calling green thread could be interrupted here if it were cancelled.
pub(crate) fn may_be_interrupted() -> bool {
    worker::green().is_some_and(|(_, task)| {
        // SAFETY: the thread that runs is alive.
        let interrupts = &unsafe { task.as_ref() }.interrupts;
        !std::thread::panicking() && interrupts.shields.load(Ordering::Relaxed) == 0
    })
}

/// Goes on with the unwinding of the calling green thread, which was cancelled, after something of the
/// runtime's own has caught it and waited.
pub(crate) fn unwind_cancelled() -> ! {
    match worker::green() {
        // SAFETY: the thread that runs is alive.
        Some((_, task)) => unsafe { task.as_ref() }.interrupts.unwind(),
        None => panic::resume_unwind(Box::new(Cancelled) as Box<dyn Any + Send>),
    }
}

/// As [`unwind_cancelled`], with the payload of a deadline that has passed.
pub(crate) fn unwind_expired(payload: Box<dyn Any + Send>) -> ! {
    match worker::green() {
        // SAFETY: the thread that runs is alive.
        Some((_, task)) => unsafe { task.as_ref() }.interrupts.unwind_with(payload),
        None => deadlines::unwind_on_os_thread(payload),
    }
}

/// The unwinding for a deadline was caught by the one who is to.
pub(crate) fn caught_expiry() {
    match worker::green() {
        Some((_, task)) => {
            // SAFETY: the thread that runs is alive.
            let interrupts = &unsafe { task.as_ref() }.interrupts;
            interrupts.unwinding.store(false, Ordering::Relaxed);
        }
        None => deadlines::note_unwinding_of_os_thread(false),
    }
}

/// The calling thread, which is about to set a deadline.
pub(crate) fn setter_of_deadlines() -> Setter {
    let Some((_, task)) = worker::green() else {
        let list = deadlines::of_os_thread_or_new();
        let shields = deadlines::shields_of_os_thread();
        return Setter { list, shields, first_stack: None };
    };
    // SAFETY: the thread that runs is alive, and keeps its stack.
    unsafe {
        let this = task.as_ref();
        let stack = (*this.stack.get()).as_ref();
        Setter {
            list: Arc::clone(this.interrupts.deadlines.get_or_init(Arc::default)),
            shields: this.interrupts.shields.load(Ordering::Relaxed),
            first_stack: stack.map(|stack| stack.limit().addr().get()),
        }
    }
}

/// The calling thread has set one.
pub(crate) fn note_deadline() {
    if let Some((_, task)) = worker::green() {
        // SAFETY: the thread that runs is alive.
        unsafe { task.as_ref() }.interrupts.word.ask(TIMED);
    }
}

/// A deadline was taken back: the calling thread's, or that of another one, which then finds out.
pub(crate) fn forget_deadline() {
    if let Some((_, task)) = worker::green() {
        // SAFETY: the thread that runs is alive.
        let interrupts = &unsafe { task.as_ref() }.interrupts;
        if interrupts.deadlines.get().is_some_and(|list| list.is_empty()) {
            interrupts.word.clear(TIMED);
        }
    }
}

/// A reference to the calling green thread, `task`.
pub(crate) fn reference_to(task: NonNull<Task>) -> TaskRef {
    debug_assert!(worker::green().is_some_and(|(_, current)| current == task));
    // SAFETY: the thread that runs is alive.
    unsafe { TaskRef::from_borrowed(task) }
}

/// Looks, from within a shield that is raised after this was made, whether a deadline has passed that
/// would interrupt the thread outside of it.
#[derive(Debug)]
pub(crate) struct Lookout {
    /// How many shields are raised outside. None if the thread unwinds.
    shields: Option<u32>,
}

impl Lookout {
    pub(crate) fn new() -> Self {
        let shields = match worker::green() {
            // SAFETY: the thread that runs is alive.
            Some((_, task)) => unsafe { task.as_ref() }.interrupts.shields.load(Ordering::Relaxed),
            None => deadlines::shields_of_os_thread(),
        };
        Self { shields: (!std::thread::panicking()).then_some(shields) }
    }

    pub(crate) fn sees_expiry(&self) -> bool {
        let Some(shields) = self.shields else { return false };
        let expired = match worker::green() {
            // SAFETY: the thread that runs is alive.
            Some((_, task)) => unsafe { task.as_ref() }.interrupts.expired_under(shields),
            None => deadlines::expired_on_os_thread(shields),
        };
        expired.is_some()
    }
}

/// A section in which the thread that made this is not interrupted. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Shield(Option<Shielded>);

#[derive(Debug)]
enum Shielded {
    Green(TaskRef),
    Os { _shield: OsShield },
}

impl Shield {
    /// For the calling thread. Nothing on an OS thread without deadlines.
    pub(crate) fn raise() -> Self {
        let Some((_, task)) = worker::green() else {
            return Self(OsShield::raise().map(|shield| Shielded::Os { _shield: shield }));
        };
        // SAFETY: the thread that runs is alive.
        let task = unsafe { TaskRef::from_borrowed(task) };
        task.interrupts.shields.fetch_add(1, Ordering::Relaxed);
        Self(Some(Shielded::Green(task)))
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        if let Some(Shielded::Green(task)) = &self.0 {
            task.interrupts.shields.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
