//! What `runtime` asks of whoever brings events from outside: the trait that bine-io's poller
//! implements.
//!
//! The arrow between the crates points from `io` to `runtime`, so the runtime cannot call the
//! poller by name. Instead the poller [`install`]s itself once for the process, and every worker
//! that is out of work asks the installed driver for events, and waits for them there.
//!
//! Workers whose threads stay have something of their own to ask, a [`Lane`], once one of those threads waits
//! for events. Then they are not in charge of the driver's other events any more, and nobody is of the lane's
//! while the worker does not come by: so whoever knows that it may not for long has it watched. That is the
//! worker itself, before it does what takes long, and when it ends; the monitor, of one that is held; and a
//! runtime that stops, which the monitor forgets.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{io, thread};

use bine_arch::overflow;

use crate::awake::Awake;
use crate::berth::Berth;
use crate::runtime::release_thread;
use crate::wait::WakeBatch;
use crate::worker::{self, Core};
use crate::{clock, fork};

/// A source of wake-ups. One thread at a time takes events from it: the one that has the *seat*.
pub trait Driver: Sync {
    /// Takes the seat, if nobody has it: to wait for events, or for a look.
    fn take_seat(&self, waits: bool) -> bool;

    /// Leaves the seat, which the caller has.
    fn leave_seat(&self);

    /// Whether somebody has the seat.
    fn is_attended(&self) -> bool;

    /// Takes the events that are ready, adds every waiter they wake to `wake`, and returns how many
    /// events it took. If none is ready it waits for some: until `timeout` has passed, without an end
    /// if there is none; or until [`end_wait`](Self::end_wait) is called, also beforehand. May return
    /// early for no reason. The caller has the seat, and has left it when this returns.
    ///
    /// Must not park, as it runs on a worker's own stack.
    fn wait(&self, timeout: Option<Duration>, wake: &mut WakeBatch) -> usize;

    /// Ends the wait of whoever has the seat, or the next one.
    fn end_wait(&self);

    /// Nobody looks after events any more, or nobody may for long: somebody else must take the seat, if it
    /// is free.
    fn call(&self);

    /// A lane for a worker that has none yet, or `None` if the system refuses it.
    fn open_lane(&self) -> Option<&'static dyn Lane>;
}

/// A source of wake-ups of one worker's own, for what its threads wait for, which stay there. As a file it
/// is the epoll instance.
///
/// What it brings is never left alone for long: the worker comes by often, or waits in it, or else somebody
/// has it *watched*. Then whoever takes the driver's events takes those of the lane as well.
pub trait Lane: AsRawFd + Sync {
    /// As [`Driver::wait`], for the worker. Ends a watch. There is no seat.
    fn wait(&self, timeout: Option<Duration>, wake: &mut WakeBatch) -> usize;

    /// The worker is about to wait, and has a SeqCst fence before it looks for the last time whether it is
    /// to; or it has waited.
    fn set_waits(&self, waits: bool);

    /// Ends the wait of the worker, or its next one.
    fn end_wait(&self);

    /// The worker may not come for long. Nothing, if it waits, as things look, unless `for_good`: that is for
    /// one that may be held and is watched by the monitor no more. It does not end this by coming by.
    fn watch(&self, for_good: bool);

    /// The worker ends, or has no use for it. The lane is watched until another one has it.
    fn release(&self);
}

/// The workers of all runtimes, but those that have a lane.
static AWAKE: Awake = Awake::new();
/// When a worker last came to look for events, in nanoseconds.
static LAST_VISIT: AtomicU64 = AtomicU64::new(0);

/// A worker that is not out of work looks for events so long after the last visit of any worker, in
/// nanoseconds.
const VISIT_INTERVAL: u64 = 50_000;
/// After so long without a visit nobody is relied upon to come, in nanoseconds.
const LATE: u64 = 1_000_000;

/// Whether there are workers in the process that neither sleep nor are about to. For a driver that has left
/// the seat, and has a SeqCst fence in between, which pairs with the one of a worker that falls asleep:
/// the last one finds the seat free, or is seen here.
pub fn any_worker_awake() -> bool {
    AWAKE.is_anybody()
}

/// Whether another worker is awake beside the caller, as things look.
pub(crate) fn is_other_worker_awake() -> bool {
    AWAKE.is_another()
}

