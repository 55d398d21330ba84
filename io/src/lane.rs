//! Lanes: epoll instances of workers whose threads stay where they are.
//!
//! What such a thread waits for wakes it on its own worker. If all workers shared an epoll instance, then the
//! one that takes an event would most often have to wake another for it. So a worker of a runtime in pinned
//! mode has an instance of its own, from the moment when one of its threads first waits for a descriptor.
//! Descriptors for which OS threads or migrating threads are the first to wait are in the process's instance.
//! Wherever it is, a descriptor may be waited for from anywhere: then an event wakes a thread elsewhere.
//!
//! # Why no event waits in a lane
//!
//! A worker that sleeps waits in its lane. While it runs green threads it comes by; if it does not, the
//! monitor, which sees each worker that is awake, has the lane *watched* (`watch.rs`). So has a worker that
//! does something else that takes long, one that ends, and a runtime that stops, which the monitor forgets.
//! The lane is then a descriptor like others in the process's instance, of which `seat.rs` tells that it is
//! never left alone; and what came before it was put there is told as well, as with any descriptor. A worker
//! that comes by ends the watch, and takes what is there.
//!
//! A lane is never closed. One whose worker has ended goes to the next worker that needs one; until then it
//! is watched, since descriptors that outlive their runtime are in it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bine_runtime::driver;
use bine_runtime::primitive::Mutex;
use bine_runtime::wait::WakeBatch;

use crate::fork;
use crate::poller::{self, ALARM, Poller, WORKER_BATCH};
use crate::slot::Token;
use crate::sys::{self, Events};
use crate::watch::Watch;

/// The index of tokens of lanes in the process's epoll instance; their generation is the lane's number.
const LANE: u32 = ALARM.index;

/// All lanes of the process.
#[derive(Debug)]
pub(crate) struct Lanes {
    all: Mutex<Vec<&'static Lane>>,
    /// Those whose workers have ended.
    free: Mutex<Vec<&'static Lane>>,
    /// At most so many need looks now and then.
    refused: AtomicUsize,
}

/// One worker's epoll instance; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Lane {
    epoll: OwnedFd,
    /// Ends the worker's wait.
    alarm: OwnedFd,
    number: u32,
    watch: Watch,
}

impl Lanes {
    pub(crate) const fn new() -> Self {
        Self {
            all: Mutex::new(Vec::new()),
            free: Mutex::new(Vec::new()),
            refused: AtomicUsize::new(0),
        }
    }

    /// A lane for a worker: one that is free, else a new one.
    pub(crate) fn open(&self) -> Option<&'static Lane> {
        if let Some(lane) = self.free.lock().pop() {
            lane.watch.hand_on();
            return Some(lane);
        }
        let (epoll, alarm) =
            sys::epoll_create().and_then(|epoll| Ok((epoll, sys::eventfd()?))).ok()?;
        poller::add_alarm(&epoll, &alarm).ok()?;
        let mut all = self.all.lock();
        let number = u32::try_from(all.len()).ok().filter(|&number| number < ALARM.generation)?;
        // Never freed: events name it at any time, however late.
        let lane = Box::leak(Box::new(Lane { epoll, alarm, number, watch: Watch::new() }));
        all.push(lane);
        Some(lane)
    }

    /// The lane of which an event of the process's instance tells, if it does.
    pub(crate) fn of(&self, token: Token) -> Option<&'static Lane> {
        if token.index != LANE || token == ALARM {
            return None;
        }
        self.all.lock().get(token.generation as usize).copied()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.lock().len()
    }

    /// Whether the system has refused some a place in the process's instance, so that the poller thread has
    /// to [look](Self::look) now and then.
    pub(crate) fn need_looks(&self) -> bool {
        // Relaxed: the poller thread is called after the change.
        self.refused.load(Ordering::Relaxed) > 0
    }

    /// Takes what is ready in those.
    #[cold]
    pub(crate) fn look(&self, poller: &Poller, wake: &mut WakeBatch) {
        // Acquire pairs with the Release in `watch`: who was counted is found below.
        self.refused.swap(0, Ordering::AcqRel);
        let all = self.all.lock().clone();
        for lane in all.into_iter().filter(|lane| lane.watch.needs_looks()) {
            if !lane.begin_watch(poller, false) {
                self.refused.fetch_add(1, Ordering::Relaxed);
                lane.drain(poller, wake);
            }
        }
    }
}

impl Lane {
    fn begin_watch(&self, poller: &Poller, for_good: bool) -> bool {
        let token = Token { index: LANE, generation: self.number };
        self.watch.begin(for_good, || {
            let interest = libc::EPOLLIN as u32;
            sys::epoll_add(poller.as_raw_fd(), self.epoll.as_raw_fd(), interest, token.pack()) >= 0
        })
    }

    fn end_watch(&self, poller: &Poller) {
        self.watch.end(|| {
            let deleted = sys::epoll_delete(poller.as_raw_fd(), self.epoll.as_raw_fd());
            debug_assert!(deleted >= 0, "it was there");
        });
    }

    /// Takes events that are ready, by another thread than the worker. There may be more afterwards, of which
    /// the next event tells.
    #[cold]
    #[inline(never)]
    pub(crate) fn drain(&self, poller: &Poller, wake: &mut WakeBatch) {
        let mut events = Events::<WORKER_BATCH>::new();
        let batch = events.wait(self.epoll.as_raw_fd(), Some(Duration::ZERO));
        let batch = batch.unwrap_or_else(|error| poller::unusable(&error));
        poller.apply(batch, wake);
        if self.watch.has_waiter() {
            self.end_watch(poller);
            if batch.iter().any(|event| { event.u64 } == ALARM.pack()) {
                sys::eventfd_add(self.alarm.as_raw_fd());
            }
        }
    }
}

impl AsRawFd for Lane {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

// A forked child shares the instances; they are the parent's, and so is whoever has a lock here.
impl driver::Lane for Lane {
    fn wait(&self, timeout: Option<Duration>, wake: &mut WakeBatch) -> usize {
        let Some(poller) = here() else { return 0 };
        self.end_watch(poller);
        poller.take(self.epoll.as_raw_fd(), timeout, || (), wake)
    }

    fn set_waits(&self, waits: bool) {
        self.watch.set_waits(waits);
    }

    fn end_wait(&self) {
        if !fork::in_child() {
            sys::eventfd_add(self.alarm.as_raw_fd());
        }
    }

    fn watch(&self, for_good: bool) {
        let Some(poller) = here() else { return };
        // One that wakes up has been away for as long as it has slept.
        if !for_good && self.watch.seems_to_have_waiter() {
            return;
        }
        if !self.begin_watch(poller, for_good) {
            poller.lanes.refused.fetch_add(1, Ordering::Release);
            poller.alert();
        }
    }

    fn release(&self) {
        let Some(poller) = here() else { return };
        // It is already, if the runtime stops.
        driver::Lane::watch(self, true);
        let lane = poller.lanes.all.lock()[self.number as usize];
        poller.lanes.free.lock().push(lane);
    }
}

fn here() -> Option<&'static Poller> {
    if fork::in_child() { None } else { poller::started() }
}
