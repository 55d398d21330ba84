//! Coroutines that borrow.

#![allow(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::thread;

use super::control::{Control, Label, Neighbours, Phase, refuse};
use super::generator;
use super::{Builder, Coroutine, CoroutineState, OwnedStack, StackMemory, Yielder};

/// A scope, in which coroutines may borrow what outlives it; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    coroutines: List,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Calls `f` with a scope whose coroutines may borrow from outside of it, and unwinds those that
/// have not ended before it returns.
///
/// ```
/// use bine_arch::coroutine;
/// let text = String::from("to be or not to be");
/// let mut count = 0;
/// coroutine::scope(|scope| {
///     let mut words = scope.generator(|yielder| {
///         for word in text.split(' ') {
///             count += 1;
///             yielder.suspend(word);
///         }
///     });
///     assert_eq!(words.next(), Some("to"));
///     assert_eq!(words.nth(1), Some("or"));
/// });
/// assert_eq!(count, 3);
/// ```
///
/// The handles may be dropped earlier; to forget one is no way out of the scope. (It leaks the
/// stack, and so may a handle that its own coroutine keeps.) They cannot leave it:
///
/// ```compile_fail,E0521
/// # use bine_arch::coroutine;
/// let mut escaped = None;
/// coroutine::scope(|scope| {
///     escaped = Some(scope.coroutine(|yielder, ()| yielder.suspend(1)));
/// });
/// ```
///
/// and cannot be given a borrow that ends before it:
///
/// ```compile_fail,E0373
/// # use bine_arch::coroutine;
/// coroutine::scope(|scope| {
///     let short_lived = 1;
///     let coroutine = scope.coroutine(|yielder, ()| yielder.suspend(&short_lived));
///     std::mem::forget(coroutine);
/// });
/// ```
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let scope = Scope { coroutines: List::new(), scope: PhantomData, env: PhantomData };
    // Its drop unwinds what is left, also if `f` panics.
    let _end = End(&scope.coroutines);
    f(&scope)
}

impl<'scope> Scope<'scope, '_> {
    /// A coroutine that will run `f`; see [`Coroutine::new`].
    ///
    /// # Panics
    ///
    /// If no stack can be had; [`Builder::scoped_coroutine`] returns an error then.
    #[track_caller]
    pub fn coroutine<Input, Yield, Return, F>(
        &'scope self,
        f: F,
    ) -> ScopedCoroutine<'scope, Input, Yield, Return>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'scope,
        Input: 'scope,
        Yield: 'scope,
        Return: 'scope,
    {
        match Builder::new().scoped_coroutine(self, f) {
            Ok(coroutine) => coroutine,
            Err(error) => panic!("failed to make a coroutine: {error}"),
        }
    }

    /// A generator that will run `f`; see [`Generator::new`](super::Generator::new).
    ///
    /// # Panics
    ///
    /// If no stack can be had; [`Builder::scoped_generator`] returns an error then.
    #[track_caller]
    pub fn generator<Item, F>(&'scope self, f: F) -> ScopedGenerator<'scope, Item>
    where
        F: FnOnce(&Yielder<Option<()>, Item>) + 'scope,
        Item: 'scope,
    {
        self.receiving_generator(f)
    }

    /// A generator that values are sent to; see
    /// [`Generator::receiving`](super::Generator::receiving).
    ///
    /// # Panics
    ///
    /// As [`generator`](Self::generator).
    #[track_caller]
    pub fn receiving_generator<Item, Sent, F>(
        &'scope self,
        f: F,
    ) -> ScopedGenerator<'scope, Item, Sent>
    where
        F: FnOnce(&Yielder<Option<Sent>, Item>) + 'scope,
        Item: 'scope,
        Sent: 'scope,
    {
        match Builder::new().scoped_generator(self, f) {
            Ok(generator) => generator,
            Err(error) => panic!("failed to make a generator: {error}"),
        }
    }

    /// A coroutine on a given stack, which may be borrowed; see [`Coroutine::with_stack`].
    ///
    /// # Panics
    ///
    /// If the closure is too large for the stack.
    #[inline]
    #[track_caller]
    pub fn coroutine_on<Input, Yield, Return, F, S>(
        &'scope self,
        stack: S,
        f: F,
    ) -> ScopedCoroutine<'scope, Input, Yield, Return, S>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'scope,
        Input: 'scope,
        Yield: 'scope,
        Return: 'scope,
        S: StackMemory + 'scope,
    {
        // SAFETY: the scope does not end before the coroutine, and what it borrows outlives 'scope.
        let coroutine = unsafe { Coroutine::on(stack, Label::here(), f) };
        ScopedCoroutine::new(self, coroutine)
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// Ends the scope when it is dropped.
struct End<'a>(&'a List);

impl Drop for End<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.first.get().is_null() {
            self.0.unwind_all();
        }
    }
}

