//! Tells the address or the thread sanitizer which stack runs. Compiled under the private cfg
//! `bine_sanitize` only ("address" or "thread"); in other builds nothing of this exists.
//!
//! # Why
//!
//! Both sanitizers believe that an OS thread has one stack. The address sanitizer has to know the
//! bounds of the stack that runs, or else it clears the wrong part of its shadow memory when a
//! function does not return; and it keeps locals in a *fake stack*, so as to find uses after
//! return, of which each stack needs its own. The thread sanitizer keeps a call stack and a vector
//! clock for each *fiber*; without them it would take the accesses of all green threads that ever
//! ran on an OS thread for that thread's.
//!
//! # A context is a fiber
//!
//! Under the cfg a [`Context`] is not a stack pointer but the address of a [`Fiber`], which has the
//! stack pointer in it and stays the same from the first switch to the last. Nothing outside of
//! `context.rs` sees the difference.
//!
//! ```text
//!    a prepared stack                            an OS thread's own stack
//!
//!    top ->    ------------------                its `Fiber` is a thread-local
//!             | Fiber            |  <- Context
//!             | first frame of   |
//!             | the backend      |
//!             | frames           |
//!    limit ->  ------------------
//! ```
//!
//! # The protocol of a switch
//!
//! | step | who runs, on which stack | does |
//! |---|---|---|
//! | [`before_switch`], [`before_final`] | the one that leaves, on its own | saves the fake stack and announces the bounds of the next; makes the next a fiber of the thread sanitizer if it has none |
//! | [`hop`] | the same | changes the thread sanitizer's fiber: the last thing before the assembly |
//! | the backend | | changes the stack |
//! | [`after_switch`] | the one that continues, on its own | puts its fake stack back; settles what the last one left |
//!
//! A stack that is entered for the first time begins in [`begin`], which does the last step and
//! calls the entry function.
//!
//! - [`hop`] is inlined into the function that switches, and nothing instrumented comes between it
//!   and the assembly: the thread sanitizer records each entry and exit of a function on the
//!   current fiber's call stack, so a call that is entered on one fiber must not return on another.
//! - The three others are not inlined. What they read of thread-locals they read by value and on one
//!   side of the switch: code after a switch may be on another OS thread.
//! - *Of a stack that was left for good*, the fake stack and the fiber go when the next one runs:
//!   until then frames of the last one use them. The sanitizer's interface frees the fake stack of
//!   the stack that is left only, so the next one puts it in place once more, and leaves it.
//! - *Redzones*: frames that never returned leave poisoned memory. It is cleared when the stack was
//!   left for good, and again when it is prepared (a context may be dropped where it was suspended).
//! - *Leaks*: a suspended stack, from its stack pointer up, is a root of the leak sanitizer, which
//!   by itself knows only the stacks that run. What it cannot see is the fake stacks: leaks are to
//!   be searched for with `detect_stack_use_after_return=0`.
//! - Switches synchronise for the thread sanitizer, as the green threads of one OS thread do run
//!   one after the other. It sees races between green threads that ran on different OS threads
//!   with nothing in between.
//!
//! A prepared stack that is never continued costs nothing: its fiber is made by the first switch. A
//! suspended one that is never continued keeps its fake stack and its fiber for good. Either takes
//! mappings of the process: with the default limit of 65,530, 30,000 parked green threads were seen
//! to work under the thread sanitizer, and 100,000 not.
//!
//! An OS thread's own stack is never left by a final switch.

#![allow(unsafe_code)]

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr;

use crate::backend;
use crate::context::{Bounds, Context, Entry};

#[cfg(bine_sanitize = "address")]
unsafe extern "C" {
    fn __sanitizer_start_switch_fiber(
        fake_stack_save: *mut *mut c_void,
        bottom: *const c_void,
        size: usize,
    );
    fn __sanitizer_finish_switch_fiber(
        fake_stack_save: *mut c_void,
        bottom_old: *mut *const c_void,
        size_old: *mut usize,
    );
    fn __asan_unpoison_memory_region(start: *const c_void, size: usize);
    fn __lsan_register_root_region(start: *const c_void, size: usize);
    fn __lsan_unregister_root_region(start: *const c_void, size: usize);
}

#[cfg(bine_sanitize = "thread")]
unsafe extern "C" {
    fn __tsan_get_current_fiber() -> *mut c_void;
    fn __tsan_create_fiber(flags: u32) -> *mut c_void;
    fn __tsan_destroy_fiber(fiber: *mut c_void);
    fn __tsan_switch_to_fiber(fiber: *mut c_void, flags: u32);
}

/// What the sanitizers have to know of a stack.
///
/// # Invariant
///
/// Belongs to whoever may use the stack: the one that runs there; while it is suspended, whoever
/// continues it; just after it was left, who runs next on that OS thread.
#[derive(Debug)]
pub(crate) struct Fiber {
    /// The backend's context, while the stack is suspended.
    context: Context,
    /// What the first frame calls; `None` on an OS thread's own stack.
    entry: Option<(Entry, usize)>,
    tool: Tool,
}

