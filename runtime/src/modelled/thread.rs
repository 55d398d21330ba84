//! Threads of a model, with the interface of `thread`.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Result;
use std::time::{Duration, Instant};

use loom::sync::atomic::AtomicBool;

use super::explorer;
use super::runtime::AsRuntime;
use super::token::{self, Token, Unparker};
use crate::request::Requests;
use crate::thread::Locals;

pub use super::scope::{Scope, ScopedJoinHandle, TryScope, scope, try_scope};
pub use super::token::shielded;

/// What there is of a modelled thread.
pub(crate) struct ThreadData {
    pub(super) id: u64,
    pub(super) name: Option<String>,
    /// Ends the waits of bine's own operations.
    pub(super) token: Token,
    /// The token of `park`.
    user_token: AtomicBool,
    pub(super) requests: Requests,
    /// Of the thread itself, and hidden from loom.
    pub(super) shields: AtomicU32,
    pub(super) timed_waits: Cell<u32>,
    pub(super) panicking: Cell<bool>,
    pub(super) locals: Locals,
    /// Its values are gone.
    ended: Cell<bool>,
}

// SAFETY: all threads of a model run on one OS thread, one at a time; and what is in cells here is the
// thread's own.
unsafe impl Send for ThreadData {}
// SAFETY: as above.
unsafe impl Sync for ThreadData {}

impl fmt::Debug for ThreadData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("id", &self.id).field("name", &self.name).finish()
    }
}

pub(crate) type ThreadRef = Arc<ThreadData>;

loom::thread_local! {
    static THIS: RefCell<Option<ThreadRef>> = RefCell::new(None);
}

fn new_thread(name: Option<String>) -> ThreadRef {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    Arc::new(ThreadData {
        // Relaxed: only uniqueness matters.
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        name,
        token: Token::new(),
        user_token: AtomicBool::new(false),
        requests: Requests::new(0),
        shields: AtomicU32::new(0),
        timed_waits: Cell::new(0),
        panicking: Cell::new(false),
        locals: Locals::new(),
        ended: Cell::new(false),
    })
}

/// The calling thread. One of loom's that was not spawned here becomes known with its first call.
pub(crate) fn this() -> ThreadRef {
    explorer::sleep_if_dead();
    let Some(thread) = THIS.with(|this| this.borrow().clone()) else {
        let thread = new_thread(None);
        become_known(&thread);
        return thread;
    };
    if thread.panicking.get() && !std::thread::panicking() {
        // Somebody has caught the panic.
        explorer::stops_unwinding(&thread);
    }
    thread
}

fn become_known(thread: &ThreadRef) {
    THIS.with(|this| *this.borrow_mut() = Some(Arc::clone(thread)));
}

/// The first thread of an execution.
pub(super) fn begin_main() {
    become_known(&new_thread(Some("main".to_owned())));
}

/// Drops the thread's values. Nothing of a user's runs on it later.
pub(super) fn end(thread: &ThreadRef) {
    if !thread.locals.is_empty() {
        // SAFETY: the calling thread's own, which uses none of them any more.
        unsafe { thread.locals.destroy() };
    }
    thread.ended.set(true);
}

/// The calling thread's table, for [`thread_local!`](crate::thread_local).
pub(crate) fn current_locals() -> Option<*const Locals> {
    let this = this();
    // The thread's cell lives until the thread has ended: `THIS` keeps it.
    (!this.ended.get()).then_some(&raw const this.locals)
}

/// A thread's identity, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ThreadId(NonZeroU64);

/// A handle to a thread.
#[derive(Clone)]
pub struct Thread(ThreadRef);

impl From<ThreadRef> for Thread {
    fn from(thread: ThreadRef) -> Self {
        Self(thread)
    }
}

impl Thread {
    /// Makes the token of this thread available, so that its current or next [`park`] returns.
    pub fn unpark(&self) {
        // As outside of models.
        self.0.user_token.swap(true, Ordering::Release);
        Unparker::of(Arc::clone(&self.0)).unpark();
    }

