//! Stack overflow: says whose stack it was, and aborts.
//!
//! An overflow touches the guard page below a stack, and the kernel sends SIGSEGV. The handler of
//! this module then writes, say,
//!
//! ```text
//! green thread 'worker-7' (id 12, spawned at src/main.rs:10:5) has overflowed its stack of 256 KiB
//! note: its builder's `stack_size` gives it a larger one; `runtime::Builder::stack_size` all green threads
//! fatal runtime error: stack overflow, aborting
//! ```
//!
//! to standard error and ends the process by SIGABRT, as std does for the stacks of OS threads.
//! Nothing is recovered: the frames of the thread were cut off at an arbitrary instruction.
//!
//! # What counts as an overflow
//!
//! 1. The kernel reports a fault whose address lies in the guard page of one of our stacks;
//! 2. the stack has an owner ([`Stack::set_owner`](crate::stack::Stack::set_owner));
//! 3. the interrupted code ran on that stack: its stack pointer lies in the slot, guard page
//!    included. Rust code touches each page of a large frame in turn, from the top, so it gets no
//!    further (but on riscv64, see `stack`). C code may be built without that; a stack pointer that lies up to 64 KiB below the
//!    guard counts too, unless it lies on another stack that has an owner: that one may be where
//!    the code really runs.
//!
//! Anything else, a wild pointer into somebody's guard page too, goes to the handler that was there
//! before. What C code does that skips the guard page in one step goes unnoticed.
//!
//! # The handler before
//!
//! The handler is installed with the first stack, for SIGSEGV and SIGBUS, and keeps what was there
//! before: in Rust programs std's handler, which reports the overflows of OS threads. A fault that
//! is not ours is forwarded:
//!
//! - A handler is called as the kernel would have called it: with one argument or three, with its
//!   `sa_mask` blocked, the signal itself open under `SA_NODEFER`, and once only under
//!   `SA_RESETHAND`. It may repair the cause and return. Two things differ: it runs on the
//!   alternate stack even without `SA_ONSTACK`, and a system call that an asynchronous signal
//!   interrupts is not restarted even with `SA_RESTART`.
//! - The default action is put in force and the instruction repeated, so that the process dies of
//!   the signal, where it happened. A signal that was sent (`kill`) is sent once more.
//! - Ignoring counts as the default action for a fault, as it does for the kernel. A signal that
//!   was sent is ignored.
//!
//! Who installs a handler later has to forward to ours, as usual.
//!
//! # Where the handler runs
//!
//! There is no room on a stack that has overflowed, so each OS thread that runs such stacks needs an
//! alternate one: [`protect_thread`]. Without it the kernel kills the process by SIGSEGV.
//!
//! # In the handler
//!
//! No locks, no allocation: the slabs are found in a list that is only added to, the owner's words
//! by arithmetic, the message is built in a fixed buffer and written by `write(2)`. Of several
//! threads that overflow at the same time, one reports and the others wait for the end. A fault in
//! the handler itself finds the signal blocked, and the kernel ends the process.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::stack;

mod alternate;
mod report;

pub use alternate::{Headroom, protect_thread};

use report::Overflow;

/// What a touched guard page may arrive as.
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// How far below its guard page a stack pointer may be and the stack still be the one that
/// overflowed: a large frame of code that does not touch its pages in turn.
const REACH: usize = 64 << 10;

type Handler = unsafe extern "C" fn(c_int);
type InfoHandler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// What was to happen on a signal before our handler was installed. Never freed.
struct Previous {
    action: libc::sigaction,
    /// A handler with `SA_RESETHAND` has had its one call.
    spent: AtomicBool,
}

/// For each of [`SIGNALS`]: null until the handler is about to be installed.
static PREVIOUS: [AtomicPtr<Previous>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// Installs the handler, once for the process. Whoever maps the first stack calls it; to call it
/// earlier decides which handler comes before.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
            install_for(signal, previous);
        }
    });
}

fn install_for(signal: c_int, previous: &AtomicPtr<Previous>) {
    let mut ours = action_to(on_fault as InfoHandler as libc::sighandler_t);
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    let mut before = action_to(libc::SIG_DFL);
    // What is there is kept *before* ours replaces it: another thread may fault at once.
    // SAFETY: reads the action of a signal that exists.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut before) };
    keep(previous, before);
    let mut replaced = before;
    // SAFETY: `on_fault` is a handler of three arguments, fit for any time and thread.
    unsafe { libc::sigaction(signal, &raw const ours, &raw mut replaced) };
    if replaced.sa_sigaction != before.sa_sigaction {
        // Somebody else installed a handler in between.
        keep(previous, replaced);
    }
}

fn keep(previous: &AtomicPtr<Previous>, action: libc::sigaction) {
    let kept = Box::into_raw(Box::new(Previous { action, spent: AtomicBool::new(false) }));
    // Release: pairs with the Acquire in `forward`. An older one is leaked: it may be in use.
    previous.store(kept, Ordering::Release);
}

