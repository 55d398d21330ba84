//! A million stacks at once, with the default limits of the kernel. Alone in its process: it counts
//! mappings.

mod memory;

use std::fs;
use std::time::Instant;

use bine_arch::stack::{self, DEFAULT_STACK_SIZE, GuardMechanism, StackCache};
use memory::{each, status};

fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn a_million_guarded_stacks_need_few_mappings() {
    let count = memory::a_million_or(100_000);
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
    assert_eq!(stats.lent, count);
    assert!((count..count + 16).contains(&stats.guarded), "some ahead of their use: {stats:?}");
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
