//! The control block of a coroutine, and the first frame of its stack.
//!
//! # Where things lie
//!
//! ```text
//!                         | owner         |  two words, of a stack of the pool (`stack::Owner`)
//!    top of the stack ->  -----------------
//!                         | control block |  <- what handle and yielder point to
//!                         | stage         |  the closure; in the end its result
//!                         -----------------  (16-aligned)
//!                         | frames        |
//! ```
//!
//! So a coroutine is made without allocating: its handle is a pointer to the control block, and the
//! stack.
//!
//! # The protocol
//!
//! Handle and body take turns; each switch hands one word over.
//!
//! | switch | word | meaning |
//! |---|---|---|
//! | resume | address of the input, on the resumer's stack | run on with it; the body moves it out first |
//! | resume | [`UNWIND`] | unwind; what the last suspension yielded has been moved out |
//! | resume | [`UNWIND_AND_DROP`] | unwind; what it yielded is still there: drop it |
//! | suspend | address of the value, on the coroutine's stack | phase is `Started`; the resumer moves it out |
//! | end | address of the result, in the stage, with the mark [`END`] | phase is `Returned` or `Panicked` |
//!
//! Addresses of user space are positive numbers on all processors here; what else there is to say is
//! said by the others.
//!
//! Whoever is suspended keeps its frames, so the address stays good until the word's receiver
//! switches in its turn. At the end nobody runs on the coroutine's stack any more, and the result
//! does not lie in a frame.

#![allow(unsafe_code)]

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr::{self, NonNull};
use std::thread;

use super::yielder::Yielder;
use crate::context::{self, Bounds, Context};
use crate::stack::Owner;

/// Instead of the address of an input: unwind.
pub(super) const UNWIND: usize = 0;
/// As [`UNWIND`], and drop what the suspension yielded: nobody took it. Not a small number: the
/// address of a value without size may be one.
pub(super) const UNWIND_AND_DROP: usize = usize::MAX;

/// Marks the address of a result.
const END: usize = 1 << (usize::BITS - 1);

/// Whether the body's word is the address of a result, and not that of a value.
#[inline]
pub(super) fn is_end(word: usize) -> bool {
    (word as isize) < 0
}

/// Whether the resumer's word is not the address of an input.
#[inline]
pub(super) fn is_order_to_unwind(word: usize) -> bool {
    (word as isize) <= 0
}

/// How often a body that is being dropped may catch its unwinding and suspend again, before that is
/// taken for an endless loop.
const MOST_SUSPENSIONS_WHILE_DROPPED: usize = 1_000;

/// What a suspended coroutine unwinds with when it is dropped.
///
/// A body that catches panics sees it as the payload, and should pass it on with
/// [`resume_unwind`](std::panic::resume_unwind). It does not reach the panic hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForcedUnwind;

impl fmt::Display for ForcedUnwind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the coroutine was dropped while it was suspended")
    }
}

/// What has become of a coroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Not resumed yet: the stage holds the closure.
    Fresh,
    /// Its body runs, or is suspended.
    Started,
    /// It is being ended: its stack unwinds, or what the stage holds is being dropped. Its handle,
    /// if it can still be reached, must keep away.
    ///
    /// A scope ends its coroutines whoever has the handles, so those may be anywhere: in the very
    /// closure that is being dropped, or on the stack that unwinds.
    Ending,
    /// Its body has returned: the stage holds the value.
    Returned,
    /// Its body has panicked: the stage holds the payload.
    Panicked,
    /// The stage is empty, and nothing is left on the stack.
    Ended,
}

/// The control block. It lies on the coroutine's own stack and is shared by handle and body, which
/// never run at the same time: all access is by raw pointer, and no reference is kept over a switch.
#[repr(C)]
pub(super) struct Control {
    /// Where the body is suspended. Valid while it is.
    pub(super) inside: Context,
    /// Where the resumer is suspended. Valid while the body runs.
    pub(super) outside: Context,
    pub(super) phase: Phase,
    /// Whether it is in the list of its scope.
    pub(super) linked: bool,
    /// Whether the stack is of the pool, and says that it is this coroutine's.
    owns_stack: bool,
    name: Option<Cow<'static, str>>,
    created_at: &'static Location<'static>,
    /// Drops what the stage holds, as the phase says.
    discard: unsafe fn(NonNull<Control>),
    /// The neighbours in the list of its scope, or null. Written when it is linked.
    pub(super) neighbours: MaybeUninit<Neighbours>,
}

