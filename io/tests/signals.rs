//! Sets of signals. In a process of its own, since signals are the process's: one test at a time.

mod everywhere;

use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bine_io::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals, ctrl_c};
use bine_runtime::thread::{self, Cancelled};
use bine_runtime::time::timeout;
use everywhere::{beside, everywhere, on_green_threads};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const SOON: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

/// Sends a signal to this process; it has been handled when this returns.
fn raise(signal: i32) {
    // SAFETY: no memory is involved. To the calling thread, which handles it at once.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

#[test]
fn those_that_have_come_are_told_once() {
    let _alone = alone();
    everywhere(|| {
        let signals = Signals::new([SIGTERM, SIGHUP, SIGUSR1]).unwrap();
        assert_eq!(signals.try_wait(), None);
        raise(SIGUSR1);
        raise(SIGUSR1);
        raise(SIGTERM);
        raise(SIGHUP);
        let told: Vec<_> = signals.iter().take(3).map(Result::unwrap).collect();
        assert_eq!(told, [SIGHUP, SIGUSR1, SIGTERM]);
        assert_eq!(signals.try_wait(), None);
        assert_eq!(signals.wait_timeout(SOON).unwrap(), None);
        assert!(timeout(SOON, || signals.wait()).is_err());
        raise(SIGTERM);
        assert_eq!(signals.wait_timeout(LONG).unwrap(), Some(SIGTERM));
    });
}

#[test]
fn whoever_waits_is_woken_by_its_own_signals() {
    let _alone = alone();
    everywhere(|| {
        let one = Signals::new([SIGUSR1]).unwrap();
        let two = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
        for _ in 0..50 {
            let woken = beside(|| raise(SIGUSR2), || two.wait().unwrap());
            assert_eq!(woken, SIGUSR2);
            assert_eq!(one.try_wait(), None);
            let woken = beside(|| raise(SIGUSR1), || one.wait().unwrap());
            assert_eq!(woken, SIGUSR1);
            assert_eq!(two.wait().unwrap(), SIGUSR1);
        }
    });
}

#[test]
fn several_share_what_comes() {
    let _alone = alone();
    on_green_threads(|| {
        let signals = Signals::new([SIGUSR1, SIGUSR2, SIGHUP, SIGTERM]).unwrap();
        for _ in 0..20 {
            let mut told: Vec<_> = thread::scope(|scope| {
                let waits = || signals.wait().unwrap();
                let threads = [(); 4].map(|()| scope.spawn(waits));
                [SIGUSR1, SIGUSR2, SIGHUP, SIGTERM].into_iter().for_each(raise);
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            told.sort_unstable();
            let mut sent = [SIGUSR1, SIGUSR2, SIGHUP, SIGTERM];
            sent.sort_unstable();
            assert_eq!(told, sent);
        }
    });
}

#[test]
fn ctrl_c_hears_of_it_as_well_and_what_was_dropped_does_not() {
    let _alone = alone();
    on_green_threads(|| {
        let waits = bine_runtime::spawn(ctrl_c);
        let dropped = Signals::new([SIGINT]).unwrap();
        let signals = Signals::new([SIGINT]).unwrap();
        drop(dropped);
        // Once at least: it may know of one that came before.
        raise(SIGINT);
        while !waits.is_finished() {
            raise(SIGINT);
            thread::yield_now();
        }
        waits.join().unwrap().unwrap();
        assert_eq!(signals.wait().unwrap(), SIGINT);
        drop(signals);
        // A handler stays, which does nothing.
        raise(SIGINT);
    });
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    for signal in [0, -1, 65, libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV] {
        let error = Signals::new([SIGUSR1, signal]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_wait_can_be_cancelled() {
    let _alone = alone();
    on_green_threads(|| {
        let signals = Signals::new([SIGUSR2]).unwrap();
        let thread = bine_runtime::spawn(move || signals.wait());
        thread.cancel().unwrap();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
    });
}
