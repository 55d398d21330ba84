//! Tests that must hold on green threads of all kinds of runtimes, and on OS threads.

#[path = "../../../runtime/tests/modes/mod.rs"]
mod modes;

use std::time::Duration;

use bine_runtime::{Builder, thread};

/// Only failures reach it.
const BOUND: Duration = Duration::from_secs(60);

/// Runs `test` in both modes with one, two and eight workers, and on an OS thread.
pub(crate) fn everywhere(test: fn()) {
    on_green_threads(test);
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let _ended = ended;
        test();
    });
    await_end(&end);
    thread.join().unwrap();
}

/// The same without the OS thread.
pub(crate) fn on_green_threads(test: fn()) {
    for runtime in modes::runtimes_of(&Builder::new(), &[1, 2, 8]) {
        let (ended, end) = std::sync::mpsc::channel::<()>();
        let thread = runtime.spawn(move || {
            let _ended = ended;
            test();
        });
        await_end(&end);
        thread.join().unwrap();
    }
}

fn await_end(end: &std::sync::mpsc::Receiver<()>) {
    let ended = end.recv_timeout(BOUND);
    assert_ne!(ended, Err(std::sync::mpsc::RecvTimeoutError::Timeout), "the test hangs");
}

/// Whether a neighbour on the same worker runs while `wait` waits: it ends what `wait` waits for.
#[allow(dead_code, reason = "not every test binary uses this")]
pub(crate) fn beside<T>(neighbour: impl FnOnce() + Send, wait: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        scope.spawn(neighbour);
        wait()
    })
}
