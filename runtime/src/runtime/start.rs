//! The OS threads of workers and spares: their start, their life and their end.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::{io, thread};

use bine_arch::overflow;
use bine_arch::stack::StackCache;
use crossbeam_deque::Worker as Deque;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use super::affinity;
use super::callbacks::Callbacks;
use crate::berth::Berth;
use crate::driver::OwnLane;
use crate::queue::Inbox;
use crate::shared::{Counters, Remote, Shared};
use crate::timer::Timers;
use crate::worker::Core;
use crate::{clock, fork, search};

/// What others will know of a worker.
pub(super) fn remote() -> CachePadded<Remote> {
    let (fresh, ready) = (Deque::new_lifo(), Deque::new_fifo());
    CachePadded::new(Remote {
        fresh: fresh.stealer(),
        ready: ready.stealer(),
        inbox: Inbox::new(),
        timers: Timers::new(clock::now()),
        thread: OnceLock::new(),
        berth: Berth::new(),
        lane: OwnLane::default(),
        residents: AtomicUsize::new(0),
        woken_by_peer: AtomicBool::new(false),
        haunted: AtomicBool::new(false),
        held: AtomicBool::new(false),
        reserve: Mutex::new(Some((fresh, ready))),
        counters: Counters::default(),
        visible: CachePadded::default(),
    })
}

/// A pointer to the shared state, for a worker's OS thread.
struct SharedForWorker(NonNull<Shared>);

// SAFETY: `Shared` is made for sharing, and is kept until the worker has left.
unsafe impl Send for SharedForWorker {}

/// What a worker does on its OS thread before and after its work.
#[derive(Clone)]
pub(crate) struct Setup {
    /// The one to run on.
    pub(super) core: Option<usize>,
    pub(super) callbacks: Callbacks,
}

impl Setup {
    fn begin(&self, worker: usize) -> io::Result<()> {
        self.core.map_or(Ok(()), |core| affinity::pin(worker, core))?;
        self.callbacks.call_start(worker)
    }
}

/// Starts the OS thread of a worker, and waits until it is about to work.
pub(super) fn start_worker(
    shared: NonNull<Shared>,
    index: usize,
    setup: Setup,
) -> io::Result<thread::JoinHandle<()>> {
    let begun = Arc::new(OnceLock::new());
    let tell = Arc::clone(&begun);
    let thread = start(shared, index, move || {
        let result = setup.begin(index);
        let fails = result.is_err();
        let told = tell.set(Mutex::new(result));
        debug_assert!(told.is_ok(), "a worker starts once");
        (!fails).then_some(setup)
    })?;
    // One after the other: the headroom of the next must not be what this one needs.
    if let Err(error) = std::mem::replace(&mut *begun.wait().lock(), Ok(())) {
        // It has left, or is about to.
        let _ = thread.join();
        return Err(error);
    }
    // SAFETY: the caller builds the runtime and holds it.
    unsafe { shared.as_ref() }.remotes[index].thread.wait();
    Ok(thread)
}

/// Starts the OS thread of a spare, whose owner has not left, and does not wait for it: its callbacks
/// may do anything. A panic in the first of them is the panic hook's to report.
pub(crate) fn start_spare(
    shared: NonNull<Shared>,
    index: usize,
    setup: Setup,
) -> io::Result<thread::JoinHandle<()>> {
    start(shared, index, move || {
        affinity::release_thread();
        let _reported = setup.begin(index);
        Some(setup)
    })
}

/// Starts an OS thread that works as `index` if `begin` gives it what it needs.
fn start(
    shared: NonNull<Shared>,
    index: usize,
    begin: impl FnOnce() -> Option<Setup> + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    let for_worker = SharedForWorker(shared);
    let body = move || {
        let SharedForWorker(shared) = { for_worker };
        overflow::protect_thread();
        // SAFETY: this worker was counted before its OS thread was started, and leaves once: here or
        // at the end of its work. The shared state is kept until then.
        unsafe {
            let setup = begin();
            abort_in_child(shared.as_ref());
            match setup {
                Some(setup) => work(shared, index, &setup.callbacks),
                None => Shared::leave(shared),
            }
        }
    };
    // SAFETY: the owner has not left.
    let this = unsafe { shared.as_ref() };
    this.enter();
    let (kind, number) = match index.checked_sub(this.workers) {
        None => ("worker", index),
        Some(spare) => ("spare", spare),
    };
    let headroom = overflow::Headroom::hold();
    let builder = thread::Builder::new().name(format!("bine-{kind}-{number}"));
    headroom.and_then(|headroom| fork::start_thread(builder, headroom, body)).map_err(|error| {
        // SAFETY: counted above, for a worker that there will not be. Not the last: the owner is
        // still there.
        unsafe { Shared::leave(shared) };
        let text = format!("cannot start the OS thread of {kind} {number}: {error}");
        io::Error::new(error.kind(), text)
    })
}

/// After a callback, which may have forked: what works here has to do so in the parent alone.
fn abort_in_child(shared: &Shared) {
    if shared.is_forked() {
        fork::abort_child();
    }
}

/// The life of a worker's OS thread.
///
/// # Safety
///
/// The worker was counted by [`Shared::enter`].
unsafe fn work(shared: NonNull<Shared>, index: usize, callbacks: &Callbacks) {
    // SAFETY: the shared state is kept until we leave.
    let this = unsafe { shared.as_ref() };
    // `build` has reserved a stack of this size, so there is a class for it.
    let stacks = StackCache::with_stack_size(this.stack_size).unwrap_or_default();
    let deques = this.remotes[index].reserve.lock().take();
    let (fresh, ready) = deques.expect("one OS thread for each worker");
    let core = Core::new(shared, index, fresh, ready, stacks);
    let known = this.remotes[index].thread.set(thread::current());
    debug_assert!(known.is_ok(), "one OS thread for each worker");
    search::run(&core);
    let haunted = core.residents() > 0;
    // Relaxed: read by the owner after all have left.
    this.remotes[index].haunted.store(haunted, Ordering::Relaxed);
    drop(core);
    callbacks.call_stop(index);
    abort_in_child(this);
    // SAFETY: the caller's promise.
    unsafe { Shared::leave(shared) };
    // Green threads were abandoned that may hold references into this OS thread's thread-locals,
    // and may have lent them to others. So the thread-locals must stay.
    if haunted {
        loop {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_tls::CheckTls;

    /// Without threads: a spare is recalled, and put on duty again before it has got to its root
    /// context. It used to pick nothing any more.
    #[test]
    fn a_spare_that_is_on_duty_again_when_it_notices_its_recall_goes_on() {
        let remotes = (0..2).map(|_| remote()).collect();
        let check_tls = CheckTls::from_environment(false).unwrap();
        let shared = Box::new(Shared::new(remotes, 1, false, check_tls, 64 << 10));
        let (fresh, ready) = shared.remotes[1].reserve.lock().take().unwrap();
        let stacks = StackCache::with_stack_size(64 << 10).unwrap_or_default();
        let spare = Core::new(NonNull::from(&*shared), 1, fresh, ready, stacks);
        while !spare.is_recalled() {
            assert!(spare.pick().is_none());
        }
        shared.idle.set_duty(1, true);
        spare.hand_back_if_recalled();
        assert!(!spare.is_recalled());
    }
}
