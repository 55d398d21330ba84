//! Scopes: green threads that borrow from the one who spawned them.
//!
//! # Why it is sound
//!
//! A child's closure is wrapped into a [`Child`], and its result goes into a [`Packet`] beside the
//! thread's cell. The child counts as ended when its closure and what that captured are gone, its
//! result is in place (or dropped, if the handle was), and the packet is let go: in the destructor of
//! its last field, [`End`]. After that the thread touches only what is `'static`: the scope's data,
//! of which it has a counted reference, and its own cell, in which no closure and no result of the
//! user's is left.
//!
//! A handle lives no longer than the scope, since `'scope` is in its type: whoever joins or drops one
//! is the scope's closure or a child, and the scope waits for both. A handle that is forgotten keeps
//! its result for ever, so nobody drops it.
//!
//! # Runtimes that stop
//!
//! A child that never ran is dropped with its closure, which counts as its end. A child that has run
//! and is abandoned never ends; its stack stays and goes on borrowing. If the owner of the scope is a
//! thread of the same runtime, it is abandoned as well. If not (its closure may be on a coroutine
//! that has changed runtimes, say), it waits for ever: nothing else would be sound.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Result;
use std::{fmt, io};

use parking_lot::Mutex;

use super::cancel::check_unwinding;
use super::handle::{Thread, current};
use super::join::JoinHandle;
use super::spawn::Builder;
use crate::completion::{Completed, Completion};
use crate::countdown::Countdown;
use crate::deadlines::Expired;
use crate::interrupt::{self, Cancelled, Lookout, Shield};
use crate::task::TaskRef;
use crate::wait::{self, Unparker};
use crate::worker;

/// Where threads that borrow are spawned; see [`scope`] and [`std::thread::Scope`].
pub struct Scope<'scope, 'env: 'scope> {
    data: Arc<ScopeData>,
    /// Invariant in `'scope`: a shorter one would let a child borrow what ends before the scope.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// What a scope and its children share. Nothing of a user's.
pub(super) struct ScopeData {
    countdown: Countdown<Unparker>,
    /// How many children have panicked and were not joined.
    panics: AtomicUsize,
    children: Mutex<Children>,
    owner: Thread,
}

#[derive(Default)]
struct Children {
    /// Those that have started and not ended.
    live: Vec<Option<TaskRef>>,
    free: Vec<usize>,
    /// Those that start from now on are cancelled.
    cancelled: bool,
}

// No code of a user runs while any of it is being changed.
impl panic::RefUnwindSafe for ScopeData {}

impl ScopeData {
    fn cancel(&self) {
        let live: Vec<TaskRef> = {
            let mut children = self.children.lock();
            children.cancelled = true;
            children.live.iter().flatten().cloned().collect()
        };
        live.iter().for_each(TaskRef::cancel);
    }

