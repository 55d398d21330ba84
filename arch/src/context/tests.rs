use std::arch::naked_asm;
use std::hint::black_box;
use std::panic::{self, AssertUnwindSafe};

use super::{Context, Entry, prepare, switch, switch_final};
use crate::stack::{DEFAULT_STACK_SIZE, Permit, Stack, StackCache};

/// A stack with something running on it, and the place from where it is resumed.
struct Green {
    // Before its permit: dropped in this order.
    stack: Stack,
    _permit: Permit,
    /// Both sides of the switch, on the heap: each writes where the other finds it.
    sides: Box<Sides>,
}

struct Sides {
    outside: Context,
    inside: Context,
    /// What the entry functions below want to know, or report.
    word: usize,
}

impl Green {
    fn new(entry: Entry) -> Self {
        let mut cache = StackCache::new();
        let permit = cache.reserve(DEFAULT_STACK_SIZE).unwrap();
        let stack = cache.take(&permit).unwrap();
        let mut green = Self {
            stack,
            _permit: permit,
            sides: Box::new(Sides { outside: Context::null(), inside: Context::null(), word: 0 }),
        };
        green.restart(entry);
        green
    }

    /// Starts anew on the same stack.
    fn restart(&mut self, entry: Entry) {
        let data = (&raw mut *self.sides) as usize;
        // SAFETY: nothing runs on the stack, and `sides` lives as long as it.
        self.sides.inside = unsafe { prepare(self.stack.bounds(), entry, data) };
    }

    fn resume(&mut self, arg: usize) -> usize {
        let sides = &raw mut *self.sides;
        // SAFETY: `inside` is fresh or suspended: the tests resume nothing that has ended.
        unsafe { switch(&raw mut (*sides).outside, (*sides).inside, arg) }
    }
}

/// Suspends the green thread of `sides`.
///
/// # Safety
///
/// Called on the stack that `sides` belongs to.
unsafe fn suspend(sides: *mut Sides, arg: usize) -> usize {
    // SAFETY: `outside` was saved by the switch that came here.
    unsafe { switch(&raw mut (*sides).inside, (*sides).outside, arg) }
}

/// Ends the green thread of `sides`.
///
/// # Safety
///
/// As for `suspend`, and nothing on the stack is needed any more.
unsafe fn finish(sides: *mut Sides, arg: usize) -> ! {
    // SAFETY: as in `suspend`.
    unsafe { switch_final((*sides).outside, arg) }
}

unsafe extern "C" fn count(mut arg: usize, data: usize) -> ! {
    let mut sum = 0;
    loop {
        sum += arg;
        // SAFETY: `data` is the `Sides` of this stack, here and in the entry functions below.
        arg = unsafe { suspend(data as *mut Sides, sum) };
    }
}

#[test]
fn values_travel_both_ways() {
    let mut green = Green::new(count);
    let mut expected = 0;
    for arg in 0..1_000_000 {
        expected += arg;
        assert_eq!(green.resume(arg), expected);
    }
}

#[test]
fn null_context_is_null() {
    assert!(Context::null().is_null());
    let green = Green::new(count);
    assert!(!green.sides.inside.is_null());
    let (top, address) = (green.stack.top().addr().get(), green.sides.inside.address());
    // With a sanitizer, what it has to know of the stack lies above the first frame.
    let hooks = cfg!(any(bine_sanitize = "address", bine_sanitize = "thread"));
    let most = if hooks { 48 + 128 } else { 48 };
    assert!(address < top && top - address <= most, "the first frame is in the first cache line");
}

unsafe extern "C" fn report_arguments(arg: usize, data: usize) -> ! {
    let sides = data as *mut Sides;
    // SAFETY: see `count`.
    unsafe {
        (*sides).word = arg;
        finish(sides, data)
    }
}

#[test]
fn entry_gets_the_first_argument_and_its_data() {
    let mut green = Green::new(report_arguments);
    let data = (&raw const *green.sides) as usize;
    assert_eq!(green.resume(usize::MAX - 5), data);
    assert_eq!(green.sides.word, usize::MAX - 5);
}

#[test]
fn a_stack_is_reused_after_its_end() {
    let mut green = Green::new(report_arguments);
    for arg in 0..100_000 {
        green.restart(report_arguments);
        green.resume(arg);
        assert_eq!(green.sides.word, arg);
    }
}

