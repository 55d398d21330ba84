//! The poller: one epoll instance for the process, those of workers, and who takes events from them.
//!
//! It starts when the first descriptor has to wait. Each descriptor is registered once, for both
//! directions, edge-triggered, so an event costs one atomic update of a slot and no further system
//! call: in the *lane* of a worker, if a thread that stays on that worker is the first to wait for it, which
//! is told in `lane.rs`, or else in the process's instance. Events are taken in batches, by one thread
//! at a time from each instance, which collects the threads that they wake, and wakes them at the end of
//! the batch.
//!
//! Most often that is a worker ([`Driver`]): one that is out of work looks for events, and waits for
//! them in its lane or in the process's instance if there are none, so that it runs what they wake by itself.
//! A hand-off between OS threads would cost more than all the rest. A worker that is not out of work looks
//! from time to time. The poller's own thread takes events from the process's instance while no worker does:
//! when none runs without a lane, or all of those that do are held by green threads that compute. It steps
//! back once workers come again. `seat.rs` tells who takes events there when, and why there is always
//! somebody.
//!
//! Whoever waits in an epoll instance is woken for other reasons by an eventfd in it. That one is
//! edge-triggered and never read: one thread takes events, so nobody else takes its edge (but for lanes see
//! `watch.rs`), and one that comes late ends the next wait for no reason.
//!
//! Timers do not concern the poller; they live in the runtime.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fmt, thread};

use bine_runtime::driver::{self, Driver};
use bine_runtime::primitive::Mutex;
use bine_runtime::wait::WakeBatch;

use crate::fork;
use crate::lane::Lanes;
use crate::readiness::{Direction, Ready};
use crate::seat::Seat;
use crate::slot::{Slab, Slot, Token};
use crate::sys::{self, Events, SignalsBlocked};

/// Events that the thread takes at once.
const BATCH: usize = 1024;
/// Events that a worker takes at once, on the stack of the caller, which may be a green thread's.
pub(crate) const WORKER_BATCH: usize = 64;
/// How long the thread leaves events alone where those whom they were for have work: more come together.
const NAP: Duration = Duration::from_micros(250);
/// How long the thread relies on workers that are awake before it looks whether they still come.
const TRUST: Duration = Duration::from_millis(2);
/// How often the thread looks at lanes that must be watched and cannot.
const LOOKS: Duration = Duration::from_millis(10);
/// Both directions, hang-up of the peer's half, urgent data (at which reads stop short, so it must
/// be known of). Errors and full hang-ups are always reported.
const INTEREST: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET) as u32;

/// What an event of the eventfd carries. There is no such slot.
pub(crate) const ALARM: Token = Token { index: u32::MAX, generation: u32::MAX };

static POLLER: OnceLock<Poller> = OnceLock::new();
/// Held while the poller is started, so that it is started once.
static STARTING: Mutex<()> = Mutex::new(());

/// The process's epoll instance and the slots that its events refer to.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    slab: Slab,
    pub(crate) lanes: Lanes,
    /// Of descriptors that are registered by number alone, in which instance they are: a second time would
    /// else go unnoticed in another one.
    by_number: Mutex<BTreeMap<RawFd, RawFd>>,
    seat: Seat,
    /// Ends the wait of whoever has the seat.
    alarm: OwnedFd,
    /// The poller thread, once it runs.
    thread: OnceLock<thread::Thread>,
}

/// An error with what was tried when it came.
#[derive(Debug)]
struct While {
    tried: &'static str,
    error: io::Error,
}

impl fmt::Display for While {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tried, self.error)
    }
}

impl Error for While {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Says what was tried when `error` came. Keeps its kind, and itself as the source.
pub(crate) fn tried(tried: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), While { tried, error })
}

/// How many lanes there are, each of which has two descriptors that stay open. For tests.
#[doc(hidden)]
pub fn lanes() -> usize {
    POLLER.get().map_or(0, |poller| poller.lanes.count())
}

/// The poller, started if need be.
pub(crate) fn get() -> io::Result<&'static Poller> {
    fork::check()?;
    match POLLER.get() {
        Some(poller) => Ok(poller),
        None => start(),
    }
}

/// The poller, if it was started.
pub(crate) fn started() -> Option<&'static Poller> {
    POLLER.get()
}

/// How many descriptors are registered with the poller: those that had to wait at some time in
/// their lives. For tests, which see by it that none is left behind.
#[doc(hidden)]
pub fn registrations() -> usize {
    POLLER.get().map_or(0, |poller| poller.slab.count_open())
}