    /// Runs the closure of a child whose error or panic, though not its own cancellation, cancels the
    /// scope.
    fn cancel_unless_ok<T, E>(
        &self,
        f: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let result = panic::catch_unwind(AssertUnwindSafe(f));
        let failed = is_panic(&result) || matches!(result, Ok(Err(_)));
        if failed && check_unwinding().is_ok() {
            self.cancel();
        }
        result.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// The calling green thread, a child, starts. Returns its place among the live ones.
    fn start(&self) -> usize {
        let (_, task) = worker::green().expect("children are green threads");
        // SAFETY: the thread that runs is alive.
        let task = unsafe { TaskRef::from_borrowed(task) };
        let mut children = self.children.lock();
        if children.cancelled {
            task.cancel();
        }
        match children.free.pop() {
            Some(place) => {
                children.live[place] = Some(task);
                place
            }
            None => {
                children.live.push(Some(task));
                children.live.len() - 1
            }
        }
    }

    fn remove(&self, place: usize) {
        let mut children = self.children.lock();
        children.live[place] = None;
        children.free.push(place);
    }
}

/// Makes a scope: threads that are spawned there may borrow what lives outside of it, since all of
/// them have ended when this returns. They run on the caller's runtime; on the default one, if the
/// caller is an OS thread.
///
/// ```
/// use bine_runtime::thread;
///
/// let mut words = vec!["one", "two"];
/// let (first, mut count) = (words[0], 0);
/// thread::scope(|scope| {
///     scope.spawn(|| assert_eq!(first, "one"));
///     scope.spawn(|| count = words.len());
/// });
/// words.push("three");
/// assert_eq!(count, 2);
/// ```
///
/// The wait at the end is not interrupted if the calling green thread is cancelled. Its children are
/// then cancelled instead, and the thread unwinds when it next blocks. If it is cancelled while `f`
/// runs, and `f` unwinds for that, the children are cancelled, too. If `f` panics they go on, and are
/// waited for. It is the same where the time of a [timeout](crate::time::timeout()) has come that the
/// thread has set around the scope. In a [`shielded`](super::shielded) section and in a destructor of a thread that unwinds,
/// nothing of the owner's is interrupted, so the children of a scope there go on as well.
///
/// A child cannot borrow what ends before the scope does:
///
/// ```compile_fail,E0373
/// bine_runtime::thread::scope(|scope| {
///     let inside = 1;
///     scope.spawn(|| println!("{inside}"));
/// });
/// ```
///
/// nor capture what must stay on its thread, nor leave its handle or the scope to those outside:
///
/// ```compile_fail,E0277
/// let here = std::rc::Rc::new(1);
/// bine_runtime::thread::scope(|scope| {
///     scope.spawn(|| println!("{here}"));
/// });
/// ```
///
/// ```compile_fail
/// let handle = bine_runtime::thread::scope(|scope| scope.spawn(|| 1));
/// ```
///
/// ```compile_fail,E0521
/// let mut outside = None;
/// bine_runtime::thread::scope(|scope| outside = Some(scope));
/// ```
///
/// ```compile_fail,E0499
/// let mut number = 1;
/// bine_runtime::thread::scope(|scope| {
///     scope.spawn(|| number += 1);
///     scope.spawn(|| number += 1);
/// });
/// ```
///
/// # Panics
///
/// With the payload of `f` if `f` panics, and else if a child has panicked that was not joined. A
/// child that was cancelled has not panicked.
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        data: Arc::new(ScopeData {
            countdown: Countdown::new(),
            panics: AtomicUsize::new(0),
            children: Mutex::default(),
            owner: current(),
        }),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = panic::catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let cancelled =
        matches!(&result, Err(payload) if payload.is::<Cancelled>()) && super::cancelled();
    let expired = matches!(&result, Err(payload) if payload.is::<Expired>());
    if cancelled || expired {
        scope.data.cancel();
    }
    let cut_short = wait_for_children(&scope.data);
    match result {
        Err(_) if cancelled => interrupt::unwind_cancelled(),
        Err(payload) if expired => interrupt::unwind_expired(payload),
        Err(payload) => panic::resume_unwind(payload),
        // Relaxed: all children have ended.
        Ok(_) if scope.data.panics.load(Ordering::Relaxed) != 0 => {
            panic!("a scoped thread panicked")
        }
        Ok(value) => {
            if cut_short {
                // Not at the next wait, of which there may be none: the children have not done what
                // they were to do.
                wait::interrupt();
            }
            value
        }
    }
}

