//! Waiting: what every blocking operation of bine is made of.
//!
//! A blocking operation publishes an [`Unparker`] of the calling thread where its waker will find
//! it, checks its condition once more, and calls [`park`]. The waker takes the unparker out and
//! calls [`Unparker::unpark`]. An `unpark` that comes before the `park` makes the `park` return at
//! once (a token, as in `std::thread::park`), and a `park` may return for no reason, so the waiter
//! always checks its condition in a loop.
//!
//! The same calls serve green threads and plain OS threads. The token here is *not* the one of
//! `bine::thread::park`: an operation that waits never eats a user's `unpark`.
//!
//! Under `--cfg bine_loom` the calls are those of modelled threads (`modelled/token.rs`).

#[cfg(not(bine_loom))]
pub(crate) use self::on_threads::unpark_green;
#[cfg(not(bine_loom))]
pub use self::on_threads::{
    Roused, Sleeper, Unparker, WakeBatch, checkpoint, interrupt, is_green, is_interrupted,
    panicking, park, park_until, rest, rest_until, shielded,
};
#[cfg(bine_loom)]
pub use crate::modelled::token::{
    Roused, Sleeper, Unparker, WakeBatch, cancel, checkpoint, has_passed, interrupt, is_green,
    is_interrupted, now, panicking, park, park_until, rest, rest_until, shielded,
};

#[cfg(not(bine_loom))]
mod on_threads {
    use std::ptr::NonNull;
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Instant;

    use crate::interrupt::Shield;
    use crate::os_parker::OsParker;
    use crate::shared::Shared;
    use crate::task::{ANYWHERE, Task, TaskRef};
    use crate::token::Unpark;
    use crate::worker::{self, Core, Runnable, Waiting};
    use crate::{clock, contained, deadlines};
    use std::sync::atomic::Ordering;

    /// Wakes one thread, green or OS, from [`park`].
    ///
    /// Everything before `unpark` happens before the return of the `park` that it ends.
    #[derive(Clone, Debug)]
    pub struct Unparker(Target);

    #[derive(Clone, Debug)]
    enum Target {
        Green(TaskRef),
        Os(Arc<OsParker>),
        /// No thread of its own: a future that awaits.
        Waker(Waker),
    }

    impl Unparker {
        /// The calling thread's.
        #[inline]
        pub fn current() -> Self {
            match worker::green() {
                // SAFETY: the thread that runs is alive.
                Some((_, task)) => Self(Target::Green(unsafe { TaskRef::from_borrowed(task) })),
                None => Self(Target::Os(OsParker::current())),
            }
        }

        pub(crate) fn from_waker(waker: Waker) -> Self {
            Self(Target::Waker(waker))
        }

        /// Whether it is the calling thread's.
        pub(crate) fn is_current(&self) -> bool {
            match (&self.0, worker::green()) {
                (Target::Green(task), Some((_, current))) => task.as_ptr() == current,
                // An OS thread's leaves it only by way of a green one.
                (Target::Os(_), None) => true,
                _ => false,
            }
        }

        /// Whether it stands for a future, so that `unpark` runs code of others.
        #[inline]
        pub(crate) fn is_waker(&self) -> bool {
            matches!(self.0, Target::Waker(_))
        }

        /// Makes the thread's current or next [`park`] return.
        #[inline]
        pub fn unpark(self) {
            match self.0 {
                Target::Green(task) => unpark_green(&task),
                Target::Os(parker) => parker.unpark(),
                Target::Waker(waker) => wake(waker),
            }
        }
    }

    /// Wakes a future. Its waker is somebody's code, which must not unwind into ours.
    #[cold]
    fn wake(waker: Waker) {
        shielded(|| contained::call(|| waker.wake()));
    }

    /// The caller's reference keeps the thread's cell, and that its runtime's shared state, however
    /// soon the thread ends.
    pub(crate) fn unpark_green(task: &TaskRef) {
        if task.token.unpark() == Unpark::Nothing {
            return;
        }
        match worker::core() {
            Some(core) if core.shared == task.shared => core.schedule(task.as_ptr()),
            // SAFETY: see above.
            _ => unsafe { task.shared.as_ref() }.schedule_from_outside(task.as_ptr()),
        }
    }

