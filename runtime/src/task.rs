//! A green thread's control block, and the cell that holds it together with its closure and result.
//!
//! # Where it lives
//!
//! In one heap cell: `[Task | closure, later the result]`. Not on the thread's stack, because a
//! thread that was spawned and has not run has no stack: it gets one when it first runs and gives
//! it back the moment it ends. A hundred thousand threads that are spawned and run one after the
//! other thus use a hundred thousand cells and one stack. (ARCHITECTURE.md has the figures.)
//!
//! # Who owns what
//!
//! - *References*: one for the runtime until the thread has ended (the "run reference", which
//!   travels through the run queues), one for each join handle, `Thread`, `Unparker`. The last one
//!   frees the cell.
//! - *`context`, `stack`, `stage` before the end*: whoever runs the thread; between two runs,
//!   whoever took it out of a run queue. The token hands them over.
//! - *the result*: see [`Completion`].

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use std::thread;
use std::{alloc, fmt, io};

use bine_arch::context::Context;
use bine_arch::stack::{Permit, Stack};

use crate::completion::{Completed, Completion};
use crate::interrupt::{Interrupts, Shield};
use crate::queue::Node;
use crate::roll::{Links, Member};
use crate::shared::Shared;
use crate::thread::Locals;
use crate::token::Token;
use crate::user_token::UserToken;
use crate::wait::Unparker;

/// `home` of a thread that may run on any worker.
pub(crate) const ANYWHERE: u32 = u32::MAX;

/// The control block. What each switch and each wake-up touches comes first, on as few cache lines as
/// may be.
#[repr(C)]
pub(crate) struct Task {
    pub(crate) token: Token,
    /// The worker on which alone the thread may run, or [`ANYWHERE`]. Written by the one who runs
    /// the thread, before its park is committed; read by the one who takes it out of PARKED.
    pub(crate) home: AtomicU32,
    link: AtomicPtr<Task>,
    /// Valid while the thread is suspended.
    pub(crate) context: UnsafeCell<Context>,
    /// Valid while the cell is: a runtime is freed only when no cell of its is left.
    pub(crate) shared: NonNull<Shared>,
    pub(crate) interrupts: Interrupts,
    pub(crate) started: Cell<bool>,
    /// Never moves once it has run, in either mode.
    pub(crate) pinned: bool,
    /// The token of `thread::park`, which no other operation consumes.
    pub(crate) user_token: UserToken,
    refs: AtomicUsize,
    pub(crate) completion: Completion<Unparker>,
    vtable: &'static Vtable,
    /// From the first run to the end.
    pub(crate) stack: UnsafeCell<Option<Stack>>,
    pub(crate) permit: UnsafeCell<Option<Permit>>,
    /// Touched by the thread alone, while it runs.
    pub(crate) locals: Locals,
    roll_links: Links<Task>,
    pub(crate) id: u64,
    name: Option<Box<str>>,
    pub(crate) spawned_at: &'static Location<'static>,
}

/// What a new thread is given.
pub(crate) struct Attributes {
    pub(crate) shared: NonNull<Shared>,
    pub(crate) permit: Permit,
    pub(crate) id: u64,
    pub(crate) name: Option<Box<str>>,
    pub(crate) pinned: bool,
    pub(crate) spawned_at: &'static Location<'static>,
}

struct Vtable {
    run: unsafe fn(NonNull<Task>),
    abandon: unsafe fn(NonNull<Task>),
    drop_result: unsafe fn(NonNull<Task>),
    /// Moves the result to where the pointer says, which is an `Option<thread::Result<T>>`.
    take_result: unsafe fn(NonNull<Task>, *mut ()),
    free: unsafe fn(NonNull<Task>),
}

#[repr(C)]
struct TaskCell<F, T> {
    task: Task,
    stage: UnsafeCell<Stage<F, T>>,
}

enum Stage<F, T> {
    Closure(F),
    Result(thread::Result<T>),
    Empty,
}

/// The join error of a green thread whose runtime was shut down before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the green thread's runtime was shut down before the thread ended")
    }
}

impl std::error::Error for Abandoned {}