#[cold]
fn start() -> io::Result<&'static Poller> {
    // First of all, so that a child forked at any time from here is marked and never comes to a
    // lock that was held when it was forked.
    fork::watch().map_err(tried("registering a fork handler for the poller"))?;
    let _starting = STARTING.lock();
    if let Some(poller) = POLLER.get() {
        return Ok(poller);
    }
    let opened = Poller::open()?;
    let spawned = {
        // Signals are for the program's own threads; inherited, so that there is no gap.
        let _blocked = SignalsBlocked::new();
        driver::start_thread("bine-poller".into(), 128 << 10, || POLLER.wait().run())
    };
    spawned.map_err(tried("starting the poller thread"))?;
    let poller = POLLER.get_or_init(|| opened);
    driver::install(poller);
    Ok(poller)
}

impl Poller {
    /// With nobody who takes events.
    fn open() -> io::Result<Self> {
        let epoll = sys::epoll_create().map_err(tried("creating the poller's epoll instance"))?;
        let alarm = sys::eventfd().map_err(tried("creating the poller's eventfd"))?;
        add_alarm(&epoll, &alarm)
            .map_err(tried("adding its eventfd to the poller's epoll instance"))?;
        Ok(Self {
            epoll,
            slab: Slab::new(),
            lanes: Lanes::new(),
            by_number: Mutex::default(),
            seat: Seat::new(),
            alarm,
            thread: OnceLock::new(),
        })
    }

    /// Registers `fd`, in which `exhausted` has just said EAGAIN, in the lane of the calling thread's worker,
    /// or in the process's instance. Also returns the instance.
    ///
    /// Nothing is lost between the EAGAIN and the registration: if the descriptor has become ready
    /// meanwhile, `EPOLL_CTL_ADD` itself queues an event. The other direction starts as ready, so
    /// its first operation makes its system call.
    pub(crate) fn register(
        &self,
        fd: RawFd,
        exhausted: Direction,
    ) -> io::Result<(&Slot, Token, RawFd)> {
        let lane = driver::lane().map(AsRawFd::as_raw_fd);
        match self.register_in(lane.unwrap_or(self.epoll.as_raw_fd()), fd, exhausted) {
            // A lane takes fewer duplicates of a descriptor while it is watched.
            Err(error) if lane.is_some() && error.kind() == ErrorKind::InvalidInput => {
                self.register_in(self.epoll.as_raw_fd(), fd, exhausted)
            }
            result => result,
        }
    }

    /// As [`register`](Self::register), for a descriptor that may be registered already, by its number: then
    /// it is an error. To be ended by [`deregister_number`](Self::deregister_number).
    pub(crate) fn register_number(
        &self,
        fd: RawFd,
        exhausted: Direction,
    ) -> io::Result<(&Slot, Token, RawFd)> {
        let mut by_number = self.by_number.lock();
        let registered = match by_number.get(&fd) {
            // If it is not there any more, then that one was closed, and its owner forgotten.
            Some(&instance) => self.register_in(instance, fd, exhausted)?,
            None => self.register(fd, exhausted)?,
        };
        by_number.insert(fd, registered.2);
        Ok(registered)
    }

    fn register_in(
        &self,
        instance: RawFd,
        fd: RawFd,
        exhausted: Direction,
    ) -> io::Result<(&Slot, Token, RawFd)> {
        let (slot, token) = self.slab.open(exhausted);
        match sys::to_result(sys::epoll_add(instance, fd, INTEREST, token.pack())) {
            Ok(_) => Ok((slot, token, instance)),
            Err(error) => {
                self.slab.close(token);
                Err(tried(match error.raw_os_error() {
                    Some(libc::ENOSPC) => {
                        "adding a descriptor to the poller's epoll instance \
                         (the limit is fs.epoll.max_user_watches)"
                    }
                    _ => "adding a descriptor to the poller's epoll instance",
                })(error))
            }
        }
    }

    /// Ends a registration in `instance`; `fd` must still be open. Whoever waits is woken and finds it ended.
    ///
    /// A duplicate of the descriptor in another process, or one made behind our back, keeps the
    /// open file alive, and with it the registration: so it is removed here and not left to the
    /// `close` that follows. Events that were taken before are stale by their generation.
    pub(crate) fn deregister(&self, instance: RawFd, fd: RawFd, token: Token) {
        // Fails only where somebody has closed the descriptor under us; then there is nothing to
        // remove, and the generation keeps us safe.
        let _ = sys::epoll_delete(instance, fd);
        self.slab.close(token);
    }

