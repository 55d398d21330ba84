//! Each test has a size class of its own: the depots are the process's, and tests run side by side.

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use super::class::{self, SizeClass};
use super::depot::Depot;
use super::{DEFAULT_STACK_SIZE, MAX_STACK_SIZE, MIN_STACK_SIZE, Permit, Stack, StackCache, Stats};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

fn count(size: usize) -> Stats {
    let mut stats = Stats::default();
    Depot::of(SizeClass::of(size).unwrap()).count(&mut stats);
    stats
}

#[track_caller]
fn assert_all_returned(size: usize) {
    let stats = count(size);
    assert_eq!((stats.lent, stats.promised), (0, 0), "{stats:?}");
}

#[test]
fn sizes_are_rounded_up_to_classes() {
    let class = |size| SizeClass::of(size).unwrap().bytes();
    assert_eq!(class(0), MIN_STACK_SIZE);
    assert_eq!(class(MIN_STACK_SIZE), MIN_STACK_SIZE);
    assert_eq!(class(MIN_STACK_SIZE + 1), 2 * MIN_STACK_SIZE);
    assert_eq!(class(DEFAULT_STACK_SIZE), DEFAULT_STACK_SIZE);
    assert_eq!(class(MAX_STACK_SIZE), MAX_STACK_SIZE);
    assert_eq!(SizeClass::all().count(), class::COUNT);
}

#[test]
fn absurd_sizes_are_refused() {
    for size in [MAX_STACK_SIZE + 1, usize::MAX] {
        let by_cache = StackCache::new().reserve(size).unwrap_err();
        let by_permit = Permit::reserve(size).unwrap_err();
        let cache = StackCache::with_stack_size(size).unwrap_err();
        for error in [by_cache, by_permit, cache] {
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&size.to_string()), "{error}");
        }
    }
}

#[test]
fn permits_are_small() {
    assert_eq!(size_of::<Permit>(), 1);
    assert_eq!(size_of::<Option<Permit>>(), 1);
    assert_eq!(size_of::<Option<Stack>>(), 16);
}

#[test]
fn a_stack_is_aligned_and_usable_from_top_to_limit() {
    let size = 128 * KIB;
    let mut cache = StackCache::with_stack_size(size).unwrap();
    let mut colours = HashSet::new();
    let mut held = Vec::new();
    for _ in 0..64 {
        let permit = cache.reserve(size).unwrap();
        let stack = cache.take(&permit).unwrap();
        assert_eq!(stack.class(), size);
        let (top, limit) = (stack.top().addr().get(), stack.limit().addr().get());
        assert_eq!(top % 16, 0);
        assert_eq!(stack.size(), top - limit);
        assert_eq!(stack.guard(), limit - class::guard_size()..limit);
        assert!(stack.size() <= size && size - stack.size() <= KIB, "{}", stack.size());
        colours.insert(top % 4096);
        // SAFETY: the highest and the lowest byte of memory that is ours.
        #[allow(unsafe_code)]
        unsafe {
            stack.top().sub(1).write(1);
            stack.limit().write(2);
        }
        held.push((stack, permit));
    }
    assert_eq!(colours.len(), 16, "neighbours' tops differ: {colours:?}");
}

#[test]
fn the_last_stack_put_is_the_first_taken() {
    let size = 32 * KIB;
    let mut cache = StackCache::with_stack_size(size).unwrap();
    let mut held: Vec<_> = (0..10)
        .map(|_| {
            let permit = cache.reserve(size).unwrap();
            (cache.take(&permit).unwrap(), permit)
        })
        .collect();
    held.reverse();
    let mut order = Vec::new();
    for (stack, permit) in held {
        order.push(stack.top());
        cache.put(stack);
        cache.release(permit);
    }
    let mut taken = Vec::new();
    while let Some(expected) = order.pop() {
        let permit = cache.reserve(size).unwrap();
        let stack = cache.take(&permit).unwrap();
        assert_eq!(stack.top(), expected);
        taken.push((stack, permit));
    }
    drop((taken, cache));
    assert_all_returned(size);
}

#[test]
fn one_after_the_other_uses_one_stack() {
    let size = 64 * KIB;
    let mut cache = StackCache::with_stack_size(size).unwrap();
    let permits: Vec<_> = (0..10_000).map(|_| cache.reserve(size).unwrap()).collect();
    let mut tops = HashSet::new();
    for permit in permits {
        let stack = cache.take(&permit).unwrap();
        tops.insert(stack.top());
        cache.put(stack);
        cache.release(permit);
    }
    assert_eq!(tops.len(), 1);
    drop(cache);
    assert_all_returned(size);
}

