//! After a peak of green threads their memory goes back to the system. Alone in its process: it
//! looks at the memory of all of it.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use bine_arch::stack;
use bine_runtime::{Builder, thread};

const THREADS: usize = 20_000;
const PAGE: usize = 4096;
const TOUCHED: usize = 16 * 1024;
/// What may stay: free stacks in the workers' magazines, 64 each, and what the allocator keeps of
/// the threads' cells.
const BOUND: usize = 24 << 20;

/// Resident memory of the process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * PAGE
}

fn resident_of_stacks() -> usize {
    stack::usage().unwrap().iter().map(|usage| usage.resident).sum()
}

#[inline(never)]
fn touch() {
    let mut buffer = [0_u8; TOUCHED];
    black_box(&mut buffer[..]).fill(1);
}

#[test]
fn the_memory_of_a_peak_goes_back() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let runtime = Builder::new().workers(2).build().unwrap();
    runtime.spawn(touch).join().unwrap();
    let before = resident();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            runtime.spawn(|| {
                touch();
                STARTED.fetch_add(1, Ordering::Release);
                thread::park();
            })
        })
        .collect();
    while STARTED.load(Ordering::Acquire) < THREADS {
        std::thread::yield_now();
    }
    let peak = resident();
    assert!(peak > before + THREADS * TOUCHED, "{before}, then {peak}");
    for thread in threads {
        thread.thread().unpark();
        thread.join().unwrap();
    }
    // A worker may have trimmed some of them by itself: what counts is what is left.
    let trimmed = stack::trim();
    let after = resident();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:.1} MiB, at the peak {:.1}, trimmed {:.1}, of which stacks {:.1}; {trimmed:?}",
        mib(before),
        mib(peak),
        mib(after),
        mib(resident_of_stacks())
    );
    let stacks = resident_of_stacks();
    assert!(stacks < BOUND, "{stacks} bytes of stacks after {trimmed:?}");
    // An emulator and a sanitizer keep memory of their own for what a program has touched.
    let sanitized = cfg!(any(bine_sanitize = "address", bine_sanitize = "thread"));
    if sanitized || std::env::var_os("BINE_TEST_RUNNER").is_some() {
        eprintln!("skipped: the bound on the memory of the process");
    } else {
        assert!(after < before + BOUND, "{before}, then {peak}, then {after}");
    }
    // All of them run again.
    let again: Vec<_> = (0..THREADS).map(|_| runtime.spawn(touch)).collect();
    again.into_iter().for_each(|thread| thread.join().unwrap());
}