fn action_to(handler: libc::sighandler_t) -> libc::sigaction {
    // SAFETY: all zeros is an action: the default one, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action
}

/// The handler.
///
/// # Safety
///
/// For the kernel to call, and for handlers that come after ours and forward to it.
unsafe extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the location is the thread's; a handler stays on its thread.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the kernel passes valid ones.
    let overflow = unsafe { find_overflow(&*info, &*context.cast()) };
    if let Some(overflow) = overflow {
        overflow.report_and_abort();
    }
    // SAFETY: the caller's arguments are passed on.
    unsafe { forward(signal, info, context) };
    // SAFETY: as above. The code that was interrupted goes on, and must not notice.
    unsafe { *libc::__errno_location() = errno };
}

/// Whether a signal was sent by a process, and not raised by an instruction.
fn was_sent(info: &libc::siginfo_t) -> bool {
    info.si_code <= 0
}

fn find_overflow(info: &libc::siginfo_t, context: &libc::ucontext_t) -> Option<Overflow> {
    if was_sent(info) {
        return None;
    }
    // SAFETY: a SIGSEGV or SIGBUS that the kernel raised carries an address.
    let fault = unsafe { info.si_addr() }.addr();
    let site = stack::locate(fault).filter(|site| site.guard().contains(&fault))?;
    let (describe, data) = site.owner()?;
    let pointer = stack_pointer(context);
    let here = site.range().contains(&pointer) || has_stepped_over(site.guard().start, pointer);
    // The stack is the one that the interrupted code ran on, so its owner is alive and waits for
    // us: that is what `Stack::set_owner` asks for.
    here.then(|| Overflow { describe, data, stack_size: site.stack_size() })
}

/// Whether a stack pointer that lies below a guard page, which starts at `guard`, can be taken for
/// one that has stepped over it.
fn has_stepped_over(guard: usize, pointer: usize) -> bool {
    pointer < guard
        && guard - pointer <= REACH
        && stack::locate(pointer).is_none_or(|below| below.owner().is_none())
}

/// The stack pointer of the code that a signal interrupted.
fn stack_pointer(context: &libc::ucontext_t) -> usize {
    #[cfg(target_arch = "x86_64")]
    let pointer = context.uc_mcontext.gregs[libc::REG_RSP as usize];
    #[cfg(target_arch = "aarch64")]
    let pointer = context.uc_mcontext.sp;
    #[cfg(target_arch = "riscv64")]
    let pointer = context.uc_mcontext.__gregs[libc::REG_SP];
    pointer as usize
}

/// Does what would have happened on the signal without us.
///
/// # Safety
///
/// The arguments are those of a signal handler, which calls this.
unsafe fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let index = usize::from(signal != SIGNALS[0]);
    // SAFETY: null or leaked. Acquire: pairs with the Release in `keep`.
    let previous = unsafe { PREVIOUS[index].load(Ordering::Acquire).as_ref() };
    // SAFETY: the caller's promise.
    let sent = was_sent(unsafe { &*info });
    let Some(previous) = previous else { return act_by_default(signal, sent) };
    let action = &previous.action;
    match action.sa_sigaction {
        libc::SIG_IGN if sent => return,
        libc::SIG_DFL | libc::SIG_IGN => return act_by_default(signal, sent),
        _ => {}
    }
    // Relaxed: the word alone counts.
    if action.sa_flags & libc::SA_RESETHAND != 0 && previous.spent.swap(true, Ordering::Relaxed) {
        return act_by_default(signal, sent);
    }
    block_as(action, signal);
    // SAFETY: somebody installed the handler for this signal, as one of three arguments or of one.
    // The mask and the context are put back when our handler returns.
    unsafe {
        if action.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: InfoHandler = mem::transmute(action.sa_sigaction);
            handler(signal, info, context);
        } else {
            let handler: Handler = mem::transmute(action.sa_sigaction);
            handler(signal);
        }
    }
}

/// Blocks the signals that `action` wants to be blocked. The kernel blocked `signal` for us.
fn block_as(action: &libc::sigaction, signal: c_int) {
    // SAFETY: changes the mask of this thread, until the handler returns; the sets are initialised.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const action.sa_mask, ptr::null_mut());
        if action.sa_flags & libc::SA_NODEFER != 0 {
            let mut own = action_to(libc::SIG_DFL).sa_mask;
            libc::sigaddset(&raw mut own, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const own, ptr::null_mut());
        }
    }
}

/// Puts the default action in force. The instruction that faulted does so again when the handler
/// returns; a signal that was sent would not come again by itself.
fn act_by_default(signal: c_int, sent: bool) {
    let default = action_to(libc::SIG_DFL);
    // SAFETY: the default action is always fit; a raised signal is pending until the handler
    // returns.
    unsafe {
        libc::sigaction(signal, &raw const default, ptr::null_mut());
        if sent {
            libc::raise(signal);
        }
    }
}
