//! Trimming: memory goes back to the system, stacks and guards stay. Each test in a process of its
//! own, since trimming is for the whole process, with both kinds of guards.

mod child;

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bine_arch::stack::{self, DEFAULT_STACK_SIZE, Permit, Stack, StackCache};

const PAGE: usize = 4096;
const STACKS: usize = 20_000;
/// Pages that are touched of each stack.
const TOUCHED: usize = 4;
/// What may stay of the memory that the process has gained: lists of stacks, and what the allocator
/// keeps.
const BOUND: usize = 8 << 20;

const BOTH: [&[(&str, &str)]; 2] = [&[], &[("BINE_STACK_GUARD", "mprotect")]];

fn run_with_both_guards(name: &str) {
    for environment in BOTH {
        let output = child::run(name, environment);
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{name} {environment:?}: {output:?}");
    }
}

/// Resident memory of the process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * PAGE
}

fn resident_of_stacks() -> usize {
    stack::usage().unwrap().iter().map(|usage| usage.resident).sum()
}

/// The words that are written of a stack: one in each of its highest pages.
fn words(stack: &Stack) -> impl Iterator<Item = *mut usize> {
    let top = stack.top().cast::<usize>().as_ptr();
    // SAFETY: four pages are less than the stack has.
    (0..TOUCHED).map(move |page| unsafe { top.byte_sub(page * PAGE + 8) })
}

fn touch(stack: &Stack) {
    // SAFETY: words of a stack that is ours.
    words(stack).for_each(|word| unsafe { word.write(word.addr()) });
}

/// Whether the stack has its guard: a system call that reads a path there answers EFAULT.
fn is_guarded(stack: &Stack) -> bool {
    // SAFETY: the kernel reads, or refuses to.
    let result = unsafe { libc::access(stack.guard().start as *const _, libc::F_OK) };
    result == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

fn take(cache: &mut StackCache, count: usize) -> Vec<(Stack, Permit)> {
    let reserve = |cache: &mut StackCache| cache.reserve(DEFAULT_STACK_SIZE).unwrap();
    let permits: Vec<_> = (0..count).map(|_| reserve(cache)).collect();
    permits.into_iter().map(|permit| (cache.take(&permit).unwrap(), permit)).collect()
}

#[test]
fn memory_goes_back_after_a_peak() {
    if !child::is_child() {
        return run_with_both_guards("memory_goes_back_after_a_peak");
    }
    let mut cache = StackCache::new();
    let before = resident();
    let held = take(&mut cache, STACKS);
    held.iter().for_each(|(stack, _)| touch(stack));
    let peak = resident();
    drop(held);
    assert!(peak > before + STACKS * TOUCHED * PAGE, "{before}, then {peak}");

    let started = std::time::Instant::now();
    let trimmed = stack::trim();
    let took = started.elapsed();
    let after = resident();
    assert_eq!((trimmed.stacks, trimmed.bytes), (STACKS, STACKS * TOUCHED * PAGE));
    assert_eq!(resident_of_stacks(), 0);
    // An emulator's account of 40,000 mappings is in the same process, and a sanitizer's shadow.
    let accounts = std::env::var_os("BINE_TEST_RUNNER").is_some()
        || cfg!(any(bine_sanitize = "address", bine_sanitize = "thread"));
    assert!(accounts || after < before + BOUND, "{before}, then {peak}, then {after}");
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:?}: {:.1} MiB, at the peak {:.1}, trimmed in {took:?} {:.1}",
        stack::stats().guard.unwrap(),
        mib(before),
        mib(peak),
        mib(after)
    );
    assert_eq!(stack::trim().stacks, 0, "clean stacks are not trimmed again");

    // All of them can be had again, with zeros and guards.
    let mapped = stack::stats().mapped;
    let again = take(&mut cache, STACKS);
    for (stack, _) in &again {
        // SAFETY: words of a stack that is ours.
        assert!(words(stack).all(|word| unsafe { word.read() } == 0));
        touch(stack);
        assert!(is_guarded(stack));
    }
    assert_eq!(stack::stats().mapped, mapped);
    drop((again, cache));
    let stats = stack::stats();
    assert_eq!((stats.lent, stats.promised), (0, 0));
}

#[test]
fn a_trimmed_stack_is_still_guarded() {
    const NAME: &str = "a_trimmed_stack_is_still_guarded";
    if !child::is_child() {
        for environment in BOTH {
            let output = child::run(NAME, environment);
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(printed.contains("used") && !printed.contains("survived"), "{output:?}");
            assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
        }
        return;
    }
    let mut cache = StackCache::new();
    let held = take(&mut cache, 100);
    held.iter().for_each(|(stack, _)| touch(stack));
    drop(held);
    assert_eq!(stack::trim().stacks, 100);
    let mut held = take(&mut cache, 100);
    held.sort_by_key(|(stack, _)| stack.limit());
    // One with neighbours on both sides: the call that trimmed it has gone over its guard.
    let (stack, _) = &held[50];
    // SAFETY: the first write is to the stack's own memory. The other one hits the guard page,
    // where no Rust value ever is, and ends the process.
    unsafe {
        stack.limit().write_volatile(1);
        println!("used");
        stack.limit().sub(1).write_volatile(1);
    }
    println!("survived");
}

