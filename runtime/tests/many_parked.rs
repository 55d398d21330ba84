//! A hundred thousand green threads at once. In a binary of its own: where guard pages cost mappings,
//! it uses up those of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bine_arch::stack::GuardMechanism;
use bine_runtime::{Builder, thread};

/// A sanitizer makes about two mappings for each stack that runs, and so can have fewer.
const COUNT: usize = if SANITIZED { 10_000 } else { 100_000 };
const SANITIZED: bool = cfg!(any(bine_sanitize = "address", bine_sanitize = "thread"));

/// On default settings (vm.max_map_count is 65,530), with a guard page for each. Where guards cost
/// mappings, the limit is an error that names it, and harms nobody.
#[test]
fn a_hundred_thousand_parked_threads() {
    let runtime = Builder::new().workers(2).build().unwrap();
    let lines = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let before = lines();
    let (mappings, count, error) = runtime.run(move || {
        let parked = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        let mut error = None;
        while threads.len() < COUNT && error.is_none() {
            let parked = Arc::clone(&parked);
            let body = move || {
                parked.fetch_add(1, Ordering::Relaxed);
                thread::park();
            };
            match thread::Builder::new().spawn(body) {
                Ok(thread) => threads.push(thread),
                Err(refused) => error = Some(refused.to_string()),
            }
        }
        while parked.load(Ordering::Relaxed) < threads.len() {
            thread::yield_now();
        }
        let (mappings, count) = (lines(), threads.len());
        threads.iter().for_each(|thread| thread.thread().unpark());
        let woken = threads.into_iter().filter_map(|thread| thread.join().ok()).count();
        assert_eq!(woken, count);
        (mappings, count, error)
    });
    let guard = bine_arch::stack::stats().guard;
    println!("{before} mappings before, {mappings} with {count} parked threads, {guard:?}");
    if guard == Some(GuardMechanism::Mprotect) && !SANITIZED {
        assert!(count > 20_000, "{count}");
        assert!(error.unwrap().contains("vm.max_map_count"));
        runtime.run(|| bine_runtime::spawn(|| ()).join().unwrap());
    } else {
        assert_eq!((count, error), (COUNT, None));
    }
}
