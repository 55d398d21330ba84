//! TCP between plain OS threads: data, waiters, ends.

mod bound;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bine_io::net::{TcpListener, TcpStream};
use bound::{bounded, pair};
use socket2::SockRef;

/// A small generator of sizes; each seed gives its own sequence.
struct Sizes(u64);

impl Sizes {
    fn next(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

fn echo(mut stream: TcpStream, seed: u64) {
    let mut sizes = Sizes(seed);
    let mut buf = vec![0; 20_000];
    loop {
        let room = 1 + sizes.next(buf.len() - 1);
        match stream.read(&mut buf[..room]).expect("read") {
            0 => return,
            n => stream.write_all(&buf[..n]).expect("write"),
        }
    }
}

#[test]
fn many_threads_echo_messages_of_random_sizes() {
    bounded(|| {
        const CLIENTS: u64 = 16;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let streams = listener.incoming().take(CLIENTS as usize).enumerate();
            let echoes: Vec<_> = streams
                .map(|(i, stream)| thread::spawn(move || echo(stream.unwrap(), i as u64)))
                .collect();
            echoes.into_iter().for_each(|echo| echo.join().unwrap());
        });
        let clients = (0..CLIENTS).map(|client| {
            thread::spawn(move || {
                let mut sizes = Sizes(client + 1000);
                let stream = TcpStream::connect(addr).unwrap();
                for round in 0..60 {
                    let message: Vec<u8> =
                        (0..sizes.next(60_000)).map(|i| (i + round) as u8).collect();
                    // Both directions at once: a message larger than all buffers is no deadlock.
                    thread::scope(|scope| {
                        scope.spawn(|| (&stream).write_all(&message).unwrap());
                        let mut back = vec![0; message.len()];
                        (&stream).read_exact(&mut back).unwrap();
                        assert!(back == message);
                    });
                }
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        server.join().unwrap();
    });
}

#[test]
fn a_writer_waits_until_the_reader_has_made_room() {
    bounded(|| {
        let (mut client, mut server) = pair();
        let message: Vec<u8> = (0..32 << 20).map(|i| (i / 251) as u8).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&message).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
            let mut got = Vec::new();
            server.read_to_end(&mut got).unwrap();
            assert!(got == message);
        });
    });
}

#[test]
fn several_waiters_share_one_listener() {
    bounded(|| {
        const WAITERS: usize = 8;
        const CONNECTIONS: usize = 400;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for waiter in 0..WAITERS {
                // Half of them through a descriptor of their own.
                let clone = (waiter % 2 == 1).then(|| listener.try_clone().unwrap());
                let (listener, accepted) = (&listener, &accepted);
                scope.spawn(move || {
                    let listener = clone.as_ref().unwrap_or(listener);
                    for _ in 0..CONNECTIONS / WAITERS {
                        let (mut stream, _) = listener.accept().unwrap();
                        accepted.fetch_add(1, Ordering::Relaxed);
                        stream.write_all(b"!").unwrap();
                    }
                });
            }
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..CONNECTIONS / 4 {
                        let mut stream = TcpStream::connect(addr).unwrap();
                        stream.read_exact(&mut [0]).unwrap();
                    }
                });
            }
        });
        assert_eq!(accepted.load(Ordering::Relaxed), CONNECTIONS);
    });
}

#[test]
fn several_readers_share_one_stream() {
    bounded(|| {
        const READERS: usize = 6;
        let (client, server) = pair();
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    let mut buf = [0; 7];
                    loop {
                        match (&server).read(&mut buf).unwrap() {
                            0 => return,
                            n => total.fetch_add(n, Ordering::Relaxed),
                        };
                    }
                });
            }
            for _ in 0..5_000 {
                (&client).write_all(b"0123456789").unwrap();
            }
            client.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(total.load(Ordering::Relaxed), 50_000);
    });
}

#[test]
fn both_directions_wait_at_once() {
    bounded(|| {
        let (client, server) = pair();
        let big = vec![7; 8 << 20];
        thread::scope(|scope| {
            // The server's reader waits for input while its writer waits for room.
            let reader = scope.spawn(|| {
                let mut word = [0; 4];
                (&server).read_exact(&mut word).unwrap();
                word
            });
            scope.spawn(|| (&server).write_all(&big).unwrap());
            let mut got = vec![0; big.len()];
            (&client).read_exact(&mut got).unwrap();
            assert!(got == big);
            (&client).write_all(b"done").unwrap();
            assert_eq!(&reader.join().unwrap(), b"done");
        });
    });
}

#[test]
fn a_read_times_out_as_stds_does() {
    bounded(|| {
        let (mut client, mut server) = pair();
        let timeout = Duration::from_millis(30);
        client.set_read_timeout(Some(timeout)).unwrap();
        let clone = client.try_clone().unwrap();
        for mut stream in [&client, &clone] {
            let start = Instant::now();
            let error = stream.read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(start.elapsed() >= timeout);
        }
        // It is still good, and what comes later is read.
        server.write_all(b"x").unwrap();
        client.set_read_timeout(None).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 1);

        server.set_write_timeout(Some(timeout)).unwrap();
        let error = loop {
            if let Err(error) = server.write(&[0; 1 << 16]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_waiter_that_times_out_leaves_the_others_waiting() {
    bounded(|| {
        let (client, server) = pair();
        server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        thread::scope(|scope| {
            // Each of them waits, times out, and waits again, until there is a byte for it.
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        loop {
                            match (&server).read(&mut [0; 1]) {
                                Ok(n) => return n,
                                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(3));
                (&client).write_all(b"x").unwrap();
            }
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 1);
            }
        });
    });
}

#[test]
fn shutdown_wakes_readers() {
    bounded(|| {
        for round in 0..100 {
            let (client, server) = pair();
            thread::scope(|scope| {
                let readers: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| (&server).read(&mut [0; 8]))).collect();
                if round % 2 == 0 {
                    thread::yield_now()
                }
                // By either end.
                let end = if round % 4 < 2 { &client } else { &server };
                end.shutdown(Shutdown::Both).unwrap();
                for reader in readers {
                    assert_eq!(reader.join().unwrap().unwrap(), 0);
                }
            });
        }
    });
}

