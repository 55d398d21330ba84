//! What the workers of one runtime share: queues, sleepers, counters, and the last worker's duties.

mod spawn;

use std::panic;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Instant;
use std::{io, ptr, thread};

use crossbeam_deque::{Injector, Steal, Stealer, Worker as Deque};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::berth::Berth;
use crate::check_tls::CheckTls;
use crate::driver::{self, OwnLane};
use crate::fork;
use crate::idle::Idle;
use crate::interrupt::Shield;
use crate::keeping::Keeping;
use crate::monitor::Inspection;
use crate::outsiders::Outsiders;
use crate::presence::Presence;
use crate::queue::{Inbox, LocalQueue};
use crate::roll::Roll;
use crate::settling::Settling;
use crate::task::{ANYWHERE, Task, TaskRef};
use crate::timer::{NEVER, Timers};
use crate::wait::{self, Unparker};
use crate::worker::{self, Core, Runnable, Visible, Waiting};

pub(crate) use self::spawn::{Place, SpawnOptions, spawn_on};

/// What all threads know of one worker.
pub(crate) struct Remote {
    pub(crate) fresh: Stealer<Runnable>,
    pub(crate) ready: Stealer<Runnable>,
    pub(crate) inbox: Inbox<Task>,
    pub(crate) timers: Timers<Waiting>,
    /// Set before the worker first sleeps.
    pub(crate) thread: OnceLock<thread::Thread>,
    /// Where the worker sleeps.
    pub(crate) berth: Berth,
    /// Where events come for what is waited for there.
    pub(crate) lane: OwnLane,
    /// How many threads have started there, have not ended and can run nowhere else. A hint.
    pub(crate) residents: AtomicUsize,
    /// The last to wake it was another worker.
    pub(crate) woken_by_peer: AtomicBool,
    /// The OS thread stays for ever, since abandoned green threads have it as their home.
    pub(crate) haunted: AtomicBool,
    /// The monitor has seen that one green thread holds the worker: others look after its timers.
    pub(crate) held: AtomicBool,
    /// A spare's own ends of its deques, until it is first needed.
    pub(crate) reserve: Mutex<Option<Deques>>,
    pub(crate) counters: Counters,
    pub(crate) visible: CachePadded<Visible>,
}

/// The owner's ends of a worker's deques: for fresh threads, and for threads that have run.
pub(crate) type Deques = (Deque<Runnable>, Deque<Runnable>);

impl Remote {
    pub(crate) fn has_stealable(&self) -> bool {
        !self.fresh.is_empty() || !self.ready.is_empty()
    }
}

/// Written by the worker alone (hence load and store, no read-modify-write), read by all.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) spawned: AtomicU64,
    pub(crate) ended: AtomicU64,
    /// Threads that have ended but for the waker of whoever awaits them, which is somebody's code; and
    /// those of them that are done with it.
    waking: AtomicU64,
    woken: AtomicU64,
    freed: AtomicU64,
    pub(crate) stolen: AtomicU64,
    pub(crate) slept: AtomicU64,
}