#[derive(Clone, Copy)]
pub(super) struct Neighbours {
    pub(super) previous: *mut Control,
    pub(super) next: *mut Control,
}

/// What the control block's neighbour holds, as the phase says.
union Stage<F, R> {
    closure: ManuallyDrop<F>,
    result: ManuallyDrop<thread::Result<R>>,
}

/// Where the stage lies, given the control block.
struct Block<F, R>(PhantomData<(F, R)>);

/// What a new coroutine is called, and where it was made.
pub(super) struct Label {
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) created_at: &'static Location<'static>,
}

impl<F, R> Block<F, R> {
    /// The stage's alignment: also that of a stack.
    const ALIGN: usize =
        if align_of::<Stage<F, R>>() > 16 { align_of::<Stage<F, R>>() } else { 16 };

    /// # Safety
    ///
    /// There is room for a stage on the control block's stack: see [`fits`].
    #[inline]
    unsafe fn stage(control: NonNull<Control>) -> NonNull<Stage<F, R>> {
        // SAFETY: the caller's promise.
        unsafe {
            let below = control.cast::<u8>().sub(size_of::<Stage<F, R>>());
            below.sub(below.addr().get() % Self::ALIGN).cast()
        }
    }

    /// See [`Control::discard`].
    unsafe fn discard(control: NonNull<Control>) {
        /// The stage is empty, also if a destructor panicked.
        struct Emptied(*mut Control);

        impl Drop for Emptied {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: nobody gives the stack back in the phase that it is in.
                unsafe { (*self.0).phase = Phase::Ended };
            }
        }

        // SAFETY: the phase says which field is alive. It is marked as going before its destructor
        // runs, and as gone only after it: it runs in place, so that the stack is in use until then.
        unsafe {
            let stage = Self::stage(control).as_ptr();
            let phase = ptr::replace(&raw mut (*control.as_ptr()).phase, Phase::Ending);
            let _emptied = Emptied(control.as_ptr());
            match phase {
                Phase::Fresh => ManuallyDrop::drop(&mut (*stage).closure),
                Phase::Returned | Phase::Panicked => ManuallyDrop::drop(&mut (*stage).result),
                Phase::Started | Phase::Ending | Phase::Ended => {}
            }
        }
    }
}

/// The room for the control block: keeps what lies below it aligned.
const CONTROL_SIZE: usize = size_of::<Control>().next_multiple_of(16);

/// How much of a stack its body must be left with, whatever the size of its closure, in bytes.
const LEAST_ROOM: usize = 4096;

/// What the larger of a closure and its result takes, in bytes.
pub(super) const fn stage_size<F, R>() -> usize {
    size_of::<Stage<F, R>>()
}

/// Whether the closure, its result and the control block fit on a stack.
#[inline]
pub(super) fn fits<F, R>(stack: Bounds) -> bool {
    let size = stack.top.addr().get() - stack.limit.addr().get();
    size >= CONTROL_SIZE + size_of::<Stage<F, R>>() + Block::<F, R>::ALIGN + LEAST_ROOM
}