    /// As [`deregister`](Self::deregister).
    pub(crate) fn deregister_number(&self, instance: RawFd, fd: RawFd, token: Token) {
        let mut by_number = self.by_number.lock();
        by_number.remove(&fd);
        let _ = sys::epoll_delete(instance, fd);
        drop(by_number);
        self.slab.close(token);
    }

    /// The poller thread.
    fn run(&self) {
        // A process without its poller would hang for ever; there is no way to carry on.
        let _abort = AbortOnUnwind;
        let known = self.thread.set(thread::current());
        debug_assert!(known.is_ok(), "there is one poller thread");
        let mut events = Box::new(Events::<BATCH>::new());
        let mut wake = WakeBatch::new();
        loop {
            if self.lanes.need_looks() {
                self.lanes.look(self, &mut wake);
                wake.flush();
            }
            if !self.seat.take(true) {
                self.rest();
                continue;
            }
            let visit = driver::last_visit();
            let batch = events.wait(self.epoll.as_raw_fd(), self.patience());
            self.seat.leave();
            match batch {
                Ok(batch) => self.apply(batch, &mut wake),
                Err(error) => unusable(&error),
            }
            // A worker that was woken comes by before it sleeps again.
            let woken = wake.flush();
            if woken == 0 {
                if !self.seat.is_handed_back(driver::any_worker_awake) {
                    continue;
                }
                if driver::last_visit() == visit {
                    thread::park_timeout(NAP);
                }
            }
            if driver::last_visit() != visit {
                self.rest();
            }
        }
    }

    /// Leaves events to the workers: until it is called, once one of them has been seen to wait for
    /// them, or until they come no more.
    fn rest(&self) {
        thread::park_timeout(TRUST);
        while !self.seat.is_waited_in() {
            if !self.seat.is_taken() && !driver::is_visited() {
                return;
            }
            thread::park_timeout(TRUST);
        }
        match self.patience() {
            None => thread::park(),
            Some(patience) => thread::park_timeout(patience),
        }
    }

    /// How long the thread may sleep.
    fn patience(&self) -> Option<Duration> {
        self.lanes.need_looks().then_some(LOOKS)
    }

    /// Has the thread find out [how long it may sleep](Self::patience).
    pub(crate) fn alert(&self) {
        self.call();
        self.end_wait();
    }

    pub(crate) fn apply(&self, batch: &[libc::epoll_event], wake: &mut WakeBatch) {
        for event in batch {
            let token = Token::unpack(event.u64);
            if let Some(slot) = self.slab.get(token.index) {
                let ready = readiness_of(event.events);
                // A stale event is one that nobody waits for any more.
                let _ = slot.readiness.event(token.generation, ready, |waker| wake.push(waker));
            } else if let Some(lane) = self.lanes.of(token) {
                lane.drain(self, wake);
            }
        }
    }

