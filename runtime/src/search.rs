//! A worker's root loop: run what is its own, else search everywhere, else sleep.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{ptr, thread};

use crossbeam_deque::{Steal, Stealer};

use crate::idle::{Rest, Rested, Woken};
use crate::reap::Reaper;
use crate::task::Task;
use crate::timer::NEVER;
use crate::wait::WakeBatch;
use crate::worker::{Core, Runnable};
use crate::{clock, driver, fork, monitor};

/// Rounds over all peers before a searcher gives up.
const SEARCH_ROUNDS: usize = 4;

/// Ends the process if a worker's loop unwinds: its green threads would wait for ever.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("fatal: a bine worker panicked outside of any green thread");
            std::process::abort();
        }
    }
}

/// Runs the worker until its runtime stops.
pub(crate) fn run(core: &Core) {
    let _abort = AbortOnUnwind;
    Core::enter(ptr::from_ref(core));
    driver::worker_starts();
    let mut random = fast_random(core.index);
    let mut searching = false;
    while !core.shared().is_stopping() {
        core.hand_back_if_recalled();
        if let Some(task) = core.pick() {
            stop_searching(core, &mut searching);
            core.run_from_root(task);
        } else if let Some(task) = search(core, &mut searching, &mut random) {
            stop_searching(core, &mut searching);
            core.run_from_root(task);
        } else {
            searching = sleep(core, searching);
        }
        if core.out_of_stacks.replace(false) {
            thread::sleep(Duration::from_millis(1));
        }
    }
    if core.shared().is_forked() {
        fork::abort_child();
    }
    core.set_stopping();
    stop_searching(core, &mut searching);
    hand_back_fresh(core);
    driver::worker_ends(&core.remote().lane);
    Core::enter(ptr::null());
}

/// To be called when a searcher has found work.
fn stop_searching(core: &Core, searching: &mut bool) {
    let shared = core.shared();
    shared.idle.stop_searching(std::mem::take(searching), |worker| shared.unpark(worker));
}

/// Looks at the injector, the driver, the peers' queues and their timers.
fn search(core: &Core, searching: &mut bool, random: &mut u32) -> Option<NonNull<Task>> {
    core.fire_own_timers();
    if let Some(task) = core.pick() {
        return Some(task);
    }
    if core.is_off_duty() && !*searching {
        return None;
    }
    if let Some(task) = poll_driver(core).or_else(|| core.take_injected()) {
        return Some(task);
    }
    let shared = core.shared();
    if !*searching {
        *searching = shared.idle.begin_search();
        if !*searching {
            return core.pick();
        }
    }
    for round in 0..SEARCH_ROUNDS {
        let last = round + 1 == SEARCH_ROUNDS;
        if let Some(task) = steal(core, random, last).or_else(|| core.take_injected()) {
            return Some(task);
        }
        // With a lane, to sleep is one system call, and there may be neighbours that send what comes next.
        if !core.inbox().is_empty() || core.remote().lane.is_open() && !shared.has_stealable() {
            break;
        }
        for _ in 0..16 << round {
            std::hint::spin_loop();
        }
    }
    let now = clock::now();
    for (worker, remote) in shared.members().iter().enumerate() {
        // Where threads stay, a peer alone can run what its timers wake: fired from here it would go
        // through the peer's inbox, and the peer be woken twice. Relaxed: a hint.
        if worker == core.index || shared.migrating || remote.held.load(Ordering::Relaxed) {
            core.fire_timers(worker, now);
        }
    }
    core.pick()
}

/// Takes events that are ready already, if somebody brings events and nobody else takes them.
fn poll_driver(core: &Core) -> Option<NonNull<Task>> {
    let woken = core.look_for_events()?;
    let task = core.pick();
    core.hands_over.set(task.is_none() && woken > 0);
    task
}

