//! The poller: one epoll instance for the process, and the thread that blocks in it.
//!
//! It starts when the first descriptor has to wait. Each descriptor is registered once, for both
//! directions, edge-triggered, so an event costs one atomic update of a slot and no further system
//! call. The thread takes events in batches, collects the threads that they wake, and wakes them
//! at the end of the batch.
//!
//! A worker that is about to sleep also takes events ([`Driver`]), since a hand-off from the
//! poller's thread costs most when the load is light. Edge-triggered, each event goes to one of
//! those who ask; two of them may still apply events of one descriptor at the same time, in either
//! order, which is fine: events only add bits (`readiness.rs`).
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
use crate::gate::Gate;
use crate::readiness::{Direction, Ready};
use crate::slot::{Slab, Slot, Token};
use crate::sys::{self, Events, SignalsBlocked};

/// Events that the thread takes at once.
const BATCH: usize = 1024;
/// How long the thread naps while a worker has work. Bounds how late an event is seen when no
/// worker runs out of work.
const NAP: Duration = Duration::from_micros(250);
/// Events that a worker takes at once, on its own stack.
const WORKER_BATCH: usize = 64;
/// Both directions, hang-up of the peer's half, urgent data (at which reads stop short, so it must
/// be known of). Errors and full hang-ups are always reported.
const INTEREST: u32 =
    (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET) as u32;

static POLLER: OnceLock<Poller> = OnceLock::new();
/// Held while the poller is started, so that it is started once.
static STARTING: Mutex<()> = Mutex::new(());

/// The process's epoll instance and the slots that its events refer to.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    slab: Slab,
    gate: Gate,
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
    let epoll = sys::epoll_create().map_err(tried("creating the poller's epoll instance"))?;
    let spawned = {
        // Signals are for the program's own threads; inherited, so that there is no gap.
        let _blocked = SignalsBlocked::new();
        driver::start_thread("bine-poller".into(), 128 << 10, || POLLER.wait().run())
    };
    spawned.map_err(tried("starting the poller thread"))?;
    let poller = POLLER.get_or_init(|| Poller {
        epoll,
        slab: Slab::new(),
        gate: Gate::new(),
        thread: OnceLock::new(),
    });
    driver::install(poller);
    Ok(poller)
}

impl Poller {
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
            match events.wait(self.epoll.as_raw_fd(), true) {
                Ok(batch) => self.apply(batch, &mut wake),
                Err(error) => panic!("the poller's epoll instance is unusable: {error}"),
            }
            if wake.flush() == 0 && self.gate.close(|| !driver::any_worker_awake()) {
                thread::park_timeout(NAP);
                self.gate.open();
            }
        }
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
    fn poll(&self, wake: &mut WakeBatch) -> usize {
        // A forked child shares the instance; the events are the parent's.
        if fork::in_child() {
            return 0;
        }
        let mut events = Events::<WORKER_BATCH>::new();
        // An error is the poller thread's to report.
        let Ok(batch) = events.wait(self.epoll.as_raw_fd(), false) else { return 0 };
        self.apply(batch, wake);
        batch.len()
    }

    fn worker_sleeps(&self) {
        if self.gate.worker_sleeps()
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
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
    fn workers_and_the_poller_thread_take_events_side_by_side() {
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
                        poller.poll(&mut WakeBatch::new());
                        thread::yield_now();
                    }
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
