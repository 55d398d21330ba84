//! What a thread-local borrow across a blocking call meets in a migrating runtime.
//!
//! Each OS thread keeps its number in a `std::thread_local!`. A green thread borrows it, yields, and then
//! compares what it has borrowed with the number of the OS thread that it now runs on. Run it:
//!
//! ```text
//! cargo run --release --example migration
//! ```
//!
//! docs/migration.md explains what it prints.

use std::time::{Duration, Instant};

use bine::runtime::Builder;
use bine::thread;

const ROUNDS: usize = 500;
const WORKERS: usize = 4;

thread_local! {
    /// The kernel's number of the OS thread. Only read, so that this program stays defined: imagine a
    /// `Cell`, or the reference count of an `Rc`.
    static OS_THREAD: libc::pid_t = os_thread();
}

/// The kernel's number of the OS thread that runs the caller.
fn os_thread() -> libc::pid_t {
    // SAFETY: the call has no preconditions.
    unsafe { libc::gettid() }
}

/// How often a borrow that was taken before a `yield_now` belonged to another OS thread after it.
/// The one who borrows yields to a neighbour that computes for a while: so another worker, which has
/// nothing to do, steals it, if it may.
fn stale_borrows(builder: Builder) -> std::io::Result<usize> {
    let runtime = builder.workers(WORKERS).build()?;
    let is_stale = |_: &usize| {
        OS_THREAD.with(|borrowed| {
            let neighbour = thread::spawn(|| compute(Duration::from_millis(1)));
            thread::yield_now();
            let stale = *borrowed != os_thread();
            neighbour.join().expect("no panic");
            stale
        })
    };
    Ok(runtime.run(move || (0..ROUNDS).filter(is_stale).count()))
}

fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn main() -> std::io::Result<()> {
    let pinned = stale_borrows(Builder::new())?;
    println!("pinned:    {pinned} of {ROUNDS} borrows belonged to another OS thread");
    // SAFETY: here the promise is broken on purpose, to show what it is about. What is borrowed is
    // only read, and the workers outlive all borrows.
    let migrating = stale_borrows(unsafe { Builder::new().migrate() })?;
    println!("migrating: {migrating} of {ROUNDS} borrows belonged to another OS thread");
    assert_eq!(pinned, 0);
    Ok(())
}
