//! What a context switch costs, beside corosensei, and beside the ways to do it that bine does not
//! use.
//!
//! `cargo run --release -p bine-benches --bin switch [ROUNDS]` prints nanoseconds: the median of
//! the rounds, the least and the most. The contenders of a group take turns within each round, so
//! that a change of the machine's speed hits all of them.

use std::arch::naked_asm;
use std::hint::black_box;
use std::ptr::{self, NonNull};
use std::time::Instant;

use bine_arch::context::{self, Bounds, Context};
use bine_arch::coroutine::{self, OwnedStack};
use bine_arch::stack::{DEFAULT_STACK_SIZE, Permit, Stack, StackCache};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, ScopedCoroutine};

const PAIRS: usize = 2_000_000;
const STARTS: usize = 500_000;
const STACKS: usize = 1_000;
const TURNS: usize = 200;

fn main() {
    let rounds = std::env::args().nth(1).map_or(15, |n| n.parse().expect("ROUNDS is a number"));
    group("resume + suspend, one green thread", rounds, &mut pair_contenders());
    group("create + run + drop, stack reused", rounds, &mut create_contenders());
    group("resume + suspend, 1,000 green threads in turn", rounds, &mut turn_contenders(0));
    group("the same, each using 1 KiB of its stack", rounds, &mut turn_contenders(1024));
}

/// A name, and what it measures: nanoseconds for one operation.
type Contender = (&'static str, Box<dyn FnMut() -> f64>);

fn group(title: &str, rounds: usize, contenders: &mut [Contender]) {
    let mut figures = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for ((_, measure), figures) in contenders.iter_mut().zip(&mut figures) {
            figures.push(measure());
        }
    }
    println!("{title}");
    for ((name, _), figures) in contenders.iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        let (least, most) = (figures[0], figures[figures.len() - 1]);
        println!("  {:7.2} ns  ({least:.2} to {most:.2})  {name}", figures[figures.len() / 2]);
    }
}

fn nanoseconds_each(count: usize, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Where the two sides of a switch are suspended.
struct Sides {
    outside: Context,
    inside: Context,
    /// How much stack the green thread uses between switches, in bytes.
    used: usize,
}

/// The two sides at the very top of a stack, as the runtime has its control blocks, and `entry`
/// below.
///
/// # Safety
///
/// As for [`context::prepare`].
unsafe fn on_top(stack: Bounds, entry: context::Entry, used: usize) -> *mut Sides {
    // SAFETY: the caller's stack is fresh; 64 bytes below its top hold the sides and keep the
    // alignment.
    unsafe {
        let top = stack.top.sub(64);
        let sides = top.cast::<Sides>();
        sides.write(Sides { outside: Context::null(), inside: Context::null(), used });
        (*sides.as_ptr()).inside =
            context::prepare(Bounds { top, ..stack }, entry, sides.as_ptr() as usize);
        sides.as_ptr()
    }
}

impl Sides {
    /// Something that runs `entry` on `stack`.
    ///
    /// # Safety
    ///
    /// As for [`context::prepare`]; the result outlives the stack's last switch.
    unsafe fn new(stack: Bounds, entry: context::Entry, used: usize) -> Box<Self> {
        let mut sides = Box::new(Self { outside: Context::null(), inside: Context::null(), used });
        // SAFETY: the caller's promise; the box does not move.
        sides.inside = unsafe { context::prepare(stack, entry, (&raw mut *sides) as usize) };
        sides
    }
}

/// A guarded stack of bine's, for as long as the process lives.
fn leaked_stack() -> Stack {
    let permit = Permit::reserve(DEFAULT_STACK_SIZE).expect("a stack can be reserved");
    let stack = StackCache::new().take(&permit).expect("a reserved stack can be taken");
    std::mem::forget(permit);
    stack
}

unsafe extern "C" fn echo(mut arg: usize, data: usize) -> ! {
    let sides = data as *mut Sides;
    loop {
        // SAFETY: `outside` was saved by the switch that came here, here and below.
        arg = unsafe { context::switch(&raw mut (*sides).inside, (*sides).outside, arg) };
    }
}

fn pair_contenders() -> Vec<Contender> {
    vec![
        ("bine, the switch alone", Box::new(pair_inline())),
        ("bine's coroutines", Box::new(pair_coroutine())),
        ("bine's switch as a naked function, all call-saved registers", Box::new(pair_naked())),
        ("corosensei", Box::new(pair_corosensei())),
    ]
}

fn pair_inline() -> impl FnMut() -> f64 {
    let stack = leaked_stack();
    // SAFETY: the stack is fresh, and the closure owns it and the sides.
    let mut sides = unsafe { Sides::new(stack.bounds(), echo, 0) };
    move || {
        let (_, sides) = (&stack, &raw mut *sides);
        nanoseconds_each(PAIRS, || {
            for n in 0..PAIRS {
                // SAFETY: `inside` is suspended in its loop.
                black_box(unsafe {
                    context::switch(&raw mut (*sides).outside, (*sides).inside, n)
                });
            }
        })
    }
}

/// The contender: saves the registers that the ABI says a function saves, and is called as one.
#[unsafe(naked)]
unsafe extern "sysv64" fn naked_switch(save: *mut Context, to: Context, arg: usize) -> usize {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "mov rax, rdx",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "pop rcx",
        "jmp rcx",
    )
}