/// Whether the children were cancelled since a deadline of the calling thread's has passed.
fn wait_for_children(data: &ScopeData) -> bool {
    // SAFETY: once, at the end of the scope. By whoever ends it, which need not be the one who began
    // it: both may be on a coroutine.
    if unsafe { data.countdown.wait(Unparker::current()) } {
        return false;
    }
    // Before the shield of ours.
    let mut passes_on = interrupt::may_be_interrupted();
    let lookout = Lookout::new();
    let mut cut_short = false;
    let _shield = Shield::raise();
    while !data.countdown.is_over() {
        if passes_on && super::cancelled() {
            passes_on = false;
            data.cancel();
        }
        if !cut_short && lookout.sees_expiry() {
            cut_short = true;
            data.cancel();
        }
        wait::park();
    }
    cut_short
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Spawns a thread that may borrow what lives outside of the scope.
    ///
    /// # Panics
    ///
    /// If the thread cannot be made. [`Builder::spawn_scoped`] returns the error.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        match Builder::new().spawn_scoped(self, f) {
            Ok(handle) => handle,
            Err(error) => panic!("failed to spawn a green thread: {error}"),
        }
    }

    /// Spawns a thread whose failure cancels the scope: if it returns an error or panics, all other
    /// children are cancelled, as by [`cancel`](Self::cancel). [`try_scope`] also keeps the error.
    ///
    /// ```
    /// use bine_runtime::thread;
    ///
    /// thread::scope(|scope| {
    ///     let waits = scope.spawn(thread::park);
    ///     let fails = scope.spawn_try(|| Err::<(), _>("no"));
    ///     assert_eq!(fails.join().unwrap(), Err("no"));
    ///     assert!(waits.join().unwrap_err().is::<thread::Cancelled>());
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_try<F, T, E>(
        &'scope self,
        f: F,
    ) -> ScopedJoinHandle<'scope, std::result::Result<T, E>>
    where
        F: FnOnce() -> std::result::Result<T, E> + Send + 'scope,
        T: Send + 'scope,
        E: Send + 'scope,
    {
        let data = Arc::clone(&self.data);
        self.spawn(move || data.cancel_unless_ok(f))
    }

    /// Cancels all children that live now, as [`JoinHandle::cancel`] does, and those that are spawned
    /// later from their start.
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::cancel`].
    pub fn cancel(&self) -> io::Result<()> {
        check_unwinding()?;
        self.data.cancel();
        Ok(())
    }
}

impl Builder {
    /// Spawns the thread in `scope`.
    ///
    /// # Errors and panics
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let packet = Arc::new(Packet {
            completion: Completion::new(),
            result: UnsafeCell::new(None),
            scope: PhantomData,
        });
        assert!(scope.data.countdown.add(), "too many running threads in thread scope");
        let child = Child {
            closure: MaybeUninit::new(f),
            pending: true,
            packet: Arc::clone(&packet),
            end: End(Arc::clone(&scope.data)),
        };
        // SAFETY: what the closure borrows outlives the scope, which does not end before `child`
        // does. The thread's own result is (), so nothing else is borrowed.
        let thread = unsafe { self.spawn_here(move || child.run())? };
        Ok(ScopedJoinHandle { thread, packet, data: Arc::clone(&scope.data) })
    }
}

/// The way of a child's result to its handle.
struct Packet<'scope, T> {
    /// Whether the result is the handle's or the thread's to drop.
    completion: Completion<()>,
    result: UnsafeCell<Option<Result<T>>>,
    scope: PhantomData<&'scope ()>,
}

// SAFETY: the result has one owner at a time, which `completion` names; it moves between threads.
unsafe impl<T: Send> Sync for Packet<'_, T> {}

impl<T> Packet<'_, T> {
    /// # Safety
    ///
    /// The completion has given the result to the caller.
    unsafe fn drop_result(&self) {
        // SAFETY: the caller's promise.
        let result = unsafe { (*self.result.get()).take() };
        // A destructor that waits must not be interrupted: the unwinding would end the process.
        let _shield = Shield::raise();
        // As std: a result that panics when nobody can take it ends the process.
        if panic::catch_unwind(AssertUnwindSafe(|| drop(result))).is_err() {
            eprintln!("fatal: the result of a green thread panicked when it was dropped");
            std::process::abort();
        }
    }
}

/// A child's closure, from its making to its end. The fields are dropped in this order.
struct Child<'scope, F, T> {
    /// Behind `MaybeUninit`, since this value is an argument of functions that return after the
    /// scope has ended, and references in arguments must be good until the return.
    closure: MaybeUninit<F>,
    /// The closure has not run.
    pending: bool,
    packet: Arc<Packet<'scope, T>>,
    end: End,
}

impl<F: FnOnce() -> T, T> Child<'_, F, T> {
    fn run(mut self) {
        let data = Arc::clone(&self.end.0);
        let _place = Place { data: &data, place: data.start() };
        self.pending = false;
        // SAFETY: it is there, and `pending` says that it is not any more.
        let closure = unsafe { self.closure.assume_init_read() };
        let result = panic::catch_unwind(AssertUnwindSafe(closure));
        if is_panic(&result) {
            // Relaxed: for the scope's owner, which comes after the end of this thread.
            data.panics.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: before `complete` the result is the thread's.
        unsafe { *self.packet.result.get() = Some(result) };
        // SAFETY: once.
        if let Completed::Detached = unsafe { self.packet.completion.complete() } {
            // SAFETY: the completion says so.
            unsafe { self.packet.drop_result() };
        }
    }
}

impl<F, T> Drop for Child<'_, F, T> {
    fn drop(&mut self) {
        if self.pending {
            // SAFETY: it is there, and this is the end of the value.
            unsafe { self.closure.assume_init_drop() };
        }
    }
}

/// A child among the live ones.
struct Place<'a> {
    data: &'a ScopeData,
    place: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.data.remove(self.place);
    }
}

/// Counts the child's end when dropped.
struct End(Arc<ScopeData>);

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: once for the `add` before this was made. Our reference keeps the data until this
        // returns, whatever the owner does.
        if let Some(owner) = unsafe { self.0.countdown.end() } {
            owner.unpark();
        }
    }
}

/// Whether it is the error of a thread that panicked, and was not only cancelled.
fn is_panic<T>(result: &Result<T>) -> bool {
    matches!(result, Err(payload) if !payload.is::<Cancelled>())
}

/// The right to wait for the end of a scope's child and take its result; see
/// [`std::thread::ScopedJoinHandle`]. Who drops it leaves the wait to the scope.
pub struct ScopedJoinHandle<'scope, T> {
    thread: JoinHandle<()>,
    packet: Arc<Packet<'scope, T>>,
    data: Arc<ScopeData>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// The thread's handle.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.thread.thread()
    }

    /// Waits for the thread's end and returns its value, or its panic as the error, which the scope
    /// then does not report.
    ///
    /// # Panics
    ///
    /// If a thread joins itself.
    pub fn join(self) -> Result<T> {
        self.thread.wait()?;
        // SAFETY: the thread has ended, and with it has completed the packet, unless it never ran;
        // we have the one handle.
        let Some(result) = (unsafe { (*self.packet.result.get()).take() }) else {
            return Err(Box::new(crate::task::Abandoned) as Box<dyn Any + Send>);
        };
        if is_panic(&result) {
            // Relaxed: whoever joins ends before the scope does.
            self.data.panics.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    /// Whether the thread has ended, so that [`join`](Self::join) would not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// As [`JoinHandle::cancel`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn cancel(&self) -> io::Result<()> {
        self.thread.cancel()
    }
}

impl<T> Drop for ScopedJoinHandle<'_, T> {
    fn drop(&mut self) {
        if self.packet.completion.detach() {
            // SAFETY: the completion says so. Empty after a join.
            unsafe { self.packet.drop_result() };
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("num_running_threads", &self.data.countdown.children())
            .field("a_thread_panicked", &(self.data.panics.load(Ordering::Relaxed) != 0))
            .field("main_thread", &self.data.owner)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}

/// A scope of threads that may fail; see [`try_scope`].
pub struct TryScope<'scope, 'env: 'scope, E> {
    scope: &'scope Scope<'scope, 'env>,
    first: Arc<Mutex<Option<E>>>,
}

/// As [`scope`], for threads that may fail: the first error, of a child or of `f`, cancels all
/// children that are left, and is returned when they have ended.
///
/// The calling thread itself is not cancelled: `f` runs to its end.
///
/// ```
/// use bine_runtime::thread;
///
/// let texts = ["1", "x", "3"];
/// let error = thread::try_scope(|scope| {
///     for text in &texts {
///         scope.spawn(move || text.parse::<i32>());
///     }
///     scope.spawn(|| Ok(thread::park())); // cancelled when the second one fails
///     Ok(())
/// });
/// assert!(error.is_err());
/// ```
///
/// # Errors
///
/// The first one. Later ones are dropped; a child that is cancelled has none.
///
/// # Panics
///
/// As [`scope`]. A child that panics cancels the others, too.
#[track_caller]
pub fn try_scope<'env, F, T, E>(f: F) -> std::result::Result<T, E>
where
    F: for<'scope> FnOnce(&TryScope<'scope, 'env, E>) -> std::result::Result<T, E>,
    E: Send + 'env,
{
    let first = Arc::new(Mutex::new(None));
    let value = scope(|scope| {
        let scope = TryScope { scope, first: Arc::clone(&first) };
        match f(&scope) {
            Ok(value) => Some(value),
            Err(error) => {
                keep_first(&first, error);
                let _ = scope.scope.cancel();
                None
            }
        }
    });
    let error = first.lock().take();
    match (error, value) {
        (Some(error), _) => Err(error),
        (None, Some(value)) => Ok(value),
        (None, None) => unreachable!("a closure that fails leaves its error"),
    }
}

