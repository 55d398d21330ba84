//! A million green threads at once. Alone in its process: it measures the memory of the process.

#[path = "../../arch/tests/memory/mod.rs"]
mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bine_arch::stack::{self, GuardMechanism};
use bine_runtime::{Builder, thread};
use memory::{each, status};

/// What the process has in memory, its page tables included, in bytes.
fn in_memory() -> usize {
    status("VmRSS:") + status("VmPTE:")
}

/// Twice, so that the second time finds what the first one has left.
#[test]
fn a_million_parked_threads() {
    let count = memory::a_million_or(10_000);
    let runtime = Builder::new().workers(2).build().unwrap();
    for round in ["first", "second"] {
        let before = in_memory();
        let (parking, unparking, used) = runtime.run(move || park_and_wake(count, before));
        let metrics = runtime.metrics();
        println!(
            "{round} time, {count} threads: {} bytes each, {} ns to spawn and park, {} ns to wake, end and join",
            used / count,
            each(parking, count),
            each(unparking, count),
        );
        assert_eq!(metrics.alive, 0, "all have ended");
    }
    if stack::stats().guard == Some(GuardMechanism::Mprotect) {
        println!("guards cost mappings here");
    }
}

/// Makes the threads, waits until all have parked, wakes and joins them.
fn park_and_wake(count: usize, before: usize) -> (Duration, Duration, usize) {
    let start = Instant::now();
    let parked = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::with_capacity(count);
    while threads.len() < count {
        let parked = Arc::clone(&parked);
        let body = move || {
            parked.fetch_add(1, Ordering::Relaxed);
            thread::park();
        };
        match thread::Builder::new().spawn(body) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                // Where a guard page costs mappings there is a limit, and the error says so.
                assert!(error.to_string().contains("vm.max_map_count"), "{error}");
                break;
            }
        }
    }
    while parked.load(Ordering::Relaxed) < threads.len() {
        thread::yield_now();
    }
    let (parking, used) = (start.elapsed(), in_memory().saturating_sub(before));
    let start = Instant::now();
    threads.iter().for_each(|thread| thread.thread().unpark());
    let woken = threads.into_iter().map(thread::JoinHandle::join).filter(Result::is_ok).count();
    assert!(woken == count || stack::stats().guard == Some(GuardMechanism::Mprotect));
    (parking, start.elapsed(), used)
}
