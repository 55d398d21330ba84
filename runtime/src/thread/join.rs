//! Waiting for a green thread's end.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::thread::Result;

use super::handle::{Inner, Thread};
use crate::shared::Shared;
use crate::task::{Abandoned, TaskRef};
use crate::wait::{self, Unparker};
use crate::worker;

/// The right to wait for a green thread's end and take its result; see [`std::thread::JoinHandle`].
/// Dropping it detaches the thread.
pub struct JoinHandle<T> {
    pub(super) thread: Thread,
    pub(super) result: PhantomData<fn() -> T>,
}

// The result leaves by value, to one taker, so the handle may be shared whatever `T` is, as in std.
// (`PhantomData<fn() -> T>` makes it Send and Sync.)

impl<T> JoinHandle<T> {
    pub(super) fn task(&self) -> &TaskRef {
        match &self.thread.0 {
            Inner::Green(task) => task,
            Inner::Os { .. } => unreachable!("join handles are made for green threads"),
        }
    }

    /// The thread's handle.
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
    /// If a thread joins itself, as std.
    pub fn join(self) -> Result<T> {
        if worker::green().is_some_and(|(_, task)| task == self.task().as_ptr()) {
            panic!("failed to join a green thread: it would wait for itself");
        }
        if !wait_for_end(self.task()) {
            return Err(Box::new(Abandoned));
        }
        // SAFETY: the thread has ended and this is its one join handle, with its result's type.
        let result = unsafe { self.task().take_result::<T>() };
        result.unwrap_or_else(|| Err(Box::new(Abandoned) as Box<dyn Any + Send>))
    }
}

/// False if the thread's runtime has stopped and it will never end.
fn wait_for_end(task: &TaskRef) -> bool {
    // SAFETY: the caller has the one join handle, which `join` consumes.
    if task.completion.is_done() || !unsafe { task.completion.register(Unparker::current()) } {
        return true;
    }
    // SAFETY: our reference keeps the cell, and the cell its runtime's shared state.
    let shared = unsafe { task.shared.as_ref() };
    let inside = worker::core().is_some_and(|core| core.shared == task.shared);
    if inside {
        while !task.completion.is_done() {
            wait::park();
        }
        return true;
    }
    shared.add_foreign_joiner(task.id, Unparker::current());
    let _entry = ForeignJoiner { shared, id: task.id };
    loop {
        if task.completion.is_done() {
            return true;
        }
        if shared.has_stopped() {
            return task.completion.is_done();
        }
        wait::park();
    }
}

/// Takes the joiner of thread `id` out again when the wait ends, by return or by unwinding.
struct ForeignJoiner<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for ForeignJoiner<'_> {
    fn drop(&mut self) {
        self.shared.remove_foreign_joiner(self.id);
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if self.task().completion.detach() {
            // SAFETY: the completion gave the result to us. Empty after a join.
            unsafe { self.task().drop_result() };
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}