    /// Names a thread that waits, without keeping it: an [`Unparker`] for those who know that the thread
    /// is still there when they wake it, which costs no reference count.
    #[derive(Debug)]
    pub struct Sleeper(Sleeping);

    #[derive(Debug)]
    enum Sleeping {
        Green(NonNull<Task>),
        Os(Arc<OsParker>),
    }

    /// A thread that [`Sleeper::rouse`] has woken, and that runs after [`go`](Self::go).
    #[must_use = "the thread that was roused may run nowhere before `go`"]
    #[derive(Debug)]
    pub struct Roused(Rousing);

    #[derive(Debug)]
    enum Rousing {
        /// A thread of the calling worker's runtime that was taken out of PARKED: it is in no queue
        /// and its run reference is ours.
        Parked(NonNull<Task>),
        Other(Unparker),
    }

    impl Sleeper {
        /// The calling thread's.
        #[inline]
        pub fn current() -> Self {
            Self(match worker::green() {
                Some((_, task)) => Sleeping::Green(task),
                None => Sleeping::Os(OsParker::current()),
            })
        }

        /// Begins to wake the thread. It does not return from its wait by that before
        /// [`go`](Roused::go), to be called at once, from the same thread and without waiting; what
        /// the caller writes in between happens before the return.
        ///
        /// # Safety
        ///
        /// The thread has not ended: it waits for something that the caller has still to tell it.
        #[inline]
        pub unsafe fn rouse(&self) -> Roused {
            Roused(match &self.0 {
                // SAFETY: the caller's promise.
                Sleeping::Green(task) => unsafe { Self::rouse_green(*task) },
                Sleeping::Os(parker) => Rousing::Other(Unparker(Target::Os(parker.clone()))),
            })
        }

        /// # Safety
        ///
        /// As `rouse`.
        #[inline]
        unsafe fn rouse_green(task: NonNull<Task>) -> Rousing {
            // SAFETY: the caller's promise.
            let this = unsafe { task.as_ref() };
            if worker::core().is_some_and(|core| core.shared == this.shared)
                && this.token.unpark() == Unpark::Schedule
            {
                return Rousing::Parked(task);
            }
            // It is awake, and may find the token and wait again before it is told: it is unparked
            // once more. Or it is of another runtime, which the reference keeps meanwhile.
            // SAFETY: as above.
            Rousing::Other(Unparker(Target::Green(unsafe { TaskRef::from_borrowed(task) })))
        }

        /// Whether the thread will never run again, since its runtime was shut down without it.
        ///
        /// # Safety
        ///
        /// As of [`rouse`](Self::rouse).
        #[inline]
        pub unsafe fn is_abandoned(&self) -> bool {
            let Sleeping::Green(task) = &self.0 else { return false };
            // SAFETY: the caller's promise; a thread that never ends keeps its runtime.
            let shared = unsafe { task.as_ref() }.shared;
            // SAFETY: as above. A worker of the same runtime has not left.
            worker::core().is_none_or(|core| core.shared != shared)
                && unsafe { shared.as_ref() }.outsiders.has_stopped()
        }

        /// An unparker of the thread.
        ///
        /// # Safety
        ///
        /// As of [`rouse`](Self::rouse).
        pub unsafe fn unparker(&self) -> Unparker {
            Unparker(match &self.0 {
                // SAFETY: the caller's promise.
                Sleeping::Green(task) => Target::Green(unsafe { TaskRef::from_borrowed(*task) }),
                Sleeping::Os(parker) => Target::Os(parker.clone()),
            })
        }
    }

    impl Roused {
        /// Lets the thread run.
        #[inline]
        pub fn go(self) {
            match self.0 {
                // By a worker of its runtime, which thus outlives the call however soon the thread
                // ends.
                Rousing::Parked(task) => {
                    worker::core().expect("roused by a worker").schedule(task);
                }
                Rousing::Other(unparker) => unparker.unpark(),
            }
        }
    }

    /// Waits until the calling thread is unparked. May return for no reason.
    ///
    /// # Panics
    ///
    /// Unwinds if the thread is green and was cancelled, if the deadline of a
    /// [timeout](crate::time::timeout) has passed, and where it would wait for ever in a forked
    /// child. An operation takes back what it published, in the destructor of a guard of its own.
    #[inline]
    pub fn park() {
        match worker::green() {
            Some((core, task)) => {
                // SAFETY: the thread that runs is alive.
                let this = unsafe { task.as_ref() };
                this.interrupts.look();
                if !this.token.try_consume() {
                    core.park(task);
                }
            }
            None => park_os_thread(),
        }
    }

