//! A worker: what one OS thread needs to run green threads, and the switch between them.
//!
//! # The way of a switch
//!
//! A thread that stops running (it parks, yields or ends) leaves word in [`Core::left`], picks the
//! next thread and switches straight to it: one switch, not two through a scheduler's stack. Where
//! nothing of its own is runnable, it switches to the *root context*, the OS thread's own stack,
//! where the worker searches and sleeps (see `search`). Whatever runs next, on whichever stack,
//! first calls [`Core::after_switch`], which commits what the last one left: only then may anybody
//! resume it.
//!
//! ```text
//!   green thread A: park() ── left = Park(A), pick B ──switch──▶ B: after_switch: commit A's park
//!                                                                   ... B runs
//!   green thread B: ends   ── left = Ended(stack), pick none ──▶ root: after_switch: keep the stack
//! ```
//!
//! The worker's address travels through the switch as its argument: a thread that has moved learns
//! its new worker from there, and no thread-local's address is held across a switch.
//!
//! # Which queue
//!
//! | queue | holds | seen by |
//! |---|---|---|
//! | `run_next` | the thread that the running one woke last | this worker |
//! | `local` | runnable threads whose home is this worker | this worker, without atomics |
//! | `ready` | runnable threads without a home (migrating runtimes), FIFO | thieves too |
//! | `fresh` | threads that have not run, LIFO; thieves take the oldest | thieves too |
//! | `inbox` | threads whose home is this worker, woken by others; fresh ones placed here | pushed by all |
//! | the injector | threads without a home, from threads that are not workers | all workers |
//!
//! Fresh threads are last-in-first-out because a tree of threads then runs depth first, with as
//! many stacks as it is deep and not as many as it is wide. Fairness: `run_next` is bounded, every
//! 4th pick looks at inbox and timers, every 8th at `fresh` or `ready` first, every 64th at the
//! injector and the *oldest* fresh thread, and for events.

mod life;
mod queues;

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use bine_arch::context::{self, Context};
use bine_arch::stack::{Permit, Stack, StackCache};
use crossbeam_deque::Worker as Deque;

use crate::driver::Visits;
use crate::queue::LocalQueue;
use crate::run_next::RunNext;
use crate::shared::{Remote, Shared};
use crate::task::{self, ANYWHERE, Task};
use crate::token::Commit;
use crate::unwinding;

pub(crate) use self::queues::{Waiting, fire};

/// Operations that may succeed without waiting before a thread yields.
const OPERATION_BUDGET: u32 = 128;
/// Thread ids that a worker takes from the process-wide counter at a time.
const ID_BLOCK: u64 = 256;

/// A task pointer that may cross threads: it carries a run reference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runnable(pub(crate) NonNull<Task>);

// SAFETY: a `Runnable` is the one right to run a thread; the queues hand it over.
unsafe impl Send for Runnable {}

/// What the thread that ran last on this OS thread left to be done.
enum Left {
    Nothing,
    Park(NonNull<Task>),
    Yield(NonNull<Task>),
    Ended(Stack, Permit),
}

/// What of a worker's own state the monitor sees. Its OS thread alone writes it, with one exception:
/// in a migrating runtime anybody may take the thread out of `run_next`.
#[derive(Default)]
pub(crate) struct Visible {
    /// Counts picks. While it stands still, and the worker is not asleep, one green thread runs.
    tick: AtomicU32,
    /// The green thread that runs, or null on the root context.
    current: AtomicPtr<Task>,
    /// The thread that the running one woke last.
    run_next: RunNext<Task>,
    /// Invariant: only the worker's OS thread does more with it than ask whether it is empty.
    local: LocalQueue<Task>,
}

impl Visible {
    pub(crate) fn tick(&self) -> u32 {
        // Relaxed: a sample.
        self.tick.load(Ordering::Relaxed)
    }

    pub(crate) fn current(&self) -> *mut Task {
        // Acquire pairs with the Release in `Core::set_current`.
        self.current.load(Ordering::Acquire)
    }

    /// Whether threads wait here that nobody else can reach, as things look now.
    pub(crate) fn has_waiting(&self) -> bool {
        // Relaxed: a sample.
        !self.local.is_empty() || !self.run_next.is_empty()
    }

    /// Takes the thread that runs next, for somebody else: in migrating runtimes alone.
    pub(crate) fn steal_run_next(&self) -> Option<NonNull<Task>> {
        self.run_next.steal()
    }
}