/// Lays out a coroutine on `stack`. It runs `f(&yielder, input)` when it is first resumed.
///
/// # Safety
///
/// - `stack` is writable memory that nothing else uses until the coroutine has ended and its handle
///   has forgotten it, and [`fits`] says yes.
/// - All that the closure and the values that travel borrow outlives that.
#[inline]
pub(super) unsafe fn create<I, Y, R, F>(stack: Bounds, label: Label, f: F) -> NonNull<Control>
where
    F: FnOnce(&Yielder<I, Y>, I) -> R,
{
    // SAFETY: the block and the stage are memory of the stack: `fits` says so. The first frame gets
    // what is left below them, 16-aligned.
    unsafe {
        let control = stack.top.sub(CONTROL_SIZE).cast::<Control>();
        let stage = Block::<F, R>::stage(control);
        let (entry, data) = (entry::<I, Y, R, F>, control.as_ptr() as usize);
        let inside = context::prepare_below(stack, stage.cast(), entry, data);
        stage.write(Stage { closure: ManuallyDrop::new(f) });
        control.write(Control {
            inside,
            outside: Context::null(),
            phase: Phase::Fresh,
            linked: false,
            owns_stack: false,
            name: label.name,
            created_at: label.created_at,
            discard: Block::<F, R>::discard,
            neighbours: MaybeUninit::uninit(),
        });
        control
    }
}

/// The first function on a coroutine's stack.
unsafe extern "C" fn entry<I, Y, R, F>(arg: usize, data: usize) -> !
where
    F: FnOnce(&Yielder<I, Y>, I) -> R,
{
    let control = data as *mut Control;
    // SAFETY: `prepare` was given the control block of a fresh coroutine of these types, and the
    // first resume brings an input (an unwinding one does not come here). The stage is ours while
    // the body runs: the closure is moved out of it (at the last moment: it may be large, and each
    // move a copy), the result into it. The last switch leaves nothing behind that has a destructor.
    unsafe {
        let stage = Block::<F, R>::stage(NonNull::new_unchecked(control));
        (*control).phase = Phase::Started;
        let yielder = Yielder::new(control);
        let body = || {
            let closure = ptr::read(&raw const (*stage.as_ptr()).closure);
            let input = ptr::read(arg as *const I);
            ManuallyDrop::into_inner(closure)(&yielder, input)
        };
        let result = panic::catch_unwind(AssertUnwindSafe(body));
        (*control).phase = if result.is_ok() { Phase::Returned } else { Phase::Panicked };
        let result = Stage::<F, R> { result: ManuallyDrop::new(result) };
        stage.write(result);
        context::switch_final((*control).outside, stage.as_ptr() as usize | END)
    }
}

impl Control {
    /// Switches to the body, which is fresh or suspended, with a word of the protocol; returns the
    /// body's word.
    ///
    /// # Safety
    ///
    /// - The body is fresh or suspended, and nobody else resumes the coroutine meanwhile.
    /// - `word` is as the protocol says.
    #[inline(always)]
    pub(super) unsafe fn resume(control: NonNull<Control>, word: usize) -> usize {
        let control = control.as_ptr();
        // SAFETY: `inside` was prepared, or saved by the body's last suspension, and the caller is
        // the only one to continue it.
        unsafe { context::switch(&raw mut (*control).outside, (*control).inside, word) }
    }

    /// Takes the result of a coroutine whose body has just returned or panicked.
    ///
    /// # Safety
    ///
    /// The phase is `Returned` or `Panicked`, `R` is the body's, and `word` came with the switch.
    pub(super) unsafe fn take_result<R>(
        control: NonNull<Control>,
        word: usize,
    ) -> thread::Result<R> {
        // SAFETY: the result is alive, at this address, until the phase says otherwise.
        unsafe {
            (*control.as_ptr()).phase = Phase::Ended;
            ptr::read((word & !END) as *const thread::Result<R>)
        }
    }