/// What the one sanitizer keeps of a stack.
#[cfg(bine_sanitize = "address")]
#[derive(Debug)]
struct Tool {
    /// The lowest address, and how much lies above it. Of an OS thread's own stack known once it
    /// was left, from the sanitizer.
    limit: *const c_void,
    size: usize,
    /// While it is suspended; null if it has none (yet).
    fake_stack: *mut c_void,
    /// The root of the leak sanitizer, from the stack pointer up; while it is suspended.
    root: (*const c_void, usize),
}

/// What the one sanitizer keeps of a stack.
#[cfg(bine_sanitize = "thread")]
#[derive(Debug)]
struct Tool {
    /// Null until the first switch to the stack.
    fiber: *mut c_void,
}

impl Tool {
    #[cfg(bine_sanitize = "address")]
    const fn new(limit: *const c_void, size: usize) -> Self {
        Self { limit, size, fake_stack: ptr::null_mut(), root: (ptr::null(), 0) }
    }

    #[cfg(bine_sanitize = "thread")]
    const fn new(_: *const c_void, _: usize) -> Self {
        Self { fiber: ptr::null_mut() }
    }
}

/// The stack that ran before on this OS thread, until the next one has settled what it left.
#[derive(Clone, Copy)]
struct Left {
    fiber: *mut Fiber,
    for_good: bool,
}

thread_local! {
    /// The stack that runs. Null until the OS thread's first switch: its own.
    static RUNNING: Cell<*mut Fiber> = const { Cell::new(ptr::null_mut()) };
    static LEFT: Cell<Left> =
        const { Cell::new(Left { fiber: ptr::null_mut(), for_good: false }) };
    /// Of the OS thread's own stack.
    static OWN: UnsafeCell<Fiber> = const {
        UnsafeCell::new(Fiber {
            context: Context::null(),
            entry: None,
            tool: Tool::new(ptr::null(), 0),
        })
    };
}

fn fiber_of(context: Context) -> *mut Fiber {
    context.0.cast()
}

/// The stack pointer of a suspended stack.
pub(crate) fn stack_pointer(context: Context) -> usize {
    // SAFETY: the context's fiber lies on its stack, or belongs to an OS thread that is suspended.
    // Who asks for the stack pointer of a stack that is gone reads memory that is still mapped, as
    // slabs are never unmapped; in this build alone.
    unsafe { fiber_of(context).as_ref() }.map_or(0, |fiber| fiber.context.0.addr())
}

/// As [`crate::context::prepare`].
///
/// # Safety
///
/// As there.
pub(crate) unsafe fn prepare(stack: Bounds, entry: Entry, data: usize) -> Context {
    const ROOM: usize = size_of::<Fiber>().next_multiple_of(16);
    let Bounds { limit, top } = stack;
    let size = top.addr().get() - limit.addr().get();
    // SAFETY: the caller promises writable memory with room for the first frame; `top` is
    // 16-aligned, and so is `ROOM`.
    unsafe {
        #[cfg(bine_sanitize = "address")]
        __asan_unpoison_memory_region(limit.as_ptr().cast(), size);
        let fiber = top.sub(ROOM).cast::<Fiber>();
        fiber.write(Fiber {
            context: backend::prepare(fiber.cast(), begin, fiber.as_ptr() as usize),
            entry: Some((entry, data)),
            tool: Tool::new(limit.as_ptr().cast(), size),
        });
        Context(fiber.as_ptr().cast())
    }
}

/// The entry function of each prepared stack.
unsafe extern "C" fn begin(arg: usize, me: usize) -> ! {
    let me = me as *mut Fiber;
    // SAFETY: `prepare` has laid the fiber, and this is its stack, on which nothing ran yet.
    let entry = unsafe {
        after_switch(me);
        (*me).entry
    };
    let (entry, data) = entry.expect("a prepared stack has an entry function");
    // SAFETY: the caller of `prepare` promised that they belong together.
    unsafe { entry(arg, data) }
}

/// As [`crate::context::switch`].
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(crate) unsafe fn switch(save: *mut Context, to: Context, arg: usize) -> usize {
    // SAFETY: the caller's promise; the steps are in the order of the protocol.
    unsafe {
        let me = before_switch(save, to);
        let to = hop(to);
        let delivered = backend::switch(&raw mut (*me).context, to, arg);
        after_switch(me);
        delivered
    }
}

/// As [`crate::context::switch_final`].
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(crate) unsafe fn switch_final(to: Context, arg: usize) -> ! {
    // SAFETY: as above.
    unsafe {
        before_final(to);
        let to = hop(to);
        backend::switch_final(to, arg)
    }
}

