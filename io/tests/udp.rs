//! UDP: as std's, on OS threads and on green ones.

mod bound;

use std::io::ErrorKind;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bine_io::net::UdpSocket;
use bound::{everywhere, spawn};
use socket2::SockRef;

fn bind() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Two sockets that are connected to each other.
fn connected() -> (UdpSocket, UdpSocket) {
    let ((one, first), (two, second)) = (bind(), bind());
    one.connect(second).unwrap();
    two.connect(first).unwrap();
    (one, two)
}

#[test]
fn datagrams_arrive_whole_with_their_sender() {
    everywhere(|| {
        let ((one, first), (two, second)) = (bind(), bind());
        let answers = spawn(move || {
            let mut buf = [0; 100];
            for _ in 0..200 {
                let (len, from) = two.recv_from(&mut buf).unwrap();
                assert_eq!(from, first);
                assert_eq!(two.send_to(&buf[..len], from).unwrap(), len);
            }
        });
        for round in 0..200usize {
            let message = vec![round as u8; round % 100];
            assert_eq!(one.send_to(&message, second).unwrap(), message.len());
            let mut buf = [0; 100];
            assert_eq!(one.recv_from(&mut buf).unwrap(), (message.len(), second));
            assert_eq!(&buf[..message.len()], message);
        }
        answers.join();
    });
}

#[test]
fn several_threads_receive_through_clones() {
    const RECEIVERS: usize = 6;
    const EACH: usize = 50;
    everywhere(|| {
        let (socket, address) = bind();
        let socket = Arc::new(socket);
        let receivers: Vec<_> = (0..RECEIVERS)
            .map(|number| {
                let clone = (number % 2 == 0).then(|| socket.try_clone().unwrap());
                let socket = Arc::clone(&socket);
                spawn(move || {
                    let socket = clone.as_ref().unwrap_or(&socket);
                    for _ in 0..EACH {
                        let (len, from) = socket.recv_from(&mut [0; 8]).unwrap();
                        assert_eq!(len, 3);
                        socket.send_to(b"ok", from).unwrap();
                    }
                })
            })
            .collect();
        let (sender, _) = bind();
        for _ in 0..RECEIVERS * EACH {
            // One at a time, so that none is dropped for lack of room.
            sender.send_to(b"abc", address).unwrap();
            sender.recv(&mut [0; 8]).unwrap();
        }
        receivers.into_iter().for_each(|receiver| receiver.join());
    });
}