/// The coroutines of a scope.
///
/// # Invariant
///
/// The list that starts at `first` holds the control blocks whose `linked` is set: those of all
/// coroutines of the scope whose handles have not been dropped, less those that `unwind_all` has
/// taken out. Each is valid, as it lies on a stack that the handle owns, and a handle that was
/// forgotten has leaked it.
struct List {
    first: Cell<*mut Control>,
}

impl List {
    const fn new() -> Self {
        Self { first: Cell::new(ptr::null_mut()) }
    }

    fn link(&self, control: NonNull<Control>) {
        let first = self.first.replace(control.as_ptr());
        // SAFETY: both are control blocks of the scope, in use.
        unsafe {
            (*control.as_ptr()).linked = true;
            let neighbours = Neighbours { previous: ptr::null_mut(), next: first };
            (*control.as_ptr()).neighbours.write(neighbours);
            if let Some(first) = NonNull::new(first) {
                (*first.as_ptr()).neighbours.assume_init_mut().previous = control.as_ptr();
            }
        }
    }

    /// Takes a coroutine out of the list, if it is there.
    fn unlink(&self, control: NonNull<Control>) {
        // SAFETY: a control block of the scope, in use; so are its neighbours, if it is linked: it
        // knows them then.
        unsafe {
            if !mem::replace(&mut (*control.as_ptr()).linked, false) {
                return;
            }
            let Neighbours { previous, next } = (*control.as_ptr()).neighbours.assume_init();
            match NonNull::new(previous) {
                Some(previous) => (*previous.as_ptr()).neighbours.assume_init_mut().next = next,
                None => self.first.set(next),
            }
            if let Some(next) = NonNull::new(next) {
                (*next.as_ptr()).neighbours.assume_init_mut().previous = previous;
            }
        }
    }

    /// At the end of the scope: the handles that are still in the list were forgotten, or are kept
    /// by the closures and on the stacks of others. All coroutines are unwound, whatever panics
    /// meanwhile; then the first such panic goes on, unless the scope ends by a panic of its own.
    #[cold]
    #[inline(never)]
    fn unwind_all(&self) {
        let mut first = None;
        while let Some(control) = NonNull::new(self.first.get()) {
            self.unlink(control);
            // SAFETY: the control block is valid (see the invariant), and the body does not run: a
            // running one would have called the function that ends the scope. Its handle may be
            // anywhere, also on that stack: it keeps away (`Phase::Ending`).
            let unwound =
                panic::catch_unwind(AssertUnwindSafe(|| unsafe { unwind_or_abort(control) }));
            // SAFETY: nothing has run since that could have given its stack back.
            unsafe { Control::disown(control) };
            match (unwound, &first) {
                (Ok(()), _) => {}
                (Err(payload), None) => first = Some(payload),
                (Err(payload), Some(_)) => discard_payload(payload),
            }
        }
        match first {
            Some(payload) if thread::panicking() => discard_payload(payload),
            Some(payload) => panic::resume_unwind(payload),
            None => {}
        }
    }
}

/// Drops what nobody will see. Its destructor may panic, and must not keep a scope from its end.
#[cold]
fn discard_payload(payload: Box<dyn Any + Send>) {
    if let Err(another) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(another);
    }
}

/// Sees to it that nothing is left on the stack of a scope's coroutine.
///
/// # Safety
///
/// As for [`Control::unwind`].
unsafe fn unwind_or_abort(control: NonNull<Control>) {
    // SAFETY: the caller's promise.
    unsafe {
        if cfg!(panic = "abort") && (*control.as_ptr()).phase == Phase::Started {
            refuse(control, "is suspended in a scope, under panic = \"abort\",");
        }
        Control::unwind(control);
    }
}

