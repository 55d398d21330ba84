//! Alternate signal stacks: room for the handler on a thread whose stack has none left.
//!
//! # Who takes down what, and when
//!
//! A Rust thread has std's alternate stack already. It is small (8 KiB, or a little more where the
//! processor's registers take more), so ours replaces it. It stays in force until the thread-locals
//! of the thread are dropped. On a thread that std started, std has before then declared that there
//! is *no* alternate stack and unmapped its own. So what was there before may be gone, and is
//! restored only if ours is still the one in force:
//!
//! | in force when ours is dropped | what happens |
//! |---|---|
//! | ours | what was there before is restored (as on the main thread), ours unmapped |
//! | none | ours is unmapped |
//! | a third one | ours is leaked: whoever replaced it may put it back |
//! | ours, and the thread runs on it | ours is leaked |

use std::cell::{Cell, OnceCell};
use std::io;
use std::ptr;

use crate::stack::page_size;

/// What a handler may use, besides the registers that the kernel saves, in bytes. Ours takes less
/// than 5 KiB of it in a debug build and 3 KiB in a release build, measured on x86_64; but the
/// handlers to which faults are forwarded may want to print a backtrace.
const ROOM: usize = 64 << 10;
/// With this much room, an alternate stack that is there already is left in force.
const LEAST_ROOM: usize = 32 << 10;

thread_local! {
    static PROTECTED: Cell<bool> = const { Cell::new(false) };
    static ALTERNATE: OnceCell<AlternateStack> = const { OnceCell::new() };
}

/// Sees to it that the calling OS thread can report an overflow: that it has an alternate signal
/// stack with room for the handler, until it ends. After the first call on a thread this does
/// nothing, at the cost of a function call.
///
/// If no memory can be had for it, or if it is called while the thread-locals of the thread are
/// being dropped, an overflow on the thread may end the process without a message.
// Not inlined: a caller that switches stacks may be on another OS thread afterwards, and the
// compiler must not keep the address of the flag.
#[inline(never)]
pub fn protect_thread() {
    if !PROTECTED.replace(true) {
        // An error: the thread is about to end.
        let _ = ALTERNATE.try_with(|alternate| {
            alternate.get_or_init(AlternateStack::set_up);
        });
    }
}

/// Address space that an OS thread will need as it starts, for its alternate stacks and the like.
///
/// std ends the process if it gets none for its own alternate stack on a thread that it starts. Who
/// holds this while the thread is made, and drops it then, either has had no room for the thread,
/// which is an error, or leaves it enough.
#[must_use = "it is held until it is dropped"]
#[derive(Debug)]
pub struct Headroom(Option<Mapping>);

/// What [`Headroom`] holds beside the room of our own alternate stack, in bytes: std's takes 12 KiB,
/// and the allocator has a start, too.
const ROOM_FOR_OTHERS: usize = 448 << 10;

impl Headroom {
    /// Holds half a megabyte.
    ///
    /// # Errors
    ///
    /// There is none to be had.
    pub fn hold() -> io::Result<Self> {
        Self::hold_with(0)
    }

    /// As [`hold`](Self::hold), and `stack` bytes for the thread's own stack with its guard page. To
    /// be dropped before the thread is made: one that starts at once needs its room while whoever
    /// made it has not yet gone on.
    ///
    /// # Errors
    ///
    /// There is not so much to be had.
    pub fn hold_with(stack: usize) -> io::Result<Self> {
        let room = ROOM + saved_registers() + ROOM_FOR_OTHERS + stack;
        Mapping::new(room).map(|memory| Self(Some(memory)))
    }
}

impl Drop for Headroom {
    fn drop(&mut self) {
        if let Some(memory) = self.0.take() {
            memory.unmap();
        }
    }
}

/// The alternate stack that we gave a thread, if any.
struct AlternateStack(Option<Given>);

struct Given {
    memory: Mapping,
    before: libc::stack_t,
}

impl AlternateStack {
    fn set_up() -> Self {
        let saved = saved_registers();
        let sufficient = in_force().is_none_or(|stack| {
            stack.ss_flags & libc::SS_DISABLE == 0 && stack.ss_size >= LEAST_ROOM + saved
        });
        if sufficient {
            return Self(None);
        }
        let Ok(memory) = Mapping::new(ROOM + saved) else { return Self(None) };
        let stack = memory.stack();
        let mut before = disabled();
        // SAFETY: the memory is ours and stays until it is no longer in force.
        let refused = unsafe { libc::sigaltstack(&raw const stack, &raw mut before) } != 0;
        if refused {
            // The thread is running on the one that it has: a handler called us.
            memory.unmap();
            return Self(None);
        }
        Self(Some(Given { memory, before }))
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        let Some(Given { memory, before }) = self.0.take() else { return };
        let Some(now) = in_force() else { return };
        let free = if now.ss_flags & libc::SS_DISABLE != 0 {
            true
        } else if now.ss_sp == memory.stack().ss_sp {
            // SAFETY: nobody has declared another one since ours, so what was there before still
            // is. The kernel refuses while the thread runs on ours.
            unsafe { libc::sigaltstack(&raw const before, ptr::null_mut()) == 0 }
        } else {
            false
        };
        if free {
            memory.unmap();
        }
    }
}

/// What the kernel puts on the stack of a handler, in bytes, by its own word; a kernel that says
/// nothing has not much to save.
fn saved_registers() -> usize {
    // SAFETY: no preconditions; zero where the kernel says nothing.
    unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) as usize }
}

fn disabled() -> libc::stack_t {
    libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 }
}

fn in_force() -> Option<libc::stack_t> {
    let mut stack = disabled();
    // SAFETY: reads the declaration of the calling thread.
    let result = unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) };
    (result == 0).then_some(stack)
}

/// Memory with a guard page below it. It is not unmapped when it is dropped.
#[derive(Debug)]
struct Mapping {
    base: *mut libc::c_void,
    guard: usize,
    size: usize,
}

impl Mapping {
    fn new(room: usize) -> io::Result<Self> {
        let guard = page_size();
        let size = room.next_multiple_of(guard);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), guard + size, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Self { base, guard, size };
        // SAFETY: the lowest page of a mapping that nobody else knows.
        if unsafe { libc::mprotect(base, guard, libc::PROT_NONE) } != 0 {
            let error = io::Error::last_os_error();
            mapping.unmap();
            return Err(error);
        }
        Ok(mapping)
    }

    fn stack(&self) -> libc::stack_t {
        let lowest = self.base.wrapping_byte_add(self.guard);
        libc::stack_t { ss_sp: lowest, ss_flags: 0, ss_size: self.size }
    }

    fn unmap(self) {
        // SAFETY: the whole mapping, which is in force nowhere. A failure just leaves it there.
        unsafe { libc::munmap(self.base, self.guard + self.size) };
    }
}