/// Twelve integers and twelve floats that are live over each switch: more than there are call-saved
/// registers.
fn churn(seed: u64, mut step: impl FnMut(u64) -> u64, steps: u64) -> (u64, f64) {
    let mut ints: [u64; 12] = std::array::from_fn(|i| seed.wrapping_mul(i as u64 + 1));
    let mut floats: [f64; 12] = std::array::from_fn(|i| seed as f64 + i as f64 / 3.0);
    for n in 0..steps {
        let word = step(n);
        for (i, int) in ints.iter_mut().enumerate() {
            *int = int.rotate_left(i as u32 + 1).wrapping_add(word);
        }
        for (i, float) in floats.iter_mut().enumerate() {
            *float = *float * 0.5 + (word % 1024) as f64 + i as f64;
        }
    }
    let sum = black_box(ints).iter().fold(0, |sum: u64, int| sum.rotate_left(7) ^ int);
    (sum, black_box(floats).iter().sum())
}

const CHURN_STEPS: u64 = 1_000_000;

/// What the other side is given, so that the two sides' registers never agree.
fn opposite(word: u64) -> u64 {
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555
}

unsafe extern "C" fn churn_inside(_: usize, data: usize) -> ! {
    let sides = data as *mut Sides;
    // SAFETY: see `count`.
    let step = |n| unsafe { suspend(sides, opposite(n) as usize) as u64 };
    let result = churn(7, step, CHURN_STEPS);
    let expected = churn(7, |n| n + 1, CHURN_STEPS);
    // SAFETY: nothing on this stack has a destructor.
    unsafe {
        (*sides).word = usize::from(result == expected);
        finish(sides, 0)
    }
}

#[test]
fn live_values_survive_millions_of_switches() {
    let mut green = Green::new(churn_inside);
    let result = churn(3, |n| green.resume(n as usize) as u64, CHURN_STEPS);
    assert_eq!(result, churn(3, opposite, CHURN_STEPS));
    green.resume(CHURN_STEPS as usize);
    assert_eq!(green.sides.word, 1, "the values of the green thread are as they were, too");
}

/// Reports the stack pointer at its entry as its first argument.
#[unsafe(naked)]
unsafe extern "C" fn report_stack_pointer(arg: usize, data: usize) -> ! {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("mov rdi, rsp", "jmp {report}", report = sym report_arguments);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x0, sp", "b {report}", report = sym report_arguments);
    #[cfg(target_arch = "riscv64")]
    naked_asm!("mv a0, sp", "tail {report}", report = sym report_arguments);
}

#[test]
fn the_stack_is_aligned_at_the_entry() {
    // On x86_64 a call has pushed the return address on an aligned stack.
    let pushed = if cfg!(target_arch = "x86_64") { 8 } else { 0 };
    let mut green = Green::new(report_stack_pointer);
    green.resume(0);
    assert_eq!((green.sides.word + pushed) % 16, 0);
}

unsafe extern "C" fn panic_inside(_: usize, data: usize) -> ! {
    let caught = panic::catch_unwind(|| {
        let boxed = Box::new(42);
        panic::resume_unwind(boxed);
    });
    let payload = *caught.unwrap_err().downcast::<i32>().unwrap();
    // SAFETY: see `count`; the payload has been freed.
    unsafe { finish(data as *mut Sides, payload as usize) }
}

#[test]
fn a_panic_is_caught_on_its_own_stack() {
    assert_eq!(Green::new(panic_inside).resume(0), 42);
}

unsafe extern "C" fn suspend_in_destructor(_: usize, data: usize) -> ! {
    struct Suspend(*mut Sides);
    impl Drop for Suspend {
        fn drop(&mut self) {
            // SAFETY: see `count`.
            unsafe { suspend(self.0, 1) };
        }
    }
    let sides = data as *mut Sides;
    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        let _suspend = Suspend(sides);
        panic::resume_unwind(Box::new(()));
    }));
    // SAFETY: see `count`; the payload has no size, and so no memory.
    unsafe { finish(sides, 2 + usize::from(caught.is_ok())) }
}

#[test]
fn a_stack_may_suspend_while_it_unwinds() {
    let mut green = Green::new(suspend_in_destructor);
    assert_eq!(green.resume(0), 1);
    assert_eq!(green.resume(0), 2);
}

#[test]
fn another_thread_may_continue_a_context() {
    let mut green = Green::new(count);
    assert_eq!(green.resume(1), 1);
    let mut green = std::thread::spawn(move || {
        assert_eq!(green.resume(2), 3);
        green
    })
    .join()
    .unwrap();
    assert_eq!(green.resume(3), 6);
}

#[test]
fn contexts_nest() {
    unsafe extern "C" fn resume_another(arg: usize, data: usize) -> ! {
        let mut inner = Green::new(count);
        inner.resume(arg);
        // SAFETY: see `count`.
        let arg = unsafe { suspend(data as *mut Sides, arg) };
        let sum = inner.resume(arg);
        drop(inner);
        // SAFETY: as above; nothing is left on this stack.
        unsafe { finish(data as *mut Sides, sum) }
    }
    let mut green = Green::new(resume_another);
    assert_eq!(green.resume(20), 20);
    assert_eq!(green.resume(22), 42);
}