impl<F, T> TaskCell<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    const VTABLE: Vtable = Vtable {
        run: Self::run,
        abandon: Self::abandon,
        drop_result: Self::drop_result,
        take_result: Self::take_result,
        free: Self::free,
    };

    fn stage(task: NonNull<Task>) -> *mut Stage<F, T> {
        // SAFETY: the cell is valid while a reference is held, and `task` is its first field
        // (repr(C)), made by `Task::spawn` with the provenance of the whole cell.
        unsafe { UnsafeCell::raw_get(&raw const (*task.as_ptr().cast::<Self>()).stage) }
    }

    unsafe fn run(task: NonNull<Task>) {
        // SAFETY: the thread that runs owns its stage.
        let stage = unsafe { std::mem::replace(&mut *Self::stage(task), Stage::Empty) };
        let Stage::Closure(closure) = stage else { unreachable!("a green thread runs once") };
        let result = panic::catch_unwind(AssertUnwindSafe(closure));
        // SAFETY: as above.
        unsafe { *Self::stage(task) = Stage::Result(result) };
    }

    unsafe fn abandon(task: NonNull<Task>) {
        // SAFETY: a thread that has not run belongs to whoever took it out of the queue.
        let stage = unsafe { std::mem::replace(&mut *Self::stage(task), Stage::Empty) };
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(stage)));
        let error: Box<dyn Any + Send> = dropped.err().unwrap_or_else(|| Box::new(Abandoned));
        // SAFETY: as above.
        unsafe { *Self::stage(task) = Stage::Result(Err(error)) };
    }

    unsafe fn drop_result(task: NonNull<Task>) {
        // SAFETY: the completion says that the result is the caller's.
        let stage = unsafe { &mut *Self::stage(task) };
        if matches!(stage, Stage::Empty) {
            // Taken by a join, or dropped at the thread's end.
            return;
        }
        let stage = std::mem::replace(stage, Stage::Empty);
        // A destructor that waits is not interrupted, be it that the thread that ended was
        // cancelled, or the one that drops its join handle.
        let waits = std::mem::needs_drop::<T>() || matches!(stage, Stage::Result(Err(_)));
        let _shield = waits.then(Shield::raise);
        // As std: a result that panics when nobody can take it ends the process.
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| drop(stage)));
        if dropped.is_err() {
            eprintln!("fatal: the result of a green thread panicked when it was dropped");
            std::process::abort();
        }
    }

    unsafe fn take_result(task: NonNull<Task>, into: *mut ()) {
        // SAFETY: the completion says that the result is the caller's.
        let stage = unsafe { std::mem::replace(&mut *Self::stage(task), Stage::Empty) };
        if let Stage::Result(result) = stage {
            // SAFETY: the join handle, which alone calls this, has the `T` of the spawn.
            unsafe { *into.cast::<Option<thread::Result<T>>>() = Some(result) };
        }
    }

    unsafe fn free(task: NonNull<Task>) {
        let cell = task.as_ptr().cast::<Self>();
        // SAFETY: the last reference is gone. The stage is `Empty`: every path to the end of a
        // thread takes or drops what was in it.
        unsafe {
            debug_assert!(matches!(*Self::stage(task), Stage::Empty));
            debug_assert!(task.as_ref().locals.is_empty(), "a green thread left local values");
            std::ptr::drop_in_place(cell);
            alloc::dealloc(cell.cast(), alloc::Layout::new::<Self>());
        }
    }
}

// SAFETY: the link is one field, which the queues alone touch.
unsafe impl Node for Task {
    fn link(&self) -> &AtomicPtr<Self> {
        &self.link
    }
}

// SAFETY: one field, which the roll alone touches.
unsafe impl Member for Task {
    fn links(&self) -> &Links<Self> {
        &self.roll_links
    }
}

// Handles show no state of the thread's that its panic could leave half changed.
impl panic::RefUnwindSafe for Task {}

