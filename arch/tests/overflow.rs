//! The end of a process whose stack has overflowed, and the faults that are no overflow.

mod child;

use std::ffi::{c_int, c_void};
use std::fmt;
use std::hint::black_box;
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::ptr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread;

use bine_arch::context::{self, Context, Entry};
use bine_arch::overflow;
use bine_arch::stack::{self, MIN_STACK_SIZE, Permit, Stack, StackCache};

const FALLBACK: &[(&str, &str)] = &[("BINE_STACK_GUARD", "mprotect")];

/// The report about a stack of 16 KiB whose owner is `owner`.
fn report(owner: &str) -> String {
    format!(
        "\n{owner} has overflowed its stack of 16 KiB\n\
         note: its builder's `stack_size` gives it a larger one; \
         `runtime::Builder::stack_size` all green threads\n\
         fatal runtime error: stack overflow, aborting\n"
    )
}

#[track_caller]
fn assert_reported(output: &Output, owner: &str) {
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed.matches(&report(owner)).count(), 1, "{printed}");
    assert_eq!(printed.matches("has overflowed").count(), 1, "{printed}");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
}

#[track_caller]
fn assert_not_reported(output: &Output, signal: c_int) {
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!printed.contains("overflow"), "{printed}");
    assert_eq!(output.status.signal(), Some(signal), "{output:?}");
}

/// Stacks that are never given back, side by side, the lowest first.
fn neighbours<const N: usize>() -> [Stack; N] {
    let mut cache = StackCache::new();
    let mut stacks = [(); N].map(|()| {
        let permit = cache.reserve(MIN_STACK_SIZE).unwrap();
        let stack = cache.take(&permit).unwrap();
        mem::forget(permit);
        stack
    });
    stacks.sort_by_key(Stack::top);
    for pair in stacks.windows(2) {
        assert!(pair[1].guard().start - pair[0].top().addr().get() < 4096, "{stacks:?}");
    }
    stacks
}

unsafe fn describe(name: *const (), message: &mut dyn fmt::Write) -> fmt::Result {
    // SAFETY: `own` has it from a `&'static &'static str`.
    message.write_str(unsafe { *name.cast::<&str>() })
}

fn own(stack: &Stack, name: &'static &'static str) {
    // SAFETY: the name lives for ever.
    unsafe { stack.set_owner(describe, ptr::from_ref(name).cast()) };
}

/// Continues with `entry` on `stack`, for good.
fn go(stack: &Stack, entry: Entry, data: usize) -> ! {
    let mut here = Context::null();
    // SAFETY: nothing else runs on the stack, and nothing ever comes back.
    unsafe {
        let there = context::prepare(stack.bounds(), entry, data);
        context::switch(&raw mut here, there, 0);
    }
    unreachable!("nothing continues this context")
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let frame = black_box([depth; 16]);
    if black_box(depth) == usize::MAX {
        return 0;
    }
    recurse(depth + 1) + black_box(frame)[3]
}

unsafe extern "C" fn overflow_by_recursion(_: usize, _: usize) -> ! {
    panic!("survived: {}", recurse(0));
}

/// A frame that is larger than the stack, in bytes. On riscv64 functions do not touch the pages of
/// their frames in turn, and the guard, of 15 pages, is what it must not reach past.
const LARGE: usize = if cfg!(target_arch = "riscv64") { 40_000 } else { 100_000 };

unsafe extern "C" fn overflow_by_a_large_frame(_: usize, _: usize) -> ! {
    panic!("survived: {}", black_box([1_u8; LARGE])[7]);
}

unsafe extern "C" fn touch(_: usize, address: usize) -> ! {
    // SAFETY: no Rust value is where the tests have us write.
    unsafe { (address as *mut u8).write_volatile(1) };
    panic!("survived");
}

#[test]
fn recursion_is_reported() {
    if child::is_child() {
        let [stack] = neighbours();
        own(&stack, &"somebody");
        overflow::protect_thread();
        go(&stack, overflow_by_recursion, 0);
    }
    assert_reported(&child::run("recursion_is_reported", &[]), "somebody");
    assert_reported(&child::run("recursion_is_reported", FALLBACK), "somebody");
}

