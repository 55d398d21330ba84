//! Any descriptor: pipes, eventfds, timerfds, inotify, and what cannot be waited for.

mod bound;

use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bine_io::Async;
use bine_runtime::thread;
use bound::{everywhere, spawn};
use socket2::SockRef;

/// Takes what the kernel has returned: a descriptor or an error.
fn owned(fd: i32) -> OwnedFd {
    assert_ne!(fd, -1, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has just returned this descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn eventfd(flags: i32) -> File {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | flags) }).into()
}

fn async_pipe() -> (Async<PipeReader>, Async<PipeWriter>) {
    let (reader, writer) = pipe().unwrap();
    (Async::new(reader).unwrap(), Async::new(writer).unwrap())
}

#[test]
fn a_pipe_carries_more_than_it_holds() {
    everywhere(|| {
        let (mut reader, mut writer) = async_pipe();
        let message: Vec<u8> = (0..1 << 20).map(|i| (i / 253) as u8).collect();
        let sent = message.clone();
        let sender = spawn(move || writer.write_all(&sent).unwrap());
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        sender.join();
        assert!(got == message);
    });
}

#[test]
fn the_end_of_a_pipe_wakes_all_of_its_readers() {
    everywhere(|| {
        let (reader, writer) = async_pipe();
        let reader = Arc::new(reader);
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let reader = Arc::clone(&reader);
                spawn(move || reader.read_with(|mut pipe| pipe.read(&mut [0; 8])).unwrap())
            })
            .collect();
        (0..10).for_each(|_| thread::yield_now());
        drop(writer);
        for reader in readers {
            assert_eq!(reader.join(), 0);
        }
    });
}

#[test]
fn a_writer_without_readers_gets_an_error() {
    everywhere(|| {
        let (reader, writer) = async_pipe();
        let sender = spawn(move || {
            loop {
                if let Err(error) = (&writer).write(&[0; 4096]) {
                    return error.kind();
                }
            }
        });
        thread::yield_now();
        drop(reader);
        assert_eq!(sender.join(), ErrorKind::BrokenPipe);
    });
}

/// Nobody here tells the poller what was read: the wait must ask the kernel.
#[test]
fn readable_and_writable_tell_the_state_and_not_an_old_event() {
    everywhere(|| {
        let (reader, writer) = async_pipe();
        let short = Duration::from_millis(1);
        for round in 0..20 {
            let timed_out = reader.readable_timeout(short).unwrap_err();
            assert_eq!(timed_out.kind(), ErrorKind::TimedOut, "round {round}");
            writer.writable().unwrap();
            writer.get_ref().write_all(b"x").unwrap();
            reader.readable().unwrap();
            reader.readable_timeout(Duration::ZERO).unwrap();
            assert_eq!(reader.get_ref().read(&mut [0; 8]).unwrap(), 1);
        }
        while writer.get_ref().write(&[0; 4096]).is_ok() {}
        assert_eq!(writer.writable_timeout(short).unwrap_err().kind(), ErrorKind::TimedOut);
        let drains = spawn(move || {
            while reader.get_ref().read(&mut [0; 4096]).is_ok() {}
            reader
        });
        writer.writable().unwrap();
        let reader = drains.join();
        drop(writer);
        reader.readable().unwrap();
        assert_eq!(reader.get_ref().read(&mut [0; 8]).unwrap(), 0);
    });
}