    /// The thread's identity.
    #[must_use]
    pub fn id(&self) -> ThreadId {
        ThreadId(NonZeroU64::new(self.0.id).expect("ids start at 1"))
    }

    /// The name it was given, if any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
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
#[must_use]
pub fn current() -> Thread {
    Thread(this())
}

/// Waits until the calling thread's token is available, and consumes it.
pub fn park() {
    let this = this();
    while !take_token(&this) {
        token::park();
    }
}

/// As [`park`], or returns without the token: models explore both.
pub fn park_timeout(timeout: Duration) {
    let this = this();
    if !take_token(&this) {
        if timeout.is_zero() {
            return yield_now();
        }
        let_pass(timeout);
        take_token(&this);
    }
}

fn take_token(this: &ThreadRef) -> bool {
    // Acquire pairs with the Release in `unpark`.
    this.user_token.swap(false, Ordering::Acquire)
}

fn let_pass(duration: Duration) {
    match token::now().checked_add(duration) {
        Some(deadline) => {
            token::has_passed(deadline);
        }
        None => token::let_time_pass(),
    }
}

/// Others may do anything meanwhile, or nothing: models explore both.
pub fn sleep(duration: Duration) {
    let_pass(duration);
}

/// As [`sleep`].
pub fn sleep_until(deadline: Instant) {
    token::has_passed(deadline);
}

/// As [`sleep`], for so many milliseconds.
#[deprecated(note = "replaced by `sleep`, as in std")]
pub fn sleep_ms(ms: u32) {
    sleep(Duration::from_millis(ms.into()));
}

/// As [`park_timeout`], for so many milliseconds.
#[deprecated(note = "replaced by `park_timeout`, as in std")]
pub fn park_timeout_ms(ms: u32) {
    park_timeout(Duration::from_millis(ms.into()));
}

/// Lets other threads go first. A loop that looks for something needs it, or it never ends.
pub fn yield_now() {
    let _ends = explorer::EndsHere;
    loom::thread::yield_now();
}

/// Whether the calling thread unwinds from a panic.
#[must_use]
pub fn panicking() -> bool {
    token::panicking()
}

/// As many as threads can be in a model.
///
/// # Errors
///
/// None.
pub fn available_parallelism() -> io::Result<NonZeroUsize> {
    Ok(NonZeroUsize::new(loom::MAX_THREADS).expect("a model has threads"))
}

/// Whether the calling thread was cancelled: nobody can be, in a model.
#[must_use]
pub fn cancelled() -> bool {
    false
}

pub(super) fn no_cancelling() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "a green thread is cancelled by unwinding it, which threads of a model cannot be",
    )
}

/// The payload with which a thread unwinds that was cancelled. No thread of a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cancelled;

/// What a thread and its join handle share.
struct Packet<T> {
    result: Mutex<Option<Result<T>>>,
    ended: AtomicBool,
}

/// Waits for a thread's end. A panic that nobody takes from it fails the model.
pub struct JoinHandle<T> {
    thread: Thread,
    packet: Arc<Packet<T>>,
    loom: loom::thread::JoinHandle<()>,
}

// SAFETY: the result leaves by value, to one taker, and the rest is made for sharing.
unsafe impl<T> Send for JoinHandle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Whether the thread has ended, so that [`join`](Self::join) would not wait.
    pub fn is_finished(&self) -> bool {
        // Acquire pairs with the Release at the end of the thread.
        self.packet.ended.load(Ordering::Acquire)
    }

    /// Waits for the thread to end, and takes its result.
    ///
    /// # Errors
    ///
    /// With the payload if it panicked.
    pub fn join(self) -> Result<T> {
        let _ends = explorer::EndsHere;
        self.loom.join().expect("what a thread panics with is in its packet");
        let result = self.packet.result.lock().expect("nothing panics here").take();
        explorer::claim(&self.thread.0);
        result.expect("a thread leaves its result, and one handle takes it")
    }

    /// Not in a model.
    ///
    /// # Errors
    ///
    /// `Unsupported`.
    pub fn cancel(&self) -> io::Result<()> {
        Err(no_cancelling())
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

/// Spawns a thread.
///
/// # Panics
///
/// The model fails if there are too many.
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().start(f)
}

