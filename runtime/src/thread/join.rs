//! Waiting for a green thread's end.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::Result;

use super::handle::{Inner, Thread};
use crate::shared::Shared;
use crate::task::{Abandoned, TaskRef};
use crate::wait::{self, Unparker};
use crate::worker;

/// The right to wait for a green thread's end and take its result; see [`std::thread::JoinHandle`].
/// Dropping it detaches the thread.
///
/// It is a future as well, whose output is that of [`join`](Self::join), for asynchronous code that
/// waits for a green thread. It panics if it is polled again after that.
///
/// ```
/// let thread = bine_runtime::spawn(|| "done");
/// assert_eq!(bine_runtime::block_on(thread).unwrap(), "done");
/// ```
pub struct JoinHandle<T> {
    thread: Thread,
    awaited: Awaited,
    result: PhantomData<fn() -> T>,
}

/// What the handle has done as a future.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Never,
    /// It may have a waker registered, in one place or two.
    Pending,
    /// It has given the result away.
    Ready,
}

// The result leaves by value, to one taker, so the handle may be shared whatever `T` is, as in std.
// (`PhantomData<fn() -> T>` makes it Send and Sync.)

impl<T> JoinHandle<T> {
    /// The one handle for a thread that was just made, whose result is a `T`.
    pub(super) fn new(thread: Thread) -> Self {
        Self { thread, awaited: Awaited::Never, result: PhantomData }
    }

    pub(super) fn task(&self) -> &TaskRef {
        match &self.thread.0 {
            Inner::Green(task) => task,
            Inner::Os { .. } => unreachable!("join handles are made for green threads"),
        }
    }

    /// The thread's handle.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.task().completion.is_done()
    }

    /// Waits for the thread's end and returns its value, or its panic as the error. The error of a
    /// thread whose runtime was shut down before it ended is an [`Abandoned`].
    ///
    /// # Panics
    ///
    /// If a thread joins itself, as std. If the handle was awaited to the end. In a process that was
    /// forked from the one that has the thread, unless that had ended by then.
    pub fn join(mut self) -> Result<T> {
        self.forget_waker();
        self.wait()?;
        self.take_result()
    }

    /// Waits for the thread's end. Once; for the one who consumes the handle.
    pub(super) fn wait(&self) -> Result<()> {
        if worker::green().is_some_and(|(_, task)| task == self.task().as_ptr()) {
            panic!("failed to join a green thread: it would wait for itself");
        }
        if !wait_for_end(self.task()) {
            return Err(Box::new(Abandoned));
        }
        Ok(())
    }

    /// The thread has ended.
    fn take_result(&self) -> Result<T> {
        // SAFETY: the thread has ended and this is its one join handle, with its result's type.
        let result = unsafe { self.task().take_result::<T>() };
        result.unwrap_or_else(|| Err(Box::new(Abandoned) as Box<dyn Any + Send>))
    }

    /// Takes back what `poll` has registered.
    ///
    /// # Panics
    ///
    /// If the result was given away.
    fn forget_waker(&mut self) {
        match self.awaited {
            Awaited::Never => {}
            Awaited::Pending => {
                self.awaited = Awaited::Never;
                self.take_waker_back();
            }
            Awaited::Ready => panic!("the green thread's result was taken by awaiting it"),
        }
    }

    fn take_waker_back(&self) {
        // Both are taken back before either is dropped, which is somebody's code and may unwind.
        // SAFETY: ours is the one join handle.
        let _registered = unsafe { self.task().completion.take_back() };
        shared_of(self.task()).outsiders.remove(self.task().id);
    }
}

fn shared_of(task: &TaskRef) -> &Shared {
    // SAFETY: the reference keeps the cell, and the cell its runtime's shared state.
    unsafe { task.shared.as_ref() }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.get_mut();
        this.forget_waker();
        let task = this.task();
        let joiner = Unparker::from_waker(context.waker().clone());
        // SAFETY: ours is the one join handle, and what it had registered was taken back.
        let ended =
            task.completion.is_done() || !unsafe { task.completion.register(joiner.clone()) };
        if !ended {
            if let Err(error) = shared_of(task).check_process() {
                panic!("failed to await a green thread: {error}");
            }
            // Whoever is woken need not be a thread of the runtime, which may stop first.
            let shared = shared_of(task);
            shared.outsiders.add(task.id, joiner);
            if !shared.outsiders.has_stopped() {
                this.awaited = Awaited::Pending;
                return Poll::Pending;
            }
        }
        let result = if ended || task.completion.is_done() {
            this.take_result()
        } else {
            Err(Box::new(Abandoned) as Box<dyn Any + Send>)
        };
        this.awaited = Awaited::Ready;
        this.take_waker_back();
        Poll::Ready(result)
    }
}

/// False if the thread's runtime has stopped and it will never end.
fn wait_for_end(task: &TaskRef) -> bool {
    if task.completion.is_done() {
        wait::checkpoint();
        return true;
    }
    // SAFETY: the caller has the one join handle, which `join` consumes.
    if !unsafe { task.completion.register(Unparker::current()) } {
        return true;
    }
    let _registered = Registered(task);
    // SAFETY: our reference keeps the cell, and the cell its runtime's shared state.
    let shared = unsafe { task.shared.as_ref() };
    let inside = worker::core().is_some_and(|core| core.shared == task.shared);
    if inside {
        while !task.completion.is_done() {
            wait::park();
        }
        return true;
    }
    if let Err(error) = shared.check_process() {
        panic!("failed to join a green thread: {error}");
    }
    shared.outsiders.add(task.id, Unparker::current());
    let _entry = ForeignJoiner { shared, id: task.id };
    shared.outsiders.wait(|| task.completion.is_done(), wait::park)
}

/// Takes the calling thread back out of the one that it waits for if the wait unwinds. Else the cell of
/// the one would keep that of the other: threads in a row would go only with the last one, each in the
/// middle of the next, and threads in a circle never.
struct Registered<'a>(&'a TaskRef);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        // SAFETY: by the one joiner, which detaches afterwards if at all.
        if let Some(joiner) = unsafe { self.0.completion.take_back() } {
            drop(joiner);
        }
    }
}

/// Takes the joiner of thread `id` out again when the wait ends, by return or by unwinding.
struct ForeignJoiner<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for ForeignJoiner<'_> {
    fn drop(&mut self) {
        self.shared.outsiders.remove(self.id);
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        struct Detaches<'a>(&'a TaskRef);

        impl Drop for Detaches<'_> {
            fn drop(&mut self) {
                if self.0.completion.detach() {
                    // SAFETY: the completion gave the result to us. Empty after a join.
                    unsafe { self.0.drop_result() };
                }
            }
        }

        // Also if a waker unwinds when it is dropped.
        let _detaches = Detaches(self.task());
        if self.awaited == Awaited::Pending {
            self.take_waker_back();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}
