//! What the monitor does for one runtime, at each of its looks.
//!
//! A worker is *held* if it runs a green thread and has not picked another since the look before.
//! Then, at once:
//!
//! - its timers that are due are fired here, and workers that fall asleep look after those to come
//!   ([`Shared::next_held_timer`]);
//! - what others can run and only its worker reaches goes to the injector: the thread in `run_next`
//!   (in migrating runtimes), and threads in the inbox that have not run;
//! - if work waits that others can run, a sleeping worker is woken; and if there is none, and every
//!   worker is held, a spare worker goes on duty.
//!
//! A worker that is held for longer than the threshold while something waits is counted and told of,
//! and gets a spare even if other workers are not held, as long as threads in its queues wait. There
//! is at most one spare on duty for each worker that is held. When there have been more for a while
//! than workers that have been held for long, one is taken off duty. (For long, because a worker
//! looks held, too, whose OS thread the system keeps waiting for a processor.)

use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::hold::{Hold, OnHold, Told};
use super::inspect::{self, Identity};
use super::process::Seen;
use crate::runtime::{Setup, start_spare};
use crate::shared::{Remote, Shared};
use crate::task::Task;
use crate::worker::Runnable;

/// A spare stays on duty while a worker has been held for longer.
const LONG: Duration = Duration::from_millis(20);
/// Looks with a spare too many before one goes off duty.
const RECALL_AFTER: u32 = 10;
/// A timer that is due sooner keeps the looks frequent, in nanoseconds.
const SOON: u64 = 20_000_000;
/// Looks after the system refused a spare's OS thread before the next try.
const RETRY_AFTER: u32 = 100;

/// What a runtime wants of the monitor.
pub(crate) struct Settings {
    /// From when on a hold is counted.
    pub(crate) threshold: Duration,
    pub(crate) on_hold: Option<OnHold>,
    /// For the OS threads of spares.
    pub(crate) spare: Setup,
}

/// What was seen of one worker.
#[derive(Default)]
struct Sample {
    tick: u32,
    /// When the tick was first seen.
    since: u64,
    held: bool,
    /// Something has waited while it was held.
    waited: bool,
    /// It was counted, and this is who holds it.
    counted: Option<Option<Identity>>,
}

/// A runtime, as the monitor sees it.
pub(super) struct Watch {
    shared: NonNull<Shared>,
    settings: Settings,
    /// One for each member.
    samples: Vec<Sample>,
    /// How many looks in a row have seen more spares on duty than workers held for long.
    too_many: u32,
    /// Looks until the next try to start a spare.
    pause: u32,
}

// SAFETY: `Shared` is made for sharing, and is valid until the watch has been dropped.
unsafe impl Send for Watch {}

/// What a look has seen of all workers of the runtime.
#[derive(Default)]
struct Summary {
    seen: Seen,
    held: usize,
    /// Those that have been for long.
    held_long: usize,
    /// Workers that are awake and not held.
    free: usize,
    /// Threads wait in the queues of a worker that has been held for longer than the threshold.
    starves: bool,
}

impl Watch {
    /// # Safety
    ///
    /// `shared` is valid until the watch has been dropped.
    pub(super) unsafe fn new(shared: NonNull<Shared>, settings: Settings) -> Self {
        let samples = Vec::new();
        Self { shared, settings, samples, too_many: 0, pause: 0 }
    }

    pub(super) fn is_of(&self, shared: NonNull<Shared>) -> bool {
        self.shared == shared
    }

    pub(super) fn is_any_awake(&self) -> bool {
        // SAFETY: valid while the watch is.
        let shared = unsafe { self.shared.as_ref() };
        (0..shared.members().len()).any(|worker| !shared.idle.is_asleep(worker))
    }

    /// Looks at every worker, and acts.
    pub(super) fn look(&mut self, now: u64, told: &mut Vec<Told>) -> Seen {
        let Self { shared, settings, samples, .. } = self;
        // SAFETY: valid while the watch is.
        let shared = unsafe { shared.as_ref() };
        samples.resize_with(shared.members().len(), || Sample { since: now, ..Sample::default() });
        let mut summary = Summary::default();
        for (index, sample) in samples.iter_mut().enumerate() {
            let look = Look { shared, settings, index, now };
            look.at(sample, &mut summary, told);
        }
        // Relaxed: a hint for workers that fall asleep.
        shared.held.store(summary.held, Ordering::Relaxed);
        summary.seen.changed |= self.find_hands(&summary);
        // Also while all sleep: else the monitor would doze before they have been taken off.
        summary.seen.awake |= shared.spares().1 > 0;
        summary.seen
    }

    /// Sees to it that somebody runs what waits. True if something does.
    fn find_hands(&mut self, summary: &Summary) -> bool {
        // SAFETY: valid while the watch is.
        let shared = unsafe { self.shared.as_ref() };
        let waits = shared.has_stealable();
        let sleepers = shared.idle.sleepers();
        self.pause = self.pause.saturating_sub(1);
        self.too_many = if shared.spares().1 > summary.held_long { self.too_many + 1 } else { 0 };
        if self.too_many >= RECALL_AFTER {
            self.take_off_duty(shared);
        }
        if !waits {
            return false;
        }
        // It may have come since the samples were taken, and be gone at the next look.
        self.samples.iter_mut().for_each(|sample| sample.waited |= sample.held);
        if sleepers > 0 {
            shared.wake_for_work();
        } else if shared.spares().1 < summary.held && (summary.free == 0 || summary.starves) {
            self.put_on_duty(shared);
        }
        true
    }

