//! Green threads with the interface of [`std::thread`].
//!
//! Everything here also works on plain OS threads, where it does what std does.

use std::any::Any;
use std::cell::Cell;
use std::num::{NonZeroU64, NonZeroUsize};
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io, marker::PhantomData};

use crate::runtime::{self, Runtime};
use crate::shared::{Shared, SpawnOptions, spawn_on};
use crate::task::{Abandoned, TaskRef};
use crate::wait::{self, Unparker};
use crate::worker;

pub use std::thread::{Result, panicking};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Takes `count` ids; the first one.
pub(crate) fn allocate_ids(count: u64) -> u64 {
    // Relaxed: only uniqueness matters. At a billion a second they last 584 years.
    NEXT_ID.fetch_add(count, Ordering::Relaxed)
}

/// A thread's identity, never used twice in a process. Green and OS threads share one space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ThreadId(NonZeroU64);

impl ThreadId {
    fn new(id: u64) -> Self {
        Self(NonZeroU64::new(id).expect("ids start at 1"))
    }
}

/// A handle to a thread, green or OS; see [`std::thread::Thread`].
#[derive(Clone)]
pub struct Thread(Inner);

#[derive(Clone)]
enum Inner {
    Green(TaskRef),
    Os { id: u64, thread: std::thread::Thread },
}

impl Thread {
    /// Makes the token of this thread available, so that its current or next [`park`] returns.
    pub fn unpark(&self) {
        match &self.0 {
            Inner::Green(task) => {
                // Release pairs with the Acquire in `take_user_token`. A swap and no store: it
                // continues the release sequence of those who unparked before, so the one park
                // that takes the token for all of them sees what each of them wrote.
                task.user_token.swap(true, Ordering::Release);
                Unparker::from_task(task.clone()).unpark();
            }
            Inner::Os { thread, .. } => thread.unpark(),
        }
    }

    /// The thread's identity.
    pub fn id(&self) -> ThreadId {
        match &self.0 {
            Inner::Green(task) => ThreadId::new(task.id),
            Inner::Os { id, .. } => ThreadId::new(*id),
        }
    }

    /// The name it was given, if any.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Inner::Green(task) => task.name(),
            Inner::Os { thread, .. } => thread.name(),
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("id", &self.id())
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// The calling thread's handle.
pub fn current() -> Thread {
    if let Some((_, task)) = worker::green() {
        // SAFETY: the thread that runs is alive.
        return Thread(Inner::Green(unsafe { TaskRef::from_borrowed(task) }));
    }
    thread_local! {
        static ID: Cell<u64> = const { Cell::new(0) };
    }
    if ID.get() == 0 {
        ID.set(allocate_ids(1));
    }
    Thread(Inner::Os { id: ID.get(), thread: std::thread::current() })
}

/// Waits until the calling thread's token is available, and consumes it. Does not return for
/// another reason on a green thread.
pub fn park() {
    match worker::green() {
        Some(_) => {
            while !take_user_token() {
                wait::park();
            }
        }
        None => std::thread::park(),
    }
}

/// As [`park`], for `timeout` at most.
pub fn park_timeout(timeout: Duration) {
    if worker::green().is_none() {
        return std::thread::park_timeout(timeout);
    }
    let Some(deadline) = Instant::now().checked_add(timeout) else { return park() };
    while !take_user_token() {
        if Instant::now() >= deadline {
            return;
        }
        wait::park_until(deadline);
    }
}

fn take_user_token() -> bool {
    let (_, task) = worker::green().expect("called on a green thread");
    // SAFETY: the thread that runs is alive. Acquire pairs with the Release in `unpark`.
    unsafe { task.as_ref() }.user_token.swap(false, Ordering::Acquire)
}

/// Waits for `duration` at least.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let before = Instant::now();
/// bine_runtime::run(|| bine_runtime::thread::sleep(Duration::from_millis(5)));
/// assert!(before.elapsed() >= Duration::from_millis(5));
/// ```
pub fn sleep(duration: Duration) {
    if worker::green().is_none() {
        return std::thread::sleep(duration);
    }
    match Instant::now().checked_add(duration) {
        Some(deadline) => sleep_until(deadline),
        None => loop {
            wait::park();
        },
    }
}

/// Waits until `deadline`.
pub fn sleep_until(deadline: Instant) {
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        if left.is_zero() {
            return;
        }
        match worker::green() {
            Some(_) => wait::park_until(deadline),
            None => std::thread::sleep(left),
        }
    }
}

