//! Unwinders see a green thread's stack end at its first frame.

use std::backtrace::Backtrace;
use std::process::Command;

use bine_arch::context::{self, Context};
use bine_arch::coroutine::{Coroutine, Yielder};
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
    // With a sanitizer there is one more frame between them, which tells it of the stack.
    let hooks = usize::from(cfg!(any(bine_sanitize = "address", bine_sanitize = "thread")));
    assert!(frames[frames.len() - 2 - hooks].contains("capture"), "{text}");
    assert!(frames[frames.len() - 1].contains("trampoline"), "{text}");
    drop(stack);
    drop(permit);
}

/// Where the debugger stops.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bine_backtrace_probe(depth: usize) {
    std::hint::black_box(depth);
}

#[inline(never)]
fn descend_to_the_probe(depth: usize) -> usize {
    if depth == 0 {
        bine_backtrace_probe(depth);
    } else {
        descend_to_the_probe(std::hint::black_box(depth) - 1);
    }
    // So that none of the calls is the last thing its function does.
    std::hint::black_box(depth)
}

/// The frames that gdb shows at the probe when it runs `test`, or why it cannot.
fn frames_in_gdb(test: &str) -> Result<Vec<String>, String> {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off"])
        .args(["-ex", "break bine_backtrace_probe", "-ex", "run", "-ex", "bt", "--args"])
        .arg(program)
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .map_err(|error| format!("gdb: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("Breakpoint 1, ") {
        return Err(format!("gdb cannot run programs here: {output:?}"));
    }
    let frames = text.lines().skip_while(|line| !line.contains("Breakpoint 1, "));
    let frames: Vec<_> = frames.filter(|line| line.starts_with('#')).map(String::from).collect();
    let said = text + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("corrupt stack") && !said.contains("Backtrace stopped"), "{said}");
    Ok(frames)
}

#[test]
#[ignore = "is what gdb runs in `gdb_sees_the_stack_of_a_coroutine_end`"]
fn a_coroutine_reaches_the_probe() {
    let body = |yielder: &Yielder<(), ()>, ()| {
        yielder.suspend(());
        descend_to_the_probe(10);
    };
    let mut coroutine = Coroutine::new(body);
    for _ in 0..2 {
        let _ = coroutine.resume(());
    }
}

#[test]
fn gdb_sees_the_stack_of_a_coroutine_end() {
    let sanitized = cfg!(any(bine_sanitize = "address", bine_sanitize = "thread"));
    if sanitized || std::env::var_os("BINE_TEST_RUNNER").is_some() {
        return eprintln!("skipped: under an emulator or a sanitizer");
    }
    let frames = match frames_in_gdb("a_coroutine_reaches_the_probe") {
        Ok(frames) => frames,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let text = frames.join("\n");
    let inside = frames.iter().filter(|frame| frame.contains("descend_to_the_probe")).count();
    assert_eq!(inside, 11, "{text}");
    assert!(frames[frames.len() - 2].contains("entry"), "{text}");
    assert!(frames[frames.len() - 1].contains("trampoline"), "{text}");
}