#[test]
fn a_magazine_that_overflows_shares_with_others() {
    let size = 512 * KIB;
    let mut ours = StackCache::with_stack_size(size).unwrap();
    let permits: Vec<_> = (0..1_000).map(|_| ours.reserve(size).unwrap()).collect();
    let stacks: Vec<_> = permits.iter().map(|permit| ours.take(permit).unwrap()).collect();
    stacks.into_iter().for_each(|stack| ours.put(stack));

    let mut theirs = StackCache::with_stack_size(size).unwrap();
    let stacks: Vec<_> = permits.iter().map(|permit| theirs.take(permit).unwrap()).collect();
    let withheld = count(size).guarded - 1_000;
    assert!(withheld <= 64, "{withheld} stacks were kept from the other cache");
    drop(stacks);
    drop(permits);
    drop((ours, theirs));
    assert_all_returned(size);
}

#[test]
fn a_cache_passes_credit_on() {
    let size = MIB;
    let (mut spawner, mut finisher) =
        (StackCache::with_stack_size(size).unwrap(), StackCache::with_stack_size(size).unwrap());
    for _ in 0..10_000 {
        let permit = spawner.reserve(size).unwrap();
        finisher.release(permit);
    }
    assert!(count(size).promised < 200, "{:?}", count(size));
    drop((spawner, finisher));
    assert_all_returned(size);
}

#[test]
fn other_classes_go_through_a_cache_too() {
    let mut cache = StackCache::new();
    let size = 2 * MIB;
    let permit = cache.reserve(size).unwrap();
    assert_eq!(permit.stack_size(), size);
    let first = cache.take(&permit).unwrap();
    let top = first.top();
    cache.put(first);
    let second = cache.take(&permit).unwrap();
    assert_eq!(second.top(), top);
    drop(second);
    cache.release(permit);
    assert_all_returned(size);
}

#[test]
fn a_thread_without_a_cache_can_reserve() {
    let size = 4 * MIB;
    let permit = Permit::reserve(size).unwrap();
    assert_eq!(count(size).promised, 1);
    let stack = thread::spawn(move || {
        let mut cache = StackCache::with_stack_size(size).unwrap();
        let stack = cache.take(&permit).unwrap();
        // The stack first; dropping is as good as giving back.
        drop(stack);
        drop(permit);
    });
    stack.join().unwrap();
    assert_all_returned(size);
}

#[test]
fn two_stacks_on_a_permit_are_only_bad_accounting() {
    let size = 256 * MIB;
    let mut cache = StackCache::with_stack_size(size).unwrap();
    let permit = cache.reserve(size).unwrap();
    let stacks: Vec<_> = (0..5).map(|_| cache.take(&permit).unwrap()).collect();
    let tops: HashSet<_> = stacks.iter().map(Stack::top).collect();
    assert_eq!(tops.len(), 5);
    stacks.into_iter().for_each(|stack| cache.put(stack));
    cache.release(permit);
    drop(cache);
    assert_all_returned(size);
}

/// A small generator (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % end
    }
}

/// A thread that holds permits and stacks, and a place where permits change hands.
fn trade(size: usize, seed: u64, market: &Mutex<Vec<Permit>>) {
    let mut random = Random(seed);
    let mut cache = StackCache::with_stack_size(size).unwrap();
    let (mut permits, mut bound) = (Vec::new(), Vec::<(Stack, Permit)>::new());
    for step in 0..20_000 {
        match random.below(100) {
            0..30 => permits.push(cache.reserve(size).unwrap()),
            30..32 => permits.push(Permit::reserve(size).unwrap()),
            32..60 if !permits.is_empty() => {
                let permit: Permit = permits.swap_remove(random.below(permits.len()));
                let stack = cache.take(&permit).unwrap();
                mark(&stack, seed);
                bound.push((stack, permit));
            }
            60..88 if !bound.is_empty() => {
                let (stack, permit) = bound.swap_remove(random.below(bound.len()));
                assert_eq!(read_mark(&stack), seed, "seed {seed}, step {step}: taken twice");
                cache.put(stack);
                cache.release(permit);
            }
            88..90 if !bound.is_empty() => drop(bound.pop()),
            90..95 => market.lock().unwrap().extend(permits.pop()),
            95..99 => permits.extend(market.lock().unwrap().pop()),
            99 if step % 7 == 0 => cache = StackCache::with_stack_size(size).unwrap(),
            _ => {}
        }
        if bound.len() + permits.len() > 500 {
            permits.clear();
        }
    }
}

fn mark(stack: &Stack, seed: u64) {
    // SAFETY: the stack is ours, and the word below its top aligned.
    #[allow(unsafe_code)]
    unsafe {
        stack.top().cast::<u64>().sub(1).write(seed);
    }
}

fn read_mark(stack: &Stack) -> u64 {
    // SAFETY: as in `mark`, which was called before.
    #[allow(unsafe_code)]
    unsafe {
        stack.top().cast::<u64>().sub(1).read()
    }
}

#[test]
fn random_trades_between_threads_add_up() {
    let size = MIN_STACK_SIZE;
    for seed in [1, 0xb14e, 20_250_101] {
        let market = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for thread in 0..4 {
                let market = &market;
                scope.spawn(move || trade(size, seed * 31 + thread, market));
            }
        });
        drop(market);
        assert_all_returned(size);
    }
}