/// One worker's own state. Only its OS thread touches it: green threads that run there, and the
/// root context.
pub(crate) struct Core {
    pub(crate) shared: NonNull<Shared>,
    pub(crate) index: usize,
    /// Part of `shared`, hence valid as long.
    remote: NonNull<Remote>,
    pub(crate) fresh: Deque<Runnable>,
    pub(crate) ready: Deque<Runnable>,
    run_next_streak: Cell<u32>,
    budget: Cell<u32>,
    root: UnsafeCell<Context>,
    left: UnsafeCell<Left>,
    pub(crate) stacks: UnsafeCell<StackCache>,
    ids: Cell<(u64, u64)>,
    /// Threads that have started, have not ended and can run nowhere else.
    residents: Cell<usize>,
    /// Which peer was last asked whether it has fewer.
    next_peer: Cell<usize>,
    /// The runtime shuts down: switch to the root context and stay there.
    stopping: Cell<bool>,
    /// The kernel refused a stack's guard page: wait before the next try.
    pub(crate) out_of_stacks: Cell<bool>,
    /// Spin before the next sleep; see `search`.
    spins: Cell<bool>,
    /// The worker's looks for events.
    pub(crate) visits: Cell<Visits>,
    /// All events that it took last were for others, who are awake: they take the seat.
    pub(crate) hands_over: Cell<bool>,
    /// A spare that was taken off duty: switch to the root context, which hands its threads back.
    recalled: Cell<bool>,
}

thread_local! {
    static CURRENT: Cell<*const Core> = const { Cell::new(ptr::null()) };
}

/// The calling OS thread's worker. By value, and never inlined: the compiler may keep the *address*
/// of a thread-local in a register across a switch, but it must call this again.
#[inline(never)]
fn current_core() -> *const Core {
    CURRENT.get()
}

/// The calling thread's worker, if it is one.
///
/// The reference is good until the caller next switches: then it may be on another worker.
#[inline]
pub(crate) fn core<'a>() -> Option<&'a Core> {
    // SAFETY: a worker's core outlives its registration in `CURRENT`, and is shared-borrowed only.
    unsafe { current_core().as_ref() }
}

/// The green thread that calls, with its worker.
#[inline]
pub(crate) fn green<'a>() -> Option<(&'a Core, NonNull<Task>)> {
    let core = core()?;
    // Relaxed: written by this OS thread.
    Some((core, NonNull::new(core.visible().current.load(Ordering::Relaxed))?))
}

impl Core {
    pub(crate) fn new(
        shared: NonNull<Shared>,
        index: usize,
        fresh: Deque<Runnable>,
        ready: Deque<Runnable>,
        stacks: StackCache,
    ) -> Self {
        // SAFETY: the caller's shared state outlives the worker.
        let remote = NonNull::from(&*unsafe { shared.as_ref() }.remotes[index]);
        Self {
            shared,
            index,
            remote,
            fresh,
            ready,
            run_next_streak: Cell::new(0),
            budget: Cell::new(OPERATION_BUDGET),
            root: UnsafeCell::new(Context::null()),
            left: UnsafeCell::new(Left::Nothing),
            stacks: UnsafeCell::new(stacks),
            ids: Cell::new((0, 0)),
            residents: Cell::new(0),
            next_peer: Cell::new(index),
            stopping: Cell::new(false),
            out_of_stacks: Cell::new(false),
            spins: Cell::new(false),
            visits: Cell::default(),
            hands_over: Cell::new(false),
            recalled: Cell::new(false),
        }
    }

    /// Makes `core` the calling OS thread's worker, or none.
    pub(crate) fn enter(core: *const Core) {
        CURRENT.set(core);
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: the runtime frees its shared state after its workers have ended.
        unsafe { self.shared.as_ref() }
    }

    /// What all threads know of this worker.
    #[inline]
    pub(crate) fn remote(&self) -> &Remote {
        // SAFETY: part of the shared state; see `shared`.
        unsafe { self.remote.as_ref() }
    }

    #[inline]
    fn visible(&self) -> &Visible {
        &self.remote().visible
    }

    /// Runnable threads whose home is this worker.
    #[inline]
    pub(crate) fn local(&self) -> &LocalQueue<Task> {
        // The invariant of the field: `self` is reached on the worker's OS thread alone.
        &self.visible().local
    }

    #[inline]
    fn set_current(&self, task: *mut Task) {
        // Release pairs with the Acquire in `Visible::current`: the monitor reads the thread's name.
        self.visible().current.store(task, Ordering::Release);
    }

    /// Whether a green thread runs here, and not the root context.
    pub(crate) fn is_running(&self) -> bool {
        // Relaxed: written by this OS thread.
        !self.visible().current.load(Ordering::Relaxed).is_null()
    }

    pub(crate) fn residents(&self) -> usize {
        self.residents.get()
    }

    pub(crate) fn spins(&self) -> bool {
        self.spins.get()
    }