#[test]
fn shutting_a_listener_down_wakes_those_who_accept() {
    bounded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        thread::scope(|scope| {
            let accepting: Vec<_> = (0..4).map(|_| scope.spawn(|| listener.accept())).collect();
            SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
            for thread in accepting {
                assert_eq!(thread.join().unwrap().unwrap_err().kind(), ErrorKind::InvalidInput);
            }
        });
    });
}

#[test]
fn a_peer_that_goes_away_ends_reads() {
    bounded(|| {
        for _ in 0..100 {
            let (client, mut server) = pair();
            let reader = thread::spawn(move || {
                let mut all = Vec::new();
                server.read_to_end(&mut all).unwrap();
                all
            });
            (&client).write_all(b"last words").unwrap();
            drop(client);
            assert_eq!(reader.join().unwrap(), b"last words");
        }
    });
}

#[test]
fn a_reset_is_an_error_and_then_the_end() {
    bounded(|| {
        for _ in 0..100 {
            let (client, mut server) = pair();
            let reader = thread::spawn(move || {
                let error = server.read(&mut [0; 8]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
                assert_eq!(server.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            });
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            drop(client);
            reader.join().unwrap();
        }
    });
}

#[test]
fn urgent_data_does_not_hide_what_follows_it() {
    bounded(|| {
        // Registered, and waited for, from the start.
        let (mut client, mut server) = pair();
        for _ in 0..300 {
            let sender = thread::spawn(move || {
                client.write_all(b"ab").unwrap();
                let fd = socket2::SockRef::from(&client);
                assert_eq!(fd.send_out_of_band(b"!").unwrap(), 1);
                client.write_all(b"cd").unwrap();
                client
            });
            // Reads stop short at the mark and skip the urgent byte.
            let mut got = Vec::new();
            while got.len() < 4 {
                let mut buf = [0; 64];
                let n = server.read(&mut buf).unwrap();
                got.extend_from_slice(&buf[..n]);
            }
            assert_eq!(got, b"abcd");
            client = sender.join().unwrap();
        }
    });
}

#[test]
fn peeking_leaves_what_it_sees() {
    bounded(|| {
        let (mut client, mut server) = pair();
        let reader = thread::spawn(move || {
            let mut buf = [0; 16];
            assert_eq!(server.peek(&mut buf).unwrap(), 3);
            assert_eq!(server.peek(&mut buf).unwrap(), 3);
            assert_eq!(server.read(&mut buf).unwrap(), 3);
            assert_eq!(&buf[..3], b"abc");
            assert_eq!(server.peek(&mut buf).unwrap(), 0);
        });
        client.write_all(b"abc").unwrap();
        // The end may come with the data, and must not be forgotten with it.
        drop(client);
        reader.join().unwrap();
    });
}

#[test]
fn vectored_reads_and_writes_use_all_buffers() {
    bounded(|| {
        let (mut client, mut server) = pair();
        assert_eq!(server.read_vectored(&mut []).unwrap(), 0);
        assert_eq!(client.write_vectored(&[IoSlice::new(b"")]).unwrap(), 0);
        let bufs = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(client.write_vectored(&bufs).unwrap(), 5);
        let (mut one, mut two) = ([0; 3], [0; 4]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(server.read_vectored(&mut bufs).unwrap(), 5);
        assert_eq!((&one, &two[..2]), (b"abc", &b"de"[..]));
        // More buffers than the kernel takes at once.
        let many: Vec<_> = (0..3000).map(|_| IoSlice::new(b"x")).collect();
        assert_eq!(client.write_vectored(&many).unwrap(), 1024);
    });
}

#[test]
fn clones_are_independent_descriptors_of_one_connection() {
    bounded(|| {
        let (mut client, server) = pair();
        for round in 0..50 {
            let mut clone = server.try_clone().unwrap();
            assert_ne!(clone.as_raw_fd(), server.as_raw_fd());
            let reader = thread::spawn(move || clone.read_exact(&mut [0; 2]).unwrap());
            client.write_all(b"x").unwrap();
            client.write_all(b"y").unwrap();
            // The clone goes away with its thread; the original still hears of everything.
            reader.join().unwrap();
            let sender = thread::spawn(move || {
                client.write_all(&[round]).unwrap();
                client
            });
            let mut byte = [0];
            (&server).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [round]);
            client = sender.join().unwrap();
        }
    });
}

#[test]
fn a_stream_may_be_shared_by_reference_count() {
    fn shareable<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    shareable::<TcpStream>();
    shareable::<TcpListener>();
    bounded(|| {
        let (client, server) = pair();
        let (client, server) = (Arc::new(client), Arc::new(server));
        let reader = {
            let server = Arc::clone(&server);
            thread::spawn(move || (&*server).read_exact(&mut [0; 3]).unwrap())
        };
        (&*client).write_all(b"abc").unwrap();
        reader.join().unwrap();
    });
}
