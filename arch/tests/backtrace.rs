//! Unwinders see a green thread's stack end at its first frame.

use std::backtrace::Backtrace;

use bine_arch::context::{self, Context};
use bine_arch::stack::{DEFAULT_STACK_SIZE, Permit, StackCache};

struct Sides {
    outside: Context,
    backtrace: Option<Backtrace>,
}

unsafe extern "C" fn capture(_: usize, data: usize) -> ! {
    let sides = data as *mut Sides;
    // SAFETY: the test's, which waits for us; nothing is left on this stack at the end.
    unsafe {
        (*sides).backtrace = Some(deep_in_the_stack(10));
        context::switch_final((*sides).outside, 0)
    }
}

#[inline(never)]
fn deep_in_the_stack(depth: usize) -> Backtrace {
    match std::hint::black_box(depth) {
        0 => Backtrace::force_capture(),
        _ => deep_in_the_stack(depth - 1),
    }
}

#[test]
fn a_backtrace_ends_at_the_first_frame() {
    let permit = Permit::reserve(DEFAULT_STACK_SIZE).unwrap();
    let stack = StackCache::new().take(&permit).unwrap();
    let mut sides = Sides { outside: Context::null(), backtrace: None };
    let sides = &raw mut sides;
    // SAFETY: the stack is fresh and stays until `capture` has ended.
    let text = unsafe {
        let inside = context::prepare(stack.bounds(), capture, sides as usize);
        context::switch(&raw mut (*sides).outside, inside, 0);
        (*sides).backtrace.take().unwrap().to_string()
    };
    // Frames are numbered "  12: name"; locations stand on lines of their own.
    let frames: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start().split_once(": "))
        .filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|(_, name)| name)
        .collect();
    let inside = frames.iter().filter(|name| name.contains("deep_in_the_stack")).count();
    assert!(inside >= 11, "{text}");
    assert!(frames.len() < 30, "{text}");
    assert!(frames[frames.len() - 2].contains("capture"), "{text}");
    assert!(frames[frames.len() - 1].contains("trampoline"), "{text}");
    drop(stack);
    drop(permit);
}