unsafe extern "C" fn naked_echo(mut arg: usize, data: usize) -> ! {
    let sides = data as *mut Sides;
    loop {
        // SAFETY: as in `echo`.
        arg = unsafe { naked_switch(&raw mut (*sides).inside, (*sides).outside, arg) };
    }
}

/// What `naked_switch` pops on its first visit to a stack: six registers and the address to
/// continue at.
unsafe fn prepare_naked(top: NonNull<u8>, data: usize) -> Context {
    #[unsafe(naked)]
    unsafe extern "sysv64" fn start() {
        // `rbx` is the data; the stack is aligned to 16 here.
        naked_asm!("mov rdi, rax", "mov rsi, rbx", "call {entry}", "ud2", entry = sym naked_echo)
    }
    // SAFETY: the caller's stack is fresh; nine words of it are used.
    unsafe {
        let frame = top.cast::<usize>().sub(9);
        ptr::write_bytes(frame.as_ptr(), 0, 9);
        frame.add(4).write(data);
        frame.add(6).write(start as *const () as usize);
        std::mem::transmute(frame)
    }
}

fn pair_naked() -> impl FnMut() -> f64 {
    let stack = leaked_stack();
    // SAFETY: the stack is fresh; its first frame is replaced before it runs.
    let mut sides = unsafe { Sides::new(stack.bounds(), echo, 0) };
    // SAFETY: as above.
    sides.inside = unsafe { prepare_naked(stack.top(), (&raw mut *sides) as usize) };
    move || {
        let (_, sides) = (&stack, &raw mut *sides);
        nanoseconds_each(PAIRS, || {
            for n in 0..PAIRS {
                // SAFETY: `inside` is suspended in its loop.
                black_box(unsafe { naked_switch(&raw mut (*sides).outside, (*sides).inside, n) });
            }
        })
    }
}

fn pair_coroutine() -> impl FnMut() -> f64 {
    let mut coroutine = coroutine::Coroutine::<usize, usize, ()>::new(|yielder, mut arg| {
        loop {
            arg = yielder.suspend(arg);
        }
    });
    move || {
        nanoseconds_each(PAIRS, || {
            for n in 0..PAIRS {
                black_box(coroutine.resume(n));
            }
        })
    }
}

fn pair_corosensei() -> impl FnMut() -> f64 {
    let mut coroutine = Coroutine::<usize, usize, ()>::new(|yielder, mut arg| {
        loop {
            arg = yielder.suspend(arg);
        }
    });
    move || {
        nanoseconds_each(PAIRS, || {
            for n in 0..PAIRS {
                black_box(coroutine.resume(n));
            }
        })
    }
}

fn create_contenders() -> Vec<Contender> {
    vec![
        ("bine, context alone", Box::new(create_on_one_stack())),
        ("bine, with permit and stack from a cache", Box::new(create_with_cache())),
        ("bine's coroutines, on one stack", Box::new(create_coroutine_on_one_stack())),
        ("bine's coroutines, in a scope, on a borrowed stack", Box::new(create_scoped_coroutine())),
        ("bine's coroutines, with a stack from the pool", Box::new(create_coroutine())),
        ("corosensei, on one stack", Box::new(create_corosensei_on_one_stack())),
        ("corosensei, in a scope, on a borrowed stack", Box::new(create_corosensei())),
        ("corosensei, with a stack of its own", Box::new(create_corosensei_with_stack())),
    ]
}

