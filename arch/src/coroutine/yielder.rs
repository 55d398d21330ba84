//! The side of the body: suspending.

#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr;

use super::control::{Control, UNWIND_AND_DROP, is_order_to_unwind, start_unwinding};
use crate::context;

/// What the body of a coroutine suspends itself with.
///
/// The body gets a reference to it, and nothing that outlives the body can keep it:
///
/// ```compile_fail,E0521
/// use bine_arch::coroutine::{Coroutine, Yielder};
/// let mut escaped: Option<&Yielder<(), ()>> = None;
/// let body = |yielder: &Yielder<(), ()>, ()| escaped = Some(yielder);
/// ```
///
/// Nor can another OS thread use it:
///
/// ```compile_fail,E0277
/// use bine_arch::coroutine::Coroutine;
/// let mut coroutine = Coroutine::new(|yielder, ()| {
///     std::thread::scope(|scope| {
///         scope.spawn(|| yielder.suspend(1));
///     });
/// });
/// coroutine.resume(());
/// ```
///
/// It may be used on any stack that the body has called, of a nested coroutine or of
/// [`on_stack`](super::on_stack): that suspends the whole chain.
pub struct Yielder<Input, Yield> {
    // Neither `Send` nor `Sync`, and so neither is the yielder.
    control: *mut Control,
    travels: PhantomData<fn(Yield) -> Input>,
}

impl<Input, Yield> Yielder<Input, Yield> {
    pub(super) fn new(control: *mut Control) -> Self {
        Self { control, travels: PhantomData }
    }

    /// Suspends the coroutine: `value` is what its `resume` returns, and what is given to the next
    /// `resume` is returned here.
    ///
    /// # Unwinding
    ///
    /// If the coroutine is dropped while it is suspended here, this does not return: the stack
    /// unwinds with [`ForcedUnwind`](super::ForcedUnwind). A destructor may suspend, too; but if the
    /// coroutine is dropped then, or was being dropped already, that would be a panic out of a
    /// destructor that runs because of a panic, and ends the process.
    #[inline]
    pub fn suspend(&self, value: Yield) -> Input {
        let control = self.control;
        let mut value = ManuallyDrop::new(value);
        // SAFETY: the body is running: it, or something that it has called, holds `self`. So
        // `outside` was saved by the resume that runs it, and the resumer expects the address of a
        // value. It is moved out on the other side; the input here (see the protocol).
        unsafe {
            let word = context::switch(
                &raw mut (*control).inside,
                (*control).outside,
                (&raw mut value) as usize,
            );
            if is_order_to_unwind(word) {
                if word == UNWIND_AND_DROP {
                    ManuallyDrop::drop(&mut value);
                }
                start_unwinding();
            }
            ptr::read(word as *const Input)
        }
    }

    /// Suspends once for each item: what Python calls `yield from`.
    ///
    /// ```
    /// use bine_arch::coroutine::Generator;
    /// let generator = Generator::new(|yielder| {
    ///     yielder.suspend_all(1..3);
    ///     yielder.suspend_all([10, 20]);
    /// });
    /// assert!(generator.eq([1, 2, 10, 20]));
    /// ```
    pub fn suspend_all(&self, items: impl IntoIterator<Item = Yield>) {
        for item in items {
            self.suspend(item);
        }
    }
}

impl<Input, Yield> fmt::Debug for Yielder<Input, Yield> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: the body is running, so its control block is there.
        let name = unsafe { Control::name(self.control) };
        f.debug_struct("Yielder").field("coroutine", &name).finish_non_exhaustive()
    }
}