#[test]
fn peeking_leaves_the_datagram() {
    everywhere(|| {
        let (one, two) = connected();
        let from = one.local_addr().unwrap();
        let peeks = spawn(move || {
            let mut buf = [0; 4];
            assert_eq!(two.peek(&mut buf).unwrap(), 3);
            assert_eq!(two.peek_from(&mut buf).unwrap(), (3, from));
            assert_eq!(two.recv(&mut buf).unwrap(), 3);
            assert_eq!(&buf[..3], b"abc");
            two.set_nonblocking(true).unwrap();
            assert_eq!(two.peek(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        });
        assert_eq!(one.send(b"abc").unwrap(), 3);
        peeks.join();
    });
}

#[test]
fn a_receive_times_out_and_clones_share_the_timeout() {
    everywhere(|| {
        let (socket, _) = bind();
        let clone = socket.try_clone().unwrap();
        let timeout = Duration::from_millis(20);
        clone.set_read_timeout(Some(timeout)).unwrap();
        assert_eq!(socket.read_timeout().unwrap(), Some(timeout));
        let start = Instant::now();
        let error = socket.recv_from(&mut [0; 8]).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::WouldBlock, Some(11)));
        assert!(start.elapsed() >= timeout);
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        socket.set_nonblocking(true).unwrap();
        assert_eq!(clone.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let zero = socket.set_write_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(zero.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_refusal_is_told_and_does_not_stay() {
    everywhere(|| {
        let gone = bind().1;
        let (socket, address) = bind();
        socket.connect(gone).unwrap();
        socket.send(b"anybody?").unwrap();
        // It is told by the loopback device before the send returns, or by an event.
        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(socket.take_error().unwrap().is_none());
        // And what comes later is received.
        let (other, from) = bind();
        socket.connect(from).unwrap();
        let sender = spawn(move || other.send_to(b"here", address).unwrap());
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);
        sender.join();
    });
}

#[test]
fn addresses_and_errors_are_stds() {
    let (socket, _) = bind();
    let std = net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let none: [SocketAddr; 0] = [];
    let pairs = [
        (socket.send_to(b"x", &none[..]).map(drop), std.send_to(b"x", &none[..]).map(drop)),
        (socket.connect(&none[..]), std.connect(&none[..])),
        (UdpSocket::bind(&none[..]).map(drop), net::UdpSocket::bind(&none[..]).map(drop)),
        (socket.peer_addr().map(drop), std.peer_addr().map(drop)),
        (socket.send(b"x").map(drop), std.send(b"x").map(drop)),
        (
            socket.send_to(&[0; 70_000], "127.0.0.1:9").map(drop),
            std.send_to(&[0; 70_000], "127.0.0.1:9").map(drop),
        ),
    ];
    for (ours, stds) in pairs {
        let (ours, stds) = (ours.unwrap_err(), stds.unwrap_err());
        assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
    }
    let taken = UdpSocket::bind(socket.local_addr().unwrap()).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let addresses = [socket.local_addr().unwrap(), "127.0.0.1:0".parse().unwrap()];
    assert_ne!(UdpSocket::bind(&addresses[..]).unwrap().local_addr().unwrap(), addresses[0]);
}

#[test]
fn options_reach_the_socket() {
    let (socket, _) = bind();
    let clone = socket.try_clone().unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_multicast_loop_v4(false).unwrap();
    socket.set_multicast_ttl_v4(7).unwrap();
    socket.set_ttl(33).unwrap();
    let second = Some(Duration::from_secs(1));
    socket.set_write_timeout(second).unwrap();
    assert!(clone.broadcast().unwrap());
    assert!(!clone.multicast_loop_v4().unwrap());
    assert_eq!((clone.multicast_ttl_v4().unwrap(), clone.ttl().unwrap()), (7, 33));
    assert_eq!((clone.write_timeout().unwrap(), clone.read_timeout().unwrap()), (second, None));
    let group = Ipv4Addr::new(239, 1, 2, 3);
    // A system without a route for groups refuses, ours as std's.
    let std = net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let kind = |result: std::io::Result<()>| result.map_err(|error| error.kind());
    let any = Ipv4Addr::UNSPECIFIED;
    let joined = kind(socket.join_multicast_v4(&group, &any));
    assert_eq!(joined, kind(std.join_multicast_v4(&group, &any)));
    let left = kind(socket.leave_multicast_v4(&group, &any));
    assert_eq!(left, kind(std.leave_multicast_v4(&group, &any)));
    if let (Ok(ours), Ok(stds)) = (UdpSocket::bind("[::1]:0"), net::UdpSocket::bind("[::1]:0")) {
        ours.set_multicast_loop_v6(false).unwrap();
        assert!(!ours.multicast_loop_v6().unwrap());
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x123);
        let joined = kind(ours.join_multicast_v6(&group, 1));
        assert_eq!(joined, kind(stds.join_multicast_v6(&group, 1)));
        let left = kind(ours.leave_multicast_v6(&group, 1));
        assert_eq!(left, kind(stds.leave_multicast_v6(&group, 1)));
    }
}

#[test]
fn conversions_keep_the_socket_and_its_settings() {
    everywhere(|| {
        let (one, two) = connected();
        two.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        assert!(two.recv(&mut [0]).is_err());
        let debug = format!("{two:?}");
        let std = net::UdpSocket::from(two);
        assert_eq!(format!("{std:?}"), debug);
        assert!(!SockRef::from(&std).nonblocking().unwrap());
        assert!(std.recv(&mut [0]).is_err());
        let two = UdpSocket::from(OwnedFd::from(UdpSocket::from(std)));
        assert!(SockRef::from(&two).nonblocking().unwrap());
        assert_eq!(two.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let fd = two.as_raw_fd();
        // SAFETY: the descriptor has just been given up by its owner.
        let two = unsafe { UdpSocket::from_raw_fd(two.into_raw_fd()) };
        assert_eq!((two.as_fd().as_raw_fd(), two.as_raw_fd()), (fd, fd));
        two.set_read_timeout(None).unwrap();
        let receiver = spawn(move || two.recv(&mut [0; 8]).unwrap());
        one.send(b"four").unwrap();
        assert_eq!(receiver.join(), 4);
    });
}
