//! Calls that block an OS thread, on OS threads that are there for it.
//!
//! A job lies on the stack of the green thread that waits for it: its closure, then its result, and
//! whom to wake. The pool is given its address. So the wait must not end early: it is shielded, and
//! a cancelled thread unwinds when it next waits.

mod crew;
mod done;
#[cfg(not(bine_loom))]
mod pool;
#[cfg(not(bine_loom))]
mod settings;

pub use self::crew::{Crew, Means};
pub use self::done::Done;
#[cfg(not(bine_loom))]
pub(crate) use self::settings::check;
#[cfg(not(bine_loom))]
pub use self::{on_threads::blocking, settings::BlockingPool};

#[cfg(not(bine_loom))]
mod on_threads {
    use std::cell::UnsafeCell;
    use std::panic::{self, AssertUnwindSafe};
    use std::ptr::{self, NonNull};
    use std::thread;

    use super::done::Done;
    use super::pool::{Header, Pool};
    use crate::{wait, worker};

    /// Runs `f` on an OS thread of its own while the calling green thread waits, so that a call which
    /// blocks (files, name resolution, foreign code) keeps no worker. On an OS thread `f` runs in
    /// place.
    ///
    /// `f` may borrow from the caller. On its OS thread it is no green thread, so what it waits for in
    /// bine's ways blocks that OS thread only.
    ///
    /// There are up to 512 such OS threads in a process (or as many as `BINE_BLOCKING_THREADS` says),
    /// started when they are needed; more calls than that wait for their turn. A thread that has had
    /// nothing to do for 10 s ends. [`BlockingPool`](crate::BlockingPool) changes both. If the system
    /// refuses the first one, or in a fork of the process that has them, `f` runs in place; if it
    /// refuses a later one, `f` waits for those that there are.
    ///
    /// A cancelled thread waits for the end of `f`, and is interrupted when it next blocks.
    ///
    /// ```
    /// bine_runtime::run(|| {
    ///     let path = String::from("/proc/self/comm");
    ///     let name = bine_runtime::blocking(|| std::fs::read_to_string(&path)).unwrap();
    ///     assert!(!name.is_empty(), "{path}");
    /// });
    /// ```
    ///
    /// What `f` captures must be `Send`, and so must what it returns:
    ///
    /// ```compile_fail,E0277
    /// let counted_here = std::rc::Rc::new(1);
    /// bine_runtime::blocking(move || drop(counted_here));
    /// ```
    ///
    /// ```compile_fail,E0277
    /// bine_runtime::blocking(|| std::rc::Rc::new(1));
    /// ```
    ///
    /// # Panics
    ///
    /// With `f`'s payload if `f` panics. And if `BINE_BLOCKING_THREADS` was set to nonsense after the
    /// runtime was built, which looks at it.
    pub fn blocking<F, T>(f: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // A green thread that has forked cannot wait, even if the child has a pool of its own.
        let waits = worker::green().is_some_and(|(core, _)| !core.shared().is_forked());
        match waits.then(Pool::get).flatten() {
            Some(pool) => run_on(pool, f),
            None => f(),
        }
    }

    /// First comes the header, whose address stands for the job.
    #[repr(C)]
    struct Job<F, T> {
        header: Header,
        /// Belongs to the one who runs the job until it is done, and then to the waiter.
        state: UnsafeCell<State<F, T>>,
        done: Done,
    }

    enum State<F, T> {
        New(F),
        Running,
        Ended(thread::Result<T>),
    }

    pub(super) fn run_on<F, T>(pool: &'static Pool, f: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let job = Job {
            header: Header(run::<F, T>),
            state: UnsafeCell::new(State::New(f)),
            done: Done::for_current(),
        };
        wait::shielded(|| {
            // SAFETY: the job stays until it is done, for nothing unwinds here: the wait is shielded
            // and the pool runs no code of the caller's but in `run`, which catches panics. `F` and
            // `T` are Send.
            unsafe { pool.submit(NonNull::from(&job).cast()) };
            job.done.wait();
        });
        match job.state.into_inner() {
            State::Ended(Ok(value)) => value,
            State::Ended(Err(payload)) => panic::resume_unwind(payload),
            State::New(_) | State::Running => unreachable!("a job that is done has a result"),
        }
    }

    /// # Safety
    ///
    /// `header` is that of a `Job<F, T>`, which is kept until it is done; once.
    unsafe fn run<F: FnOnce() -> T, T>(header: NonNull<Header>) {
        let job = header.cast::<Job<F, T>>().as_ptr().cast_const();
        // SAFETY: the job is there until `finish`, and its state is ours until then.
        let waiter = unsafe {
            let state = (*job).state.get();
            let State::New(f) = ptr::replace(state, State::Running) else {
                unreachable!("a job runs once");
            };
            // The panic goes on in the caller, which sees what `f` left.
            *state = State::Ended(panic::catch_unwind(AssertUnwindSafe(f)));
            Done::finish(&raw const (*job).done)
        };
        if let Some(waiter) = waiter {
            waiter.unpark();
        }
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests;