fn keep_first<E>(first: &Mutex<Option<E>>, error: E) {
    let mut first = first.lock();
    if first.is_none() {
        *first = Some(error);
    }
    // A later error is dropped after the guard, in the reverse order of their declaration.
    drop(first);
}

impl<'scope, 'env, E> TryScope<'scope, 'env, E> {
    /// Spawns a thread that may fail. Its handle gives `None` if it did: the error is the scope's.
    ///
    /// # Panics
    ///
    /// As [`Scope::spawn`].
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> ScopedJoinHandle<'scope, Option<T>>
    where
        F: FnOnce() -> std::result::Result<T, E> + Send + 'scope,
        T: Send + 'scope,
        E: Send + 'scope,
    {
        let (data, first) = (Arc::clone(&self.scope.data), Arc::clone(&self.first));
        self.scope.spawn(move || {
            // Kept before the siblings are cancelled, which may have errors for that.
            data.cancel_unless_ok(|| f().map_err(|error| keep_first(&first, error))).ok()
        })
    }

    /// The scope itself, to spawn threads that cannot fail, or to cancel.
    pub fn scope(&self) -> &'scope Scope<'scope, 'env> {
        self.scope
    }
}

impl<E> fmt::Debug for TryScope<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryScope").field("scope", self.scope).finish_non_exhaustive()
    }
}