    pub(crate) fn set_spins(&self, spins: bool) {
        self.spins.set(spins);
    }

    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled.get()
    }

    pub(crate) fn set_stopping(&self) {
        self.stopping.set(true);
    }

    /// An id that no other thread of the process has or had. An error in a forked child.
    #[inline]
    pub(crate) fn next_id(&self) -> io::Result<u64> {
        let (next, end) = self.ids.get();
        if next < end {
            self.ids.set((next + 1, end));
            return Ok(next);
        }
        self.next_ids()
    }

    #[cold]
    fn next_ids(&self) -> io::Result<u64> {
        self.shared().check_process()?;
        task::make_room_for_cells();
        let start = crate::thread::allocate_ids(ID_BLOCK);
        self.ids.set((start + 1, start + ID_BLOCK));
        Ok(start)
    }

    /// In a child that this OS thread has just forked: nothing but the green thread that called runs
    /// here any more, and the next id is to be asked for. Async-signal-safe.
    pub(crate) fn forked(&self) {
        self.ids.set((0, 0));
        self.stopping.set(true);
        // So that the next pick looks at no timers, whose lock may have been held.
        self.visible().tick.store(0, Ordering::Relaxed);
        self.shared().stop_in_child();
    }

    // ---- leaving a green thread ----

    /// Parks `task`, which runs and has found no token, until it is unparked.
    #[inline]
    pub(crate) fn park(&self, task: NonNull<Task>) {
        let unwinds = std::thread::panicking();
        self.set_home(task, unwinds);
        if unwinds {
            return self.park_unwinding(task);
        }
        self.park_here(task);
    }

    // Always, here and below: it has two callers, of which one is cold, and would else be a call.
    #[inline(always)]
    fn park_here(&self, task: NonNull<Task>) {
        let next = self.next_context();
        // SAFETY: `task` is the thread that runs here.
        unsafe { self.leave(task, Left::Park(task), next) };
    }

    /// As [`park`](Self::park), for a thread that unwinds. (`self` may be another's afterwards.)
    #[cold]
    #[inline(never)]
    fn park_unwinding(&self, task: NonNull<Task>) {
        let lifted = unwinding::lift();
        self.park_here(task);
        unwinding::put_back(lifted);
    }

    /// As [`yield_now`](Self::yield_now), for a thread that unwinds.
    #[cold]
    #[inline(never)]
    fn yield_unwinding(&self, task: NonNull<Task>) {
        let lifted = unwinding::lift();
        self.yield_here(task);
        unwinding::put_back(lifted);
    }

    /// Puts `task`, which runs, at the back of the queue, if anything else is runnable here.
    #[inline]
    pub(crate) fn yield_now(&self, task: NonNull<Task>) {
        let unwinds = std::thread::panicking();
        self.set_home(task, unwinds);
        if unwinds {
            return self.yield_unwinding(task);
        }
        self.yield_here(task);
    }

    #[inline(always)]
    fn yield_here(&self, task: NonNull<Task>) {
        let Some(next) = self.pick().and_then(|next| self.enter_task(next)) else {
            if self.stopping.get() || self.out_of_stacks.get() || self.recalled.get() {
                // SAFETY: `task` is the thread that runs here. It may be elsewhere afterwards.
                return unsafe { self.leave(task, Left::Yield(task), self.root()) };
            }
            self.budget.set(OPERATION_BUDGET);
            return;
        };
        // SAFETY: as above.
        unsafe { self.leave(task, Left::Yield(task), next) };
    }

    /// Charges one operation to the running thread's budget and yields when it is spent.
    #[inline]
    pub(crate) fn checkpoint(&self, task: NonNull<Task>) {
        match self.budget.get() {
            0 => self.end_turn(task),
            left => self.budget.set(left - 1),
        }
    }

    #[cold]
    #[inline(never)]
    fn end_turn(&self, task: NonNull<Task>) {
        // SAFETY: the thread that runs is alive.
        if unsafe { task.as_ref() }.interrupts.look_to_yield() {
            self.yield_now(task);
        }
    }

    /// In a migrating runtime, a thread that is unwinding comes back to this OS thread: its panic
    /// count is a thread-local of std's, which cannot be moved where `unwinding` finds no means.
    #[inline]
    fn set_home(&self, task: NonNull<Task>, unwinds: bool) {
        if !self.shared().migrating {
            return;
        }
        // SAFETY: the thread that runs is alive.
        let task = unsafe { task.as_ref() };
        let stays = task.pinned || unwinds;
        let home = if stays { self.index as u32 } else { ANYWHERE };
        if !stays {
            self.shared().check_tls.look(NonNull::from(task), self.index);
        }
        // Relaxed: published by the commit of the park, or not read before the yield's requeue.
        task.home.store(home, Ordering::Relaxed);
    }

    /// # Safety
    ///
    /// `task` is the green thread that calls, `next` a context that nobody else continues.
    #[inline]
    unsafe fn leave(&self, task: NonNull<Task>, left: Left, next: Context) {
        // SAFETY: this OS thread alone touches `left`; the context is the running thread's own. No
        // reference derived from `self` is used after the switch: the thread may have moved.
        unsafe {
            // Nothing is there that would have to be dropped.
            debug_assert!(matches!(*self.left.get(), Left::Nothing));
            self.left.get().write(left);
            let save = task.as_ref().context.get();
            let core = context::switch(save, next, ptr::from_ref(self) as usize) as *const Core;
            (*core).after_switch();
        }
    }

    /// Commits what the thread left that ran before. The first thing that runs after each switch.
    #[inline]
    fn after_switch(&self) {
        // SAFETY: this OS thread alone touches `left`, and no reference to it is kept.
        match unsafe { std::mem::replace(&mut *self.left.get(), Left::Nothing) } {
            Left::Nothing => {}
            // SAFETY: the run reference is ours until the commit.
            Left::Park(task) => match unsafe { task.as_ref() }.token.commit_park() {
                Commit::Parked => {}
                Commit::Notified => self.requeue(task),
            },
            Left::Yield(task) => self.requeue(task),
            Left::Ended(stack, permit) => self.take_back(stack, permit),
        }
    }

    /// Apart, so that a switch that has nothing to take back saves no registers for it.
    #[inline(never)]
    fn take_back(&self, stack: Stack, permit: Permit) {
        // SAFETY: the stack's thread has ended and we are on another one; this OS thread alone
        // touches its cache.
        unsafe {
            (*self.stacks.get()).put(stack);
            (*self.stacks.get()).release(permit);
        }
    }

    // ---- entering a green thread ----

    fn root(&self) -> Context {
        // SAFETY: this OS thread alone touches `root`, which is valid while a green thread runs.
        unsafe { *self.root.get() }
    }

    /// The next runnable thread's context, or the root context where there is none.
    #[inline]
    fn next_context(&self) -> Context {
        match self.pick().and_then(|next| self.enter_task(next)) {
            Some(context) => context,
            None => {
                self.set_current(ptr::null_mut());
                self.root()
            }
        }
    }

    /// Makes `task` the current one, and gives it a stack if it has none.
    #[inline]
    fn enter_task(&self, task: NonNull<Task>) -> Option<Context> {
        // SAFETY: the run reference is ours, and so is the thread's state.
        let this = unsafe { task.as_ref() };
        if !this.started.get() && !self.start(task) {
            return None;
        }
        self.set_current(task.as_ptr());
        self.budget.set(OPERATION_BUDGET);
        // SAFETY: as above.
        Some(unsafe { *this.context.get() })
    }

    /// Binds a stack to a thread that has not run. On failure the thread goes back to a queue.
    fn start(&self, task: NonNull<Task>) -> bool {
        // SAFETY: the run reference is ours, and so is the thread's state; this OS thread alone
        // touches its cache.
        let (this, stacks) = unsafe { (task.as_ref(), &mut *self.stacks.get()) };
        // SAFETY: as above.
        let permit = unsafe { (*this.permit.get()).as_ref() };
        let permit = permit.expect("a thread that has not run has its permit");
        match stacks.take(permit) {
            Ok(stack) => {
                // SAFETY: the stack is fresh and as large as its class says; `entry` never returns.
                // The thread is alive until `life::release` says that the stack is nobody's.
                unsafe {
                    stack.set_owner(Task::describe, task.as_ptr().cast_const().cast());
                    *this.context.get() =
                        context::prepare(stack.bounds(), life::entry, task.as_ptr() as usize);
                    *this.stack.get() = Some(stack);
                }
                self.mark_started(this);
                true
            }
            Err(_) => {
                self.shared().injector.push(Runnable(task));
                self.out_of_stacks.set(true);
                false
            }
        }
    }

    fn mark_started(&self, task: &Task) {
        task.started.set(true);
        if self.is_resident(task) {
            // Relaxed: published by the commit of the thread's first park.
            task.home.store(self.index as u32, Ordering::Relaxed);
            self.set_residents(self.residents.get() + 1);
        }
    }

    /// Whether a thread that starts here stays here.
    fn is_resident(&self, task: &Task) -> bool {
        task.pinned || !self.shared().migrating
    }

    /// From the root context: runs `task` until the worker has nothing of its own left to run.
    pub(crate) fn run_from_root(&self, task: NonNull<Task>) {
        let Some(context) = self.enter_task(task) else { return };
        // SAFETY: the root context is this OS thread's own stack, and never moves. The context was
        // just taken out of a run queue.
        unsafe {
            let save = self.root.get();
            context::switch(save, context, ptr::from_ref(self) as usize);
        }
        self.set_current(ptr::null_mut());
        self.after_switch();
    }
}
