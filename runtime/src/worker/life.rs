//! The life of a stack: its first frame, in which one green thread after the other runs and ends.

use std::ptr::{self, NonNull};

use bine_arch::context;
use bine_arch::stack::{Permit, Stack};

use super::{Core, Left, OPERATION_BUDGET, core};
use crate::fork;
use crate::shared::Shared;
use crate::task::{Task, TaskRef};
use crate::wait::Unparker;

/// The first frame of every green thread's stack. One stack runs many threads: when one ends and
/// the next is a fresh one for a stack of the same size, it runs here at once.
pub(super) unsafe extern "C" fn entry(core: usize, task: usize) -> ! {
    // SAFETY: whoever switches passes its worker, and `prepare` was given the task.
    unsafe { (*(core as *const Core)).after_switch() };
    let mut task = NonNull::new(task as *mut Task).expect("prepare was given a task");
    loop {
        // SAFETY: the thread was just made current on its own stack, runs once, and its run
        // reference is ours.
        let joiner = unsafe {
            Task::run(task);
            let core = current_worker();
            // Before anybody is woken for it: a joiner that is an OS thread of the parent's has a lock,
            // which it may have held when the child was forked.
            if core.stopping.get() && core.shared().is_forked() {
                fork::abort_child();
            }
            Shared::count_end(core);
            Task::complete(task)
        };
        // Here, where the thread is still whole: a waker is somebody's code, and may block.
        let joiner = match joiner {
            Some(waker) if waker.is_waker() => {
                wake_late(task, waker);
                None
            }
            joiner => joiner,
        };
        // The thread may have moved: ask for the worker anew.
        let core = current_worker();
        let (stack, permit) = release(core, task, joiner);
        match core.pick() {
            Some(next) if core.can_adopt(next, &stack) => {
                core.adopt(next, stack, permit);
                task = next;
            }
            next => leave_for_good(core, stack, permit, next),
        }
    }
}

/// Calls the waker of whoever awaits a thread that has ended, on that thread.
#[cold]
fn wake_late(task: NonNull<Task>, waker: Unparker) {
    let core = current_worker();
    core.shared().count_waking(core.index, || {
        waker.unpark();
        // SAFETY: the run reference is ours, and no more of a user's code runs here.
        unsafe { Task::end_late_locals(task) };
    });
}

/// The worker that runs the calling green thread.
fn current_worker<'a>() -> &'a Core {
    core().expect("a green thread runs on a worker")
}

/// Frees what a thread held that has ended, wakes its joiner, and returns its stack and the permit
/// for it.
#[inline(never)]
fn release(core: &Core, task: NonNull<Task>, joiner: Option<Unparker>) -> (Stack, Permit) {
    // SAFETY: the thread has ended on this OS thread, which owns its state and its run reference.
    let (stack, permit) = unsafe {
        let this = task.as_ref();
        ((*this.stack.get()).take(), (*this.permit.get()).take())
    };
    // SAFETY: as above.
    if core.is_resident(unsafe { task.as_ref() }) {
        core.set_residents(core.residents.get() - 1);
    }
    let (Some(stack), Some(permit)) = (stack, permit) else {
        unreachable!("a thread that has run has a stack, and a permit for it");
    };
    // SAFETY: the run reference is ours, and the thread has ended.
    unsafe { crate::interrupt::leave_roll(task) };
    // Before the run reference goes: the stack must not name a thread that may be freed.
    stack.clear_owner();
    if let Some(joiner) = joiner {
        joiner.unpark();
    }
    core.set_current(ptr::null_mut());
    core.shared().await_inspection(task);
    // SAFETY: the run reference is ours.
    drop(unsafe { TaskRef::from_owned(task) });
    (stack, permit)
}

/// Does not return: the stack that runs is given back by whoever runs next.
fn leave_for_good(core: &Core, stack: Stack, permit: Permit, next: Option<NonNull<Task>>) -> ! {
    let context = match next.and_then(|next| core.enter_task(next)) {
        Some(context) => context,
        None => core.root(),
    };
    // SAFETY: this OS thread alone touches `left`. `context` is the root's or was just taken out of
    // a run queue; the stack that runs holds nothing that is still needed.
    unsafe {
        // Nothing is there that would have to be dropped.
        debug_assert!(matches!(*core.left.get(), Left::Nothing));
        core.left.get().write(Left::Ended(stack, permit));
        context::switch_final(context, ptr::from_ref(core) as usize)
    }
}

impl Core {
    /// Whether `task` has not run and can run on `stack`, on which another one has just ended.
    fn can_adopt(&self, task: NonNull<Task>, stack: &Stack) -> bool {
        // SAFETY: the run reference is ours, and so is the thread's state.
        unsafe {
            let this = task.as_ref();
            !this.started.get() && (*this.permit.get()).as_ref().is_some_and(|p| p.fits(stack))
        }
    }

    /// Makes `task` the current one, on the stack that runs, which changes from the permit of the
    /// thread that has ended to this one's.
    fn adopt(&self, task: NonNull<Task>, stack: Stack, permit: Permit) {
        // SAFETY: as above; this OS thread alone touches its cache. The thread is alive until
        // `release` says that the stack is nobody's.
        unsafe {
            let this = task.as_ref();
            stack.set_owner(Task::describe, task.as_ptr().cast_const().cast());
            *this.stack.get() = Some(stack);
            (*self.stacks.get()).release(permit);
            self.mark_started(this);
        }
        self.set_current(task.as_ptr());
        self.budget.set(OPERATION_BUDGET);
    }
}
