//! Takes std's panic count along when a green thread waits while it unwinds.
//!
//! std counts panics in a thread-local of the OS thread. A green thread that blocks in a destructor,
//! while its stack unwinds, would leave its count behind: its neighbours would see
//! [`std::thread::panicking`] true and poison locks for no reason. So the count is taken off when it
//! leaves, and put back when it runs again.
//!
//! # How
//!
//! std has no function for that, but two that change the count by one: `resume_unwind` adds one on
//! the OS thread that calls it, and `catch_unwind`, when it has caught, takes one off the OS thread
//! on which it caught. A *helper* is a coroutine that does the one after the other, for ever, and
//! suspends itself in between, in a destructor:
//!
//! ```text
//!              resumed: +1 here                     resumed: -1 here
//!   idle ───────────────────────▶ charged ───────────────────────▶ idle
//!        resume_unwind, destructor          destructor ends, caught
//! ```
//!
//! A charged helper is a count that may be taken off any OS thread. The first ones are charged on an
//! OS thread that ends at once, with its own count still up, of which nobody hears. From then on as
//! many are charged as were made, less the counts of green threads that wait while they unwind.
//!
//! The price: std's *global* count, which spares `panicking()` the look at its thread-local while
//! nobody panics at all, stays up for good after the first green thread has waited while it unwound.
//!
//! # Why an unwinding may go on on another OS thread
//!
//! - The unwinder keeps where it is in the exception object, on the heap, and on the stack that
//!   unwinds. While a destructor runs none of its functions is active: the landing pad calls
//!   `_Unwind_Resume` afterwards, which starts from the registers that it is called with. It has no
//!   thread-locals; its caches of tables are the process's, and locked.
//! - Rust's personality function and `catch_unwind` know the exception object alone. What they leave
//!   in thread-locals is the count: that is the purpose. Its part for the whole process is a sum,
//!   from which whatever OS thread takes off what another has added.
//! - A helper's stack holds nothing but that: no borrow of a thread-local, no lock.
//! - `decrease` also clears std's mark that the panic hook runs. It is that of the thread that leaves.
//!
//! That std and the unwinder do what is said here is tried out on the OS thread that makes the first
//! helpers, and looked at after every step. If it cannot be started, or it does not hold, green
//! threads on the same worker see the panics of those that wait, and nothing worse.
//!
//! A helper is never dropped, since a charged one would have to unwind out of a destructor. They stay
//! for the life of the process: as many as there were counts off at one time, rounded up.

use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::{process, thread};

use bine_arch::coroutine::{self, Coroutine, CoroutineState, Yielder};
use parking_lot::Mutex;

use crate::fork;

/// Helpers that are made at a time.
const BATCH: usize = 8;
/// A helper's stack, in bytes. Address space: memory only as it is touched. (16 KiB were seen to do, on
/// x86_64 without optimisation.)
const STACK_SIZE: usize = 64 << 10;

static POOL: Mutex<Pool> =
    Mutex::new(Pool { charged: Vec::new(), idle: Vec::new(), unusable: false });

struct Pool {
    charged: Vec<Helper>,
    /// At least one for each count that is off.
    idle: Vec<Helper>,
    /// std does not count as the module's documentation says.
    unusable: bool,
}

/// See the module's documentation.
struct Helper(ManuallyDrop<Coroutine<(), (), ()>>);

// SAFETY: a helper is used by one OS thread at a time: the pool hands it over. Its stack may go on on
// another one; the module's documentation says why. Its closure captures nothing.
unsafe impl Send for Helper {}

impl Helper {
    /// An idle one. `None` if there is no stack for it.
    fn new() -> Option<Self> {
        let builder = coroutine::Builder::new().name("panic count").stack_size(STACK_SIZE);
        Some(Self(ManuallyDrop::new(builder.coroutine(alternate).ok()?)))
    }

    /// Adds one to the panic count of the calling OS thread if the helper is idle, and takes one off
    /// if it is charged.
    fn step(&mut self) {
        if self.0.resume(()) != CoroutineState::Yielded(()) {
            unreachable!("a helper never ends");
        }
    }
}

/// The life of a helper.
fn alternate(yielder: &Yielder<(), ()>, (): ()) {
    struct SuspendsWhenDropped<'a>(&'a Yielder<(), ()>);

    impl Drop for SuspendsWhenDropped<'_> {
        fn drop(&mut self) {
            self.0.suspend(());
        }
    }

    loop {
        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
            let _charged = SuspendsWhenDropped(yielder);
            panic::resume_unwind(Box::new(()));
        }));
        debug_assert!(caught.is_err());
        yielder.suspend(());
    }
}

/// How many counts were taken off.
#[must_use = "the counts have to be put back"]
pub(crate) struct Lifted(u32);

/// Before the calling green thread, which unwinds, leaves its OS thread: takes its panic counts off.
#[cold]
#[inline(never)]
pub(crate) fn lift() -> Lifted {
    let mut lifted = 0;
    // (Where panics abort, a panic hook may wait, and nothing can be done about the count.)
    while cfg!(panic = "unwind") && thread::panicking() {
        let Some(mut helper) = charged() else { break };
        helper.step();
        POOL.lock().idle.push(helper);
        lifted += 1;
    }
    Lifted(lifted)
}

/// When it runs again, on whichever OS thread: puts them back.
#[cold]
#[inline(never)]
pub(crate) fn put_back(lifted: Lifted) {
    for _ in 0..lifted.0 {
        // Not in the pattern: the lock would be held for too long.
        let idle = POOL.lock().idle.pop();
        let Some(mut helper) = idle else { unreachable!("each lifted count has left an idle one") };
        helper.step();
        if !thread::panicking() {
            // The green thread unwinds and is told that it does not: what it drops next would be
            // taken for whole.
            eprintln!("fatal: a panic count could not be put back");
            process::abort();
        }
        POOL.lock().charged.push(helper);
    }
}

/// A charged helper, of the pool or a new one. `None` if there can be none.
fn charged() -> Option<Helper> {
    let mut pool = POOL.lock();
    if !pool.charged.is_empty() || pool.unusable {
        return pool.charged.pop();
    }
    drop(pool);
    let maker = thread::Builder::new().name("bine-panic-counts".into());
    let mut made = fork::start_thread(maker, (), make).ok()?.join().ok()?;
    // Ours before all: others may empty the pool as soon as these are there.
    let ours = made.pop();
    POOL.lock().charged.append(&mut made);
    ours
}

/// On an OS thread that ends afterwards: charges new helpers.
fn make() -> Vec<Helper> {
    let mut made = Vec::with_capacity(BATCH);
    for _ in 0..BATCH {
        let Some(mut helper) = Helper::new() else { break };
        if made.is_empty() && !counts_as_expected(&mut helper) {
            POOL.lock().unusable = true;
            break;
        }
        helper.step();
        made.push(helper);
    }
    made
}

/// Tries out one that is idle, on an OS thread that does not panic.
fn counts_as_expected(helper: &mut Helper) -> bool {
    [true, false].into_iter().all(|expected| {
        helper.step();
        thread::panicking() == expected
    })
}
