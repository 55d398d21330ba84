//! Coroutines without a scheduler, beside corosensei: the same calls on both.

use std::hint::black_box;
use std::time::Instant;

use bine_arch::coroutine::{self, OwnedStack};
use bine_arch::stack::DEFAULT_STACK_SIZE;
use corosensei::Coroutine;
use corosensei::stack::DefaultStack;

use crate::figures::{Figures, ns_each};
use crate::workload::{Runtime, Size, Workload};

/// Runs a workload of coroutines, on bine's or on corosensei's.
pub(crate) fn measure(workload: Workload, runtime: Runtime, size: Size) -> Figures {
    let times = size.rounds;
    match (workload, runtime) {
        (Workload::Switch, Runtime::Corosensei) => switch_corosensei(times),
        (Workload::Switch, _) => switch_bine(times),
        (_, Runtime::Corosensei) => create_corosensei(times),
        _ => create_bine(times),
    }
}

fn switch_bine(times: usize) -> Figures {
    let mut coroutine = coroutine::Coroutine::<usize, usize, ()>::new(|yielder, mut number| {
        loop {
            number = yielder.suspend(number);
        }
    });
    let start = Instant::now();
    for number in 0..times {
        black_box(coroutine.resume(number));
    }
    Figures::one("ns", ns_each(start, times))
}

fn switch_corosensei(times: usize) -> Figures {
    let mut coroutine = Coroutine::<usize, usize, ()>::new(|yielder, mut number| {
        loop {
            number = yielder.suspend(number);
        }
    });
    let start = Instant::now();
    for number in 0..times {
        black_box(coroutine.resume(number));
    }
    Figures::one("ns", ns_each(start, times))
}

fn create_bine(times: usize) -> Figures {
    let mut stack = OwnedStack::new(DEFAULT_STACK_SIZE).expect("there is a stack");
    let start = Instant::now();
    for number in 0..times {
        let body = |_: &_, number| number;
        let mut coroutine = coroutine::Coroutine::<usize, (), usize, _>::with_stack(stack, body);
        black_box(coroutine.resume(number));
        stack = coroutine.into_stack();
    }
    Figures::one("ns", ns_each(start, times))
}

fn create_corosensei(times: usize) -> Figures {
    let mut stack = DefaultStack::new(DEFAULT_STACK_SIZE).expect("there is a stack");
    let start = Instant::now();
    for number in 0..times {
        let mut coroutine = Coroutine::<usize, (), usize, _>::with_stack(stack, |_, number| number);
        black_box(coroutine.resume(number).as_return());
        stack = coroutine.into_stack();
    }
    Figures::one("ns", ns_each(start, times))
}