fn count(counter: &AtomicU64) {
    // Relaxed: one writer. Readers that need more wait for that writer to end.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// What the workers of one runtime share.
///
/// Freed by the last of the runtime, its handles, and the cells of its threads (see [`Keeping`]).
pub(crate) struct Shared {
    pub(crate) idle: Idle,
    pub(crate) injector: Injector<Runnable>,
    /// The workers, and after them the spares.
    pub(crate) remotes: Box<[CachePadded<Remote>]>,
    /// How many workers were asked for.
    pub(crate) workers: usize,
    /// How many of `remotes` have or had an OS thread. Grows as spares are started.
    members: AtomicUsize,
    /// How many members are held.
    pub(crate) held: AtomicUsize,
    /// Which thread the monitor looks at.
    pub(crate) inspection: Inspection<Task>,
    /// The OS threads of spares.
    pub(crate) spare_threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// How often the monitor has found a worker held while work waited.
    pub(crate) holds: AtomicU64,
    /// Threads that have run may move to another worker.
    pub(crate) migrating: bool,
    pub(crate) check_tls: CheckTls,
    pub(crate) stack_size: usize,
    /// The process that has the workers; a fork of it has none.
    process: fork::Process,
    stopping: AtomicBool,
    /// Workers open no lanes any more.
    lanes_closed: AtomicBool,
    /// The workers that have not left, the `Runtime`, and who spawns through a handle. Whoever leaves
    /// last settles.
    present: Presence,
    /// Who frees this.
    pub(crate) keeping: Keeping,
    /// Whether the `Runtime` frees this or the last one out.
    settling: Settling<Unparker>,
    pub(crate) roll: Roll<Task>,
    /// Threads that were dropped at the end because they never ran.
    unstarted: AtomicU64,
    /// Cells made by threads that are not workers of this runtime.
    pub(crate) foreign_spawned: AtomicU64,
    /// Joiners that are not threads of this runtime.
    pub(crate) outsiders: Outsiders<Unparker>,
}

// No code of a user runs while any of it is being changed, so no panic is seen half-way through.
impl panic::RefUnwindSafe for Shared {}

impl Shared {
    /// For as many workers, and spares in the rest of `remotes`.
    pub(crate) fn new(
        remotes: Box<[CachePadded<Remote>]>,
        workers: usize,
        migrating: bool,
        check_tls: CheckTls,
        stack_size: usize,
    ) -> Self {
        let roll = Roll::new(remotes.len());
        Self {
            idle: Idle::with_spares(workers, remotes.len() - workers),
            injector: Injector::new(),
            remotes,
            workers,
            members: AtomicUsize::new(workers),
            held: AtomicUsize::new(0),
            inspection: Inspection::new(),
            spare_threads: Mutex::default(),
            holds: AtomicU64::new(0),
            migrating,
            check_tls,
            stack_size,
            process: fork::Process::current(),
            stopping: AtomicBool::new(false),
            lanes_closed: AtomicBool::new(false),
            present: Presence::new(),
            keeping: Keeping::new(),
            settling: Settling::default(),
            roll,
            unstarted: AtomicU64::new(0),
            foreign_spawned: AtomicU64::new(0),
            outsiders: Outsiders::new(),
        }
    }

    /// An error in a fork of the process that has the workers.
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if self.process.is_here() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, fork::WITHOUT_WORKERS))
    }

    /// As [`check_process`](Self::check_process), for forks by way of glibc.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.has_forked()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        // Relaxed: a worker about to sleep has a fence before this load (`Idle::fall_asleep`),
        // which pairs with the one in `stop`.
        self.stopping.load(Ordering::Relaxed)
    }

    /// In a forked child: its one worker is to run nothing more.
    pub(crate) fn stop_in_child(&self) {
        // Relaxed: the child has one thread.
        self.stopping.store(true, Ordering::Relaxed);
        // The parent's monitor may have been looking at something: nobody waits for that here.
        self.inspection.end();
    }

    /// Wakes a worker, if one sleeps and none searches, after stealable work was queued.
    #[inline]
    pub(crate) fn wake_for_work(&self) {
        if let Some(worker) = self.idle.submit() {
            self.unpark(worker);
        }
    }

    /// Wakes up to `count` workers, whether one searches or not. How many.
    pub(crate) fn wake_many(&self, count: usize) -> usize {
        self.idle.wake_many(count, |worker| self.unpark(worker))
    }

    /// Wakes that worker if it sleeps, after its inbox was filled. True if it slept.
    pub(crate) fn wake_worker(&self, worker: usize) -> bool {
        let sleeps = self.idle.summon(worker);
        if sleeps {
            self.unpark(worker);
        }
        sleeps
    }

    pub(crate) fn unpark(&self, worker: usize) {
        self.unpark_by(
            worker,
            worker::core().is_some_and(|core| ptr::from_ref(core.shared()) == self),
        );
    }

    fn unpark_by(&self, worker: usize, peer: bool) {
        let remote = &self.remotes[worker];
        // Relaxed: a hint.
        remote.woken_by_peer.store(peer, Ordering::Relaxed);
        let thread = remote.thread.get();
        let thread = thread.expect("a worker that sleeps has said which thread it is");
        remote.berth.wake(|| remote.lane.end_wait(), || thread.unpark());
    }

    /// As [`wake_worker`](Self::wake_worker), on behalf of an event, which no peer has caused.
    pub(crate) fn wake_worker_for_event(&self, worker: usize) -> bool {
        let sleeps = self.idle.summon(worker);
        if sleeps {
            self.unpark_by(worker, false);
        }
        sleeps
    }

    /// As [`wake_for_work`](Self::wake_for_work), on behalf of events. True if a worker was woken.
    pub(crate) fn wake_for_events(&self) -> bool {
        let worker = self.idle.submit();
        worker.into_iter().for_each(|worker| self.unpark_by(worker, false));
        worker.is_some()
    }

    pub(crate) fn push_to_inbox(&self, worker: usize, task: NonNull<Task>) {
        // SAFETY: the caller made the thread or took it out of PARKED, so its run reference is the
        // caller's and it is in no queue.
        if unsafe { self.remotes[worker].inbox.push(task.as_ptr()) } {
            self.wake_worker(worker);
        }
    }

    /// Queues a thread that was taken out of PARKED by somebody who is no worker of this runtime.
    /// The caller keeps the runtime: by a reference to the thread beside the run reference that it gives
    /// away, or as the monitor.
    pub(crate) fn schedule_from_outside(&self, task: NonNull<Task>) {
        // SAFETY: the run reference is the caller's. Relaxed: acquired with the token.
        match unsafe { task.as_ref() }.home.load(Ordering::Relaxed) {
            ANYWHERE => {
                self.injector.push(Runnable(task));
                self.wake_for_work();
            }
            home => self.push_to_inbox(home as usize, task),
        }
    }

    /// The workers and the spares that have or had an OS thread.
    #[inline]
    pub(crate) fn members(&self) -> &[CachePadded<Remote>] {
        // Relaxed: what a spare does comes after its OS thread's start and thus after the store.
        &self.remotes[..self.members.load(Ordering::Relaxed)]
    }

    /// Before the OS thread of another spare is started, or after that has failed. For the monitor.
    pub(crate) fn set_members(&self, members: usize) {
        self.members.store(members, Ordering::Relaxed);
    }

    /// How many spares have an OS thread, and how many of them are on duty.
    pub(crate) fn spares(&self) -> (usize, usize) {
        let spares = self.workers..self.members().len();
        (spares.len(), spares.filter(|&spare| self.idle.is_on_duty(spare)).count())
    }

    /// When the first timer of a held worker is due, or [`NEVER`].
    pub(crate) fn next_held_timer(&self) -> u64 {
        // Relaxed: the monitor looks after the timers of a worker that is not seen here.
        if self.held.load(Ordering::Relaxed) == 0 {
            return NEVER;
        }
        let held = self.members().iter().filter(|remote| remote.held.load(Ordering::Relaxed));
        held.map(|remote| remote.timers.next()).min().unwrap_or(NEVER)
    }

    /// Whether a thread is queued that any worker may take.
    pub(crate) fn has_stealable(&self) -> bool {
        !self.injector.is_empty() || self.members().iter().any(|remote| remote.has_stealable())
    }

    /// Wakes the threads whose timers on worker `of` are due at `now`. For the monitor.
    pub(crate) fn fire_timers_from_outside(&self, of: usize, now: u64) {
        worker::fire(&self.remotes[of].timers, now, |task| self.schedule_from_outside(task));
    }

    /// Waits until the monitor has done with `task`, which has ended and which no worker has as its
    /// current one any more. Most often it has never looked at it.
    #[inline]
    pub(crate) fn await_inspection(&self, task: NonNull<Task>) {
        self.inspection.await_end(task, thread::yield_now);
    }

    /// Whether worker `index` would find anything to do. For its last look before it sleeps.
    pub(crate) fn has_work_for(&self, index: usize) -> bool {
        !self.remotes[index].inbox.is_empty() || self.has_stealable()
    }

    /// By a thread that ends on `core`.
    pub(crate) fn count_end(core: &Core) {
        let ended = &core.remote().counters.ended;
        // As `count`. Release pairs with the Acquire in `alive`: the thread's spawning is counted.
        ended.store(ended.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Calls `wake` on a thread that was counted as ended, and that a shutdown waits for all the same.
    pub(crate) fn count_waking(&self, worker: usize, wake: impl FnOnce()) {
        count(&self.remotes[worker].counters.waking);
        wake();
        // It may have moved.
        let worker = worker::core().map_or(worker, |core| core.index);
        let woken = &self.remotes[worker].counters.woken;
        // As `count_end`.
        woken.store(woken.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    pub(crate) fn count_steal(&self, worker: usize) {
        count(&self.remotes[worker].counters.stolen);
    }

    pub(crate) fn count_sleep(&self, worker: usize) {
        count(&self.remotes[worker].counters.slept);
    }

    /// The last access to `shared` on behalf of a cell, which may free it.
    ///
    /// # Safety
    ///
    /// The cell was counted when it was made, and is counted here once.
    pub(crate) unsafe fn cell_freed(shared: NonNull<Self>) {
        // SAFETY: the runtime keeps its shared state until every cell is counted here.
        let this = unsafe { shared.as_ref() };
        match worker::core() {
            Some(core) if core.shared == shared => count(&core.remote().counters.freed),
            // SAFETY: the cell kept the shared state, and nothing else does.
            _ if this.keeping.let_go() => unsafe { Self::free(shared) },
            _ => {}
        }
    }

    /// A handle is dropped.
    ///
    /// # Safety
    ///
    /// It was counted when it was made, and is counted here once.
    pub(crate) unsafe fn handle_dropped(shared: NonNull<Self>) {
        // SAFETY: kept by the handle until here; after that, as the count says.
        unsafe {
            if shared.as_ref().keeping.let_go() {
                Self::free(shared);
            }
        }
    }

    /// # Safety
    ///
    /// [`Keeping`] has told the caller to.
    #[cold]
    unsafe fn free(shared: NonNull<Self>) {
        // SAFETY: made by `Box::leak`, and nothing is left that could reach it.
        drop(unsafe { Box::from_raw(shared.as_ptr()) });
    }

    /// How many threads have been spawned so far, and how many of them have not ended, to the last waker
    /// that they call. Where the latter is 0 there was a moment without any.
    pub(crate) fn spawned_and_alive(&self) -> (u64, u64) {
        // In this order. Acquire pairs with the Release in `count_end`.
        let acquire = |counter: fn(&Counters) -> &AtomicU64| -> u64 {
            let remotes = self.remotes.iter();
            remotes.map(|remote| counter(&remote.counters).load(Ordering::Acquire)).sum()
        };
        let (woken, ended) = (acquire(|c| &c.woken), acquire(|c| &c.ended));
        let waking = self.sum(|c| &c.waking).saturating_sub(woken);
        let spawned =
            self.foreign_spawned.load(Ordering::Relaxed) + self.sum(|counters| &counters.spawned);
        (spawned, spawned.saturating_sub(ended) + waking)
    }

    pub(crate) fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.remotes.iter().map(|remote| counter(&remote.counters).load(Ordering::Relaxed)).sum()
    }
}

/// What an owner has learnt that waited for the workers.
#[must_use = "the OS threads of haunted workers never end"]
pub(crate) struct Stopped {
    pub(crate) spawned: u64,
    /// Threads that had not ended, those among them that were dropped because they never ran.
    pub(crate) alive: u64,
    pub(crate) unstarted: u64,
    /// Which workers' OS threads stay for ever. None if the owner has given up.
    pub(crate) haunted: Option<Vec<bool>>,
}

/// The end. The runtime stops in three steps: [`Shared::stop`] tells the workers; each of them
/// leaves when the green thread that it runs next blocks; the last one out settles what is left.
impl Shared {
    /// A worker is about to be started.
    pub(crate) fn enter(&self) {
        self.present.enter();
    }

    /// Spawning from outside through a handle is an error from now on. By the owner.
    pub(crate) fn close(&self) {
        self.present.close();
    }

    /// Tells the workers to leave.
    pub(crate) fn stop(&self) {
        self.watch_lanes();
        self.stopping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `Idle::fall_asleep`: a worker either sees `stopping` in its last
        // look or is seen asleep here. (`wake_worker` has the fence.)
        for worker in 0..self.members().len() {
            self.wake_worker(worker);
        }
        // One of them may be in charge of events, and held: the monitor has forgotten it.
        driver::call();
    }

    /// The monitor has forgotten the workers, and each of them may be held for ever: somebody else looks after
    /// their lanes from now on. Before they are told to leave, so that no lane is another worker's by now.
    fn watch_lanes(&self) {
        self.lanes_closed.store(true, Ordering::Relaxed);
        // Pairs with the one in `lane_opened`: that one sees the lanes closed, or this one the lane.
        fence(Ordering::SeqCst);
        self.members().iter().for_each(|remote| remote.lane.watch(true));
    }

    pub(crate) fn are_lanes_closed(&self) -> bool {
        // Relaxed: a hint, or after a fence.
        self.lanes_closed.load(Ordering::Relaxed)
    }

    /// By the worker that has opened it.
    pub(crate) fn lane_opened(&self, lane: &OwnLane) {
        // Pairs with the one in `watch_lanes`.
        fence(Ordering::SeqCst);
        if self.are_lanes_closed() {
            lane.watch(true);
        }
    }

    /// The runtime is dropped, by a thread that is none of its own. Returns when all is settled, or at
    /// `deadline` if some worker has not left by then.
    ///
    /// # Safety
    ///
    /// Once, by the owner of the pointer, which is good for nothing afterwards.
    pub(crate) unsafe fn stop_and_wait(this: NonNull<Self>, deadline: Option<Instant>) -> Stopped {
        // SAFETY: the owner's pointer; with an owner that waits, nobody else frees it.
        let shared = unsafe { this.as_ref() };
        // The owner may be a green thread of another runtime that is cancelled. It is what the last
        // one out unparks, and may itself drop closures here.
        let _shield = Shield::raise();
        // SAFETY: once, and before we leave.
        unsafe { shared.settling.await_it(Unparker::current()) };
        shared.stop();
        // SAFETY: the owner's own count.
        unsafe { Self::leave(this) };
        while !shared.settling.is_settled() {
            match deadline {
                None => wait::park(),
                Some(deadline) if Instant::now() < deadline => wait::park_until(deadline),
                Some(_) => {
                    let (spawned, alive) = shared.spawned_and_alive();
                    if shared.settling.give_up() {
                        return Stopped { spawned, alive, unstarted: 0, haunted: None };
                    }
                }
            }
        }
        let (spawned, alive) = shared.spawned_and_alive();
        // Relaxed: written before the settling.
        let unstarted = shared.unstarted.load(Ordering::Relaxed);
        // Relaxed: the workers have left.
        let is_haunted = |remote: &CachePadded<Remote>| remote.haunted.load(Ordering::Relaxed);
        let haunted = shared.remotes.iter().map(is_haunted).collect();
        // SAFETY: whoever settled has made its last access.
        unsafe { Self::free_if_unused(this) };
        Stopped { spawned, alive, unstarted, haunted: Some(haunted) }
    }

    /// A worker, or the runtime's owner, has no more to do with it. The last one settles: it makes
    /// the joins of what was abandoned return, and drops the closures that never ran.
    ///
    /// # Safety
    ///
    /// Once for each `enter`, and once for the owner, which has closed before. The caller does not use
    /// the pointer afterwards, unless it is the owner and waits for `settled`.
    pub(crate) unsafe fn leave(this: NonNull<Self>) {
        // SAFETY: freed by the one who settles, or by an owner that waits for that.
        let shared = unsafe { this.as_ref() };
        if !shared.present.leave() {
            return;
        }
        // One who spawned through a handle may be a green thread of another runtime.
        let _shield = Shield::raise();
        // Before the closures are dropped: their destructors may join threads of this runtime.
        shared.outsiders.stop().into_values().for_each(Unparker::unpark);
        shared.abandon_unstarted();
        // SAFETY: all have left.
        match unsafe { shared.settling.settle() } {
            Some(owner) => owner.unpark(),
            // SAFETY: the owner does not wait, and we were the last.
            None => unsafe { Self::free_if_unused(this) },
        }
    }

    /// Ends what was spawned and never ran, in the context of the caller, which is no worker.
    fn abandon_unstarted(&self) {
        loop {
            match self.injector.steal() {
                // SAFETY: the workers have left, so what is queued is ours, with its run reference.
                Steal::Success(Runnable(task)) => unsafe { self.abandon_if_unstarted(task) },
                Steal::Empty => break,
                Steal::Retry => {}
            }
        }
        let placed = LocalQueue::new();
        self.remotes.iter().for_each(|remote| remote.inbox.drain_into(&placed));
        while let Some(task) = placed.pop().and_then(NonNull::new) {
            // SAFETY: as above.
            unsafe { self.abandon_if_unstarted(task) };
        }
    }

    /// # Safety
    ///
    /// The caller owns the run reference of a thread that no worker will run any more.
    unsafe fn abandon_if_unstarted(&self, task: NonNull<Task>) {
        // SAFETY: the caller's promise.
        unsafe {
            if !task.as_ref().started.get() {
                // Relaxed: the settling publishes it.
                self.unstarted.fetch_add(1, Ordering::Relaxed);
                TaskRef::from_owned(task).abandon();
            }
        }
    }

    /// # Safety
    ///
    /// Once, when the workers have left, and nobody uses the pointer but on behalf of a cell or a
    /// handle.
    unsafe fn free_if_unused(this: NonNull<Self>) {
        // SAFETY: the caller's promise.
        unsafe {
            let shared = this.as_ref();
            let made = shared.foreign_spawned.load(Ordering::Relaxed) + shared.sum(|c| &c.spawned);
            let cells = made - shared.sum(|c| &c.freed);
            // Some may be there for ever, those of abandoned threads: not to be reported then.
            #[cfg(bine_sanitize = "address")]
            if cells > 0 {
                __lsan_ignore_object(this.as_ptr().cast());
            }
            if shared.keeping.settle(cells) {
                Self::free(this);
            }
        }
    }
}

#[cfg(bine_sanitize = "address")]
unsafe extern "C" {
    fn __lsan_ignore_object(object: *const std::ffi::c_void);
}
