//! A million stacks at once, with the default limits of the kernel. Alone in its process: it counts
//! mappings.

use std::fs;
use std::time::{Duration, Instant};

use bine_arch::stack::{self, DEFAULT_STACK_SIZE, GuardMechanism, StackCache};

const STACKS: usize = 1_000_000;
/// Where there is not memory enough for that.
const FEWER: usize = 100_000;
/// A stack that was touched has a page, and page tables are another eighth: 4.6 GB for a million.
/// Other tests run at the same time.
const MEMORY_NEEDED: usize = 8 << 30;

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// The number behind `key` in a file of /proc that counts kilobytes, in bytes.
fn bytes_of(file: &str, key: &str) -> Option<usize> {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}

fn status(key: &str) -> usize {
    bytes_of("/proc/self/status", key).unwrap()
}

/// What a container lets its processes have, if this is one that says so.
fn allowed() -> Option<usize> {
    let number = |file| fs::read_to_string(file).ok()?.trim().parse::<usize>().ok();
    let limit = number("/sys/fs/cgroup/memory.max")?;
    Some(limit.saturating_sub(number("/sys/fs/cgroup/memory.current")?))
}

fn how_many() -> usize {
    if cfg!(any(bine_sanitize = "address", bine_sanitize = "thread")) {
        println!("{FEWER} stacks only, as the sanitizer's shadow takes several times their memory");
        return FEWER;
    }
    let available = bytes_of("/proc/meminfo", "MemAvailable:").unwrap_or(0);
    let available = available.min(allowed().unwrap_or(available));
    if available >= MEMORY_NEEDED {
        return STACKS;
    }
    println!("{FEWER} stacks only, as the memory available is {} MiB", available >> 20);
    FEWER
}

/// Nanoseconds, of which each of `count` took its share.
fn each(time: Duration, count: usize) -> u128 {
    time.as_nanos() / count as u128
}

#[test]
fn a_million_guarded_stacks_need_few_mappings() {
    let count = how_many();
    let before = (mappings(), status("VmRSS:"), status("VmPTE:"));
    let mut cache = StackCache::new();
    let first = cache.reserve(DEFAULT_STACK_SIZE).unwrap();
    if stack::stats().guard != Some(GuardMechanism::Madvise) {
        return println!("skipped: this kernel's guards take mappings");
    }
    let permits: Vec<_> =
        (1..count).map(|_| cache.reserve(DEFAULT_STACK_SIZE).unwrap()).chain([first]).collect();
    assert_eq!(stack::stats().guarded, 0, "permits alone use no stacks");

    let started = Instant::now();
    let stacks: Vec<_> = permits.iter().map(|permit| cache.take(permit).unwrap()).collect();
    let taken = started.elapsed();
    for (i, stack) in stacks.iter().enumerate() {
        // SAFETY: the highest word of a stack that is ours.
        unsafe { stack.top().cast::<usize>().sub(1).write(i) };
    }
    let touched = started.elapsed() - taken;
    for (i, stack) in stacks.iter().enumerate() {
        // SAFETY: as above.
        assert_eq!(unsafe { stack.top().cast::<usize>().sub(1).read() }, i);
    }
    let after = (mappings(), status("VmRSS:"), status("VmPTE:"));
    let stats = stack::stats();
    assert_eq!((stats.guarded, stats.lent), (count, count));
    assert!(stats.slabs < 80, "{stats:?}");
    if cfg!(bine_sanitize = "thread") {
        eprintln!("skipped: mappings, of which the sanitizer makes more as memory is used");
    } else {
        assert!(after.0 < before.0 + 100, "{} mappings, {} before", after.0, before.0);
    }
    println!(
        "{count} stacks: {} slabs, {} mappings after {}; to guard {} ns each, to touch {} ns each; \
         {} bytes of memory and {} bytes of page tables each",
        stats.slabs,
        after.0,
        before.0,
        each(taken, count),
        each(touched, count),
        (after.1 - before.1) / count,
        (after.2 - before.2) / count,
    );

    drop((stacks, permits, cache));
    let stats = stack::stats();
    assert_eq!((stats.lent, stats.promised), (0, 0));
    let started = Instant::now();
    let trimmed = stack::trim();
    assert_eq!((trimmed.stacks, trimmed.bytes), (count, count * 4096));
    println!("to trim {} ns each", each(started.elapsed(), count));
}