/// How a thread is to be made; see [`std::thread::Builder`]. Names are kept, the rest is ignored.
#[derive(Debug, Default)]
#[must_use = "must eventually spawn the thread"]
pub struct Builder {
    name: Option<String>,
}

impl Builder {
    /// No name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the thread.
    pub fn name(mut self, name: String) -> Self {
        self.name = Some(name);
        self
    }

    /// Ignored: all threads of a model have stacks of [`STACK_SIZE`] bytes.
    pub fn stack_size(self, _: usize) -> Self {
        self
    }

    /// Ignored.
    pub fn pinned(self, _: bool) -> Self {
        self
    }

    /// Spawns the thread.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Panics
    ///
    /// If the name contains a NUL byte, as std. The model fails if there are too many threads.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(self.start(f))
    }

    /// As [`spawn`](Self::spawn), for a closure and a result that may borrow.
    ///
    /// # Errors and panics
    ///
    /// As there.
    ///
    /// # Safety
    ///
    /// What the closure and its result borrow must live until the thread has ended and its result is
    /// gone, for which the caller must join it.
    #[track_caller]
    pub unsafe fn spawn_unchecked<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // SAFETY: the caller's promise.
        Ok(unsafe { self.start_unchecked(f, ()) })
    }

    /// Spawns the thread on whichever runtime: all of them are one in a model.
    ///
    /// # Errors and panics
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_on<F, T>(self, _: &impl AsRuntime, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(self.start(f))
    }

    #[track_caller]
    fn start<F, T>(self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: the closure is 'static.
        unsafe { self.start_unchecked(f, ()) }
    }

    /// Starts the thread. `last` is dropped when nothing of the user's is left of it, but its result.
    ///
    /// # Safety
    ///
    /// As [`spawn_unchecked`](Self::spawn_unchecked); `last` may tell the caller of the end.
    #[track_caller]
    pub(super) unsafe fn start_unchecked<F, T>(self, f: F, last: impl Sized) -> JoinHandle<T>
    where
        F: FnOnce() -> T,
    {
        if self.name.as_ref().is_some_and(|name| name.contains('\0')) {
            panic!("thread name may not contain interior null bytes");
        }
        explorer::count_thread();
        let thread = new_thread(self.name);
        let packet = Arc::new(Packet { result: Mutex::new(None), ended: AtomicBool::new(false) });
        let (this, theirs) = (Arc::clone(&thread), Arc::clone(&packet));
        let body: Box<dyn FnOnce()> = Box::new(move || {
            run(&this, f, theirs);
            drop(last);
        });
        // SAFETY: the caller's promise; what is borrowed is gone when `last` is dropped.
        let body: Box<dyn FnOnce() + 'static> = unsafe { std::mem::transmute(body) };
        let loom = loom::thread::Builder::new()
            .stack_size(STACK_SIZE / size_of::<usize>())
            .spawn(SendsAnyway(body).into_closure())
            .expect("loom makes threads or panics");
        JoinHandle { thread: Thread(thread), packet, loom }
    }
}

/// Bytes of stack of a modelled thread.
const STACK_SIZE: usize = 256 << 10;

/// loom's threads are all on one OS thread; whether a closure may be sent is asked by our callers.
struct SendsAnyway(Box<dyn FnOnce()>);

// SAFETY: see above.
unsafe impl Send for SendsAnyway {}

impl SendsAnyway {
    fn into_closure(self) -> impl FnOnce() + Send {
        move || {
            let this = self;
            (this.0)();
        }
    }
}

/// The thread itself.
fn run<F: FnOnce() -> T, T>(this: &ThreadRef, f: F, packet: Arc<Packet<T>>) {
    become_known(this);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    explorer::sleep_if_dead();
    end(this);
    if result.is_err() {
        explorer::panicked(this);
    }
    *packet.result.lock().expect("nothing panics here") = Some(result);
    // Release pairs with the Acquire in `is_finished`.
    packet.ended.store(true, Ordering::Release);
}
