//! Unix sockets: as std's, on OS threads and on green ones.

mod bound;

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process};

use bine_io::os::linux::net::{SocketAddrExt, UnixSocketExt};
use bine_io::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use bine_runtime::thread;
use bound::{everywhere, spawn};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

static NAMES: AtomicUsize = AtomicUsize::new(0);

/// A path that no other test has; the file goes away with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("bine-unix-{}-{number}", process::id())))
    }
}

impl AsRef<Path> for Place {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn abstract_address() -> SocketAddr {
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from_abstract_name(format!("bine-unix-{}-{number}", process::id())).unwrap()
}

#[test]
fn connections_carry_bytes_by_path_and_by_abstract_name() {
    everywhere(|| {
        let place = Place::new();
        let name = abstract_address();
        let addresses = [SocketAddr::from_pathname(&place).unwrap(), name];
        for address in addresses {
            let listener = UnixListener::bind_addr(&address).unwrap();
            let server = spawn(move || {
                for stream in listener.incoming().take(20) {
                    let mut stream = stream.unwrap();
                    let mut message = Vec::new();
                    stream.read_to_end(&mut message).unwrap();
                    stream.write_all(&message).unwrap();
                }
            });
            for round in 0..20 {
                let mut client = UnixStream::connect_addr(&address).unwrap();
                let peer = client.peer_addr().unwrap();
                assert_eq!(peer.as_pathname(), address.as_pathname());
                assert_eq!(peer.as_abstract_name(), address.as_abstract_name());
                assert!(client.local_addr().unwrap().is_unnamed());
                let message = vec![round as u8; 3000];
                client.write_all(&message).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                let mut back = Vec::new();
                client.read_to_end(&mut back).unwrap();
                assert_eq!(back, message);
            }
            server.join();
        }
    });
}

#[test]
fn both_directions_wait_at_once_with_full_buffers() {
    everywhere(|| {
        let (one, two) = UnixStream::pair().unwrap();
        let (one, two) = (Arc::new(one), Arc::new(two));
        let message: Arc<Vec<u8>> = Arc::new((0..2 << 20).map(|i| (i / 253) as u8).collect());
        let ends: Vec<_> = [one, two]
            .into_iter()
            .flat_map(|end| {
                let (sends, receives) = (Arc::clone(&end), end);
                let (sent, expected) = (Arc::clone(&message), Arc::clone(&message));
                [
                    spawn(move || (&*sends).write_all(&sent).unwrap()),
                    spawn(move || {
                        let mut got = vec![0; expected.len()];
                        (&*receives).read_exact(&mut got).unwrap();
                        assert!(got == *expected);
                    }),
                ]
            })
            .collect();
        ends.into_iter().for_each(|end| end.join());
    });
}

#[test]
fn several_threads_accept_through_clones() {
    const THREADS: usize = 4;
    const EACH: usize = 25;
    everywhere(|| {
        let address = abstract_address();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let accepting: Vec<_> = (0..THREADS)
            .map(|_| {
                let listener = listener.try_clone().unwrap();
                spawn(move || {
                    for stream in (&listener).into_iter().take(EACH) {
                        stream.unwrap().write_all(b"!").unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..THREADS * EACH {
            let mut client = UnixStream::connect_addr(&address).unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
        accepting.into_iter().for_each(|thread| thread.join());
    });
}

/// A listener whose queue takes one connection.
fn short_queue(address: &SocketAddr) -> UnixListener {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let name = [b"\0", address.as_abstract_name().unwrap()].concat();
    let name = std::str::from_utf8(&name).unwrap();
    socket.bind(&SockAddr::unix(name).unwrap()).unwrap();
    socket.listen(0).unwrap();
    UnixListener::from(OwnedFd::from(socket))
}

#[test]
fn connecting_waits_for_room_in_the_queue() {
    const CLIENTS: usize = 10;
    everywhere(|| {
        let address = abstract_address();
        let listener = short_queue(&address);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let address = address.clone();
                spawn(move || {
                    let mut client = UnixStream::connect_addr(&address).unwrap();
                    client.read_exact(&mut [0]).unwrap();
                })
            })
            .collect();
        // Others run while some of them wait.
        (0..20).for_each(|_| thread::yield_now());
        for stream in listener.incoming().take(CLIENTS) {
            stream.unwrap().write_all(b"!").unwrap();
        }
        clients.into_iter().for_each(|client| client.join());
    });
}

#[test]
fn shutting_down_wakes_readers_and_writers() {
    everywhere(|| {
        for round in 0..20 {
            let (one, two) = UnixStream::pair().unwrap();
            let (one, two) = (Arc::new(one), Arc::new(two));
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let two = Arc::clone(&two);
                    spawn(move || (&*two).read(&mut [0; 8]).unwrap())
                })
                .collect();
            let writes = Arc::clone(&one);
            let writer = spawn(move || {
                loop {
                    if let Err(error) = (&*writes).write(&[0; 1 << 16]) {
                        return error.kind();
                    }
                }
            });
            if round % 2 == 0 {
                // What was written is read first.
                thread::yield_now();
            }
            one.shutdown(Shutdown::Both).unwrap();
            assert_eq!(writer.join(), ErrorKind::BrokenPipe);
            for reader in readers {
                let _bytes_or_the_end: usize = reader.join();
            }
            while (&*two).read(&mut [0; 1 << 16]).unwrap() != 0 {}
        }
    });
}

#[test]
fn streams_peek_and_read_and_write_vectors() {
    everywhere(|| {
        let (mut one, mut two) = UnixStream::pair().unwrap();
        assert_eq!(two.read_vectored(&mut []).unwrap(), 0);
        assert_eq!(one.write_vectored(&[IoSlice::new(b"")]).unwrap(), 0);
        let reader = spawn(move || {
            let mut buf = [0; 8];
            assert_eq!(two.peek(&mut buf).unwrap(), 5);
            let (mut first, mut second) = ([0; 3], [0; 4]);
            let mut bufs = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
            assert_eq!(two.read_vectored(&mut bufs).unwrap(), 5);
            assert_eq!((&first, &second[..2]), (b"abc", &b"de"[..]));
            assert_eq!(two.peek(&mut buf).unwrap(), 0);
        });
        let bufs = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(one.write_vectored(&bufs).unwrap(), 5);
        drop(one);
        reader.join();
    });
}

#[test]
fn timeouts_and_modes_are_stds() {
    everywhere(|| {
        let (one, mut two) = UnixStream::pair().unwrap();
        let timeout = Duration::from_millis(20);
        one.try_clone().unwrap().set_read_timeout(Some(timeout)).unwrap();
        assert_eq!(one.read_timeout().unwrap(), Some(timeout));
        let start = Instant::now();
        let error = (&one).read(&mut [0]).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::WouldBlock, Some(11)));
        assert!(start.elapsed() >= timeout);
        two.set_write_timeout(Some(timeout)).unwrap();
        while two.write(&[0; 1 << 16]).is_ok() {}
        assert_eq!(two.write(&[0; 1 << 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
        one.set_nonblocking(true).unwrap();
        while (&one).read(&mut [0; 1 << 16]).is_ok() {}
        assert!(one.take_error().unwrap().is_none());

        let address = abstract_address();
        let listener = UnixListener::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(listener.take_error().unwrap().is_none());
        // What is accepted inherits nothing.
        let _client = UnixStream::connect_addr(&address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(server.read_timeout().unwrap(), None);
        server.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(server.read(&mut [0]).is_err());
    });
}

#[test]
fn datagrams_arrive_whole_with_their_sender() {
    everywhere(|| {
        let (place, name) = (Place::new(), abstract_address());
        let one = UnixDatagram::bind(&place).unwrap();
        let two = UnixDatagram::bind_addr(&name).unwrap();
        let path = place.0.clone();
        let answers = spawn(move || {
            let mut buf = [0; 100];
            for _ in 0..100 {
                let (len, from) = two.recv_from(&mut buf).unwrap();
                assert_eq!(from.as_pathname(), Some(&*path));
                assert_eq!(two.send_to_addr(&buf[..len], &from).unwrap(), len);
            }
            assert!(two.recv_from(&mut buf).unwrap().1.is_unnamed());
        });
        for round in 0..100usize {
            let message = vec![round as u8; round];
            assert_eq!(one.send_to_addr(&message, &name).unwrap(), round);
            let mut buf = [0; 100];
            assert_eq!(one.peek(&mut buf).unwrap(), round);
            let (len, from) = one.peek_from(&mut buf).unwrap();
            assert_eq!((len, from.as_abstract_name()), (round, name.as_abstract_name()));
            assert_eq!(one.recv(&mut buf).unwrap(), round);
            assert_eq!(&buf[..round], message);
        }
        UnixDatagram::unbound().unwrap().send_to_addr(b"x", &name).unwrap();
        answers.join();
    });
}

/// As many as the kernel queues and more, from senders that are connected, and that are not.
#[test]
fn senders_wait_for_room_in_the_receivers_queue() {
    const SENDERS: usize = 4;
    const EACH: usize = 600;
    everywhere(|| {
        let name = abstract_address();
        let receiver = UnixDatagram::bind_addr(&name).unwrap();
        let senders: Vec<_> = (0..SENDERS)
            .map(|number| {
                let name = name.clone();
                spawn(move || {
                    let socket = UnixDatagram::unbound().unwrap();
                    if number % 2 == 0 {
                        socket.connect_addr(&name).unwrap();
                    }
                    for _ in 0..EACH {
                        if number % 2 == 0 {
                            socket.send(b"datagram").unwrap();
                        } else {
                            socket.send_to_addr(b"datagram", &name).unwrap();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..SENDERS * EACH {
            assert_eq!(receiver.recv(&mut [0; 16]).unwrap(), 8);
        }
        senders.into_iter().for_each(|sender| sender.join());
    });
}

/// One socket, two receivers: that one has no room must not keep what is sent to the other.
#[test]
fn a_full_receiver_does_not_hold_up_what_goes_to_another() {
    everywhere(|| {
        let (full, free) = (abstract_address(), abstract_address());
        let never_reads = UnixDatagram::bind_addr(&full).unwrap();
        let reads = UnixDatagram::bind_addr(&free).unwrap();
        let sender = Arc::new(UnixDatagram::unbound().unwrap());
        sender.set_nonblocking(true).unwrap();
        while sender.send_to_addr(b"x", &full).is_ok() {}
        sender.set_nonblocking(false).unwrap();
        sender.connect_addr(&free).unwrap();
        let blocked = Arc::clone(&sender);
        let blocked = spawn(move || blocked.send_to_addr(b"late", &full).unwrap());
        for _ in 0..20 {
            sender.send(b"hello").unwrap();
            assert_eq!(reads.recv(&mut [0; 16]).unwrap(), 5);
            // Time for what the other one does meanwhile: it tries again, in vain.
            thread::sleep(Duration::from_millis(1));
        }
        while never_reads.recv(&mut [0; 16]).unwrap() != 4 {}
        blocked.join();
    });
}

#[test]
fn a_datagram_that_finds_no_room_in_time_is_stds_error() {
    everywhere(|| {
        let name = abstract_address();
        let _receiver = UnixDatagram::bind_addr(&name).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let timeout = Duration::from_millis(20);
        sender.set_write_timeout(Some(timeout)).unwrap();
        let error = loop {
            let start = Instant::now();
            if let Err(error) = sender.send_to_addr(b"x", &name) {
                assert!(start.elapsed() >= timeout);
                break error;
            }
        };
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::WouldBlock, Some(11)));
        sender.connect_addr(&name).unwrap();
        assert_eq!(sender.send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn shutting_a_datagram_socket_down_wakes_its_receivers() {
    everywhere(|| {
        let (one, two) = UnixDatagram::pair().unwrap();
        let one = Arc::new(one);
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let one = Arc::clone(&one);
                spawn(move || one.recv(&mut [0; 8]).unwrap())
            })
            .collect();
        thread::yield_now();
        one.shutdown(Shutdown::Read).unwrap();
        for receiver in receivers {
            assert_eq!(receiver.join(), 0);
        }
        assert_eq!(two.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn credentials_are_the_processes() {
    let (one, two) = UnixStream::pair().unwrap();
    // SAFETY: no memory is involved.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    for end in [&one, &two] {
        let peer = end.peer_cred().unwrap();
        assert_eq!((peer.uid, peer.gid), (user, group));
        assert_eq!(peer.pid, Some(process::id() as i32));
    }
    one.set_passcred(true).unwrap();
    assert!(one.passcred().unwrap() && !two.passcred().unwrap());
    let datagrams = UnixDatagram::unbound().unwrap();
    assert!(!datagrams.passcred().unwrap());
}

#[test]
fn errors_are_stds() {
    let (missing, taken) = (Place::new(), Place::new());
    let _listener = UnixListener::bind(&taken).unwrap();
    let long = "p".repeat(108);
    let (ours, stds) = (UnixDatagram::unbound().unwrap(), net::UnixDatagram::unbound().unwrap());
    let unnamed = SocketAddr::from_pathname("").unwrap();
    let pairs = [
        (UnixStream::connect(&missing).map(drop), net::UnixStream::connect(&missing).map(drop)),
        (UnixStream::connect(&long).map(drop), net::UnixStream::connect(&long).map(drop)),
        (UnixStream::connect("a\0b").map(drop), net::UnixStream::connect("a\0b").map(drop)),
        (UnixStream::connect("").map(drop), net::UnixStream::connect("").map(drop)),
        (UnixListener::bind(&taken).map(drop), net::UnixListener::bind(&taken).map(drop)),
        (UnixListener::bind(&long).map(drop), net::UnixListener::bind(&long).map(drop)),
        (UnixDatagram::bind(&taken).map(drop), net::UnixDatagram::bind(&taken).map(drop)),
        (ours.connect(&missing), stds.connect(&missing)),
        (ours.send(b"x").map(drop), stds.send(b"x").map(drop)),
        (ours.send_to(b"x", &missing).map(drop), stds.send_to(b"x", &missing).map(drop)),
        (ours.send_to(b"x", &long).map(drop), stds.send_to(b"x", &long).map(drop)),
        (ours.send_to(b"x", &taken).map(drop), stds.send_to(b"x", &taken).map(drop)),
        (ours.send_to_addr(b"x", &unnamed).map(drop), stds.send_to_addr(b"x", &unnamed).map(drop)),
        (ours.peer_addr().map(drop), stds.peer_addr().map(drop)),
    ];
    for (ours, stds) in pairs {
        let (ours, stds) = (ours.unwrap_err(), stds.unwrap_err());
        assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
    }
}

#[test]
fn conversions_keep_the_connection_and_its_settings() {
    everywhere(|| {
        let (mut one, two) = UnixStream::pair().unwrap();
        two.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        assert!((&two).read(&mut [0]).is_err());
        let debug = format!("{two:?}");
        let mut std = net::UnixStream::from(two);
        assert_eq!(format!("{std:?}"), debug);
        assert!(!SockRef::from(&std).nonblocking().unwrap());
        assert!(std.read(&mut [0]).is_err());
        let two = UnixStream::from(OwnedFd::from(UnixStream::from(std)));
        let fd = two.as_raw_fd();
        // SAFETY: the descriptor has just been given up by its owner.
        let mut two = unsafe { UnixStream::from_raw_fd(two.into_raw_fd()) };
        assert_eq!(two.as_raw_fd(), fd);
        assert_eq!(two.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        two.set_read_timeout(None).unwrap();
        let reader = spawn(move || two.read(&mut [0]).unwrap());
        one.write_all(b"x").unwrap();
        assert_eq!(reader.join(), 1);

        let listener = UnixListener::bind_addr(&abstract_address()).unwrap();
        let debug = format!("{listener:?}");
        let std = net::UnixListener::from(listener);
        assert_eq!(format!("{std:?}"), debug);
        let (datagram, _other) = UnixDatagram::pair().unwrap();
        let debug = format!("{datagram:?}");
        let std = net::UnixDatagram::from(datagram);
        assert_eq!(format!("{std:?}"), debug);
        assert!(!SockRef::from(&std).nonblocking().unwrap());
    });
}