#[test]
fn a_large_frame_is_reported() {
    if child::is_child() {
        let [lower, stack] = neighbours();
        own(&lower, &"the neighbour");
        own(&stack, &"somebody");
        overflow::protect_thread();
        go(&stack, overflow_by_a_large_frame, 0);
    }
    assert_reported(&child::run("a_large_frame_is_reported", &[]), "somebody");
}

/// As C code may whose frames are larger than a page: its stack pointer is below the guard already.
#[test]
fn a_frame_that_has_stepped_over_the_guard_is_reported() {
    if child::is_child() {
        let [lower, stack] = neighbours();
        own(&stack, &"somebody");
        overflow::protect_thread();
        go(&lower, touch, stack.limit().addr().get() - 8);
    }
    let output = child::run("a_frame_that_has_stepped_over_the_guard_is_reported", &[]);
    assert_reported(&output, "somebody");
}

#[test]
fn a_stack_that_was_given_back_names_nobody() {
    if child::is_child() {
        let [stack] = neighbours();
        own(&stack, &"somebody");
        stack.clear_owner();
        overflow::protect_thread();
        go(&stack, overflow_by_recursion, 0);
    }
    let output = child::run("a_stack_that_was_given_back_names_nobody", &[]);
    assert_not_reported(&output, libc::SIGSEGV);
}

#[test]
fn a_wild_pointer_into_a_guard_page_is_no_overflow() {
    if child::is_child() {
        let [stack] = neighbours();
        own(&stack, &"somebody");
        overflow::protect_thread();
        // SAFETY: nothing is in the guard page.
        unsafe { touch(0, stack.limit().addr().get() - 8) };
    }
    let output = child::run("a_wild_pointer_into_a_guard_page_is_no_overflow", &[]);
    assert_not_reported(&output, libc::SIGSEGV);
}

/// Beyond the top of a stack lies the guard page of the next.
#[test]
fn a_neighbour_that_writes_beyond_its_top_is_no_overflow() {
    if child::is_child() {
        let [lower, stack] = neighbours();
        own(&lower, &"the neighbour");
        own(&stack, &"somebody");
        overflow::protect_thread();
        go(&lower, touch, stack.guard().start);
    }
    let output = child::run("a_neighbour_that_writes_beyond_its_top_is_no_overflow", &[]);
    assert_not_reported(&output, libc::SIGSEGV);
}

#[test]
fn other_faults_on_a_stack_are_no_overflow() {
    if child::is_child() {
        let [stack] = neighbours();
        own(&stack, &"somebody");
        overflow::protect_thread();
        go(&stack, touch, 8);
    }
    let output = child::run("other_faults_on_a_stack_are_no_overflow", &[]);
    assert_not_reported(&output, libc::SIGSEGV);
}

/// A page above the guard, which only somebody else can have protected.
#[test]
fn a_fault_above_the_guard_is_no_overflow() {
    if child::is_child() {
        let [stack] = neighbours();
        own(&stack, &"somebody");
        overflow::protect_thread();
        let page = stack.limit().as_ptr();
        // SAFETY: the lowest page of a stack that does not reach so far down.
        assert_eq!(unsafe { libc::mprotect(page.cast(), 4096, libc::PROT_NONE) }, 0);
        go(&stack, touch, page.addr());
    }
    let output = child::run("a_fault_above_the_guard_is_no_overflow", &[]);
    assert_not_reported(&output, libc::SIGSEGV);
}

unsafe fn fault_in_the_report(_: *const (), _: &mut dyn fmt::Write) -> fmt::Result {
    // SAFETY: ends the process, as the test wants it.
    unsafe { touch(0, 8) }
}

#[test]
fn a_fault_in_the_report_ends_the_process() {
    if child::is_child() {
        let [stack] = neighbours();
        // SAFETY: unsafe indeed.
        unsafe { stack.set_owner(fault_in_the_report, ptr::null()) };
        overflow::protect_thread();
        go(&stack, overflow_by_recursion, 0);
    }
    let output = child::run("a_fault_in_the_report_ends_the_process", &[]);
    assert_not_reported(&output, libc::SIGSEGV);
}