    /// Apart, as a call of green threads saves no registers for it then.
    #[cold]
    #[inline(never)]
    fn park_os_thread() {
        OsParker::current().park();
    }

    /// As [`park`], but does not unwind: for an operation that may only be interrupted after it has
    /// taken back what it published, since it might have been completed meanwhile. It asks
    /// [`is_interrupted`] before each call, and calls [`interrupt`] in the end.
    #[inline]
    pub fn rest() {
        match worker::green() {
            Some((core, task)) => {
                // SAFETY: the thread that runs is alive.
                let this = unsafe { task.as_ref() };
                if !this.token.try_consume() {
                    core.park(task);
                }
            }
            None => rest_os_thread(),
        }
    }

    /// As [`park_os_thread`].
    #[cold]
    #[inline(never)]
    fn rest_os_thread() {
        OsParker::current().rest();
    }

    /// Waits until the calling thread is unparked or `deadline` has passed. May return for no
    /// reason.
    ///
    /// # Panics
    ///
    /// As [`park`].
    pub fn park_until(deadline: Instant) {
        match worker::green() {
            Some((core, task)) => {
                // SAFETY: the thread that runs is alive.
                unsafe { task.as_ref() }.interrupts.look();
                rest_green_until(core, task, deadline);
            }
            None => {
                deadlines::look_on_os_thread();
                OsParker::current().park_until(deadline);
            }
        }
    }

    /// As [`rest`], until `deadline` at most.
    pub fn rest_until(deadline: Instant) {
        match worker::green() {
            Some((core, task)) => rest_green_until(core, task, deadline),
            None => {
                OsParker::current().park_until(deadline);
            }
        }
    }

    fn rest_green_until(core: &Core, task: NonNull<Task>, deadline: Instant) {
        // SAFETY: the thread that runs is alive.
        let this = unsafe { task.as_ref() };
        if this.token.try_consume() {
            return;
        }
        let timers = &core.remote().timers;
        timers.with_deadline(Waiting(task), clock::nanos_of(deadline), || core.park(task));
    }

    /// Whether [`park`] would unwind now.
    #[inline]
    pub fn is_interrupted() -> bool {
        match worker::green() {
            // SAFETY: the thread that runs is alive.
            Some((_, task)) => unsafe { task.as_ref() }.interrupts.is_pending(),
            None => deadlines::is_os_thread_interrupted(),
        }
    }

    /// Does what [`park`] does before it waits.
    ///
    /// # Panics
    ///
    /// As [`park`].
    #[inline]
    pub fn interrupt() {
        match worker::green() {
            // SAFETY: the thread that runs is alive.
            Some((_, task)) => unsafe { task.as_ref() }.interrupts.look(),
            None => deadlines::look_on_os_thread(),
        }
    }

    /// Runs `f`, whose blocking calls are not interrupted if the calling green thread is cancelled, or a
    /// [timeout](crate::time::timeout) ends that has begun before. They are again afterwards.
    ///
    /// ```
    /// use bine_runtime::thread;
    ///
    /// let writer = thread::spawn(|| {
    ///     thread::shielded(|| {
    ///         thread::yield_now(); // both halves, or neither
    ///     });
    ///     thread::cancelled()
    /// });
    /// writer.join().unwrap();
    /// ```
    pub fn shielded<T>(f: impl FnOnce() -> T) -> T {
        let _shield = Shield::raise();
        f()
    }

    /// Whether the calling thread unwinds from a panic. False if it unwinds because it was cancelled, or
    /// a deadline has passed:
    /// what it leaves behind is then as it should be.
    #[inline]
    pub fn panicking() -> bool {
        std::thread::panicking() && !unwinds_cancelled()
    }

    #[cold]
    fn unwinds_cancelled() -> bool {
        match worker::green() {
            // SAFETY: the thread that runs is alive.
            Some((_, task)) => unsafe { task.as_ref() }.interrupts.unwinds_cancelled(),
            None => deadlines::unwinds_on_os_thread(),
        }
    }

    /// Whether the caller runs on a green thread (of any runtime).
    pub fn is_green() -> bool {
        worker::green().is_some()
    }

