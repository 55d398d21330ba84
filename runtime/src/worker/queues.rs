//! Which thread runs next, and where a thread goes that became runnable. The table of the queues is
//! in the documentation of `worker`.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use bine_arch::context;
use crossbeam_deque::Steal;

use super::{Core, Runnable};
use crate::task::{ANYWHERE, Task};
use crate::timer::{NEVER, Timers, Wake};
use crate::token::Unpark;
use crate::wait::WakeBatch;
use crate::{clock, driver};

/// Picks between two looks at the inbox and the timers.
const ARRIVALS_INTERVAL: u32 = 4;
/// Picks between two that prefer a fresh thread to one that has run. A multiple of the above.
const FRESH_INTERVAL: u32 = 8;
/// Picks between two looks at the injector and at the oldest fresh thread. A multiple of the above.
const MAINTENANCE_INTERVAL: u32 = 64;
/// How often in a row `run_next` may overtake the queues.
const RUN_NEXT_LIMIT: u32 = 16;
/// With no more residents than this a worker keeps its fresh threads; with more than this beyond
/// what a sleeping peer has, it places them there.
const RESIDENTS_TO_KEEP: usize = 8;

impl Core {
    /// The next thread to run from this worker's own queues. Every so often a look elsewhere.
    #[inline]
    pub(crate) fn pick(&self) -> Option<NonNull<Task>> {
        let ticks = &self.visible().tick;
        // Relaxed: one writer, and a sample for the monitor.
        let tick = ticks.load(Ordering::Relaxed).wrapping_add(1);
        ticks.store(tick, Ordering::Relaxed);
        if tick.is_multiple_of(ARRIVALS_INTERVAL)
            && let Some(task) = self.pick_fairly(tick)
        {
            return Some(task);
        }
        if self.stopping.get() || self.recalled.get() {
            return None;
        }
        if let Some(task) = self.take_run_next() {
            return Some(task);
        }
        self.pick_queued()
    }

    #[inline]
    fn pick_queued(&self) -> Option<NonNull<Task>> {
        if let Some(task) = self.local().pop() {
            return NonNull::new(task);
        }
        if let Some(Runnable(task)) = self.ready.pop() {
            return Some(task);
        }
        self.take_in();
        if let Some(task) = self.local().pop() {
            return NonNull::new(task);
        }
        self.fresh.pop().map(|Runnable(task)| task)
    }

    /// Moves what came into the inbox to the worker's queues: threads that have not run to where a
    /// peer finds them, should the worker be held by the one that it runs first.
    #[inline]
    fn take_in(&self) {
        if !self.inbox().is_empty() {
            self.empty_inbox();
        }
    }

    /// Apart, so that a pick that does not come here saves no registers for it.
    #[inline(never)]
    fn empty_inbox(&self) {
        self.inbox().drain(|task| {
            let task = NonNull::new(task).expect("what is queued is a thread");
            // SAFETY: the run reference is ours, and so is the thread's state; it is in no queue.
            unsafe {
                match task.as_ref().started.get() {
                    true => self.local().push(task.as_ptr()),
                    false => self.fresh.push(Runnable(task)),
                }
            }
        });
    }

    /// Looks at what arrived from outside and from the clock, and now and then prefers what the
    /// usual order of the queues may keep waiting.
    #[inline(never)]
    fn pick_fairly(&self, tick: u32) -> Option<NonNull<Task>> {
        self.fire_own_timers();
        self.take_in();
        if tick.is_multiple_of(MAINTENANCE_INTERVAL) {
            if self.shared().is_stopping() {
                self.set_stopping();
                return None;
            }
            if self.is_off_duty() {
                self.recalled.set(true);
                return None;
            }
            if driver::is_visit_due(&self.remote().lane)
                && self.look_for_events() == Some(0)
                && !self.ready.is_empty()
            {
                // The first of them is to be run here; others may go before it.
                self.shared().wake_for_work();
            }
            // In turn, so that neither keeps the other waiting for ever.
            let task = match tick.is_multiple_of(2 * MAINTENANCE_INTERVAL) {
                true => self.take_injected().or_else(|| self.oldest_fresh()),
                false => self.oldest_fresh().or_else(|| self.take_injected()),
            };
            return task.or_else(|| self.relieve_peer());
        }
        if self.stopping.get() || !tick.is_multiple_of(FRESH_INTERVAL) {
            return None;
        }
        let (first, second) = match tick.is_multiple_of(2 * FRESH_INTERVAL) {
            true => (&self.fresh, &self.ready),
            false => (&self.ready, &self.fresh),
        };
        first.pop().or_else(|| second.pop()).map(|Runnable(task)| task)
    }

