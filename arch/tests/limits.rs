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

/// Fills a cache with all that it can hold: twice 64 permits, 64 stacks, and room for these.
fn fill(cache: &mut StackCache) {
    let permits: Vec<_> = (0..256).map(|_| cache.reserve(DEFAULT_STACK_SIZE).unwrap()).collect();
    let stacks: Vec<_> = permits.iter().map(|permit| cache.take(permit).unwrap()).collect();
    stacks.into_iter().for_each(|stack| cache.put(stack));
    permits.into_iter().for_each(|permit| cache.release(permit));
}

/// What a worker does all the time.
fn use_one(cache: &mut StackCache) {
    if let Ok(permit) = cache.reserve(DEFAULT_STACK_SIZE) {
        let stack = cache.take(&permit).unwrap();
        cache.put(stack);
        cache.release(permit);
    }
}

/// What caches hold in reserve goes to those who need it: at the latest when the caches are next
/// used. One that is not used keeps what it has, which is bounded.
fn scarce_stacks_are_shared() {
    let mut hoards: Vec<_> = (0..8).map(|_| StackCache::new()).collect();
    // Each in turn, so that none lives on what another one has left.
    hoards.iter_mut().for_each(fill);
    let stock = stack::stats().promised;
    assert!(stock > 8 * 128, "{stock}");
    // While there is address space: afterwards there may be none for a large list.
    let mut stacks = Vec::with_capacity(40_000);

    let mut cache = StackCache::new();
    let (mut permits, error) = exhaust(&mut cache);
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    let free = || {
        let stats = stack::stats();
        let capacity = match stats.guard {
            Some(GuardMechanism::Mprotect) => stats.guarded,
            _ => stats.mapped,
        };
        capacity - stats.promised
    };
    let stock = stack::stats().promised - permits.len();
    assert!(free() == 0 && stock > 8 * 128 && stock <= 8 * 192, "{stock}");

    // Two are not used; the others have had one use.
    let (idle, busy) = hoards.split_at_mut(2);
    busy.iter_mut().for_each(use_one);
    busy.iter_mut().for_each(use_one);
    assert!(busy.iter().all(StackCache::is_empty));
    permits.extend(exhaust(&mut cache).0);
    let kept = stack::stats().promised - permits.len();
    assert!(kept <= 2 * 192 && free() == 0, "{kept}");
    // A worker that is about to sleep.
    idle.iter_mut().for_each(StackCache::clear_if_scarce);
    permits.extend(exhaust(&mut cache).0);
    let stats = stack::stats();
    assert_eq!((free(), stats.promised), (0, permits.len()), "each stack has a permit");
    println!("{} stacks, {stock} of which were in reserve", permits.len());

    // Every permit is good for a stack, though nothing is to spare.
    stacks.extend(permits.iter().map(|permit| cache.take(permit).unwrap()));
    assert_eq!(stack::stats().lent, permits.len());
    drop(stacks);

    // Plenty again: they are as quick as ever.
    permits.truncate(permits.len() / 2);
    use_one(&mut busy[0]);
    use_one(&mut busy[0]);
    assert!(!busy[0].is_empty());
    drop(permits);
    drop((cache, hoards));
    let stats = stack::stats();
    assert_eq!((stats.lent, stats.promised), (0, 0));
}

#[test]
fn scarce_mappings_are_shared() {
    if !child::is_child() {
        return child::run_to_success(
            "scarce_mappings_are_shared",
            &[("BINE_STACK_GUARD", "mprotect")],
        );
    }
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    if limit.trim().parse::<usize>().unwrap() > 1_000_000 {
        return eprintln!("skipped: the limit of mappings is {limit}");
    }
    scarce_stacks_are_shared();
}

#[test]
fn scarce_address_space_is_shared() {
    if !child::is_child() {
        return child::run_to_success("scarce_address_space_is_shared", &[]);
    }
    if !limit_address_space(3 << 30) {
        return eprintln!("skipped: limits of address space are not kept here");
    }
    scarce_stacks_are_shared();
}

/// The last stack can be reserved even by the one who withholds it.
#[test]
fn a_cache_uses_its_own_reserve_up() {
    if !child::is_child() {
        return child::run_to_success("a_cache_uses_its_own_reserve_up", &[]);
    }
    if !limit_address_space(3 << 30) {
        return eprintln!("skipped: limits of address space are not kept here");
    }
    let mut cache = StackCache::new();
    fill(&mut cache);
    let (permits, _) = exhaust(&mut cache);
    let stats = stack::stats();
    assert_eq!((stats.promised, stats.mapped), (permits.len(), permits.len()));
}