    /// Charges one unit of the calling green thread's operation budget and yields when it is spent,
    /// so that a thread whose operations never have to wait does not keep its worker for itself.
    /// To be called once by each operation that may succeed without waiting. Nothing on an OS
    /// thread.
    #[inline]
    pub fn checkpoint() {
        if let Some((core, task)) = worker::green() {
            core.checkpoint(task);
        }
    }

    /// Gathers wake-ups, so that all threads are moved to their queues before any worker is woken,
    /// and each worker is then woken once. Flushes when dropped.
    #[derive(Debug, Default)]
    pub struct WakeBatch {
        threads: Vec<Unparker>,
        /// The workers whose inbox was empty before.
        workers: Vec<(NonNull<Shared>, usize)>,
        /// How many threads were queued that any worker may run.
        stealable: Vec<(NonNull<Shared>, usize)>,
    }

    // SAFETY: the pointers are to shared state, which the unparkers beside them keep.
    unsafe impl Send for WakeBatch {}

    impl WakeBatch {
        /// An empty batch.
        pub fn new() -> Self {
            Self::default()
        }

        /// Adds a thread to wake.
        pub fn push(&mut self, unparker: Unparker) {
            self.threads.push(unparker);
        }

        /// Whether nothing was added.
        pub(crate) fn is_empty(&self) -> bool {
            self.threads.is_empty()
        }

        /// Wakes all that were added. How many workers had to be woken for that.
        pub fn flush(&mut self) -> usize {
            let threads = std::mem::take(&mut self.threads);
            for thread in &threads {
                match &thread.0 {
                    Target::Green(task) => self.queue(task),
                    Target::Os(parker) => parker.unpark(),
                    Target::Waker(waker) => wake(waker.clone()),
                }
            }
            let mut woken = 0;
            // `threads` still keeps every runtime that is named here.
            for (shared, worker) in self.workers.drain(..) {
                // SAFETY: see above.
                woken += usize::from(unsafe { shared.as_ref() }.wake_worker_for_event(worker));
            }
            for (shared, count) in self.stealable.drain(..) {
                // SAFETY: see above.
                woken += wake_for(unsafe { shared.as_ref() }, count);
            }
            self.threads = threads;
            self.threads.clear();
            woken
        }

        /// Queues a thread without waking a worker for it.
        fn queue(&mut self, task: &TaskRef) {
            if task.token.unpark() == Unpark::Nothing {
                return;
            }
            // SAFETY: our reference keeps the cell, and that the shared state.
            let shared = unsafe { task.shared.as_ref() };
            let here = worker::core().filter(|core| core.shared == task.shared);
            // Relaxed: acquired with the token.
            match (task.home.load(Ordering::Relaxed), here) {
                (ANYWHERE, here) => {
                    match here {
                        Some(core) => core.ready.push(Runnable(task.as_ptr())),
                        None => shared.injector.push(Runnable(task.as_ptr())),
                    }
                    self.count_stealable(task.shared);
                }
                (home, Some(core)) if home as usize == core.index => {
                    core.schedule_later(task.as_ptr());
                }
                (home, _) => {
                    let home = home as usize;
                    // SAFETY: we took the thread out of PARKED, so it is in no queue, and its run
                    // reference is ours to hand on.
                    if unsafe { shared.remotes[home].inbox.push(task.as_ptr().as_ptr()) } {
                        self.workers.push((task.shared, home));
                    }
                }
            }
        }

        fn count_stealable(&mut self, shared: NonNull<Shared>) {
            match self.stealable.iter_mut().find(|(other, _)| *other == shared) {
                Some((_, count)) => *count += 1,
                None => self.stealable.push((shared, 1)),
            }
        }
    }

    /// Wakes workers for so many threads that any of them may run. A worker of the same runtime that
    /// calls from its root context runs the first by itself, and whom it wakes for the rest wakes the
    /// next in turn. How many were woken.
    fn wake_for(shared: &Shared, count: usize) -> usize {
        match worker::core().filter(|core| std::ptr::eq(core.shared(), shared)) {
            Some(core) if count > 1 || core.is_running() => usize::from(shared.wake_for_events()),
            Some(_) => 0,
            None => shared.wake_many(count),
        }
    }

    impl Drop for WakeBatch {
        fn drop(&mut self) {
            self.flush();
        }
    }
}