/// When a worker last came to look for events, whether it got the seat or not. Changes with each visit.
pub fn last_visit() -> u64 {
    // Relaxed, here and below: a hint.
    LAST_VISIT.load(Ordering::Relaxed)
}

/// Whether workers come often.
pub fn is_visited() -> bool {
    clock::now().saturating_sub(last_visit()) < LATE
}

/// A worker starts.
pub(crate) fn worker_starts() {
    AWAKE.start();
}

/// It ends. It may have been in charge of events.
pub(crate) fn worker_ends(lane: &OwnLane) {
    match lane.get() {
        Some(lane) => lane.release(),
        None => leave_charge(),
    }
}

/// A worker will not look after the driver's events any more.
fn leave_charge() {
    AWAKE.end();
    call();
}

/// Has the driver's own thread look after events: the worker that did so may have ended, or may be watched
/// by the monitor no more and held for ever.
pub(crate) fn call() {
    if let Some(driver) = installed() {
        driver.call();
    }
}

/// A worker is about to sleep. It takes the seat, unless [`any_worker_awake`] after this; or it waits in
/// its lane.
pub(crate) fn worker_sleeps(lane: &OwnLane) {
    if !lane.is_open() {
        AWAKE.fall_asleep();
    }
}

/// It has woken up.
pub(crate) fn worker_wakes(lane: &OwnLane) {
    if !lane.is_open() {
        AWAKE.wake_up();
    }
}

/// A worker's lane: none in a migrating runtime, nor before one of the worker's threads first waits for a
/// descriptor. Opened by the worker, while a green thread runs there.
#[derive(Default)]
pub(crate) struct OwnLane {
    lane: OnceLock<&'static dyn Lane>,
    /// When the worker last came by, as [`LAST_VISIT`].
    last_visit: AtomicU64,
}

impl OwnLane {
    pub(crate) fn is_open(&self) -> bool {
        self.get().is_some()
    }

    fn get(&self) -> Option<&'static dyn Lane> {
        self.lane.get().copied()
    }

    /// By the worker. From now on it looks after the lane alone.
    #[cold]
    fn open(&self, driver: &dyn Driver) -> Option<&'static dyn Lane> {
        let lane = driver.open_lane()?;
        self.note_visit();
        if self.lane.set(lane).is_err() {
            unreachable!("one thread opens the worker's lane, and does not park meanwhile");
        }
        leave_charge();
        Some(lane)
    }

    fn note_visit(&self) {
        // Relaxed, here and below: a hint.
        self.last_visit.store(clock::now(), Ordering::Relaxed);
    }

    fn is_visited_since(&self, interval: u64, now: u64) -> bool {
        now.saturating_sub(self.last_visit.load(Ordering::Relaxed)) <= interval
    }

    /// Has somebody look after the lane, if there is one, since the worker may not come for long: as
    /// [`Lane::watch`].
    pub(crate) fn watch(&self, for_good: bool) {
        if let Some(lane) = self.get() {
            lane.watch(for_good);
        }
    }

    /// As [`watch`](Self::watch), if the worker has not come by lately. For the monitor, at `now`, of a
    /// worker that is not asleep.
    pub(crate) fn look_after(&self, now: u64) {
        if self.is_open() && !self.is_visited_since(LATE, now) {
            self.watch(false);
        }
    }

    /// By the worker: takes what is ready.
    fn poll(&self, lane: &dyn Lane, wake: &mut WakeBatch) -> usize {
        self.note_visit();
        lane.wait(Some(Duration::ZERO), wake)
    }

    /// By the worker, which sleeps in `berth`, and waits in the lane unless it is not asleep any more. False
    /// if there is no lane.
    pub(crate) fn wait(
        &self,
        berth: &Berth,
        is_asleep: impl FnOnce() -> bool,
        timeout: Option<Duration>,
        wake: &mut WakeBatch,
    ) -> bool {
        let Some(lane) = self.get() else { return false };
        lane.set_waits(true);
        berth.wait(is_asleep, || {
            lane.wait(timeout, wake);
        });
        // First, for the monitor.
        self.note_visit();
        lane.set_waits(false);
        true
    }

    /// Ends the worker's wait, in its lane or in the seat.
    pub(crate) fn end_wait(&self) {
        match self.get() {
            Some(lane) => lane.end_wait(),
            None => installed().into_iter().for_each(Driver::end_wait),
        }
    }
}

