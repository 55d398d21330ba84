//! Handles to a runtime, which outlive it, and whatever else one can spawn on.

use std::ptr::NonNull;
use std::sync::Arc;
use std::{fmt, io, panic};

use super::{Metrics, Runtime};
use crate::shared::{Place, Shared};
use crate::thread::{Builder, JoinHandle};
use crate::worker;

/// A handle to a [`Runtime`], to spawn green threads on it from any thread.
///
/// A handle does not keep the runtime running. Once that is being shut down, spawning through its
/// handles from outside is an error; its own green threads may still spawn meanwhile. A spawn that
/// meets the shutdown loses nothing: either it fails and its closure is dropped, or the thread is
/// there, and is run, cancelled or abandoned as any other.
///
/// ```
/// use bine_runtime::{Handle, Runtime};
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = Runtime::new()?;
/// let handle = runtime.handle();
/// let elsewhere = std::thread::spawn(move || {
///     let sum = handle.spawn(|| 1 + 1).join().unwrap();
///     (sum, handle)
/// });
/// let (sum, handle) = elsewhere.join().unwrap();
/// assert_eq!(sum, 2);
/// assert_eq!(handle.run(|| Handle::current().metrics().workers), handle.metrics().workers);
///
/// drop(runtime);
/// let late = bine_runtime::thread::Builder::new().spawn_on(&handle, || ());
/// assert!(late.unwrap_err().to_string().contains("shut down"));
/// # Ok(())
/// # }
/// ```
pub struct Handle {
    /// Invariant: this handle is counted in `keeping`, which keeps the shared state.
    shared: NonNull<Shared>,
}

// SAFETY: `Shared` is made for sharing between threads.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

// Nothing of a user's runs while any of it is being changed.
impl panic::RefUnwindSafe for Handle {}
impl panic::UnwindSafe for Handle {}

impl Handle {
    /// # Safety
    ///
    /// Something keeps the shared state for the length of the call.
    unsafe fn new(shared: NonNull<Shared>) -> Self {
        // SAFETY: the caller's promise.
        unsafe { shared.as_ref() }.keeping.keep();
        Self { shared }
    }

    /// The runtime of the calling green thread.
    ///
    /// # Panics
    ///
    /// On a thread of no runtime: an OS thread, also one of those that run [`blocking`] calls. See
    /// [`try_current`](Self::try_current).
    ///
    /// [`blocking`]: crate::blocking()
    #[track_caller]
    pub fn current() -> Self {
        match Self::try_current() {
            Ok(handle) => handle,
            Err(error) => panic!("{error}"),
        }
    }

    /// The runtime of the calling green thread.
    ///
    /// ```
    /// use bine_runtime::{Handle, run};
    ///
    /// assert!(Handle::try_current().is_err());
    /// assert!(run(|| Handle::try_current().is_ok()));
    /// ```
    ///
    /// # Errors
    ///
    /// `NotFound` on a thread of no runtime.
    pub fn try_current() -> io::Result<Self> {
        match worker::core() {
            // SAFETY: a worker's runtime lives while it runs.
            Some(core) => Ok(unsafe { Self::new(core.shared) }),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "there is no current runtime: this is no green thread. Hand a `Runtime::handle` to \
                 the thread that needs it, or call this within `run`",
            )),
        }
    }

    /// Spawns a green thread on this runtime, from any thread.
    ///
    /// # Panics
    ///
    /// If the thread cannot be made, as `std::thread::spawn`; and if the runtime is being shut down,
    /// unless the caller is one of its green threads.
    /// [`thread::Builder::spawn_on`](crate::thread::Builder::spawn_on) returns the error instead.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match Builder::new().spawn_on(self, f) {
            Ok(handle) => handle,
            Err(error) => panic!("failed to spawn a green thread: {error}"),
        }
    }

    /// Runs `f` on a green thread of this runtime, waits for it, and returns its value. May be
    /// called from any thread, also from a green one. It has the calling thread's name.
    ///
    /// # Panics
    ///
    /// With `f`'s payload if `f` panics, and as [`spawn`](Self::spawn). If the runtime is shut down
    /// meanwhile, with [`Cancelled`](crate::thread::Cancelled) or [`Abandoned`](crate::Abandoned).
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        super::run_on(self, f)
    }

    /// What the runtime has done so far.
    pub fn metrics(&self) -> Metrics {
        Metrics::of(self.shared())
    }

    fn shared(&self) -> &Shared {
        // SAFETY: kept by this handle.
        unsafe { self.shared.as_ref() }
    }
}

impl Runtime {
    /// A handle to the runtime, which may outlive it.
    pub fn handle(&self) -> Handle {
        // SAFETY: kept until the owner has left.
        unsafe { Handle::new(self.shared) }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        // SAFETY: kept by this handle.
        unsafe { Self::new(self.shared) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: counted when it was made.
        unsafe { Shared::handle_dropped(self.shared) };
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("migrating", &self.shared().migrating)
            .field("metrics", &self.metrics())
            .finish_non_exhaustive()
    }
}

/// What [`thread::Builder::spawn_on`](crate::thread::Builder::spawn_on) takes: a [`Runtime`], a
/// [`Handle`] to one, or a reference or an [`Arc`] to either. It cannot be implemented elsewhere.
///
/// ```
/// use bine_runtime::{AsRuntime, Runtime, thread};
///
/// fn spawn_worker(on: &impl AsRuntime, number: u32) -> std::io::Result<thread::JoinHandle<u32>> {
///     thread::Builder::new().name(format!("worker-{number}")).spawn_on(on, move || number)
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = Runtime::new()?;
/// assert_eq!(spawn_worker(&runtime, 1)?.join().unwrap(), 1);
/// assert_eq!(spawn_worker(&runtime.handle(), 2)?.join().unwrap(), 2);
/// # Ok(())
/// # }
/// ```
pub trait AsRuntime: sealed::AsRuntime {}

impl<R: sealed::AsRuntime + ?Sized> AsRuntime for R {}

mod sealed {
    use super::{Arc, Handle, Place, Runtime};

    /// Who implements this keeps the shared state as long as it is borrowed.
    pub trait AsRuntime {
        fn place(&self) -> Place;
    }

    impl AsRuntime for Runtime {
        fn place(&self) -> Place {
            Place { shared: self.shared, may_close: false }
        }
    }

    impl AsRuntime for Handle {
        fn place(&self) -> Place {
            Place { shared: self.shared, may_close: true }
        }
    }

    impl<R: AsRuntime + ?Sized> AsRuntime for &R {
        fn place(&self) -> Place {
            (**self).place()
        }
    }

    impl<R: AsRuntime + ?Sized> AsRuntime for Arc<R> {
        fn place(&self) -> Place {
            (**self).place()
        }
    }
}