unsafe extern "C" fn end_at_once(arg: usize, data: usize) -> ! {
    // SAFETY: as in `echo`; nothing is left on this stack.
    unsafe { context::switch_final((*(data as *mut Sides)).outside, arg) }
}

/// One life of a green thread on `stack`.
#[inline(always)]
fn live(stack: Bounds, n: usize) {
    let mut sides = Sides { outside: Context::null(), inside: Context::null(), used: 0 };
    let sides = &raw mut sides;
    // SAFETY: nothing runs on the stack, and `end_at_once` is back before `sides` is gone.
    unsafe {
        (*sides).inside = context::prepare(stack, end_at_once, sides as usize);
        black_box(context::switch(&raw mut (*sides).outside, (*sides).inside, n));
    }
}

fn create_on_one_stack() -> impl FnMut() -> f64 {
    let stack = leaked_stack();
    move || {
        nanoseconds_each(STARTS, || (0..STARTS).for_each(|n| live(black_box(stack.bounds()), n)))
    }
}

fn create_with_cache() -> impl FnMut() -> f64 {
    let mut cache = StackCache::new();
    move || {
        nanoseconds_each(STARTS, || {
            for n in 0..STARTS {
                let permit = cache.reserve(DEFAULT_STACK_SIZE).expect("there is a stack");
                let stack = cache.take(&permit).expect("there is a stack");
                live(stack.bounds(), n);
                cache.put(stack);
                cache.release(permit);
            }
        })
    }
}

fn create_coroutine_on_one_stack() -> impl FnMut() -> f64 {
    let mut stack = Some(OwnedStack::new(DEFAULT_STACK_SIZE).expect("there is a stack"));
    move || {
        nanoseconds_each(STARTS, || {
            let mut reused = stack.take().expect("it was put back");
            for n in 0..STARTS {
                let mut coroutine = coroutine::Coroutine::<usize, (), usize, _>::with_stack(
                    reused,
                    |_: &_, arg| arg,
                );
                black_box(coroutine.resume(n));
                reused = coroutine.into_stack();
            }
            stack = Some(reused);
        })
    }
}

fn create_scoped_coroutine() -> impl FnMut() -> f64 {
    let mut stack = OwnedStack::new(DEFAULT_STACK_SIZE).expect("there is a stack");
    move || {
        nanoseconds_each(STARTS, || {
            for n in 0..STARTS {
                coroutine::scope(|scope| {
                    let mut coroutine =
                        scope.coroutine_on::<usize, (), usize, _, _>(&mut stack, |_, arg| arg);
                    black_box(coroutine.resume(n));
                });
            }
        })
    }
}

fn create_coroutine() -> impl FnMut() -> f64 {
    || {
        nanoseconds_each(STARTS, || {
            for n in 0..STARTS {
                let mut coroutine = coroutine::Coroutine::<usize, (), usize>::new(|_: &_, arg| arg);
                black_box(coroutine.resume(n));
            }
        })
    }
}

fn create_corosensei_on_one_stack() -> impl FnMut() -> f64 {
    let mut stack = Some(DefaultStack::new(DEFAULT_STACK_SIZE).expect("there is a stack"));
    move || {
        nanoseconds_each(STARTS, || {
            let mut reused = stack.take().expect("it was put back");
            for n in 0..STARTS {
                let mut coroutine =
                    Coroutine::<usize, (), usize, _>::with_stack(reused, |_, arg| arg);
                black_box(coroutine.resume(n).as_return());
                reused = coroutine.into_stack();
            }
            stack = Some(reused);
        })
    }
}

fn create_corosensei() -> impl FnMut() -> f64 {
    let mut stack = DefaultStack::new(DEFAULT_STACK_SIZE).expect("there is a stack");
    move || {
        nanoseconds_each(STARTS, || {
            for n in 0..STARTS {
                let coroutine =
                    ScopedCoroutine::<usize, (), usize, _>::with_stack(&mut stack, |_, arg| arg);
                coroutine.scope(|mut coroutine| match coroutine.resume(n) {
                    CoroutineResult::Return(n) => black_box(n),
                    CoroutineResult::Yield(()) => unreachable!("it does not suspend"),
                });
            }
        })
    }
}

const KIB: usize = 1024;

fn create_corosensei_with_stack() -> impl FnMut() -> f64 {
    || {
        // Each maps its stack: a tenth of the starts is enough.
        nanoseconds_each(STARTS / 10, || {
            for n in 0..STARTS / 10 {
                let mut coroutine = Coroutine::<usize, (), usize>::new(|_, arg| arg);
                black_box(coroutine.resume(n).as_return());
            }
        })
    }
}

