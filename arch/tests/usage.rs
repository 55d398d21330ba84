//! How deep stacks were used, measured against depths that are known. Each test has a size class of
//! its own.

use std::backtrace::Backtrace;
use std::hint::black_box;
use std::net::ToSocketAddrs;
use std::panic::{self, AssertUnwindSafe};

use bine_arch::context::{self, Context};
use bine_arch::stack::{self, DEFAULT_STACK_SIZE, Permit, Stack, StackCache, Usage};

const KIB: usize = 1024;
const PAGE: usize = 4 * KIB;

fn take(size: usize) -> (Stack, Permit) {
    let permit = Permit::reserve(size).unwrap();
    (StackCache::new().take(&permit).unwrap(), permit)
}

/// Writes the word whose lowest byte is `depth` below the top.
fn write(stack: &Stack, depth: usize, word: usize) {
    assert!(depth >= 8 && depth.is_multiple_of(8) && depth <= stack.size());
    // SAFETY: an aligned word of a stack that is ours.
    unsafe { stack.top().cast::<usize>().byte_sub(depth).write(word) };
}

fn usage_of(size: usize) -> Usage {
    let usage = stack::usage().unwrap();
    usage.into_iter().find(|usage| usage.stack_size == size).expect("there are such stacks")
}

/// What runs on a stack, and where both sides are suspended.
struct Run<'a> {
    outside: Context,
    work: &'a mut dyn FnMut(),
}

unsafe extern "C" fn entry(_: usize, data: usize) -> ! {
    let run = data as *mut Run<'_>;
    // SAFETY: `run_on` waits for us; nothing is left on this stack at the end.
    unsafe {
        ((*run).work)();
        context::switch_final((*run).outside, 0)
    }
}

/// Runs `work` on `stack`, to its end.
fn run_on(stack: &Stack, mut work: impl FnMut()) {
    let mut run = Run { outside: Context::null(), work: &mut work };
    let run = &raw mut run;
    // SAFETY: nothing else uses the stack, and it stays until `entry` has ended.
    unsafe {
        let inside = context::prepare(stack.bounds(), entry, run as usize);
        context::switch(&raw mut (*run).outside, inside, 0);
    }
}

#[test]
fn the_lowest_word_that_was_written_counts() {
    let (stack, permit) = take(128 * KIB);
    assert_eq!(stack.high_water().unwrap(), 0);
    let depths = [8, 16, 1_000, PAGE, PAGE + 8, 50_000, 50_008, stack.size() - 8, stack.size()];
    for depth in depths {
        write(&stack, depth, 1);
        assert_eq!(stack.high_water().unwrap(), depth);
        assert_eq!(usage_of(128 * KIB).deepest, depth);
    }
    // Less deep: nothing changes.
    write(&stack, 24, 1);
    assert_eq!(stack.high_water().unwrap(), stack.size());
    drop(stack);
    drop(permit);
}

#[test]
fn zeros_do_not_count() {
    let (stack, permit) = take(64 * KIB);
    write(&stack, 6_000, usize::MAX);
    // Pages that are resident, and empty.
    write(&stack, 20_000, 0);
    // SAFETY: the stack is ours.
    assert_eq!(unsafe { stack.limit().read_volatile() }, 0);
    assert_eq!(stack.high_water().unwrap(), 6_000);
    let usage = usage_of(64 * KIB);
    assert_eq!((usage.stacks, usage.deepest), (1, 6_000));
    // The page of the first word is the second one, as the top lies in a page of its own.
    assert!((3 * PAGE..=5 * PAGE).contains(&usage.resident), "{usage:?}");
    drop(stack);
    drop(permit);
}

#[test]
fn a_real_depth_is_found() {
    #[inline(never)]
    fn fill(bytes: usize) -> u8 {
        let mut buffer = [0_u8; 40 * KIB];
        black_box(&mut buffer)[..].fill(bytes as u8 | 1);
        black_box(&buffer)[bytes]
    }
    let (stack, permit) = take(512 * KIB);
    run_on(&stack, || {
        black_box(1);
    });
    let before = stack.high_water().unwrap();
    assert!(before > 0 && before < 2 * KIB, "{before}");
    run_on(&stack, || {
        black_box(fill(100));
    });
    let depth = stack.high_water().unwrap();
    assert!((40 * KIB..44 * KIB).contains(&depth), "{depth}");
    // A later use that is less deep changes nothing.
    run_on(&stack, || ());
    assert_eq!(stack.high_water().unwrap(), depth);
    drop(stack);
    drop(permit);
}

#[test]
fn usage_is_of_all_stacks_of_a_class() {
    const SIZE: usize = 32 * KIB;
    const STACKS: usize = 5_000;
    let mut cache = StackCache::with_stack_size(SIZE).unwrap();
    let permits: Vec<_> = (0..STACKS).map(|_| cache.reserve(SIZE).unwrap()).collect();
    let stacks: Vec<_> = permits.iter().map(|permit| cache.take(permit).unwrap()).collect();
    stacks.iter().for_each(|stack| write(stack, 8, 1));
    // One page of each, whatever slab it is in.
    let usage = usage_of(SIZE);
    assert!(usage.stacks >= STACKS);
    assert_eq!((usage.resident, usage.deepest), (STACKS * PAGE, 8));
    for (depth, index) in [(9_000, 0), (20_000, STACKS / 2), (30_000, STACKS - 1)] {
        write(&stacks[index], depth, 1);
        assert_eq!(usage_of(SIZE).deepest, depth);
    }
    assert_eq!(usage_of(SIZE).resident, (STACKS + 3) * PAGE);
    drop((stacks, permits));
}

/// What the size of a stack has to hold, at least: measured, and printed.
#[test]
fn common_calls_fit_a_stack_of_the_default_size() {
    #[inline(never)]
    fn deep(levels: usize) -> usize {
        match black_box(levels) {
            0 => Backtrace::force_capture().to_string().len(),
            _ => deep(levels - 1) + 1,
        }
    }
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {
        black_box(deep(1));
    }));
    // Each on a class of its own, so that every one has a fresh stack; all are larger than what is
    // looked for.
    let calls: [(&str, &mut dyn FnMut()); 6] = [
        ("nothing", &mut || ()),
        ("format! of a number", &mut || drop(black_box(format!("{:>20.3}", black_box(1.5))))),
        ("println!", &mut || println!("a line")),
        ("a host name is looked up", &mut || {
            let addresses = ("localhost", 80).to_socket_addrs();
            drop(black_box(addresses.map(Iterator::count)));
        }),
        ("a panic is caught", &mut || {
            let _quiet = panic::catch_unwind(AssertUnwindSafe(|| panic!("{}", black_box(1))));
        }),
        ("a backtrace is captured and printed", &mut || {
            black_box(deep(1));
        }),
    ];
    let mut size = DEFAULT_STACK_SIZE * 4;
    for (name, call) in calls {
        let (stack, permit) = take(size);
        run_on(&stack, call);
        let depth = stack.high_water().unwrap();
        println!("{name}: {depth} bytes of stack");
        assert!(depth > 0 && depth < DEFAULT_STACK_SIZE / 2, "{name}: {depth}");
        drop(stack);
        drop(permit);
        size *= 2;
    }
    panic::set_hook(hook);
}