/// One round over the peers, from a random one on. A thread that is alone in its queue is left to
/// its worker until the last round: most often that worker is about to run it, to join it or to
/// answer it, and taking it away would make both wait for messages between cores.
fn steal(core: &Core, random: &mut u32, last_round: bool) -> Option<NonNull<Task>> {
    let worth_it = |queue: &Stealer<Runnable>| last_round || queue.len() > 1;
    let remotes = core.shared().members();
    let start = next_random(random) as usize % remotes.len();
    for step in 0..remotes.len() {
        let victim = (start + step) % remotes.len();
        if victim == core.index {
            continue;
        }
        let remote = &remotes[victim];
        let mut stolen = Steal::Empty;
        if worth_it(&remote.ready) {
            stolen = remote.ready.steal_batch_and_pop(&core.ready);
        }
        if stolen.is_empty() && worth_it(&remote.fresh) {
            stolen = remote.fresh.steal_batch_and_pop(&core.fresh);
        }
        if let Steal::Success(Runnable(task)) = stolen {
            core.shared().count_steal(core.index);
            return Some(task);
        }
    }
    None
}

/// How long a worker spins before it sleeps, if it spins.
const SPIN_NANOS: u64 = 20_000;
/// A wait that a peer ended sooner than this was worth spinning for.
const SHORT_WAIT_NANOS: u64 = 60_000;

/// Sleeps until the worker is claimed, summoned, or its first timer is due. True if it wakes as a
/// searcher.
///
/// Two threads that are pinned to two workers and answer each other at once would cost two wake-ups
/// of OS threads a round, tens of microseconds. So a worker whose last wait was short, and ended by
/// a peer and not by the poller or a timer, spins for a moment first. A waker need not know: it
/// finds a worker asleep whose OS thread is not.
fn sleep(core: &Core, searching: bool) -> bool {
    let (shared, index) = (core.shared(), core.index);
    if core.is_recalled() {
        // The last pick found nothing because of that, and may find something the next time.
        return searching;
    }
    let sleep = Sleep { core, started: Cell::new(0), wake: RefCell::default() };
    let woken = match shared.idle.rest(index, searching, &sleep) {
        Rested::Not { searches } => return searches,
        Rested::Slept(woken) => woken,
    };
    let mut wake = sleep.wake.borrow_mut();
    if !wake.is_empty() {
        let others = wake.flush() > 0 || driver::is_other_worker_awake();
        core.hands_over.set(others && !core.has_queued());
    }
    let short = woken != Woken::ByItself
        && shared.remotes[index].woken_by_peer.load(Ordering::Relaxed)
        && clock::now() - sleep.started.get() < SHORT_WAIT_NANOS;
    core.set_spins(short);
    woken == Woken::Claimed
}

struct Sleep<'a> {
    core: &'a Core,
    started: Cell<u64>,
    /// Whom the events wake that have ended the sleep.
    wake: RefCell<WakeBatch>,
}

impl Rest for Sleep<'_> {
    fn has_work(&self, all: bool) -> bool {
        match all {
            true => self.core.shared().has_work_for(self.core.index),
            false => !self.core.inbox().is_empty(),
        }
    }

    fn is_stopping(&self) -> bool {
        self.core.shared().is_stopping()
    }

    fn sleep(&self) {
        self.started.set(clock::now());
        let spun = self.core.spins() && spin(self.core, self.started.get());
        if !spun {
            let lane = &self.core.remote().lane;
            driver::worker_sleeps(lane);
            sleep_deeply(self.core, &mut self.wake.borrow_mut());
            driver::worker_wakes(lane);
        }
    }

    fn wakes(&self) {
        monitor::worker_wakes();
    }
}

/// True if somebody woke the worker meanwhile.
fn spin(core: &Core, started: u64) -> bool {
    let until = started.saturating_add(SPIN_NANOS).min(core.next_timer());
    while clock::now() < until {
        for _ in 0..16 {
            if !core.shared().idle.is_asleep(core.index) {
                return true;
            }
            std::hint::spin_loop();
        }
    }
    false
}