/// A coroutine of a [`scope`]: as [`Coroutine`], and it may borrow.
///
/// # Invariant
///
/// The coroutine is in the list, or is being ended, or has ended.
#[must_use = "a coroutine does nothing until it is resumed"]
pub struct ScopedCoroutine<'scope, Input, Yield, Return, S: StackMemory = OwnedStack> {
    coroutine: Coroutine<Input, Yield, Return, S>,
    list: &'scope List,
}

impl<'scope, Input, Yield, Return, S: StackMemory>
    ScopedCoroutine<'scope, Input, Yield, Return, S>
{
    fn new(
        scope: &'scope Scope<'scope, '_>,
        coroutine: Coroutine<Input, Yield, Return, S>,
    ) -> Self {
        scope.coroutines.link(coroutine.control);
        Self { coroutine, list: &scope.coroutines }
    }

    /// As [`Coroutine::resume`], with the same panics.
    #[inline]
    #[track_caller]
    pub fn resume(&mut self, input: Input) -> CoroutineState<Yield, Return> {
        self.coroutine.resume(input)
    }

    /// As [`Coroutine::is_done`].
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.coroutine.is_done()
    }

    /// As [`Coroutine::has_started`].
    #[inline]
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.coroutine.has_started()
    }
}

impl<Input, Yield, Return, S: StackMemory> Drop for ScopedCoroutine<'_, Input, Yield, Return, S> {
    #[inline]
    fn drop(&mut self) {
        self.list.unlink(self.coroutine.control);
        if cfg!(panic = "abort") {
            // SAFETY: the handle is being dropped, so that the body does not run.
            unsafe { unwind_or_abort(self.coroutine.control) };
        }
    }
}

impl<Input, Yield, Return, S> fmt::Debug for ScopedCoroutine<'_, Input, Yield, Return, S>
where
    S: StackMemory,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedCoroutine").field(&self.coroutine).finish()
    }
}

/// A generator of a [`scope`]: as [`Generator`](super::Generator), and it may borrow.
#[must_use = "a generator does nothing until it is asked for an item"]
pub struct ScopedGenerator<'scope, Item, Sent = ()>(
    ScopedCoroutine<'scope, Option<Sent>, Item, ()>,
);

impl<Item, Sent> ScopedGenerator<'_, Item, Sent> {
    /// As [`Generator::send`](super::Generator::send), with the same panics.
    pub fn send(&mut self, value: Sent) -> Option<Item> {
        generator::send(&mut self.0.coroutine, value)
    }

    /// As [`Generator::is_done`](super::Generator::is_done).
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }
}

impl<Item, Sent> Iterator for ScopedGenerator<'_, Item, Sent> {
    type Item = Item;

    #[inline]
    fn next(&mut self) -> Option<Item> {
        generator::go_on(&mut self.0.coroutine, None)
    }
}

impl<Item, Sent> FusedIterator for ScopedGenerator<'_, Item, Sent> {}

impl<Item, Sent> fmt::Debug for ScopedGenerator<'_, Item, Sent> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedGenerator").field(&self.0.coroutine).finish()
    }
}

impl Builder {
    /// A coroutine of a scope; see [`Scope::coroutine`].
    ///
    /// # Errors
    ///
    /// As [`coroutine`](Self::coroutine).
    #[track_caller]
    pub fn scoped_coroutine<'scope, Input, Yield, Return, F>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedCoroutine<'scope, Input, Yield, Return>>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'scope,
        Input: 'scope,
        Yield: 'scope,
        Return: 'scope,
    {
        // SAFETY: the scope does not end before the coroutine, and what it borrows outlives 'scope.
        let coroutine = unsafe { self.build(f)? };
        Ok(ScopedCoroutine::new(scope, coroutine))
    }

    /// A generator of a scope; see [`Scope::generator`].
    ///
    /// # Errors
    ///
    /// As [`coroutine`](Self::coroutine).
    #[track_caller]
    pub fn scoped_generator<'scope, Item, Sent, F>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedGenerator<'scope, Item, Sent>>
    where
        F: FnOnce(&Yielder<Option<Sent>, Item>) + 'scope,
        Item: 'scope,
        Sent: 'scope,
    {
        self.scoped_coroutine(scope, |yielder: &_, _| f(yielder)).map(ScopedGenerator)
    }
}