/// The lane of the worker that runs the calling green thread, if it stays there. Opened if need be; none if
/// the system refuses it.
pub fn lane() -> Option<&'static dyn Lane> {
    let (core, _) = worker::green()?;
    let shared = core.shared();
    if shared.migrating || shared.are_lanes_closed() {
        return None;
    }
    let own = &core.remote().lane;
    own.get().or_else(|| {
        let lane = own.open(installed()?)?;
        shared.lane_opened(own);
        Some(lane)
    })
}

/// What a worker knows of the visits of others.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Visits {
    /// Its own last one.
    mine: u64,
    /// Others have come since, and lately.
    by_others: bool,
}

impl Visits {
    /// Whether others look after events, who are awake and come often.
    pub(crate) fn are_made_by_others(self) -> bool {
        self.by_others && any_worker_awake()
    }

    /// Looks again whether others come.
    pub(crate) fn look(&mut self) {
        self.look_at(clock::now());
    }

    fn look_at(&mut self, now: u64) {
        let last = last_visit();
        self.by_others = last != self.mine && now.saturating_sub(last) < LATE;
    }

    /// The worker comes by.
    fn note(&mut self) {
        let now = clock::now();
        self.look_at(now);
        self.mine = now;
        LAST_VISIT.store(now, Ordering::Relaxed);
    }
}

/// Starts an OS thread of the driver's own, with a stack of `stack_size` bytes. There is room for its
/// start, or else an error, unless other threads take that room meanwhile. It does not stay on the
/// core of the worker that starts it.
///
/// # Errors
///
/// If the system refuses the thread, or memory for its start.
pub fn start_thread(
    name: String,
    stack_size: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let begun = Arc::new(OnceLock::new());
    let tell = Arc::clone(&begun);
    drop(overflow::Headroom::hold_with(stack_size)?);
    let builder = thread::Builder::new().name(name).stack_size(stack_size);
    fork::start_thread(builder, (), move || {
        release_thread();
        let told = tell.set(());
        debug_assert!(told.is_ok(), "a thread starts once");
        drop(tell);
        body();
    })?;
    begun.wait();
    Ok(())
}

static DRIVER: OnceLock<&'static dyn Driver> = OnceLock::new();

/// Makes `driver` the one that workers ask before they sleep. The first call of the process wins;
/// later ones are ignored and return false.
pub fn install(driver: &'static dyn Driver) -> bool {
    DRIVER.set(driver).is_ok()
}

/// The installed driver, if there is one.
#[inline]
pub(crate) fn installed() -> Option<&'static dyn Driver> {
    DRIVER.get().copied()
}

/// Takes events that are ready, if somebody brings events and nobody else takes them: those of the worker's
/// lane, if it has one.
#[inline]
pub(crate) fn poll(core: &Core, visits: &mut Visits, wake: &mut WakeBatch) -> usize {
    let Some(driver) = installed() else { return 0 };
    let own = &core.remote().lane;
    if let Some(lane) = own.get() {
        return own.poll(lane, wake);
    }
    visits.note();
    match driver.take_seat(false) {
        true => driver.wait(Some(Duration::ZERO), wake),
        false => 0,
    }
}

/// Whether a worker that is not out of work should look for events.
pub(crate) fn is_visit_due(own: &OwnLane) -> bool {
    if own.is_open() {
        return !own.is_visited_since(VISIT_INTERVAL, clock::now());
    }
    installed().is_some_and(|driver| {
        !driver.is_attended() && clock::now().saturating_sub(last_visit()) > VISIT_INTERVAL
    })
}

/// Waits for events, in the seat that the caller has taken.
pub(crate) fn wait(
    driver: &dyn Driver,
    timeout: Option<Duration>,
    visits: &mut Visits,
    wake: &mut WakeBatch,
) {
    driver.wait(timeout, wake);
    visits.note();
}

/// Sees to it that somebody looks after events although workers that are awake do not come. For the
/// monitor, at `now`.
pub(crate) fn look_after(now: u64) {
    if let Some(driver) = installed()
        && !driver.is_attended()
        && now.saturating_sub(last_visit()) > LATE
    {
        driver.call();
    }
}