    /// Takes events from `instance`. How many.
    pub(crate) fn take(
        &self,
        instance: RawFd,
        timeout: Option<Duration>,
        left: impl FnOnce(),
        wake: &mut WakeBatch,
    ) -> usize {
        let mut events = Events::<WORKER_BATCH>::new();
        let batch = events.wait(instance, timeout);
        left();
        let batch = batch.unwrap_or_else(|error| unusable(&error));
        self.apply(batch, wake);
        batch.len()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

/// Adds an instance's own eventfd to it.
pub(crate) fn add_alarm(epoll: &OwnedFd, alarm: &OwnedFd) -> io::Result<()> {
    let interest = (libc::EPOLLIN | libc::EPOLLET) as u32;
    let added = sys::epoll_add(epoll.as_raw_fd(), alarm.as_raw_fd(), interest, ALARM.pack());
    sys::to_result(added).map(drop)
}

impl Driver for Poller {
    fn take_seat(&self, waits: bool) -> bool {
        // A forked child shares the instance; the events are the parent's.
        !fork::in_child() && self.seat.take(waits)
    }

    fn leave_seat(&self) {
        self.seat.leave();
    }

    fn is_attended(&self) -> bool {
        self.seat.is_taken()
    }

    fn wait(&self, timeout: Option<Duration>, wake: &mut WakeBatch) -> usize {
        self.take(self.epoll.as_raw_fd(), timeout, || self.seat.leave(), wake)
    }

    fn end_wait(&self) {
        if !fork::in_child() {
            sys::eventfd_add(self.alarm.as_raw_fd());
        }
    }

    fn call(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn open_lane(&self) -> Option<&'static dyn driver::Lane> {
        self.lanes.open().map(|lane| -> &dyn driver::Lane { lane })
    }
}

/// Events are lost for good: says so, and ends the process.
#[cold]
pub(crate) fn unusable(error: &io::Error) -> ! {
    let _abort = AbortOnUnwind;
    panic!("the poller's epoll instance is unusable: {error}");
}

/// Prints the panic that ends the poller thread, and then ends the process.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

/// Translates an event's bits.
fn readiness_of(events: u32) -> Ready {
    let events = events as i32;
    let table = [
        (libc::EPOLLIN, Ready::READABLE),
        (libc::EPOLLOUT, Ready::WRITABLE),
        (libc::EPOLLRDHUP, Ready::READ_CLOSED),
        (libc::EPOLLHUP, Ready::READ_CLOSED.and(Ready::WRITE_CLOSED)),
        // Both directions are to try, and one of them gets the error.
        (libc::EPOLLERR, Ready::READ_CLOSED.and(Ready::WRITE_CLOSED)),
        (libc::EPOLLPRI, Ready::URGENT),
    ];
    let set = table.into_iter().filter(|(bit, _)| events & bit != 0);
    set.fold(Ready::default(), |ready, (_, more)| ready.and(more))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::net::{TcpListener, TcpStream};

    #[test]
    fn many_take_events_in_turn() {
        let poller = get().unwrap();
        let done = AtomicBool::new(false);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    // Relaxed: ends the loop some time.
                    while !done.load(Ordering::Relaxed) {
                        if poller.take_seat(false) {
                            poller.wait(Some(Duration::ZERO), &mut WakeBatch::new());
                        }
                        thread::yield_now();
                    }
                    // Nobody else is in charge of events.
                    poller.call();
                });
            }
            let server = scope.spawn(move || {
                let mut word = [0; 4];
                while server.read_exact(&mut word).is_ok() {
                    server.write_all(&word).unwrap();
                }
            });
            for round in 0..3000u32 {
                client.write_all(&round.to_ne_bytes()).unwrap();
                let mut word = [0; 4];
                client.read_exact(&mut word).unwrap();
                assert_eq!(u32::from_ne_bytes(word), round);
            }
            drop(client);
            server.join().unwrap();
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_wait_ends_in_time_by_an_alarm_and_by_an_event() {
        let poller = Poller::open().unwrap();
        let wait = |timeout| {
            assert!(poller.take_seat(true));
            assert!(!poller.take_seat(false));
            poller.wait(timeout, &mut WakeBatch::new())
        };
        let start = std::time::Instant::now();
        let nanos = Duration::from_nanos(1_500_001);
        assert_eq!(wait(Some(nanos)), 0);
        assert!(start.elapsed() >= nanos);
        poller.end_wait();
        assert_eq!(wait(None), 1, "an alarm that comes first ends the next wait");
        assert_eq!(wait(Some(Duration::ZERO)), 0, "once");
        thread::scope(|scope| {
            scope.spawn(|| poller.end_wait());
            assert_eq!(wait(None), 1);
        });
        let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        let (_slot, token, instance) = poller.register(there.as_raw_fd(), Direction::Read).unwrap();
        assert_eq!(wait(None), 1, "there is room for output");
        here.write_all(b"x").unwrap();
        assert_eq!(wait(None), 1);
        poller.deregister(instance, there.as_raw_fd(), token);
        here.write_all(b"x").unwrap();
        assert_eq!(wait(Some(Duration::ZERO)), 0);
    }

    #[test]
    fn a_descriptor_that_epoll_does_not_take_is_an_error() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let error = get().unwrap().register(file.as_raw_fd(), Direction::Read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().starts_with("adding a descriptor"), "{error}");
    }

    #[test]
    fn an_error_keeps_its_kind_and_says_what_was_tried() {
        let error = tried("doing it")(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with("doing it: "), "{error}");
        let source = error.get_ref().and_then(|e| e.source()).expect("a source");
        let source = source.downcast_ref::<io::Error>().expect("an io::Error");
        assert_eq!(source.raw_os_error(), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn a_reset_concerns_both_directions() {
        let ready = readiness_of((libc::EPOLLERR | libc::EPOLLHUP) as u32);
        assert_eq!(ready, Ready::READ_CLOSED.and(Ready::WRITE_CLOSED));
        assert_eq!(readiness_of(libc::EPOLLIN as u32), Ready::READABLE);
        assert_eq!(readiness_of(0), Ready::default());
    }
}