#[test]
fn cold_is_what_nobody_needed_since_the_last_time() {
    if !child::is_child() {
        return run_with_both_guards("cold_is_what_nobody_needed_since_the_last_time");
    }
    let trim_cold = || stack::trim_cold(|| true).stacks;
    let mut cache = StackCache::new();
    assert!(!stack::may_be_cold());
    let mut held = take(&mut cache, 1_000);
    held.iter().for_each(|(stack, _)| touch(stack));
    assert_eq!(trim_cold(), 0, "all are in use");
    drop(held.split_off(100));
    assert!(stack::may_be_cold());
    assert_eq!(trim_cold(), 0, "all were in use");
    // Of 900 free ones, 300 are needed now and then.
    for _ in 0..3 {
        let hot = take(&mut cache, 300);
        hot.iter().for_each(|(stack, _)| touch(stack));
        drop(hot);
    }
    assert_eq!(trim_cold(), 600);
    assert_eq!(resident_of_stacks(), 400 * TOUCHED * PAGE);
    // The hot ones are lent before those that were trimmed.
    let hot = take(&mut cache, 300);
    // SAFETY: words of stacks that are ours.
    assert!(hot.iter().flat_map(|(stack, _)| words(stack)).all(|word| unsafe { *word } != 0));
    drop(hot);
    assert_eq!(trim_cold(), 0);
    assert!(stack::may_be_cold());
    assert_eq!(trim_cold(), 300);
    assert!(!stack::may_be_cold(), "an idle process is told that there is nothing more");
    drop(held);
    assert_eq!((trim_cold(), trim_cold()), (0, 100));
    assert!(!stack::may_be_cold());
    assert_eq!(resident_of_stacks(), 0);
}

#[test]
fn a_trim_may_be_interrupted() {
    if !child::is_child() {
        return run_with_both_guards("a_trim_may_be_interrupted");
    }
    let mut cache = StackCache::new();
    let held = take(&mut cache, 1_000);
    held.iter().for_each(|(stack, _)| touch(stack));
    drop(held);
    assert_eq!(stack::trim_cold(|| true).stacks, 0);
    let mut batches = 2;
    let trimmed = stack::trim_cold(|| {
        batches -= 1;
        batches >= 0
    });
    assert_eq!(trimmed.stacks, 512);
    assert!(stack::may_be_cold());
    assert_eq!(stack::trim_cold(|| true).stacks, 488);
    assert!(!stack::may_be_cold());
}

/// Ends the trimmer, even where the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Gives stacks and permits back, half of them each time, and wants them again at once, while
/// another thread trims without a pause: at the very limit, where there is not one stack to spare.
#[test]
fn who_trims_takes_nothing_from_others() {
    const NAME: &str = "who_trims_takes_nothing_from_others";
    if !child::is_child() {
        return child::run_to_success(NAME, BOTH[1]);
    }
    let mut permits: Vec<Permit> = Vec::new();
    let error = loop {
        match Permit::reserve(DEFAULT_STACK_SIZE) {
            Ok(permit) => permits.push(permit),
            Err(error) => break error,
        }
        if permits.len() > 500_000 {
            return eprintln!("skipped: the limit of mappings is too high");
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
    let stats = stack::stats();
    assert_eq!((stats.promised, stats.guarded), (permits.len(), permits.len()));
    let (all, done) = (permits.len(), AtomicBool::new(false));
    thread::scope(|scope| {
        let trimmer = scope.spawn(|| {
            let mut trimmed = stack::Trimmed::default();
            while !done.load(Ordering::Relaxed) {
                trimmed += stack::trim();
            }
            trimmed
        });
        let done = Done(&done);
        for round in 0..20 {
            permits.truncate(all / 2);
            let mut cache = StackCache::new();
            while permits.len() < all {
                permits.push(Permit::reserve(DEFAULT_STACK_SIZE).unwrap());
            }
            // Nothing is left beside them, and each has its stack.
            let stacks: Vec<_> = permits.iter().map(|permit| cache.take(permit).unwrap()).collect();
            let some = &stacks[round * 100..][..2_000];
            some.iter().for_each(touch);
            some.iter().for_each(|stack| {
                // SAFETY: words of a stack that is ours.
                assert!(words(stack).all(|word| unsafe { word.read() } == word.addr()));
            });
        }
        drop(done);
        let trimmed = trimmer.join().unwrap();
        assert!(trimmed.stacks > 0, "{trimmed:?}");
    });
    assert_eq!(stack::stats().guarded, all);
}
