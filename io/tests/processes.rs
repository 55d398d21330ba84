//! Forked children and signals. Alone in its process; one test at a time.

mod bound;

use std::io::{ErrorKind, Read, Write};
use std::sync::Mutex;
use std::time::Duration;
use std::{process, thread};

use bine_io::net::{TcpListener, TcpStream};
use bound::{bounded, pair};

static ALONE: Mutex<()> = Mutex::new(());

/// Forks, runs `f` in the child, and returns what it returns.
fn in_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `f` and ends at once, without destructors or hooks of its parent.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            let code = i32::from(!good.unwrap_or(false));
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is valid for the call.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
    }
}

#[test]
fn a_forked_child_gets_errors_and_leaves_its_parent_alone() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    bounded(|| {
        let (mut client, mut server) = pair();
        server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        server.set_read_timeout(None).unwrap();

        let good = in_child(|| {
            // Registered by the parent, or not yet: there is no poller here.
            let registered = server.read(&mut [0]).unwrap_err();
            let fresh = TcpListener::bind("127.0.0.1:0").unwrap();
            let error = fresh.accept().unwrap_err();
            // What need not wait works.
            let stream = std::net::TcpStream::connect(fresh.local_addr().unwrap()).unwrap();
            let accepted = fresh.accept().is_ok();
            drop(stream);
            // Must not remove the registration that the parent has under the same number.
            // SAFETY: the child owns its copy of the descriptor and does not use it again.
            drop(unsafe { std::ptr::read(&raw const server) });
            accepted
                && registered.kind() == ErrorKind::Unsupported
                && error.kind() == ErrorKind::Unsupported
                && error.to_string().contains("forked")
        });
        assert!(good, "the child's view");

        let reader = thread::spawn(move || server.read_exact(&mut [0; 1]).unwrap());
        client.write_all(b"x").unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn writing_to_a_closed_connection_is_no_signal() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    bounded(|| {
        let (client, server) = pair();
        drop(server);
        // Rust programs ignore SIGPIPE; the child does not, and would die of it.
        let good = in_child(|| {
            // SAFETY: the default disposition involves no handler.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let plain = loop {
                if let Err(error) = (&client).write(b"x") {
                    break error;
                }
            };
            let vectored = (&client).write_vectored(&[std::io::IoSlice::new(b"x")]).unwrap_err();
            matches!(plain.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
                && vectored.kind() == ErrorKind::BrokenPipe
        });
        assert!(good);
    });
}

#[test]
fn ctrl_c_waits_for_sigint() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    bounded(|| {
        let waiting: Vec<_> =
            (0..3).map(|_| thread::spawn(|| bine_io::signal::ctrl_c().unwrap())).collect();
        // The first call installs a handler, which can be seen; before that, SIGINT would kill.
        loop {
            let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: only asks; `action` is valid for the call and is filled by it.
            let action = unsafe {
                libc::sigaction(libc::SIGINT, std::ptr::null(), action.as_mut_ptr());
                action.assume_init()
            };
            if action.sa_sigaction != libc::SIG_DFL {
                break;
            }
            thread::yield_now();
        }
        // A call that begins after another has returned waits for a SIGINT of its own.
        while !waiting.iter().all(thread::JoinHandle::is_finished) {
            // SAFETY: a handler is installed.
            unsafe { libc::raise(libc::SIGINT) };
            thread::yield_now();
        }
        waiting.into_iter().for_each(|call| call.join().unwrap());
        // Several while nobody waits: remembered as one.
        for _ in 0..2 {
            // SAFETY: as above.
            unsafe { libc::raise(libc::SIGINT) };
        }
        bine_io::signal::ctrl_c().unwrap();
    });
}

#[test]
fn the_poller_thread_blocks_all_signals() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    bounded(|| {
        let (_client, mut server): (TcpStream, TcpStream) = pair();
        server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(server.read(&mut [0]).is_err());
        let tasks = format!("/proc/{}/task", process::id());
        let poller =
            std::fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path()).find(|task| {
                std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "bine-poller\n")
            });
        let status = std::fs::read_to_string(poller.unwrap().join("status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
        let blocked = u64::from_str_radix(blocked, 16).unwrap();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGALRM, libc::SIGCHLD] {
            assert_ne!(blocked & 1 << (signal - 1), 0, "signal {signal}");
        }
    });
}