/// Of threads that overflow at the same time one reports, undisturbed.
#[test]
fn of_many_overflows_one_is_reported() {
    const NAMES: [&str; 4] = ["north", "east", "south", "west"];
    static START: Barrier = Barrier::new(NAMES.len());
    static REPORTS: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn start(_: usize, _: usize) -> ! {
        START.wait();
        panic!("survived: {}", recurse(0));
    }
    /// Gives the others time to begin a report of their own; none of them ever does.
    unsafe fn describe_slowly(name: *const (), message: &mut dyn fmt::Write) -> fmt::Result {
        REPORTS.fetch_add(1, Ordering::Relaxed);
        for _ in 0..10_000 {
            thread::yield_now();
        }
        if REPORTS.load(Ordering::Relaxed) > 1 {
            message.write_str("one of many: ")?;
        }
        // SAFETY: as for `own`.
        unsafe { describe(name, message) }
    }
    if child::is_child() {
        let stacks = neighbours::<{ NAMES.len() }>();
        thread::scope(|scope| {
            for (stack, name) in stacks.iter().zip(const { &NAMES }) {
                // SAFETY: the names live for ever.
                unsafe { stack.set_owner(describe_slowly, ptr::from_ref(name).cast()) };
                scope.spawn(|| {
                    overflow::protect_thread();
                    go(stack, start, 0)
                });
            }
        });
    }
    let output = child::run("of_many_overflows_one_is_reported", &[]);
    let printed = String::from_utf8_lossy(&output.stderr);
    let reporter = NAMES.into_iter().find(|name| printed.contains(name));
    assert_reported(&output, reporter.expect("one of them reports"));
}

// ---- the handler before ----

/// Where the last fault was that a test's own handler saw, and how often it was called.
static FAULT: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);
/// The page that the test's own handlers make usable.
static PAGE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Signals that were blocked in the handler, as bits.
static BLOCKED: AtomicUsize = AtomicUsize::new(0);

fn blocked_signals() -> usize {
    // SAFETY: reads the mask of this thread.
    unsafe {
        let mut set = mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut set);
        [libc::SIGSEGV, libc::SIGUSR1, libc::SIGUSR2]
            .into_iter()
            .filter(|&signal| libc::sigismember(&raw const set, signal) == 1)
            .fold(0, |bits, signal| bits | 1 << signal)
    }
}

fn protect(protection: c_int) {
    // SAFETY: a page that `map_a_page` mapped for this.
    let result = unsafe { libc::mprotect(PAGE.load(Ordering::Relaxed), 4096, protection) };
    assert_eq!(result, 0);
}

extern "C" fn repair(signal: c_int) {
    assert_eq!(signal, libc::SIGSEGV);
    CALLS.fetch_add(1, Ordering::Relaxed);
    BLOCKED.store(blocked_signals(), Ordering::Relaxed);
    protect(libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: the location is this thread's.
    unsafe { *libc::__errno_location() = libc::EXDEV };
}

extern "C" fn note_and_repair(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    assert!(!context.is_null());
    // SAFETY: the kernel's, for a SIGSEGV.
    let (number, address) = unsafe { ((*info).si_signo, (*info).si_addr()) };
    assert_eq!(number, signal);
    FAULT.store(address.addr(), Ordering::Relaxed);
    repair(signal);
}

/// Puts `handler` in force for SIGSEGV before ours is, and maps a page that nobody may touch.
fn install_before_ours(handler: usize, flags: c_int) -> *mut u8 {
    // SAFETY: the handlers above are fit for it; the page is a fresh one. In Rust programs std has
    // declared an alternate stack for the main thread and those it starts.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaddset(&raw mut action.sa_mask, libc::SIGUSR1);
        assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()), 0);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        PAGE.store(page, Ordering::Relaxed);
        let before = stack::stats().mapped;
        drop(Permit::reserve(MIN_STACK_SIZE).unwrap());
        assert_eq!(before, 0, "ours was installed before");
        page.cast()
    }
}

/// Writes to `page` on a stack of ours with an owner, and expects the write to succeed.
fn touch_and_return(page: *mut u8) {
    struct Sides {
        outside: Context,
        page: *mut u8,
    }
    unsafe extern "C" fn touch(_: usize, sides: usize) -> ! {
        let sides = sides as *mut Sides;
        // SAFETY: the sides outlive this stack's use. A handler makes the page usable.
        unsafe {
            *libc::__errno_location() = libc::ENOTTY;
            (*sides).page.add(5).write_volatile(9);
            assert_eq!(*libc::__errno_location(), libc::ENOTTY);
            context::switch_final((*sides).outside, 0)
        }
    }
    let [stack] = neighbours();
    own(&stack, &"somebody");
    let mut sides = Sides { outside: Context::null(), page };
    // SAFETY: nothing else runs on the stack, and `touch` comes back once.
    unsafe {
        let sides = &raw mut sides;
        let there = context::prepare(stack.bounds(), touch, sides as usize);
        context::switch(&raw mut (*sides).outside, there, 0);
        assert_eq!(page.add(5).read(), 9);
    }
    mem::forget(stack);
}