impl Task {
    /// Makes a thread that has not run, with two references: the run reference, which the caller
    /// must put into a run queue, and the one that is returned.
    ///
    /// # Safety
    ///
    /// What the closure and its result borrow must outlive the thread's end. (`'static`, or a scope
    /// that joins.)
    pub(crate) unsafe fn create<F, T>(attributes: Attributes, closure: F) -> io::Result<TaskRef>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let layout = alloc::Layout::new::<TaskCell<F, T>>();
        // SAFETY: the layout is not empty: it contains a Task.
        let cell = unsafe { alloc::alloc(layout) }.cast::<TaskCell<F, T>>();
        let Some(cell) = NonNull::new(cell) else {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                format!("no memory for a green thread's control block ({} bytes)", layout.size()),
            ));
        };
        let task = Task {
            token: Token::new(),
            home: AtomicU32::new(ANYWHERE),
            link: AtomicPtr::default(),
            refs: AtomicUsize::new(2),
            context: UnsafeCell::new(Context::null()),
            stack: UnsafeCell::new(None),
            permit: UnsafeCell::new(Some(attributes.permit)),
            completion: Completion::new(),
            interrupts: Interrupts::default(),
            roll_links: Links::default(),
            locals: Locals::new(),
            vtable: &TaskCell::<F, T>::VTABLE,
            shared: attributes.shared,
            user_token: UserToken::new(),
            pinned: attributes.pinned,
            started: Cell::new(false),
            id: attributes.id,
            name: attributes.name,
            spawned_at: attributes.spawned_at,
        };
        // SAFETY: the cell is fresh memory of the right layout.
        unsafe {
            cell.write(TaskCell { task, stage: UnsafeCell::new(Stage::Closure(closure)) });
        }
        Ok(TaskRef(cell.cast()))
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Writes which thread it is, for the report of an overflow of its stack.
    ///
    /// # Safety
    ///
    /// `task` is a `Task` that is alive.
    pub(crate) unsafe fn describe(task: *const (), message: &mut dyn fmt::Write) -> fmt::Result {
        // SAFETY: the caller's promise. What is read here is never written after the creation.
        let (name, id, spawned_at) = unsafe {
            let task = task.cast::<Self>();
            ((*task).name.as_deref(), (*task).id, (*task).spawned_at)
        };
        // A very long name must not displace the rest.
        let name = name.unwrap_or("<unnamed>");
        write!(message, "green thread '{name:.200}' (id {id}, spawned at {spawned_at})")
    }

    /// Runs the closure and keeps its result, unless nobody will take it; then drops the thread's
    /// local values.
    ///
    /// # Safety
    ///
    /// Once for each thread, on its stack, by the owner of its run reference.
    pub(crate) unsafe fn run(task: NonNull<Task>) {
        // SAFETY: the caller's promise.
        unsafe {
            (task.as_ref().vtable.run)(task);
            let this = task.as_ref();
            // A result that nobody will take is dropped here, before the thread counts as ended.
            if !this.locals.is_empty() || this.completion.is_detached() {
                Self::end_locals(task);
            }
        }
    }

    /// # Safety
    ///
    /// As `run`, after the closure.
    #[cold]
    unsafe fn end_locals(task: NonNull<Task>) {
        // SAFETY: the run reference keeps the cell. A result that nobody can take is the thread's,
        // and dropped before the local values, which it may use (as std). The closure has ended,
        // and with it all use of them.
        unsafe {
            let this = task.as_ref();
            loop {
                if this.completion.is_detached() {
                    (this.vtable.drop_result)(task);
                }
                if this.locals.is_empty() {
                    break;
                }
                // Shielded, as is the drop of a result that can wait. It may take its time, and the
                // handle may go meanwhile.
                this.locals.destroy();
            }
        }
    }

    /// Drops the local values that were initialised after the others had been dropped, if there are
    /// any.
    ///
    /// # Safety
    ///
    /// On the thread, by the owner of its run reference, when no code uses them any more.
    pub(crate) unsafe fn end_late_locals(task: NonNull<Task>) {
        // SAFETY: the caller's promise.
        unsafe {
            if !task.as_ref().locals.is_empty() {
                task.as_ref().locals.destroy();
            }
        }
    }

    /// Hands the result over, and returns the joiner that must be woken. The caller still owns the
    /// run reference.
    ///
    /// # Safety
    ///
    /// Once, after the result is in place, by the owner of the run reference.
    pub(crate) unsafe fn complete(task: NonNull<Task>) -> Option<Unparker> {
        // SAFETY: the run reference keeps the cell.
        let this = unsafe { task.as_ref() };
        // SAFETY: the caller's promise.
        match unsafe { this.completion.complete() } {
            Completed::Joinable(joiner) => joiner,
            Completed::Detached => {
                // SAFETY: nobody will join, so the result is ours. Its destructor has used what
                // local values there are now, and has returned.
                unsafe {
                    (this.vtable.drop_result)(task);
                    Self::end_late_locals(task);
                }
                None
            }
        }
    }
}