#[test]
fn an_eventfd_passes_counts_on() {
    everywhere(|| {
        // One that is non-blocking by itself, and one that is made so.
        for flags in [libc::EFD_NONBLOCK, 0] {
            let event = Arc::new(Async::new(eventfd(flags | libc::EFD_SEMAPHORE)).unwrap());
            let taken = Arc::new(AtomicU64::new(0));
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    let (event, taken) = (Arc::clone(&event), Arc::clone(&taken));
                    spawn(move || {
                        for _ in 0..50 {
                            let mut count = [0; 8];
                            event.read_with(|mut file| file.read(&mut count)).unwrap();
                            taken.fetch_add(u64::from_ne_bytes(count), Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            for _ in 0..50 {
                (&*event).write_all(&4u64.to_ne_bytes()).unwrap();
                thread::yield_now();
            }
            takers.into_iter().for_each(|taker| taker.join());
            assert_eq!(taken.load(Ordering::Relaxed), 200);
        }
    });
}

#[test]
fn a_full_eventfd_is_waited_for() {
    everywhere(|| {
        let event = Arc::new(Async::new(eventfd(0)).unwrap());
        (&*event).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        let short = Duration::from_millis(1);
        let one = 1u64.to_ne_bytes();
        let full = event.write_with_timeout(short, |mut file| file.write(&one)).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::TimedOut);
        let writes = Arc::clone(&event);
        let writer = spawn(move || (&*writes).write_all(&one).unwrap());
        thread::yield_now();
        (&*event).read_exact(&mut [0; 8]).unwrap();
        writer.join();
        (&*event).read_exact(&mut [0; 8]).unwrap();
    });
}

#[test]
fn a_timerfd_ticks() {
    everywhere(|| {
        // SAFETY: no memory is involved.
        let timer =
            owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) });
        let step = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        let times = libc::itimerspec { it_interval: step, it_value: step };
        let start = Instant::now();
        // SAFETY: `times` is valid for the call, and nothing is asked for in return.
        let set = unsafe {
            libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const times, std::ptr::null_mut())
        };
        assert_eq!(set, 0);
        let timer = Async::new(File::from(timer)).unwrap();
        let mut ticks = 0;
        while ticks < 5 {
            let mut count = [0; 8];
            timer.read_with(|mut file| file.read(&mut count)).unwrap();
            ticks += u64::from_ne_bytes(count);
        }
        assert!(start.elapsed() >= Duration::from_millis(10));
    });
}

#[test]
fn inotify_tells_of_files() {
    everywhere(|| {
        let directory = std::env::temp_dir();
        let name = format!("bine-inotify-{}-{:?}", std::process::id(), Instant::now());
        let name = name.replace(['{', '}', ' ', ':', ','], "");
        let file = directory.join(&name);
        // SAFETY: no memory is involved.
        let inotify = owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) });
        let path = std::ffi::CString::new(directory.to_str().unwrap()).unwrap();
        // SAFETY: `path` ends with a zero byte.
        let watch =
            unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), libc::IN_CREATE) };
        assert_ne!(watch, -1);
        let inotify = Async::new(File::from(inotify)).unwrap();
        let created = file.clone();
        let creates = spawn(move || drop(File::create(created).unwrap()));
        // Others use the directory, too.
        let mut events = [0; 4096];
        while {
            let len = inotify.read_with(|mut file| file.read(&mut events)).unwrap();
            !events[..len].windows(name.len()).any(|window| window == name.as_bytes())
        } {}
        creates.join();
        std::fs::remove_file(file).unwrap();
    });
}

#[test]
fn what_epoll_does_not_take_is_an_error_when_it_is_wrapped() {
    for path in ["/proc/self/exe", "/"] {
        let error = Async::new(File::open(path).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().starts_with("adding a descriptor"), "{error}");
    }
}

#[test]
fn an_operation_gets_its_own_errors_and_is_repeated_when_interrupted() {
    everywhere(|| {
        let (reader, _writer) = async_pipe();
        let error = reader.read_with(|_| Err::<(), _>(io::Error::other("mine"))).unwrap_err();
        assert_eq!(error.to_string(), "mine");
        let mut calls = 0;
        let value = reader.read_with(|_| {
            calls += 1;
            if calls < 4 { Err(ErrorKind::Interrupted.into()) } else { Ok("done") }
        });
        assert_eq!((value.unwrap(), calls), ("done", 4));
        let start = Instant::now();
        let timeout = Duration::from_millis(20);
        let late = reader.read_with_timeout(timeout, |mut pipe| pipe.read(&mut [0; 8]));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= timeout);
    });
}

#[test]
fn what_was_wrapped_comes_back() {
    everywhere(|| {
        let (reader, writer) = pipe().unwrap();
        let fd = reader.as_raw_fd();
        let mut reader = Async::new(reader).unwrap();
        assert_eq!((reader.as_raw_fd(), reader.as_fd().as_raw_fd()), (fd, fd));
        // SAFETY: it is not replaced.
        assert_eq!(unsafe { reader.get_mut() }.as_raw_fd(), fd);
        let reader = reader.into_inner();
        assert!(SockRef::from(&reader).nonblocking().unwrap());
        // And may be wrapped again, by reference as well.
        let borrowed = Async::new(&reader).unwrap();
        let again = Async::new(reader.as_fd()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{again}");
        (&writer).write_all(b"x").unwrap();
        assert_eq!(borrowed.read_with(|pipe| (&**pipe).read(&mut [0; 8])).unwrap(), 1);
    });
}
