//! Runtimes in a model: there is one scheduler, loom's, and settings are ignored.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::thread::{self, JoinHandle};
use super::token::{self, Unparker};

/// Calls `f`, on the calling thread.
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    f()
}

/// Calls `f`, on the calling thread. Others may run before and after.
pub fn blocking<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    f()
}

/// Waits for a future.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let signal = Arc::new(Signal { woken: AtomicBool::new(false), thread: Unparker::current() });
    let waker = Waker::from(Arc::clone(&signal));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        // Relaxed: the token orders it, and without it the future is asked again in vain.
        while !signal.woken.swap(false, Ordering::Relaxed) {
            token::park();
        }
    }
}

/// What a waker is made of.
struct Signal {
    woken: AtomicBool,
    thread: Unparker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        self.thread.clone().unpark();
    }
}

/// A runtime, in name. Dropping it ends no thread.
#[derive(Debug)]
pub struct Runtime(());

impl Runtime {
    /// A runtime.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Calls `f`, on the calling thread.
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        f()
    }

    /// Spawns a thread.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        thread::spawn(f)
    }

    /// A handle.
    pub fn handle(&self) -> Handle {
        Handle(())
    }
}

/// As [`Runtime`].
#[derive(Clone, Debug)]
pub struct Handle(());

impl Handle {
    /// A handle.
    #[must_use]
    pub fn current() -> Self {
        Self(())
    }

    /// A handle.
    ///
    /// # Errors
    ///
    /// None.
    pub fn try_current() -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Spawns a thread.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        thread::spawn(f)
    }

    /// Calls `f`, on the calling thread.
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        f()
    }
}

/// What a thread can be spawned on.
pub trait AsRuntime: sealed::AsRuntime {}

impl<R: sealed::AsRuntime + ?Sized> AsRuntime for R {}

mod sealed {
    pub trait AsRuntime {}

    impl AsRuntime for super::Runtime {}
    impl AsRuntime for super::Handle {}
}

/// Settings, all of which are ignored.
#[derive(Clone, Debug, Default)]
#[must_use = "must eventually build the runtime"]
pub struct Builder(());

macro_rules! ignored {
    ($($name:ident($value:ty),)*) => { $(
        /// Ignored.
        pub fn $name(self, _: $value) -> Self {
            self
        }
    )* };
}

impl Builder {
    /// No settings.
    pub fn new() -> Self {
        Self(())
    }

    ignored! {
        workers(usize),
        stack_size(usize),
        shutdown_timeout(Duration),
        spare_workers(usize),
        hold_threshold(Duration),
        pin_workers(bool),
    }

    /// Ignored: a model has no workers.
    pub fn on_worker_start(self, _: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self
    }

    /// Ignored: a model has no workers.
    pub fn on_worker_stop(self, _: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self
    }

    /// Ignored.
    ///
    /// # Safety
    ///
    /// None here; see it outside of models.
    pub unsafe fn migrate(self) -> Self {
        self
    }

    /// A runtime.
    ///
    /// # Errors
    ///
    /// None.
    pub fn build(self) -> io::Result<Runtime> {
        Runtime::new()
    }
}
