//! `#[bine::main]` and `#[bine::test]` on the real runtime. What they accept and refuse is tested
//! in `macros/tests/`.

use std::collections::HashSet;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread::ThreadId;

/// The OS threads on which `count` new green threads run.
fn os_threads_of(count: usize) -> HashSet<ThreadId> {
    let children: Vec<_> =
        (0..count).map(|_| bine::spawn(|| std::thread::current().id())).collect();
    children.into_iter().map(|child| child.join().expect("the child does not panic")).collect()
}

#[bine::test(workers = 1)]
fn a_runtime_has_the_workers_it_was_given() {
    let own = std::thread::current().id();
    assert_eq!(os_threads_of(100), HashSet::from([own]));
}

static SEEN: Mutex<Vec<ThreadId>> = Mutex::new(Vec::new());

#[bine::main(workers = 1)]
fn note_the_worker() {
    SEEN.lock().unwrap().push(std::thread::current().id());
}

#[test]
fn options_mean_a_runtime_for_each_call() {
    note_the_worker();
    note_the_worker();
    let seen = SEEN.lock().unwrap();
    let own = std::thread::current().id();
    assert!(seen.len() == 2 && seen[0] != seen[1] && !seen.contains(&own), "{seen:?}");
}

#[bine::main]
fn the_default_runtime() -> Result<(), Box<dyn Error>> {
    let answer = bine::spawn(|| "42".parse::<u32>()).join().expect("the child does not panic")?;
    assert_eq!(answer, 42);
    Ok(())
}

#[bine::main]
fn an_error() -> Result<(), Box<dyn Error>> {
    let number: u32 = "forty-two".parse()?;
    unreachable!("{number}");
}

#[test]
fn main_runs_on_the_default_runtime() {
    assert_eq!(the_default_runtime(), ExitCode::SUCCESS);
    assert_eq!(an_error(), ExitCode::FAILURE);
}

#[bine::test(stack_size = 4 << 20)]
fn stacks_are_as_large_as_asked() {
    let mut large = [1_u8; 2 << 20];
    let sum: usize = std::hint::black_box(&mut large).iter().map(|&byte| usize::from(byte)).sum();
    assert_eq!(sum, large.len());
}

// SAFETY: the green threads below only yield, and borrow no thread-local meanwhile.
#[bine::test(workers = 2, unsafe(migrate))]
fn a_migrating_runtime_runs() {
    let children: Vec<_> = (0..100)
        .map(|number| {
            bine::spawn(move || {
                bine::thread::yield_now();
                number
            })
        })
        .collect();
    let sum: i32 = children.into_iter().map(|child| child.join().unwrap()).sum();
    assert_eq!(sum, 4950);
}

#[bine::test]
#[should_panic(expected = "from the green thread")]
fn a_panic_fails_the_test() {
    panic!("from the green thread");
}

#[bine::test]
fn results_are_allowed() -> Result<(), Box<dyn Error>> {
    assert_eq!("42".parse::<u32>()?, 42);
    Ok(())
}
