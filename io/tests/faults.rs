//! What peers, and the program itself, may do to those who wait for a socket.

mod bound;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bine_io::net::{TcpListener, TcpStream};
use bine_io::os::unix::net::UnixStream;
use bine_runtime::Builder;
use bine_runtime::thread::{self, Cancelled};
use bound::{bounded, everywhere, pair, spawn};
use socket2::SockRef;

const WAITERS: usize = 10;

/// Threads that wait for `stream` in one direction, and what their operations return.
fn waiters<T: Send + 'static>(
    stream: &Arc<TcpStream>,
    operation: fn(&TcpStream) -> T,
) -> Vec<bound::Task<T>> {
    let waiter = |number| {
        // Half of them through a descriptor of their own.
        let clone = (number % 2 == 1).then(|| stream.try_clone().unwrap());
        let stream = Arc::clone(stream);
        spawn(move || operation(clone.as_ref().unwrap_or(&stream)))
    };
    let waiters = (0..WAITERS).map(waiter).collect();
    // Most of them get as far as to wait.
    (0..WAITERS).for_each(|_| thread::yield_now());
    waiters
}

fn read_one(mut stream: &TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0]).map_err(|error| error.kind())
}

/// Writes until that fails.
fn write_on(mut stream: &TcpStream) -> ErrorKind {
    loop {
        if let Err(error) = stream.write(&[0; 1 << 16]) {
            return error.kind();
        }
    }
}

