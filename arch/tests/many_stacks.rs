//! A hundred thousand stacks at once, with the default limits of the kernel. Alone in its process:
//! it counts mappings.

use bine_arch::stack::{self, DEFAULT_STACK_SIZE, GuardMechanism, StackCache};

const STACKS: usize = 100_000;

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn a_hundred_thousand_guarded_stacks_need_few_mappings() {
    let before = mappings();
    let mut cache = StackCache::new();
    let first = cache.reserve(DEFAULT_STACK_SIZE).unwrap();
    if stack::stats().guard != Some(GuardMechanism::Madvise) {
        return eprintln!("skipped: this kernel's guards take mappings");
    }
    let permits: Vec<_> =
        (1..STACKS).map(|_| cache.reserve(DEFAULT_STACK_SIZE).unwrap()).chain([first]).collect();
    assert_eq!(stack::stats().guarded, 0, "permits alone use no stacks");

    let stacks: Vec<_> = permits.iter().map(|permit| cache.take(permit).unwrap()).collect();
    for (i, stack) in stacks.iter().enumerate() {
        // SAFETY: the highest word of a stack that is ours.
        unsafe { stack.top().cast::<usize>().sub(1).write(i) };
    }
    for (i, stack) in stacks.iter().enumerate() {
        // SAFETY: as above.
        assert_eq!(unsafe { stack.top().cast::<usize>().sub(1).read() }, i);
    }
    let stats = stack::stats();
    assert_eq!(stats.guarded, STACKS);
    assert!(stats.slabs < 30, "{stats:?}");
    if cfg!(bine_sanitize = "thread") {
        eprintln!("skipped: mappings, of which the sanitizer makes more as memory is used");
    } else {
        assert!(mappings() < before + 50, "{} mappings, {before} before", mappings());
    }

    drop((stacks, permits, cache));
    let stats = stack::stats();
    assert_eq!((stats.lent, stats.promised), (0, 0));
}