#[test]
fn a_handler_of_three_arguments_may_repair_the_fault() {
    if !child::is_child() {
        return child::run_to_success("a_handler_of_three_arguments_may_repair_the_fault", &[]);
    }
    let page = install_before_ours(
        note_and_repair as extern "C" fn(c_int, _, _) as usize,
        libc::SA_SIGINFO | libc::SA_ONSTACK,
    );
    for calls in 1..=2 {
        touch_and_return(page);
        assert_eq!(FAULT.swap(0, Ordering::Relaxed), page.addr() + 5);
        assert_eq!(CALLS.load(Ordering::Relaxed), calls);
        // Its mask and the signal, and no longer than the handler runs.
        let expected = 1 << libc::SIGSEGV | 1 << libc::SIGUSR1;
        assert_eq!(BLOCKED.load(Ordering::Relaxed), expected);
        assert_eq!(blocked_signals(), 0);
        protect(libc::PROT_NONE);
    }
}

#[test]
fn a_handler_of_one_argument_may_repair_the_fault() {
    if !child::is_child() {
        return child::run_to_success("a_handler_of_one_argument_may_repair_the_fault", &[]);
    }
    let page = install_before_ours(repair as extern "C" fn(c_int) as usize, libc::SA_NODEFER);
    touch_and_return(page);
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    assert_eq!(BLOCKED.load(Ordering::Relaxed), 1 << libc::SIGUSR1);
}

#[test]
fn a_handler_for_one_call_gets_one() {
    if child::is_child() {
        let handler = repair as extern "C" fn(c_int) as usize;
        let page = install_before_ours(handler, libc::SA_RESETHAND);
        touch_and_return(page);
        assert_eq!(CALLS.load(Ordering::Relaxed), 1);
        println!("repaired");
        protect(libc::PROT_NONE);
        touch_and_return(page);
    }
    let output = child::run("a_handler_for_one_call_gets_one", &[]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("repaired"), "{output:?}");
    assert_not_reported(&output, libc::SIGSEGV);
}

#[test]
fn a_fault_cannot_be_ignored_but_a_signal_can() {
    if child::is_child() {
        let page = install_before_ours(libc::SIG_IGN, 0);
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGSEGV) };
        println!("went on");
        touch_and_return(page);
    }
    let output = child::run("a_fault_cannot_be_ignored_but_a_signal_can", &[]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("went on"), "{output:?}");
    assert_not_reported(&output, libc::SIGSEGV);
}

#[test]
fn a_signal_that_was_sent_acts_at_once() {
    if child::is_child() {
        install_before_ours(libc::SIG_DFL, 0);
        // SAFETY: no preconditions.
        unsafe { libc::raise(libc::SIGSEGV) };
        println!("survived");
        return;
    }
    let output = child::run("a_signal_that_was_sent_acts_at_once", &[]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("survived"), "{output:?}");
    assert_not_reported(&output, libc::SIGSEGV);
}

/// std's own report comes through, with our alternate stack and with std's.
#[test]
fn an_os_thread_that_overflows_is_std_s_concern() {
    if child::is_child() {
        let protected = std::env::var_os("PROTECTED").is_some();
        overflow::install();
        let [stack] = neighbours();
        own(&stack, &"somebody");
        let body = move || {
            if protected {
                overflow::protect_thread();
            }
            recurse(0)
        };
        thread::Builder::new().name("plain".into()).spawn(body).unwrap().join().unwrap();
    }
    for environment in [&[][..], &[("PROTECTED", "1")]] {
        let output = child::run("an_os_thread_that_overflows_is_std_s_concern", environment);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(printed.contains("thread 'plain'"), "{printed}");
        assert!(printed.contains("has overflowed its stack"), "{printed}");
        assert!(!printed.contains("note: its builder"), "{printed}");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    }
}