/// Lets other runnable threads go first.
pub fn yield_now() {
    match worker::green() {
        Some((core, task)) => core.yield_now(task),
        None => std::thread::yield_now(),
    }
}

/// How many green threads can run at the same time: the workers of the caller's runtime, or of the
/// default one.
///
/// # Errors
///
/// If `BINE_WORKERS` is not a number from 1 to 1024.
pub fn available_parallelism() -> io::Result<NonZeroUsize> {
    runtime::parallelism()
}

/// Spawns a green thread on the caller's runtime; from other threads, on the default one.
///
/// ```
/// let thread = bine_runtime::spawn(|| "done");
/// assert_eq!(thread.join().unwrap(), "done");
/// ```
///
/// What it captures must be `Send`, and must not borrow from the caller:
///
/// ```compile_fail,E0277
/// let counted_here = std::rc::Rc::new(1);
/// bine_runtime::spawn(move || drop(counted_here));
/// ```
///
/// ```compile_fail,E0373
/// let text = String::from("mine");
/// bine_runtime::spawn(|| println!("{text}"));
/// ```
///
/// # Panics
///
/// If the thread cannot be made, as `std::thread::spawn`. [`Builder::spawn`] returns the error.
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match Builder::new().spawn(f) {
        Ok(handle) => handle,
        Err(error) => panic!("failed to spawn a green thread: {error}"),
    }
}

/// How a green thread is to be made; see [`std::thread::Builder`].
#[derive(Debug, Default)]
#[must_use = "must eventually spawn the thread"]
pub struct Builder(SpawnOptions);

impl Builder {
    /// The runtime's defaults, no name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the thread.
    pub fn name(mut self, name: String) -> Self {
        self.0.name = Some(name);
        self
    }

    /// The size of its stack in bytes, guard page included; rounded up to a power of two. An
    /// overflow ends the process, with a message that names the thread.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.0.stack_size = Some(bytes);
        self
    }

    /// In a migrating runtime: keeps the thread on the worker that first runs it. In others every
    /// thread stays there.
    pub fn pinned(mut self, pinned: bool) -> Self {
        self.0.pinned = pinned;
        self
    }

    /// Spawns the thread on the caller's runtime; from other threads, on the default one.
    ///
    /// # Errors
    ///
    /// If no stack or no memory can be had, or the default runtime cannot be started. The text says
    /// what was tried.
    ///
    /// # Panics
    ///
    /// If the name contains a NUL byte, as std.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = match worker::core() {
            Some(core) => core.shared,
            None => runtime::default_runtime()?.shared_ptr(),
        };
        // SAFETY: the closure is 'static. A worker's runtime lives while it runs, and the default
        // one for ever.
        unsafe { self.spawn_unchecked(shared, f) }
    }

    /// Spawns the thread on `runtime`.
    ///
    /// # Errors and panics
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_on<F, T>(self, runtime: &Runtime, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: the closure is 'static, and the runtime is borrowed.
        unsafe { self.spawn_unchecked(runtime.shared_ptr(), f) }
    }

    /// # Safety
    ///
    /// As [`spawn_on`].
    #[track_caller]
    unsafe fn spawn_unchecked<F, T>(
        self,
        shared: NonNull<Shared>,
        f: F,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        if self.0.name.as_ref().is_some_and(|name| name.contains('\0')) {
            panic!("thread name may not contain interior null bytes");
        }
        // SAFETY: the caller's promise.
        let task = unsafe { spawn_on(shared, self.0, Location::caller(), f)? };
        Ok(JoinHandle { thread: Thread(Inner::Green(task)), result: PhantomData })
    }
}

/// The right to wait for a green thread's end and take its result; see [`std::thread::JoinHandle`].
/// Dropping it detaches the thread.
pub struct JoinHandle<T> {
    thread: Thread,
    result: PhantomData<fn() -> T>,
}

// The result leaves by value, to one taker, so the handle may be shared whatever `T` is, as in std.
// (`PhantomData<fn() -> T>` makes it Send and Sync.)

impl<T> JoinHandle<T> {
    fn task(&self) -> &TaskRef {
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
    let ended = loop {
        if task.completion.is_done() {
            break true;
        }
        if shared.has_stopped() {
            break task.completion.is_done();
        }
        wait::park();
    };
    shared.remove_foreign_joiner(task.id);
    ended
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