    /// Ends a coroutine that has not ended: drops the closure of a fresh one, unwinds the stack of a
    /// suspended one. What its body returns all the same, and what it panics with, is dropped.
    /// Leaves one that is being ended alone.
    ///
    /// # Safety
    ///
    /// As for [`resume`](Self::resume), but in any phase.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn unwind(control: NonNull<Control>) {
        let this = control.as_ptr();
        // SAFETY: the phases are as `resume` and `discard` want them: a body that has started runs
        // until it has ended or is suspended again. While it is `Ending`, its handle does nothing.
        unsafe {
            if (*this).phase == Phase::Ending {
                return;
            }
            if (*this).phase == Phase::Started {
                (*this).phase = Phase::Ending;
                let mut word = UNWIND;
                let mut left = MOST_SUSPENSIONS_WHILE_DROPPED;
                loop {
                    Self::resume(control, word);
                    if (*this).phase != Phase::Ending {
                        break;
                    }
                    left -= 1;
                    if left == 0 {
                        refuse(control, "suspends again and again");
                    }
                    word = UNWIND_AND_DROP;
                }
            }
            ((*this).discard)(control)
        }
    }

    /// Lets reports of an overflow name this coroutine.
    ///
    /// # Safety
    ///
    /// The control block lies at the top of a stack of bine's pool.
    #[inline]
    pub(super) unsafe fn own_stack(control: NonNull<Control>) {
        // SAFETY: the caller's promise. The control block stays until `disown` clears this.
        unsafe {
            (*control.as_ptr()).owns_stack = true;
            Owner::set(Self::top(control), Self::describe, control.as_ptr().cast());
        }
    }

    /// Is no longer named in reports. The stack may go to somebody else.
    ///
    /// # Safety
    ///
    /// The control block is in use, and so is its stack.
    #[inline]
    pub(super) unsafe fn disown(control: NonNull<Control>) {
        // SAFETY: it is a stack of the pool if `own_stack` says so.
        unsafe {
            if (*control.as_ptr()).owns_stack {
                Owner::clear(Self::top(control));
            }
        }
    }

    /// Frees what the control block owns, which may include being named in reports. To do it twice does
    /// no harm.
    ///
    /// # Safety
    ///
    /// Nobody uses the control block any more, but for its phase.
    #[inline]
    pub(super) unsafe fn free(control: NonNull<Control>) {
        // SAFETY: the caller's promise. Nothing else in it has a destructor.
        unsafe {
            Self::disown(control);
            (*control.as_ptr()).name = None;
        }
    }

    /// The top of the stack that the control block is on.
    #[inline]
    fn top(control: NonNull<Control>) -> NonNull<u8> {
        // SAFETY: `create` has put it there.
        unsafe { control.cast::<u8>().add(CONTROL_SIZE) }
    }

    /// Writes whose stack overflowed: a [`Describe`](crate::stack::Describe).
    ///
    /// # Safety
    ///
    /// `data` is a control block in use.
    pub(super) unsafe fn describe(data: *const (), message: &mut dyn fmt::Write) -> fmt::Result {
        let control = data.cast_mut().cast();
        // SAFETY: the caller's promise.
        let (name, created_at) = unsafe { (Self::name(control), (*control).created_at) };
        let name = name.unwrap_or("<unnamed>");
        write!(message, "coroutine '{name}' (id {data:p}, created at {created_at})")
    }

    /// What it is called.
    ///
    /// # Safety
    ///
    /// The control block is in use, and longer than the result. (It may run meanwhile: the name does
    /// not change.)
    pub(super) unsafe fn name<'a>(control: *mut Self) -> Option<&'a str> {
        // SAFETY: the caller's promise.
        unsafe { (&raw const (*control).name).as_ref()?.as_deref() }
    }
}

/// Ends the process: a coroutine that is dropped cannot be unwound, and its stack cannot be left.
///
/// # Safety
///
/// `control` is a control block in use.
#[cold]
pub(super) unsafe fn refuse(control: NonNull<Control>, what_it_does: &str) -> ! {
    // SAFETY: the caller's promise.
    let (name, site) = unsafe { (Control::name(control.as_ptr()), (*control.as_ptr()).created_at) };
    let name = name.unwrap_or("<unnamed>");
    // Not `eprintln`, which panics if nobody reads the other end: this must not return in any way.
    let _ = writeln!(
        io::stderr(),
        "fatal: coroutine '{name}' (created at {site}) {what_it_does} while it is dropped; \
         its stack cannot be unwound"
    );
    std::process::abort()
}

/// Begins to unwind the running coroutine's stack.
#[cold]
#[inline(never)]
pub(super) fn start_unwinding() -> ! {
    let payload: Box<dyn Any + Send> = Box::new(ForcedUnwind);
    panic::resume_unwind(payload)
}
