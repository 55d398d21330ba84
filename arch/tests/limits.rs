//! Where there is no more to be had: an error when a stack is reserved, and only then.

mod child;

use std::io;
use std::ptr;
use std::sync::Mutex;
use std::thread;

use bine_arch::stack::{self, DEFAULT_STACK_SIZE, GuardMechanism, Permit, StackCache};

/// Reserves until it fails.
fn exhaust(cache: &mut StackCache) -> (Vec<Permit>, io::Error) {
    let mut permits = Vec::new();
    loop {
        match cache.reserve(DEFAULT_STACK_SIZE) {
            Ok(permit) => permits.push(permit),
            Err(error) => return (permits, error),
        }
    }
}

/// Every permit can be turned into a stack by any thread, again and again, however many stacks the
/// other threads keep in their magazines.
fn assert_promise_is_kept(permits: Vec<Permit>) {
    let market = Mutex::new(permits);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut cache = StackCache::new();
                for round in 0..50 {
                    let permits: Vec<_> = {
                        let mut market = market.lock().unwrap();
                        let rest = market.len() - market.len().min(100 + round);
                        market.drain(rest..).collect()
                    };
                    let stacks: Vec<_> =
                        permits.iter().map(|permit| cache.take(permit).unwrap()).collect();
                    stacks.into_iter().for_each(|stack| cache.put(stack));
                    market.lock().unwrap().extend(permits);
                }
            });
        }
    });
    let mut cache = StackCache::new();
    let permits = market.into_inner().unwrap();
    let stacks: Vec<_> = permits.iter().map(|permit| cache.take(permit).unwrap()).collect();
    assert_eq!(stacks.len(), permits.len());
}

#[test]
fn guards_by_mprotect_end_at_the_limit_of_mappings() {
    if !child::is_child() {
        return child::run_to_success(
            "guards_by_mprotect_end_at_the_limit_of_mappings",
            &[("BINE_STACK_GUARD", "mprotect")],
        );
    }
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    if limit > 1_000_000 {
        return eprintln!("skipped: the limit of mappings is {limit}");
    }
    let mut cache = StackCache::new();
    let (permits, error) = exhaust(&mut cache);
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    let text = error.to_string();
    for expected in ["mprotect(PROT_NONE)", "vm.max_map_count", "256 KiB", "sysctl", "Linux 6.13"] {
        assert!(text.contains(expected), "{expected} in: {text}");
    }
    assert!((limit / 2 - 1100..limit / 2).contains(&permits.len()), "{}", permits.len());
    let stats = stack::stats();
    assert_eq!(stats.guard, Some(GuardMechanism::Mprotect));
    assert_eq!(stats.guarded, permits.len());
    // The rest of the process is well.
    thread::spawn(|| ()).join().unwrap();
    assert_promise_is_kept(permits);
    // The permits were given back: there is room again.
    drop(cache.reserve(DEFAULT_STACK_SIZE).unwrap());
}

/// Limits the address space of this process, and says whether that works (an emulator may take the
/// limit and not keep it).
fn limit_address_space(bytes: usize) -> bool {
    let limit = libc::rlimit { rlim_cur: bytes as u64, rlim_max: bytes as u64 };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: sets a limit of this process, which exists for one test only, and maps fresh memory
    // that is left alone.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
        libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) == libc::MAP_FAILED
    }
}

#[test]
fn address_space_may_be_limited() {
    if !child::is_child() {
        return child::run_to_success("address_space_may_be_limited", &[]);
    }
    if !limit_address_space(3 << 30) {
        return eprintln!("skipped: limits of address space are not kept here");
    }
    let mut cache = StackCache::new();
    let (mut permits, error) = exhaust(&mut cache);
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    let text = error.to_string();
    for expected in ["mmap", "256 KiB", "RLIMIT_AS", "ulimit -v"] {
        assert!(text.contains(expected), "{expected} in: {text}");
    }
    let most = (3 << 30) / DEFAULT_STACK_SIZE;
    assert!((most / 2..most).contains(&permits.len()), "{} of {most}", permits.len());
    // Stacks may have been mapped to the last byte: leave the test itself something.
    let mapped = stack::stats().mapped;
    for permit in &permits {
        drop(cache.take(permit).unwrap());
    }
    permits.truncate(10);
    let again = cache.reserve(DEFAULT_STACK_SIZE).unwrap();
    drop(cache.take(&again).unwrap());
    assert_eq!(stack::stats().mapped, mapped);
}

#[test]
fn large_classes_take_what_there_is() {
    if !child::is_child() {
        return child::run_to_success("large_classes_take_what_there_is", &[]);
    }
    if !limit_address_space(12 << 30) {
        return eprintln!("skipped: limits of address space are not kept here");
    }
    let first = Permit::reserve(stack::MAX_STACK_SIZE).unwrap();
    let second = Permit::reserve(stack::MAX_STACK_SIZE).unwrap();
    let error = Permit::reserve(stack::MAX_STACK_SIZE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    drop((first, second));
    let again = Permit::reserve(stack::MAX_STACK_SIZE).unwrap();
    let mut cache = StackCache::new();
    let stack = cache.take(&again).unwrap();
    assert!(stack.size() > stack::MAX_STACK_SIZE - 1024);
}