/// Before a switch to `to`: stores to `*save` what continues the stack that runs, and returns its
/// fiber, where the backend is to store the stack pointer.
///
/// # Safety
///
/// As for [`crate::context::switch`], which follows.
#[inline(never)]
pub(crate) unsafe fn before_switch(save: *mut Context, to: Context) -> *mut Fiber {
    let me = running();
    // SAFETY: the caller's promise.
    unsafe {
        save.write(Context(me.cast()));
        leave(Left { fiber: me, for_good: false }, fiber_of(to));
    }
    me
}

/// Before a switch to `to` from a stack that is not needed any more.
///
/// # Safety
///
/// As for [`crate::context::switch_final`], which follows.
#[inline(never)]
pub(crate) unsafe fn before_final(to: Context) {
    let me = running();
    // SAFETY: the caller's promise.
    unsafe { leave(Left { fiber: me, for_good: true }, fiber_of(to)) };
}

/// The stack that runs on this OS thread.
fn running() -> *mut Fiber {
    let running = RUNNING.get();
    if !running.is_null() {
        return running;
    }
    let own = OWN.with(UnsafeCell::get);
    #[cfg(bine_sanitize = "thread")]
    // SAFETY: nobody else knows the OS thread's own fiber before its first switch.
    unsafe {
        (*own).tool.fiber = __tsan_get_current_fiber();
    }
    own
}

unsafe fn leave(left: Left, to: *mut Fiber) {
    RUNNING.set(to);
    LEFT.set(left);
    // SAFETY: the one fiber is the running stack's, the other's is suspended and the caller's to
    // continue. Both outlive the switch.
    #[cfg(bine_sanitize = "address")]
    unsafe {
        let save = &raw mut (*left.fiber).tool.fake_stack;
        __sanitizer_start_switch_fiber(save, (*to).tool.limit, (*to).tool.size);
    }
    #[cfg(bine_sanitize = "thread")]
    // SAFETY: as above.
    unsafe {
        if (*to).tool.fiber.is_null() {
            (*to).tool.fiber = __tsan_create_fiber(0);
        }
    }
}

/// The last step before the assembly; returns the backend's context.
///
/// # Safety
///
/// Between [`before_switch`] or [`before_final`] and the switch itself, in the same function.
#[inline(always)]
pub(crate) unsafe fn hop(to: Context) -> Context {
    // SAFETY: the stack is suspended and the caller's to continue. The fiber is changed together
    // with the stack.
    unsafe {
        let context = backend_context(to);
        #[cfg(bine_sanitize = "thread")]
        __tsan_switch_to_fiber(thread_sanitizer_fiber(to), 0);
        context
    }
}

#[inline(never)]
unsafe fn backend_context(to: Context) -> Context {
    // SAFETY: as in `hop`.
    unsafe { (*fiber_of(to)).context }
}

#[cfg(bine_sanitize = "thread")]
#[inline(never)]
unsafe fn thread_sanitizer_fiber(to: Context) -> *mut c_void {
    // SAFETY: as in `hop`.
    unsafe { (*fiber_of(to)).tool.fiber }
}

/// After a switch, on the stack of `me`.
///
/// # Safety
///
/// The first thing after the switch.
#[inline(never)]
pub(crate) unsafe fn after_switch(me: *mut Fiber) {
    let left = LEFT.get();
    // SAFETY: `me` is the running stack's. The one that was left is ours until we return.
    unsafe { settle(left, me) };
}

#[cfg(bine_sanitize = "address")]
unsafe fn settle(left: Left, me: *mut Fiber) {
    let (mut limit, mut size) = (ptr::null(), 0);
    // SAFETY: the caller's promise. The sanitizer is between the start and the finish of a switch.
    unsafe {
        let (tool, me) = (&raw mut (*left.fiber).tool, &raw mut (*me).tool);
        if left.for_good {
            // Back to its fake stack, and away from it for good.
            __sanitizer_finish_switch_fiber((*tool).fake_stack, ptr::null_mut(), ptr::null_mut());
            __sanitizer_start_switch_fiber(ptr::null_mut(), (*me).limit, (*me).size);
            __asan_unpoison_memory_region((*tool).limit, (*tool).size);
        }
        __sanitizer_finish_switch_fiber((*me).fake_stack, &raw mut limit, &raw mut size);
        if !left.for_good {
            // For an OS thread's own stack this is news.
            ((*tool).limit, (*tool).size) = (limit, size);
            let from = (*left.fiber).context.0;
            let root = (from.cast_const().cast(), limit.addr() + size - from.addr());
            (*tool).root = root;
            __lsan_register_root_region(root.0, root.1);
        }
        let (start, size) = std::mem::replace(&mut (*me).root, (ptr::null(), 0));
        if size > 0 {
            __lsan_unregister_root_region(start, size);
        }
    }
}

#[cfg(bine_sanitize = "thread")]
unsafe fn settle(left: Left, _: *mut Fiber) {
    if left.for_good {
        // SAFETY: its stack was left for good, and nothing uses its fiber any more.
        unsafe { __tsan_destroy_fiber((*left.fiber).tool.fiber) };
    }
}
