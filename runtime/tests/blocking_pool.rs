//! The settings of the pool for blocking calls, and what a forked child has of it. The pool is the
//! process's, so each test is a process of its own.

#[path = "../../arch/tests/child/mod.rs"]
#[allow(dead_code, reason = "not every test binary uses all of it")]
mod child;

mod modes;

use std::fs;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bine_runtime::{BlockingPool, Builder, Runtime, blocking, thread};
use modes::runtimes;

const VARIABLE: &str = "BINE_BLOCKING_THREADS";

/// How many OS threads of the pool there are.
fn pool_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        // One may end meanwhile.
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with("bine-blocking"))
        .count()
}

/// Has many threads make many calls, and returns how many pool threads there were at most.
fn most_threads(runtime: &Runtime) -> usize {
    const THREADS: usize = 50;
    const CALLS: usize = 4;
    let ran = Arc::new(AtomicUsize::new(0));
    let spawn = |_| {
        let ran = Arc::clone(&ran);
        runtime.spawn(move || {
            let count = |_| {
                blocking(|| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    pool_threads()
                })
            };
            (0..CALLS).map(count).max().unwrap()
        })
    };
    let threads: Vec<_> = (0..THREADS).map(spawn).collect();
    let most = threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), THREADS * CALLS);
    most
}

#[test]
fn the_environment_sets_the_most_threads() {
    if !child::is_child() {
        for limit in ["1", " 3 "] {
            child::run_to_success("the_environment_sets_the_most_threads", &[(VARIABLE, limit)]);
        }
        return;
    }
    let limit: usize = std::env::var(VARIABLE).unwrap().trim().parse().unwrap();
    for runtime in runtimes() {
        let most = most_threads(&runtime);
        assert!((1..=limit).contains(&most), "{most} of {limit}");
    }
    let error = BlockingPool::new().install().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn the_program_sets_the_most_threads_whatever_the_environment_says() {
    if !child::is_child() {
        let test = "the_program_sets_the_most_threads_whatever_the_environment_says";
        for nonsense in ["5", "many"] {
            child::run_to_success(test, &[(VARIABLE, nonsense)]);
        }
        return;
    }
    for threads in [0, 16_385, usize::MAX] {
        let error = BlockingPool::new().max_threads(threads).install().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&threads.to_string()), "{error}");
    }
    // Long enough that none leaves meanwhile: one that has left may be there for a moment beside the
    // one that came for it.
    let keep_alive = Duration::from_millis(500);
    BlockingPool::new().max_threads(2).keep_alive(keep_alive).install().unwrap();
    let error = BlockingPool::new().max_threads(2).install().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    for runtime in runtimes() {
        let most = most_threads(&runtime);
        assert!((1..=2).contains(&most), "{most}");
    }
    while pool_threads() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn nonsense_in_the_environment_is_an_error_of_the_runtime() {
    let test = "nonsense_in_the_environment_is_an_error_of_the_runtime";
    if !child::is_child() {
        for nonsense in ["0", "-1", "", "many", "16385", "99999999999999999999999"] {
            child::run_to_success(test, &[(VARIABLE, nonsense)]);
        }
        return;
    }
    let nonsense = std::env::var(VARIABLE).unwrap();
    let error = Builder::new().workers(1).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains(&format!("{VARIABLE}={nonsense:?}")), "{error}");
    let error = BlockingPool::new().keep_alive(Duration::ZERO).install().unwrap_err();
    assert!(error.to_string().contains(VARIABLE), "{error}");
}

#[test]
fn a_refused_thread_is_done_without() {
    if !child::is_child() {
        if std::env::var_os("BINE_TEST_RUNNER").is_some() {
            eprintln!("skipped: an emulator does not limit the address space");
            return;
        }
        return child::run_to_success("a_refused_thread_is_done_without", &[]);
    }
    // So that each runtime finds no thread.
    BlockingPool::new().keep_alive(Duration::ZERO).install().unwrap();
    for runtime in runtimes() {
        // No room for a stack.
        let spent = spend_address_space();
        let pooled = || std::thread::current().name().is_some_and(|name| name.contains("blocking"));
        let call = |_| runtime.spawn(move || blocking(pooled)).join().unwrap();
        assert!((0..20).map(call).all(|pooled| !pooled));
        drop(spent);
        assert!(call(0));
        while pool_threads() > 0 {
            std::thread::yield_now();
        }
    }
}

struct Limit(libc::rlimit);

impl Drop for Limit {
    fn drop(&mut self) {
        // SAFETY: sets a limit of this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const self.0) }, 0);
    }
}

/// Until it is dropped the process gets next to no more memory.
fn spend_address_space() -> Limit {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: gets and sets a limit of this process.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &raw mut before), 0);
        let less = libc::rlimit { rlim_cur: pages * 4096 + (256 << 10), ..before };
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const less), 0);
    }
    Limit(before)
}

/// Seconds after which a child that hangs is taken for one. Nothing else depends on it.
const HANGS: libc::c_uint = 60;

/// Forks, runs `f` in the child, which then ends, and says whether `f` returned true there.
fn holds_in_a_fork(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls nothing that another thread may have locked, but what is to be tested,
    // and ends without returning.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::alarm(HANGS);
            libc::_exit(if f() { 0 } else { 1 });
        }
        let mut status = -1;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(!libc::WIFSIGNALED(status), "signal {}", libc::WTERMSIG(status));
        libc::WEXITSTATUS(status) == 0
    }
}

/// What a child does: calls, and calls in calls, with values and borrows.
fn calls_work() -> bool {
    let mut sum = 0;
    for number in 0..10 {
        let before = sum;
        sum = blocking(|| before + blocking(|| number));
    }
    sum == 45
}

#[test]
fn a_fork_runs_calls_in_place() {
    if !child::is_child() {
        return child::run_to_success("a_fork_runs_calls_in_place", &[]);
    }
    for runtime in runtimes() {
        // The pool has no threads, or one that sleeps.
        for _ in 0..2 {
            assert!(runtime.run(|| holds_in_a_fork(calls_work)));
            assert!(runtime.run(|| blocking(|| holds_in_a_fork(calls_work))));
            assert!(runtime.run(calls_work));
        }
    }
}

#[test]
fn a_fork_in_the_midst_of_calls_runs_its_own_in_place() {
    const FORKS: usize = 50;
    if !child::is_child() {
        // Threads that start and leave all the time, and threads that stay.
        let test = "a_fork_in_the_midst_of_calls_runs_its_own_in_place";
        child::run_to_success(test, &[(VARIABLE, "1")]);
        return child::run_to_success(test, &[(VARIABLE, "4")]);
    }
    if std::env::var(VARIABLE).unwrap() == "4" {
        BlockingPool::new().max_threads(4).keep_alive(Duration::ZERO).install().unwrap();
    }
    // One runtime calls all the time, while threads of another one fork.
    let calling = Builder::new().workers(2).build().unwrap();
    let (over, begin) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(2)));
    let spawn = |number| {
        let (over, begin) = (Arc::clone(&over), Arc::clone(&begin));
        calling.spawn(move || {
            if number == 0 {
                blocking(|| begin.wait());
            }
            while !over.load(Ordering::Relaxed) {
                blocking(thread::yield_now);
            }
        })
    };
    let callers: Vec<_> = (0..8).map(spawn).collect();
    begin.wait();
    for runtime in runtimes() {
        for _ in 0..FORKS {
            assert!(runtime.run(|| holds_in_a_fork(calls_work)));
        }
    }
    over.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
}
