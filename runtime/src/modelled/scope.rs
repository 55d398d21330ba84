//! Scopes of modelled threads. The wait of the owner is the shipped one.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::thread::Result;

use super::explorer;
use super::thread::{Builder, JoinHandle, Thread, ThreadRef, current, no_cancelling, this};
use super::token::{self, Unparker};
use crate::countdown::Countdown;

/// A scope to spawn threads in that may borrow; see [`std::thread::Scope`].
pub struct Scope<'scope, 'env: 'scope> {
    data: Arc<ScopeData>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

struct ScopeData {
    countdown: Countdown<Unparker>,
    /// Children whose panics nobody has taken.
    panicked: Mutex<Vec<ThreadRef>>,
    owner: Thread,
}

impl panic::RefUnwindSafe for ScopeData {}

/// Calls `f` with a scope, and waits for all threads that were spawned in it.
///
/// # Panics
///
/// If `f` panics, or a thread that was not joined.
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope {
        data: Arc::new(ScopeData {
            countdown: Countdown::new(),
            panicked: Mutex::default(),
            owner: current(),
        }),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = panic::catch_unwind(AssertUnwindSafe(|| f(&scope)));
    // SAFETY: by the owner, once.
    if !unsafe { scope.data.countdown.wait(Unparker::current()) } {
        while !scope.data.countdown.is_over() {
            token::park();
        }
    }
    let panicked = std::mem::take(&mut *scope.data.panicked());
    panicked.iter().for_each(explorer::claim);
    match result {
        Err(payload) => panic::resume_unwind(payload),
        Ok(_) if !panicked.is_empty() => panic!("a scoped thread panicked"),
        Ok(value) => value,
    }
}

impl ScopeData {
    fn panicked(&self) -> std::sync::MutexGuard<'_, Vec<ThreadRef>> {
        self.panicked.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Dropped when nothing of the user's is left of a child.
struct End(Arc<ScopeData>);

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: once for each child.
        if let Some(owner) = unsafe { self.0.countdown.end() } {
            owner.unpark();
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a thread that may borrow.
    ///
    /// # Panics
    ///
    /// The model fails if there are too many threads.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        Builder::new().start_scoped(self, f)
    }

    /// Spawns a thread that may fail. In a model the others are not cancelled then.
    ///
    /// # Panics
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_try<F, T, E>(
        &'scope self,
        f: F,
    ) -> ScopedJoinHandle<'scope, std::result::Result<T, E>>
    where
        F: FnOnce() -> std::result::Result<T, E> + Send + 'scope,
        T: Send + 'scope,
        E: Send + 'scope,
    {
        self.spawn(f)
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

impl Builder {
    /// Spawns a thread in `scope`.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Panics
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        Ok(self.start_scoped(scope, f))
    }

    #[track_caller]
    fn start_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        assert!(scope.data.countdown.add(), "too many running threads in thread scope");
        let data = Arc::clone(&scope.data);
        let noting = move || {
            let result = panic::catch_unwind(AssertUnwindSafe(f));
            result.unwrap_or_else(|payload| {
                data.panicked().push(this());
                panic::resume_unwind(payload)
            })
        };
        let end = End(Arc::clone(&scope.data));
        // SAFETY: the scope does not end before the child's `End` is dropped. A model that fails never
        // returns to the frames that are borrowed from, and never frees them.
        let thread = unsafe { self.start_unchecked(noting, end) };
        ScopedJoinHandle { thread, data: Arc::clone(&scope.data), scope: PhantomData }
    }
}

/// Waits for the end of a thread in a scope.
pub struct ScopedJoinHandle<'scope, T> {
    thread: JoinHandle<T>,
    data: Arc<ScopeData>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.thread.thread()
    }

    /// Waits for the thread to end, and takes its result.
    ///
    /// # Errors
    ///
    /// With the payload if it panicked.
    pub fn join(self) -> Result<T> {
        let id = self.thread().id();
        let result = self.thread.join();
        self.data.panicked().retain(|thread| Thread::from(thread.clone()).id() != id);
        result
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// As [`JoinHandle::cancel`].
    ///
    /// # Errors
    ///
    /// `Unsupported`.
    pub fn cancel(&self) -> io::Result<()> {
        self.thread.cancel()
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("main_thread", &self.data.owner).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}

/// A scope of threads that may fail; see [`try_scope`].
pub struct TryScope<'scope, 'env: 'scope, E> {
    scope: &'scope Scope<'scope, 'env>,
    first: Arc<Mutex<Option<E>>>,
}

/// As [`scope`], for threads that may fail: the first error is returned. In a model the others are not
/// cancelled, and run to their ends.
///
/// # Errors
///
/// The first one.
///
/// # Panics
///
/// As [`scope`].
#[track_caller]
pub fn try_scope<'env, F, T, E>(f: F) -> std::result::Result<T, E>
where
    F: for<'scope> FnOnce(&TryScope<'scope, 'env, E>) -> std::result::Result<T, E>,
    E: Send + 'env,
{
    let first = Arc::new(Mutex::new(None));
    let value = scope(|scope| {
        f(&TryScope { scope, first: Arc::clone(&first) })
            .map_err(|error| keep_first(&first, error))
            .ok()
    });
    let error = first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    match (error, value) {
        (Some(error), _) => Err(error),
        (None, Some(value)) => Ok(value),
        (None, None) => unreachable!("a closure that fails leaves its error"),
    }
}

fn keep_first<E>(first: &Mutex<Option<E>>, error: E) {
    first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
}

impl<'scope, 'env, E> TryScope<'scope, 'env, E> {
    /// Spawns a thread that may fail. Its handle gives `None` if it did: the error is the scope's.
    ///
    /// # Panics
    ///
    /// As [`Scope::spawn`].
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> ScopedJoinHandle<'scope, Option<T>>
    where
        F: FnOnce() -> std::result::Result<T, E> + Send + 'scope,
        T: Send + 'scope,
        E: Send + 'scope,
    {
        let first = Arc::clone(&self.first);
        self.scope.spawn(move || f().map_err(|error| keep_first(&first, error)).ok())
    }

    /// The scope itself, to spawn threads that cannot fail.
    pub fn scope(&self) -> &'scope Scope<'scope, 'env> {
        self.scope
    }
}

impl<E> fmt::Debug for TryScope<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryScope").field("scope", self.scope).finish_non_exhaustive()
    }
}
