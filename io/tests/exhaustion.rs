//! Out of descriptors: errors, and nothing else. Alone in its process, whose limit it lowers.

mod bound;

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use bine_io::net::{TcpListener, TcpStream, UdpSocket};
use bine_io::os::linux::net::SocketAddrExt;
use bine_io::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use bound::{bounded, pair};

/// Sets the soft limit on descriptors and returns the one before.
fn set_limit(soft: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        let before = std::mem::replace(&mut limit.rlim_cur, soft);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        before
    }
}

#[test]
fn running_out_of_descriptors_is_an_error_of_the_call() {
    bounded(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let queued = std::net::TcpStream::connect(addr).unwrap();
        let std_pair = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = std::net::TcpStream::connect(std_pair.local_addr().unwrap()).unwrap();
        let mut silent = TcpStream::from(silent);

        // The poller cannot start: the operation that needs it fails, and says why.
        let limit = set_limit(0);
        let error = silent.read(&mut [0]).unwrap_err();
        assert!(error.to_string().contains("epoll instance"), "{error}");
        // A connection that is there cannot be accepted, again and again.
        for _ in 0..3 {
            assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        }
        set_limit(limit);
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), queued.local_addr().unwrap());

        // Now it starts, and keeps running.
        silent.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(silent.read(&mut [0]).is_err());
        let (mut client, mut server) = pair();
        let reader = thread::spawn(move || server.read_exact(&mut [0]).unwrap());

        // While somebody waits to accept.
        let accepting = thread::spawn(move || {
            loop {
                match listener.accept() {
                    Ok(_) => return,
                    Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE)),
                }
            }
        });
        let late = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let late = late.unwrap();
        set_limit(0);
        late.connect(&addr.into()).unwrap();
        client.write_all(b"x").unwrap();
        reader.join().unwrap();
        set_limit(limit);
        accepting.join().unwrap();

        // Here, and not in a test of its own: the first part wants a poller that has not started.
        every_call_that_needs_a_descriptor_says_that_there_is_none();
    });
}

/// Whatever needs a descriptor and finds none says so, and works when there are some again.
fn every_call_that_needs_a_descriptor_says_that_there_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let name = format!("bine-exhaustion-{}", std::process::id());
    let name = SocketAddr::from_abstract_name(name).unwrap();
    let unix = UnixListener::bind_addr(&name).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let queued = UnixStream::connect_addr(&name).unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let all = || {
        [
            TcpStream::connect(address).map(drop),
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).map(drop),
            TcpListener::bind("127.0.0.1:0").map(drop),
            listener.try_clone().map(drop),
            UdpSocket::bind("127.0.0.1:0").map(drop),
            datagrams.try_clone().map(drop),
            UnixStream::connect_addr(&name).map(drop),
            UnixStream::pair().map(drop),
            UnixDatagram::unbound().map(drop),
            UnixDatagram::pair().map(drop),
            unix.try_clone().map(drop),
        ]
    };
    // All numbers below are taken. (A duplicate wants one from 3 on, to which 0 is no limit.)
    let limit = set_limit(4);
    let refused = all().map(|result| result.unwrap_err().raw_os_error());
    let accepted = unix.accept().map(drop);
    set_limit(limit);
    assert_eq!(refused, [Some(libc::EMFILE); 11]);
    assert_eq!(accepted.unwrap_err().raw_os_error(), Some(libc::EMFILE));
    assert_eq!(descriptors(), before);
    all().into_iter().for_each(|result| result.unwrap());
    // The connection that could not be accepted is there still.
    let (accepted, _) = unix.accept().unwrap();
    drop(queued);
    assert_eq!((&accepted).read(&mut [0]).unwrap(), 0);
}