/// To be called by a worker when it has spawned some hundred threads since the last time.
///
/// The heaps that glibc gives to threads grow by one page at a time, which is a system call that locks the
/// address space for every 18 cells or so, while other workers take that lock to guard stacks. A block
/// that is taken and given back at once has the heap grow by that. Where the heap has room, or with other
/// allocators, this is one allocation.
#[cold]
pub(crate) fn make_room_for_cells() {
    const ROOM: alloc::Layout = alloc::Layout::new::<[u8; 60 << 10]>();
    // SAFETY: the layout is not empty, and the block is not used.
    unsafe {
        let block = std::hint::black_box(alloc::alloc(ROOM));
        if !block.is_null() {
            alloc::dealloc(block, ROOM);
        }
    }
}

/// A counted reference to a green thread's cell.
pub(crate) struct TaskRef(NonNull<Task>);

// SAFETY: what a reference gives access to (token, name, id, completion) is made for sharing; the
// rest has the owners that the module's documentation names.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// A further reference to a thread that the caller knows to be alive.
    ///
    /// # Safety
    ///
    /// Somebody holds a reference for the length of this call.
    #[inline]
    pub(crate) unsafe fn from_borrowed(task: NonNull<Task>) -> Self {
        // SAFETY: the caller's promise. The wrapper is not dropped: it is the borrowed reference.
        (*ManuallyDrop::new(Self(task))).clone()
    }

    /// Takes over a reference.
    ///
    /// # Safety
    ///
    /// The caller owns a reference and gives it up.
    pub(crate) unsafe fn from_owned(task: NonNull<Task>) -> Self {
        Self(task)
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<Task> {
        self.0
    }

    /// Takes the result out. `None` if it was taken before.
    ///
    /// # Safety
    ///
    /// `T` is the thread's result type, and the completion has given the result to the caller.
    pub(crate) unsafe fn take_result<T>(&self) -> Option<thread::Result<T>> {
        let mut result: Option<thread::Result<T>> = None;
        // SAFETY: the caller's promise.
        unsafe { (self.vtable.take_result)(self.0, (&raw mut result).cast()) };
        result
    }

    /// Drops the result.
    ///
    /// # Safety
    ///
    /// The completion has given the result to the caller.
    pub(crate) unsafe fn drop_result(&self) {
        // SAFETY: the caller's promise.
        unsafe { (self.vtable.drop_result)(self.0) };
    }

    /// Ends a thread that never ran: drops its closure and makes its join an error.
    ///
    /// # Safety
    ///
    /// The thread has not run and is in no queue; `self` is its run reference.
    pub(crate) unsafe fn abandon(self) {
        // SAFETY: the caller's promise.
        unsafe {
            (self.vtable.abandon)(self.0);
            *self.permit.get() = None;
            if let Some(joiner) = Task::complete(self.0) {
                joiner.unpark();
            }
        }
    }
}

impl std::ops::Deref for TaskRef {
    type Target = Task;

    #[inline]
    fn deref(&self) -> &Task {
        // SAFETY: the reference keeps the cell.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for TaskRef {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: a reference is made from a reference, as in Arc.
        let before = self.refs.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            std::process::abort();
        }
        Self(self.0)
    }
}

impl Drop for TaskRef {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the fence below in whoever drops the last reference.
        if self.refs.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // The thread sanitizer does not understand fences; a load does the same.
        #[cfg(bine_sanitize = "thread")]
        self.refs.load(Ordering::Acquire);
        let (task, shared) = (self.0, self.shared);
        // SAFETY: this was the last reference. The runtime counts the cell after it is freed, and
        // is kept by that count until then.
        unsafe {
            (task.as_ref().vtable.free)(task);
            Shared::cell_freed(shared);
        }
    }
}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GreenThread").field("id", &self.id).field("name", &self.name()).finish()
    }
}
