//! The poller: one epoll instance for the process, and who takes events from it.
//!
//! It starts when the first descriptor has to wait. Each descriptor is registered once, for both
//! directions, edge-triggered, so an event costs one atomic update of a slot and no further system
//! call. Events are taken in batches, by one thread at a time, which collects the threads that they
//! wake, and wakes them at the end of the batch.
//!
//! Most often that is a worker ([`Driver`]): one that is out of work looks for events, and waits for
//! them in the epoll instance if there are none, so that it runs what they wake by itself. A hand-off
//! between OS threads would cost more than all the rest. A worker that is not out of work looks from
//! time to time. The poller's own thread takes events while no worker does: when none runs, or all of
//! those that do are held by green threads that compute. It steps back once workers come again.
//! `seat.rs` tells who takes events when, and why there is always somebody.
//!
//! Whoever waits in the epoll instance is woken for other reasons by an eventfd in it. That one is
//! edge-triggered and never read: one thread takes events, so nobody else takes its edge, and one that
//! comes late ends the next wait for no reason.
//!
//! Timers do not concern the poller; they live in the runtime.

use std::error::Error;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fmt, io, thread};

use bine_runtime::driver::{self, Driver};
use bine_runtime::primitive::Mutex;
use bine_runtime::wait::WakeBatch;

use crate::fork;
use crate::readiness::{Direction, Ready};
use crate::seat::Seat;
use crate::slot::{Slab, Slot, Token};
use crate::sys::{self, Events, SignalsBlocked};

/// Events that the thread takes at once.
const BATCH: usize = 1024;
/// Events that a worker takes at once, on the stack of the caller, which may be a green thread's.
const WORKER_BATCH: usize = 64;
/// How long the thread leaves events alone where those whom they were for have work: more come together.
const NAP: Duration = Duration::from_micros(250);
/// How long the thread relies on workers that are awake before it looks whether they still come.
const TRUST: Duration = Duration::from_millis(2);
/// Both directions, hang-up of the peer's half, urgent data (at which reads stop short, so it must
/// be known of). Errors and full hang-ups are always reported.
const INTEREST: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET) as u32;

/// What an event of the eventfd carries. There is no such slot.
const ALARM: Token = Token { index: u32::MAX, generation: u32::MAX };

static POLLER: OnceLock<Poller> = OnceLock::new();
/// Held while the poller is started, so that it is started once.
static STARTING: Mutex<()> = Mutex::new(());

/// The process's epoll instance and the slots that its events refer to.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    slab: Slab,
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

/// The poller, started if need be.
pub(crate) fn get() -> io::Result<&'static Poller> {
    fork::check()?;
    match POLLER.get() {
        Some(poller) => Ok(poller),
        None => start(),
    }
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
        let interest = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let added = sys::epoll_add(epoll.as_raw_fd(), alarm.as_raw_fd(), interest, ALARM.pack());
        sys::to_result(added)
            .map_err(tried("adding its eventfd to the poller's epoll instance"))?;
        Ok(Self { epoll, slab: Slab::new(), seat: Seat::new(), alarm, thread: OnceLock::new() })
    }

    /// Registers `fd`, in which `exhausted` has just said EAGAIN.
    ///
    /// Nothing is lost between the EAGAIN and the registration: if the descriptor has become ready
    /// meanwhile, `EPOLL_CTL_ADD` itself queues an event. The other direction starts as ready, so
    /// its first operation makes its system call.
    pub(crate) fn register(&self, fd: RawFd, exhausted: Direction) -> io::Result<(&Slot, Token)> {
        let (slot, token) = self.slab.open(exhausted);
        let added = sys::epoll_add(self.epoll.as_raw_fd(), fd, INTEREST, token.pack());
        match sys::to_result(added) {
            Ok(_) => Ok((slot, token)),
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

    /// Ends a registration; `fd` must still be open. Whoever waits is woken and finds it ended.
    ///
    /// A duplicate of the descriptor in another process, or one made behind our back, keeps the
    /// open file alive, and with it the registration: so it is removed here and not left to the
    /// `close` that follows. Events that were taken before are stale by their generation.
    pub(crate) fn deregister(&self, fd: RawFd, token: Token) {
        // Fails only where somebody has closed the descriptor under us; then there is nothing to
        // remove, and the generation keeps us safe.
        let _ = sys::epoll_delete(self.epoll.as_raw_fd(), fd);
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
            if !self.seat.take(true) {
                self.rest();
                continue;
            }
            let visit = driver::last_visit();
            let batch = events.wait(self.epoll.as_raw_fd(), None);
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
        thread::park();
    }

    fn apply(&self, batch: &[libc::epoll_event], wake: &mut WakeBatch) {
        for event in batch {
            let token = Token::unpack(event.u64);
            if let Some(slot) = self.slab.get(token.index) {
                let ready = readiness_of(event.events);
                // A stale event is one that nobody waits for any more.
                let _ = slot.readiness.event(token.generation, ready, |waker| wake.push(waker));
            }
        }
    }
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
        let mut events = Events::<WORKER_BATCH>::new();
        let batch = events.wait(self.epoll.as_raw_fd(), timeout);
        self.seat.leave();
        let batch = batch.unwrap_or_else(|error| unusable(&error));
        self.apply(batch, wake);
        batch.len()
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
}

/// Events are lost for good: says so, and ends the process.
#[cold]
fn unusable(error: &io::Error) -> ! {
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
        let (_slot, token) = poller.register(there.as_raw_fd(), Direction::Read).unwrap();
        assert_eq!(wait(None), 1, "there is room for output");
        here.write_all(b"x").unwrap();
        assert_eq!(wait(None), 1);
        poller.deregister(there.as_raw_fd(), token);
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