#[test]
fn a_shutdown_ends_all_waits_in_both_directions() {
    everywhere(|| {
        let (_client, server) = pair();
        let server = Arc::new(server);
        let (readers, writers) = (waiters(&server, read_one), waiters(&server, write_on));
        server.shutdown(Shutdown::Both).unwrap();
        for reader in readers {
            assert_eq!(reader.join(), Ok(0));
        }
        for writer in writers {
            assert_eq!(writer.join(), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn the_end_of_the_peer_wakes_all_who_read() {
    everywhere(|| {
        let (client, server) = pair();
        let server = Arc::new(server);
        let readers = waiters(&server, read_one);
        drop(client);
        for reader in readers {
            assert_eq!(reader.join(), Ok(0));
        }
    });
}

/// One of them gets the error; the others find the end, or the pipe broken.
#[test]
fn a_reset_wakes_all_who_wait() {
    everywhere(|| {
        let (client, server) = pair();
        let server = Arc::new(server);
        let (readers, writers) = (waiters(&server, read_one), waiters(&server, write_on));
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let mut resets = 0;
        for reader in readers {
            match reader.join() {
                Ok(0) => {}
                Err(ErrorKind::ConnectionReset) => resets += 1,
                other => panic!("{other:?}"),
            }
        }
        for writer in writers {
            match writer.join() {
                ErrorKind::BrokenPipe => {}
                ErrorKind::ConnectionReset => resets += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(resets, 1);
    });
}

/// What only unsafe code can do. Those who wait are left waiting, as with std; neither they nor the
/// next owner of the number get what is meant for the other.
#[test]
fn a_number_that_is_taken_over_under_those_who_wait_is_another_file() {
    for migrates in [false, true] {
        // One worker and no spares: who has counted itself runs on until it waits.
        let builder = Builder::new().workers(1).spare_workers(0);
        // SAFETY: the threads keep no thread-local borrow across a blocking call.
        let builder = if migrates { unsafe { builder.migrate() } } else { builder };
        let runtime = builder.build().unwrap();
        bounded(move || runtime.run(take_a_number_over));
    }
}

/// Sockets whose numbers are others' now: dropped, they would close them.
static TAKEN_OVER: Mutex<Vec<Arc<TcpStream>>> = Mutex::new(Vec::new());

fn take_a_number_over() {
    let (mut client, server) = pair();
    let server = Arc::new(server);
    let started = Arc::new(AtomicUsize::new(0));
    let waiting: Vec<_> = (0..WAITERS)
        .map(|_| {
            let (server, started) = (Arc::clone(&server), Arc::clone(&started));
            bine_runtime::spawn(move || {
                started.fetch_add(1, Ordering::Relaxed);
                (&*server).read(&mut [0; 8]).unwrap()
            })
        })
        .collect();
    while started.load(Ordering::Relaxed) < WAITERS {
        thread::yield_now();
    }
    let number = server.as_raw_fd();
    let (mut far, near) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: replaces a descriptor that belongs to `server`, which is used no more and never
    // dropped (see below); its readers only wait.
    assert_eq!(unsafe { libc::dup3(near.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
    drop(near);
    TAKEN_OVER.lock().unwrap().push(server);
    // SAFETY: the number is `near`'s now, and nobody else's.
    let mut near = unsafe { UnixStream::from_raw_fd(number) };
    let successor = bine_runtime::spawn(move || {
        let mut word = [0; 5];
        near.read_exact(&mut word).unwrap();
        (near, word)
    });
    thread::yield_now();
    // The old connection ended with its only descriptor.
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    far.write_all(b"hello").unwrap();
    let (near, word) = successor.join().unwrap();
    assert_eq!(&word, b"hello");
    assert!(waiting.iter().all(|thread| !thread.is_finished()), "nothing came for them");
    for thread in &waiting {
        thread.cancel().unwrap();
    }
    for thread in waiting {
        assert!(thread.join().unwrap_err().is::<Cancelled>());
    }
    // Their leaving has not touched the successor.
    far.write_all(b"again").unwrap();
    (&near).read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn a_half_open_peer_is_served_until_it_goes() {
    everywhere(|| {
        let (mut client, mut server) = pair();
        let serves = spawn(move || {
            let mut request = Vec::new();
            server.read_to_end(&mut request).unwrap();
            assert_eq!(request, b"request");
            // Only one direction has ended: there is room for many replies.
            for _ in 0..100 {
                server.write_all(&[7; 10_000]).unwrap();
                assert_eq!(server.read(&mut [0]).unwrap(), 0);
            }
            write_on(&server)
        });
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut replies = vec![0; 1_000_000];
        client.read_exact(&mut replies).unwrap();
        assert!(replies.iter().all(|&byte| byte == 7));
        drop(client);
        let gone = serves.join();
        assert!(matches!(gone, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{gone}");
    });
}

/// A peer that neither sends nor goes: what bounds the wait is the timeout.
#[test]
fn a_silent_peer_costs_a_timeout() {
    everywhere(|| {
        let (_client, server) = pair();
        server.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let server = Arc::new(server);
        for reader in waiters(&server, read_one) {
            assert_eq!(reader.join(), Err(ErrorKind::WouldBlock));
        }
    });
}

#[test]
fn slow_readers_hold_up_their_own_writers_only() {
    const SLOW: usize = 8;
    const LEN: usize = 8 << 20;
    everywhere(|| {
        let done = Arc::new(AtomicBool::new(false));
        let slow: Vec<_> = (0..SLOW)
            .map(|_| {
                let (client, mut server) = pair();
                let done = Arc::clone(&done);
                let writer = spawn(move || {
                    server.write_all(&vec![3; LEN]).unwrap();
                    // Relaxed: the test asks on one thread whether any writer has got through.
                    done.store(true, Ordering::Relaxed);
                });
                (client, writer)
            })
            .collect();
        // The buffers fill up, and an echo beside them goes on.
        let (mut client, mut server) = pair();
        let echo = spawn(move || {
            let mut word = [0; 4];
            while server.read_exact(&mut word).is_ok() {
                server.write_all(&word).unwrap();
            }
        });
        for round in 0..300u32 {
            client.write_all(&round.to_ne_bytes()).unwrap();
            let mut word = [0; 4];
            client.read_exact(&mut word).unwrap();
            assert_eq!(u32::from_ne_bytes(word), round);
        }
        drop(client);
        echo.join();
        assert!(!done.load(Ordering::Relaxed), "nobody has read so much");
        // In small pieces, one connection after another; every byte arrives.
        for (mut client, writer) in slow {
            let (mut buf, mut len) = ([0; 5000], 0);
            loop {
                let n = client.read(&mut buf).unwrap();
                assert!(buf[..n].iter().all(|&byte| byte == 3));
                len += n;
                if n == 0 {
                    break;
                }
            }
            assert_eq!(len, LEN);
            writer.join();
        }
    });
}

#[test]
fn a_storm_of_connections_is_accepted_once_each() {
    const ACCEPTORS: usize = 8;
    const CLIENTS: usize = 160;
    everywhere(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Arc::new(listener);
        let seen: Arc<Vec<_>> = Arc::new((0..CLIENTS).map(|_| AtomicUsize::new(0)).collect());
        let acceptors: Vec<_> = (0..ACCEPTORS)
            .map(|_| {
                let (listener, seen) = (Arc::clone(&listener), Arc::clone(&seen));
                spawn(move || {
                    for _ in 0..CLIENTS / ACCEPTORS {
                        let (mut stream, _) = listener.accept().unwrap();
                        let mut number = [0; 8];
                        stream.read_exact(&mut number).unwrap();
                        seen[usize::from_ne_bytes(number)].fetch_add(1, Ordering::Relaxed);
                        stream.write_all(b"!").unwrap();
                    }
                })
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.write_all(&number.to_ne_bytes()).unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join());
        acceptors.into_iter().for_each(|acceptor| acceptor.join());
        assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    });
}