fn turn_contenders(used: usize) -> Vec<Contender> {
    vec![
        ("bine: 260 KiB apart, 16 colours", Box::new(turns_on_bine(used))),
        ("256 KiB apart, one colour", Box::new(turns_on(256 * KIB, 0, used))),
        ("256 KiB apart, 16 colours", Box::new(turns_on(256 * KIB, 64, used))),
        ("260 KiB apart, one colour", Box::new(turns_on(260 * KIB, 0, used))),
        ("260 KiB apart, 16 colours", Box::new(turns_on(260 * KIB, 64, used))),
        ("corosensei", Box::new(turns_on_corosensei(used))),
    ]
}

/// Writes to `used` bytes of the stack, one word in each cache line.
#[inline(never)]
fn use_stack(used: usize) {
    if used > 0 {
        let mut room = std::mem::MaybeUninit::<[usize; 128]>::uninit();
        let base = room.as_mut_ptr().cast::<usize>();
        for line in (0..used.min(1024) / 8).step_by(8) {
            // SAFETY: below 128.
            unsafe { base.add(line).write_volatile(line) };
        }
    }
}

unsafe extern "C" fn echo_and_use(mut arg: usize, data: usize) -> ! {
    let sides = data as *mut Sides;
    loop {
        // SAFETY: as in `echo`.
        unsafe {
            use_stack((*sides).used);
            arg = context::switch(&raw mut (*sides).inside, (*sides).outside, arg);
        }
    }
}

fn turns(sides: &[*mut Sides]) -> f64 {
    nanoseconds_each(TURNS * sides.len(), || {
        for n in 0..TURNS {
            for &sides in sides {
                // SAFETY: `inside` is suspended in its loop, or fresh.
                black_box(unsafe {
                    context::switch(&raw mut (*sides).outside, (*sides).inside, n)
                });
            }
        }
    })
}

fn turns_on_bine(used: usize) -> impl FnMut() -> f64 {
    let mut cache = StackCache::new();
    let held: Vec<_> = (0..STACKS)
        .map(|_| {
            let permit = cache.reserve(DEFAULT_STACK_SIZE).expect("there is a stack");
            (cache.take(&permit).expect("there is a stack"), permit)
        })
        .collect();
    // SAFETY: fresh stacks, which the closure keeps.
    let start =
        |(stack, _): &(Stack, Permit)| unsafe { on_top(stack.bounds(), echo_and_use, used) };
    let sides: Vec<_> = held.iter().map(start).collect();
    move || {
        let _ = &held;
        turns(&sides)
    }
}

/// Stacks without guards, `stride` bytes apart; the tops of neighbours differ by `colour` bytes.
fn turns_on(stride: usize, colour: usize, used: usize) -> impl FnMut() -> f64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping; it is never unmapped.
    let base = unsafe { libc::mmap(ptr::null_mut(), stride * STACKS, protection, flags, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED);
    // SAFETY: advice on that mapping.
    unsafe { libc::madvise(base, stride * STACKS, libc::MADV_NOHUGEPAGE) };
    let start = |index: usize| {
        // SAFETY: the tops lie in the mapping, `stride` apart but for the colour, which is less
        // than a page.
        unsafe {
            let top = base.cast::<u8>().add((index + 1) * stride - index % 16 * colour);
            let top = NonNull::new_unchecked(top);
            on_top(Bounds { limit: top.sub(64 * KIB), top }, echo_and_use, used)
        }
    };
    let sides: Vec<_> = (0..STACKS).map(start).collect();
    move || turns(&sides)
}

fn turns_on_corosensei(used: usize) -> impl FnMut() -> f64 {
    let start = |_| {
        let stack = DefaultStack::new(DEFAULT_STACK_SIZE).expect("there is a stack");
        Coroutine::<usize, usize, (), _>::with_stack(stack, move |yielder, mut arg| {
            loop {
                use_stack(used);
                arg = yielder.suspend(arg);
            }
        })
    };
    let mut coroutines: Vec<_> = (0..STACKS).map(start).collect();
    move || {
        nanoseconds_each(TURNS * STACKS, || {
            for n in 0..TURNS {
                for coroutine in &mut coroutines {
                    black_box(coroutine.resume(n));
                }
            }
        })
    }
}