    /// Queues the threads that events wake which are ready, if nobody else takes them. The stack may be
    /// a green thread's. How many workers were woken, or `None` where there were no events.
    #[inline(never)]
    pub(crate) fn look_for_events(&self) -> Option<usize> {
        let mut wake = WakeBatch::new();
        let mut visits = self.visits.get();
        let taken = driver::poll(self, &mut visits, &mut wake);
        self.visits.set(visits);
        (taken > 0).then(|| wake.flush())
    }

    fn oldest_fresh(&self) -> Option<NonNull<Task>> {
        match self.remote().fresh.steal() {
            Steal::Success(Runnable(task)) => Some(task),
            Steal::Empty | Steal::Retry => None,
        }
    }

    /// Some fresh threads of a peer, a different one each time, that has more residents. A thread stays
    /// where it first runs; a worker that is never out of work would else never steal, and the one
    /// that has spawned them all keep them.
    fn relieve_peer(&self) -> Option<NonNull<Task>> {
        let peer = self.next_peer()?;
        let shared = self.shared();
        // Relaxed: a hint.
        let theirs = shared.remotes[peer].residents.load(Ordering::Relaxed);
        if theirs <= self.residents.get() || self.recalled.get() {
            return None;
        }
        match shared.remotes[peer].fresh.steal_batch_and_pop(&self.fresh) {
            Steal::Success(Runnable(task)) => {
                shared.count_steal(self.index);
                // As in `take_injected`: a searcher that wakes the next is what this worker is not.
                if !self.fresh.is_empty() {
                    shared.wake_for_work();
                }
                Some(task)
            }
            Steal::Empty | Steal::Retry => None,
        }
    }

