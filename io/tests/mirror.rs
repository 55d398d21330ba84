//! What must be as in std: errors, settings, formatting, conversions.

mod bound;

use std::io::{ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use bine_io::net::{TcpListener, TcpStream};
use bine_io::os::linux::net::TcpStreamExt;
use bound::{bounded, pair};
use socket2::SockRef;

fn is_nonblocking(fd: impl AsFd) -> bool {
    SockRef::from(&fd).nonblocking().unwrap()
}

#[test]
fn a_refused_connection_is_stds_error() {
    bounded(|| {
        let addr = {
            let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let ours = TcpStream::connect(addr).unwrap_err();
        let stds = net::TcpStream::connect(addr).unwrap_err();
        assert_eq!(ours.raw_os_error(), stds.raw_os_error());
        assert_eq!(ours.kind(), ErrorKind::ConnectionRefused);
        let ours = TcpStream::connect_timeout(&addr, Duration::from_secs(50)).unwrap_err();
        assert_eq!(ours.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn each_address_is_tried() {
    bounded(|| {
        let gone = net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addrs = [gone, listener.local_addr().unwrap()];
        assert_eq!(TcpStream::connect(&addrs[..]).unwrap().peer_addr().unwrap(), addrs[1]);
        let none: [SocketAddr; 0] = [];
        let ours = TcpStream::connect(&none[..]).unwrap_err();
        let stds = net::TcpStream::connect(&none[..]).unwrap_err();
        assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
        let ours = TcpListener::bind(&none[..]).unwrap_err();
        assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
        assert!(TcpStream::connect("no port").is_err());
        let taken = TcpListener::bind(addrs[1]).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn connecting_times_out() {
    bounded(|| {
        // A queue of length 0 that is full: further attempts get no answer.
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        let error = loop {
            match TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
        };
        let stds = net::TcpStream::connect_timeout(&addr, Duration::from_millis(1)).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (stds.kind(), stds.to_string()));
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        // One that waits without a limit gets through when there is room.
        let waiting = thread::spawn(move || TcpStream::connect(addr).unwrap());
        let accepting = thread::spawn(move || {
            loop {
                let accepted = socket.accept().unwrap().0;
                if accepted.recv(&mut [std::mem::MaybeUninit::uninit()]).unwrap() == 1 {
                    return;
                }
            }
        });
        drop(queued);
        waiting.join().unwrap().write_all(b"x").unwrap();
        accepting.join().unwrap();
    });
}

#[test]
fn a_timeout_of_zero_is_stds_error() {
    let (client, server) = pair();
    let std = net::TcpStream::from(server);
    let pairs = [
        (client.set_read_timeout(Some(Duration::ZERO)), std.set_read_timeout(Some(Duration::ZERO))),
        (
            client.set_write_timeout(Some(Duration::ZERO)),
            std.set_write_timeout(Some(Duration::ZERO)),
        ),
        (
            TcpStream::connect_timeout(&client.peer_addr().unwrap(), Duration::ZERO).map(drop),
            net::TcpStream::connect_timeout(&client.peer_addr().unwrap(), Duration::ZERO).map(drop),
        ),
    ];
    for (ours, stds) in pairs {
        let (ours, stds) = (ours.unwrap_err(), stds.unwrap_err());
        assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
    }
    assert_eq!(client.read_timeout().unwrap(), None);
}

#[test]
fn settings_reach_the_socket() {
    let (client, _server) = pair();
    let second = Some(Duration::from_secs(1));
    client.set_read_timeout(second).unwrap();
    client.set_write_timeout(second).unwrap();
    let clone = client.try_clone().unwrap();
    assert_eq!((clone.read_timeout().unwrap(), clone.write_timeout().unwrap()), (second, second));
    client.set_nodelay(true).unwrap();
    assert!(clone.nodelay().unwrap());
    client.set_ttl(55).unwrap();
    assert_eq!(clone.ttl().unwrap(), 55);
    assert!(client.set_ttl(0).is_err());
    assert!(client.take_error().unwrap().is_none());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_ttl(44).unwrap();
    assert_eq!(listener.try_clone().unwrap().ttl().unwrap(), 44);
    assert!(listener.take_error().unwrap().is_none());
}

#[test]
fn debug_formatting_is_stds() {
    let (client, _server) = pair();
    let ours = format!("{client:?}");
    assert_eq!(ours, format!("{:?}", net::TcpStream::from(client)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = format!("{listener:?}");
    assert_eq!(ours, format!("{:?}", net::TcpListener::from(listener)));
}

#[test]
fn non_blocking_mode_is_stds_and_shared_by_clones() {
    bounded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let error = listener.accept().unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::WouldBlock, Some(11)));

        let (client, mut server) = pair();
        let mut clone = client.try_clone().unwrap();
        client.set_nonblocking(true).unwrap();
        assert_eq!(clone.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(clone.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        while let Ok(n) = clone.write(&[0; 1 << 16]) {
            assert_ne!(n, 0);
        }
        server.set_nonblocking(true).unwrap();
        while server.read(&mut [0; 1 << 16]).is_ok() {}
        // And back: it waits again.
        client.set_nonblocking(false).unwrap();
        let reader = thread::spawn(move || clone.read_exact(&mut [0; 1]).unwrap());
        server.write_all(b"x").unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn conversions_keep_the_connection_and_its_settings() {
    bounded(|| {
        let (mut client, server) = pair();
        server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let fd = server.as_raw_fd();
        // Wait once, so that it is registered.
        assert!((&server).read(&mut [0]).is_err());

        let mut std = net::TcpStream::from(server);
        assert_eq!(std.as_raw_fd(), fd);
        assert!(!is_nonblocking(&std), "std's are blocking");
        assert_eq!(std.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);

        let mut ours = TcpStream::from(std);
        assert!(is_nonblocking(&ours));
        assert_eq!(ours.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        ours.set_read_timeout(None).unwrap();

        let mut ours = TcpStream::from(OwnedFd::from(ours));
        client.write_all(b"a").unwrap();
        ours.read_exact(&mut [0]).unwrap();

        // SAFETY: the descriptor has just been given up by its owner.
        let mut ours = unsafe { TcpStream::from_raw_fd(ours.into_raw_fd()) };
        assert_eq!(ours.as_fd().as_raw_fd(), fd);
        let reader = thread::spawn(move || ours.read_exact(&mut [0]).unwrap());
        client.write_all(b"b").unwrap();
        reader.join().unwrap();

        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from(listener);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let listener = net::TcpListener::from(listener);
        assert!(is_nonblocking(&listener), "the user's own mode is kept");
    });
}

#[test]
fn a_duplicate_made_blocking_does_not_block_us() {
    bounded(|| {
        let (mut client, mut server) = pair();
        // The mode belongs to the open file, which both descriptors share.
        let std = net::TcpStream::from(server.try_clone().unwrap());
        assert!(!is_nonblocking(&std) && !is_nonblocking(&server));
        server.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn descriptors_are_closed_on_exec() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    for fd in [listener.as_fd(), client.as_fd(), server.as_fd()] {
        // SAFETY: no memory is involved.
        let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
    }
}

#[test]
fn options_that_std_has_for_few_or_not_yet_reach_the_socket() {
    bounded(|| {
        let (client, _server) = pair();
        assert_eq!(client.linger().unwrap(), None);
        client.set_linger(Some(Duration::from_secs(2))).unwrap();
        assert_eq!(client.try_clone().unwrap().linger().unwrap(), Some(Duration::from_secs(2)));
        client.set_linger(None).unwrap();
        client.set_quickack(false).unwrap();
        assert!(!client.quickack().unwrap());

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let mut incoming = listener.into_incoming();
        let server = incoming.next().unwrap().unwrap();
        assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
        drop(incoming);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
#[allow(deprecated, reason = "std has them still")]
fn deprecated_options_are_stds() {
    let (Ok(ours), Ok(stds)) = (TcpListener::bind("[::1]:0"), net::TcpListener::bind("[::1]:0"))
    else {
        println!("no IPv6 here");
        return;
    };
    assert_eq!(ours.only_v6().unwrap(), stds.only_v6().unwrap());
    let (ours, stds) = (ours.set_only_v6(true).unwrap_err(), stds.set_only_v6(true).unwrap_err());
    assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
}