    /// Puts a spare on duty: one that has an OS thread, or the first that has none.
    fn put_on_duty(&mut self, shared: &Shared) {
        let members = shared.members().len();
        let resting = (shared.workers..members).find(|&spare| !shared.idle.is_on_duty(spare));
        if let Some(spare) = resting {
            shared.idle.set_duty(spare, true);
            if shared.idle.claim(spare) {
                shared.unpark(spare);
            }
            return;
        }
        if members == shared.remotes.len() || self.pause > 0 {
            return;
        }
        shared.idle.set_duty(members, true);
        shared.set_members(members + 1);
        match start_spare(self.shared, members, self.settings.spare.clone()) {
            Ok(thread) => shared.spare_threads.lock().push(thread),
            Err(_) => {
                // The workers that there are go on as well as they can.
                shared.set_members(members);
                shared.idle.set_duty(members, false);
                self.pause = RETRY_AFTER;
            }
        }
    }

    /// The one that was put on duty last, unless it is held itself.
    fn take_off_duty(&mut self, shared: &Shared) {
        let is_free = |&spare: &usize| shared.idle.is_on_duty(spare) && !self.samples[spare].held;
        let spare = (shared.workers..self.samples.len()).rev().find(is_free);
        if let Some(spare) = spare {
            shared.idle.set_duty(spare, false);
        }
        self.too_many = 0;
    }
}

/// A look at one worker.
struct Look<'a> {
    shared: &'a Shared,
    settings: &'a Settings,
    index: usize,
    now: u64,
}

impl Look<'_> {
    fn remote(&self) -> &Remote {
        &self.shared.remotes[self.index]
    }

    fn at(&self, sample: &mut Sample, summary: &mut Summary, told: &mut Vec<Told>) {
        let tick = self.remote().visible.tick();
        let asleep = self.shared.idle.is_asleep(self.index);
        summary.seen.awake |= !asleep;
        // One that runs no green thread has been woken, and waits for a processor.
        let runs = !self.remote().visible.current().is_null();
        if !asleep {
            self.remote().lane.look_after(self.now);
        }
        if asleep || !runs || tick != sample.tick {
            summary.seen.changed |= tick != sample.tick;
            summary.free += usize::from(!asleep);
            self.end_hold(sample, told);
            *sample = Sample { tick, since: self.now, ..Sample::default() };
            return;
        }
        if sample.since == self.now {
            // The first look at it.
            summary.free += 1;
            return;
        }
        summary.held += 1;
        sample.waited |= self.has_waiting();
        let held_for = Duration::from_nanos(self.now - sample.since);
        summary.held_long += usize::from(held_for >= LONG);
        if held_for >= self.settings.threshold {
            summary.starves |= self.remote().has_stealable();
            if sample.waited && sample.counted.is_none() {
                self.count(sample, held_for, told);
            }
        }
        self.relieve();
        if !sample.held {
            sample.held = true;
            // Relaxed: a hint for workers that fall asleep.
            self.remote().held.store(true, Ordering::Relaxed);
            self.empty_inbox();
        }
        // Somebody must be there to fire it.
        let soon = self.now.saturating_add(SOON);
        summary.seen.changed |= self.remote().timers.next() < soon;
    }

    /// Whether anything waits that this worker would see to.
    fn has_waiting(&self) -> bool {
        let remote = self.remote();
        remote.visible.has_waiting()
            || !remote.inbox.is_empty()
            || remote.timers.next() <= self.now
            || self.shared.has_stealable()
    }

    /// Does for the worker what can be done from here.
    fn relieve(&self) {
        let (shared, remote) = (self.shared, self.remote());
        shared.fire_timers_from_outside(self.index, self.now);
        if shared.migrating
            && let Some(task) = remote.visible.steal_run_next()
        {
            self.hand_on(task);
        }
    }

    /// Takes out of the inbox what others can run. Once in a hold: fresh threads are placed with
    /// workers that sleep.
    fn empty_inbox(&self) {
        self.remote().inbox.drain(|task| {
            self.hand_on(NonNull::new(task).expect("what is queued is a thread"));
        });
    }

    /// Queues a thread, of which we have the run reference, where as many as possible find it.
    fn hand_on(&self, task: NonNull<Task>) {
        // SAFETY: the run reference is ours, so the thread is alive, and its state ours.
        let this = unsafe { task.as_ref() };
        if this.started.get() {
            // The watch keeps what the schedulers' reference would keep.
            return self.shared.schedule_from_outside(task);
        }
        self.shared.injector.push(Runnable(task));
        self.shared.wake_for_work();
    }

    fn count(&self, sample: &mut Sample, held_for: Duration, told: &mut Vec<Told>) {
        // Relaxed: one writer, and a figure.
        self.shared.holds.fetch_add(1, Ordering::Relaxed);
        let Some(to) = &self.settings.on_hold else {
            sample.counted = Some(None);
            return;
        };
        let identity = inspect::inspect(self.shared, &self.remote().visible);
        // It may have come back meanwhile: then it is another thread.
        let identity = identity.filter(|_| self.remote().visible.tick() == sample.tick);
        let hold =
            Hold { worker: self.index, thread: identity.clone(), duration: held_for, over: false };
        sample.counted = Some(identity);
        told.push(Told { hold, to: to.clone() });
    }

    fn end_hold(&self, sample: &mut Sample, told: &mut Vec<Told>) {
        if !sample.held {
            return;
        }
        // Relaxed: as above.
        self.remote().held.store(false, Ordering::Relaxed);
        if let (Some(thread), Some(to)) = (sample.counted.take(), &self.settings.on_hold) {
            let duration = Duration::from_nanos(self.now - sample.since);
            let hold = Hold { worker: self.index, thread, duration, over: true };
            told.push(Told { hold, to: to.clone() });
        }
    }
}