    /// A thread from the injector, with some more for this worker's own queue.
    pub(crate) fn take_injected(&self) -> Option<NonNull<Task>> {
        let shared = self.shared();
        let into = if shared.migrating { &self.ready } else { &self.fresh };
        loop {
            match shared.injector.steal_batch_and_pop(into) {
                Steal::Success(Runnable(task)) => {
                    // The rest of the batch was in no queue for a moment, in which the searcher
                    // that was woken for it may have given up.
                    if !into.is_empty() {
                        shared.wake_for_work();
                    }
                    return Some(task);
                }
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    #[inline]
    fn take_run_next(&self) -> Option<NonNull<Task>> {
        let Some(task) = self.visible().run_next.take(|| self.shared().migrating) else {
            self.run_next_streak.set(0);
            return None;
        };
        let streak = self.run_next_streak.get();
        if streak < RUN_NEXT_LIMIT {
            self.run_next_streak.set(streak + 1);
            return Some(task);
        }
        self.run_next_streak.set(0);
        self.requeue(task);
        None
    }

    /// Queues a thread that was just woken by the running one, to run next.
    #[inline]
    pub(super) fn push_next(&self, task: NonNull<Task>) {
        if let Some(before) = self.replace_run_next(task.as_ptr()) {
            self.requeue(before);
        }
    }

    /// Takes the thread that was to run next and puts another, or none, in its place.
    #[inline]
    fn replace_run_next(&self, task: *mut Task) -> Option<NonNull<Task>> {
        self.visible().run_next.replace(task, self.shared().migrating)
    }

    /// Queues a thread that is runnable here, at the back.
    #[inline]
    pub(super) fn requeue(&self, task: NonNull<Task>) {
        // SAFETY: the run reference is ours. Relaxed: we made or acquired the last write.
        if unsafe { task.as_ref() }.home.load(Ordering::Relaxed) == ANYWHERE {
            self.ready.push(Runnable(task));
            self.shared().wake_for_work();
        } else {
            // SAFETY: the run reference is ours, and the thread is in no queue.
            unsafe { self.local().push(task.as_ptr()) };
        }
    }

    /// Queues a thread that has not run: for this worker or a thief, or for a peer that sleeps and
    /// has fewer threads that cannot move.
    #[inline]
    pub(crate) fn push_fresh(&self, task: NonNull<Task>) {
        if self.residents.get() > RESIDENTS_TO_KEEP
            && let Some(peer) = self.lighter_peer()
        {
            return self.shared().push_to_inbox(peer, task);
        }
        self.fresh.push(Runnable(task));
        self.shared().wake_for_work();
    }

    /// A peer, a different one each time, if it sleeps and has clearly fewer residents. A thread stays
    /// where it first runs, so a worker that accepts connections, say, would keep all whose handlers
    /// it starts before a peer has woken up to steal them.
    #[inline(never)]
    fn lighter_peer(&self) -> Option<usize> {
        let shared = self.shared();
        let peer = self.next_peer()?;
        if !shared.idle.is_asleep(peer) {
            return None;
        }
        // Relaxed: a hint.
        let theirs = shared.remotes[peer].residents.load(Ordering::Relaxed);
        (theirs + theirs / 4 + RESIDENTS_TO_KEEP < self.residents.get()).then_some(peer)
    }

    /// Another worker, no spare, if there is one.
    fn next_peer(&self) -> Option<usize> {
        let workers = self.shared().workers;
        let mut peer = (self.next_peer.get() + 1) % workers;
        if peer == self.index {
            peer = (peer + 1) % workers;
        }
        self.next_peer.set(peer);
        (peer != self.index).then_some(peer)
    }

    pub(super) fn set_residents(&self, residents: usize) {
        self.residents.set(residents);
        // Relaxed: a hint for the peers.
        self.remote().residents.store(residents, Ordering::Relaxed);
    }

    /// Queues a thread that the caller took out of PARKED.
    pub(crate) fn schedule(&self, task: NonNull<Task>) {
        // SAFETY: the run reference is ours. Relaxed: acquired with the token.
        let home = unsafe { task.as_ref() }.home.load(Ordering::Relaxed);
        if home == ANYWHERE || home == self.index as u32 {
            if self.visible().current.load(Ordering::Relaxed).is_null() {
                self.requeue(task);
            } else {
                self.push_next(task);
            }
        } else {
            self.shared().push_to_inbox(home as usize, task);
        }
    }

    /// Whether threads that have run wait here, as things look.
    pub(crate) fn has_queued(&self) -> bool {
        !self.local().is_empty() || !self.ready.is_empty()
    }

    #[inline]
    pub(crate) fn inbox(&self) -> &crate::queue::Inbox<Task> {
        &self.remote().inbox
    }

    // ---- timers ----

    /// When this worker's first timer is due, or [`NEVER`].
    #[inline]
    pub(crate) fn next_timer(&self) -> u64 {
        self.remote().timers.next()
    }

    /// Wakes the threads whose timers on this worker are due.
    #[inline]
    pub(crate) fn fire_own_timers(&self) {
        if self.next_timer() != NEVER {
            self.fire_timers(self.index, clock::now());
        }
    }

    /// Wakes the threads whose timers on worker `of` are due at `now`.
    pub(crate) fn fire_timers(&self, of: usize, now: u64) {
        fire(&self.shared().remotes[of].timers, now, |task| self.schedule_later(task));
    }

    /// As [`schedule`](Self::schedule), but at the back of the queue.
    pub(crate) fn schedule_later(&self, task: NonNull<Task>) {
        // SAFETY: as in `schedule`.
        let home = unsafe { task.as_ref() }.home.load(Ordering::Relaxed);
        if home == ANYWHERE || home == self.index as u32 {
            self.requeue(task);
        } else {
            self.shared().push_to_inbox(home as usize, task);
        }
    }

    // ---- spares ----

    /// A spare that is not needed, as things look now. It runs what cannot move, and searches only
    /// when it has been claimed.
    #[inline]
    pub(crate) fn is_off_duty(&self) -> bool {
        let shared = self.shared();
        self.index >= shared.workers && !shared.idle.is_on_duty(self.index)
    }

    /// From the root context. A spare that was recalled may be on duty again by now: it picks anew all
    /// the same.
    #[inline]
    pub(crate) fn hand_back_if_recalled(&self) {
        let recalled = self.recalled.replace(false);
        if recalled || self.is_off_duty() {
            self.hand_back();
        }
    }

    /// Gives what others can run to them.
    fn hand_back(&self) {
        if let Some(next) = self.replace_run_next(ptr::null_mut()) {
            self.requeue(next);
        }
        let mut count = 0;
        while let Some(task) = self.ready.pop().or_else(|| self.fresh.pop()) {
            self.shared().injector.push(task);
            count += 1;
        }
        if count > 0 {
            self.shared().wake_many(count);
        }
    }
}

/// A thread that waits with a deadline, for [`Timers`]. No reference: it stays while its timer is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting(pub(crate) NonNull<Task>);

// SAFETY: what is reached through it is the thread's token, which is made for sharing.
unsafe impl Send for Waiting {}

impl Wake for Waiting {
    type Woken = Runnable;

    #[inline]
    unsafe fn wake(self) -> Option<Runnable> {
        // SAFETY: the thread waits, so its cell is there.
        let task = unsafe { self.0.as_ref() };
        match task.token.unpark() {
            Unpark::Schedule => {
                // It runs soon, and has not for a while.
                // SAFETY: taken out of PARKED, the thread is ours.
                unsafe { *task.context.get() }.prefetch();
                Some(Runnable(self.0))
            }
            Unpark::Nothing => None,
        }
    }

    #[inline]
    fn prefetch(self) {
        context::prefetch(self.0.as_ptr());
    }
}

/// Takes out the timers that are due at `now`, and gives the threads that they have taken out of
/// PARKED to `schedule`, with their run references.
pub(crate) fn fire(timers: &Timers<Waiting>, now: u64, mut schedule: impl FnMut(NonNull<Task>)) {
    if timers.next() > now {
        return;
    }
    let mut due = Vec::new();
    let mut more = true;
    while more {
        more = timers.fire(now, &mut due);
        due.drain(..).for_each(|Runnable(task)| schedule(task));
    }
}