fn sleep_deeply(core: &Core, wake: &mut WakeBatch) {
    let (shared, index) = (core.shared(), core.index);
    shared.count_sleep(index);
    let mut reaper = Reaper::new(core);
    while wake.is_empty() && shared.idle.is_asleep(index) {
        // (A spare off duty fires none but its own, and must not wake up for others.)
        let held = if core.is_off_duty() { NEVER } else { shared.next_held_timer() };
        let timer = core.next_timer().min(held);
        let reap = reaper.next();
        match timer.min(reap) {
            NEVER => doze(core, None, wake),
            next => match next.checked_sub(clock::now()) {
                Some(nanos @ 1..) => doze(core, Some(Duration::from_nanos(nanos)), wake),
                _ if timer <= reap => break,
                _ => {
                    // It may have been in charge of events, and this takes long.
                    driver::call();
                    core.remote().lane.watch(false);
                    reaper.reap();
                }
            },
        }
    }
}

/// How long a worker leaves the seat to others for whom all events were that it took.
const NAP: Duration = Duration::from_micros(250);
/// How long it relies on the visits of others before it looks whether they still come.
const TRUST: Duration = Duration::from_millis(2);

/// Sleeps until woken, until `timeout` has passed, or for no reason; in the worker's lane, or else in the
/// driver's seat, if there is one and it is free. Then events end the sleep, too, and `wake` has whom they
/// wake.
///
/// Two leave the seat alone for a while: who knows that others who are awake look for events often, since
/// each event would wake this worker for nothing; and who has just taken events that were all for others,
/// who are awake now, so that they are in the seat when the next ones come.
fn doze(core: &Core, timeout: Option<Duration>, wake: &mut WakeBatch) {
    let park = |timeout: Option<Duration>| match timeout {
        None => thread::park(),
        Some(timeout) => thread::park_timeout(timeout),
    };
    let nap =
        |longest| thread::park_timeout(timeout.map_or(longest, |timeout| timeout.min(longest)));
    let Some(driver) = driver::installed() else { return park(timeout) };
    let is_asleep = || core.shared().idle.is_asleep(core.index);
    if core.remote().lane.wait(&core.remote().berth, is_asleep, timeout, wake) {
        return;
    }
    if core.hands_over.take() {
        return nap(NAP);
    }
    if core.is_off_duty() {
        // It is not to be woken for what others do.
        if !driver.is_attended() {
            driver.call();
        }
        return park(timeout);
    }
    let mut visits = core.visits.get();
    // Who came by before may be asleep by now. So each relies on those who came after it, and the last one
    // takes the seat.
    visits.look();
    if visits.are_made_by_others() {
        nap(TRUST);
        visits.look();
        return core.visits.set(visits);
    }
    if !driver.take_seat(true) {
        return park(timeout);
    }
    let wait = || driver::wait(driver, timeout, &mut visits, wake);
    if core.remote().berth.wait(is_asleep, wait) {
        core.visits.set(visits);
    } else {
        driver.leave_seat();
    }
}

/// At the end: threads that never ran go to the injector, where the last worker out finds them.
fn hand_back_fresh(core: &Core) {
    while let Some(fresh) = core.fresh.pop() {
        core.shared().injector.push(fresh);
    }
    let rest =
        || core.ready.pop().or_else(|| core.local().pop().and_then(NonNull::new).map(Runnable));
    while let Some(Runnable(task)) = rest() {
        // SAFETY: the run reference is ours.
        if !unsafe { task.as_ref() }.started.get() {
            core.shared().injector.push(Runnable(task));
        }
    }
}

fn fast_random(seed: usize) -> u32 {
    (seed as u32).wrapping_mul(0x9e37_79b9) | 1
}

/// Xorshift (G. Marsaglia, *Xorshift RNGs*, 2003): spreads thieves over victims, no more.
fn next_random(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}
