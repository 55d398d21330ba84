//! Making green threads.

use std::fmt;
use std::io;
use std::panic::Location;

use super::handle::{Inner, Thread};
use super::join::JoinHandle;
use crate::runtime::{self, AsRuntime};
use crate::shared::{Place, SpawnOptions, spawn_on};
use crate::worker;

/// Spawns a green thread on the caller's runtime; from other threads, on the default one.
///
/// ```
/// let thread = bine_runtime::spawn(|| "done");
/// assert_eq!(thread.join().unwrap(), "done");
/// ```
///
/// This is no blocking call: the caller goes on. One that spawns for ever, and does nothing that can
/// wait, keeps its worker for itself.
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
#[derive(Default)]
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
        // SAFETY: the closure is 'static.
        unsafe { self.spawn_here(f) }
    }

    /// As [`spawn`](Self::spawn), for a closure and a result that may borrow; see
    /// [`std::thread::Builder::spawn_unchecked`].
    ///
    /// ```
    /// use bine_runtime::thread;
    ///
    /// let number = 20;
    /// // SAFETY: the join below comes before the end of `number`.
    /// let thread = unsafe { thread::Builder::new().spawn_unchecked(|| &number) };
    /// assert_eq!(*thread.unwrap().join().unwrap(), 20);
    /// ```
    ///
    /// # Errors and panics
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Safety
    ///
    /// What the closure and its result borrow must live until the thread has ended and its result is
    /// gone, for which the caller must join it. A thread that was abandoned with its runtime, as the
    /// error of the join says ([`Abandoned`](crate::Abandoned)), goes on borrowing for ever.
    #[track_caller]
    pub unsafe fn spawn_unchecked<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // SAFETY: the caller's promise.
        unsafe { self.spawn_here(f) }
    }

    /// Spawns the thread on the caller's runtime; from other threads, on the default one.
    ///
    /// # Safety
    ///
    /// As [`Task::create`](crate::task::Task::create).
    #[track_caller]
    pub(super) unsafe fn spawn_here<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let shared = match worker::core() {
            Some(core) => core.shared,
            None => runtime::default_runtime()?.shared_ptr(),
        };
        // SAFETY: the caller's promise. A worker's runtime lives while it runs, and the default one
        // for ever.
        unsafe { self.spawn_in(Place { shared, may_close: false }, f) }
    }

    /// Spawns the thread on `runtime`, a [`Runtime`](crate::Runtime) or a [`Handle`](crate::Handle)
    /// to one.
    ///
    /// # Errors and panics
    ///
    /// As [`spawn`](Self::spawn). `NotConnected` if it is a handle, and the runtime is being shut down,
    /// unless the caller is one of its green threads.
    #[track_caller]
    pub fn spawn_on<F, T>(self, runtime: &impl AsRuntime, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: the closure is 'static. What is borrowed keeps the shared state.
        unsafe { self.spawn_in(runtime.place(), f) }
    }

    /// # Safety
    ///
    /// As [`spawn_on`].
    #[track_caller]
    unsafe fn spawn_in<F, T>(self, place: Place, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        if self.0.name.as_ref().is_some_and(|name| name.contains('\0')) {
            panic!("thread name may not contain interior null bytes");
        }
        // SAFETY: the caller's promise.
        let task = unsafe { spawn_on(place, self.0, Location::caller(), f)? };
        Ok(JoinHandle::new(Thread(Inner::Green(task))))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(SpawnOptions { name, stack_size, pinned }) = self;
        f.debug_struct("Builder")
            .field("name", name)
            .field("stack_size", stack_size)
            .field("pinned", pinned)
            .finish()
    }
}
