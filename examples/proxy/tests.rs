//! The proxy between real sockets, with clients and targets on OS threads outside of its runtime.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::thread;

use bine::runtime::Runtime;
use socket2::SockRef;

use super::*;

/// Pinned and migrating, with few and many workers.
const RUNTIMES: [(usize, bool); 4] = [(1, false), (2, true), (8, false), (8, true)];

struct Fixture {
    runtime: Runtime,
    proxy: Arc<Proxy>,
    accepting: JoinHandle<()>,
    address: std::net::SocketAddr,
}

impl Fixture {
    fn new((workers, migrate): (usize, bool), targets: &[&str], arguments: &[&str]) -> Self {
        let names = [&["proxy", "--quiet", "127.0.0.1:0"], targets, arguments].concat();
        let options = Options::parse_from(names);
        let runtime = RuntimeOptions { workers: NonZeroUsize::new(workers), migrate };
        let runtime = runtime.build().unwrap();
        let (proxy, accepting, address) = runtime.run(move || {
            let listener = bine::net::TcpListener::bind(&*options.listen).unwrap();
            let address = listener.local_addr().unwrap();
            let proxy = Proxy::new(&options).unwrap();
            let accepting = proxy.start(listener);
            (proxy, accepting, address)
        });
        Self { runtime, proxy, accepting, address }
    }

    /// A proxy for one target that the test plays.
    fn with_target(runtime: (usize, bool), arguments: &[&str]) -> (Self, TcpListener) {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = target.local_addr().unwrap().to_string();
        (Self::new(runtime, &[&name], arguments), target)
    }

    /// Both ends of a new connection through the proxy: the client's and the target's.
    fn connect(&self, target: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address).unwrap();
        (client, target.accept().unwrap().0)
    }

    /// Waits until all connections are closed, and returns what a counter says then.
    fn count_when_closed(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        let proxy = Arc::clone(&self.proxy);
        let open = self.runtime.run(move || proxy.connections.wait_until_closed(PATIENCE));
        assert_eq!(open, 0, "connections stay open");
        counter(&self.proxy.counters).load(Ordering::Relaxed)
    }

    /// Stops the proxy, with no grace. How many connections were open.
    fn stop(self) -> usize {
        let Self { runtime, proxy, accepting, .. } = self;
        runtime.run(move || proxy.stop(accepting, Duration::ZERO).unwrap())
    }
}

/// After so long a test is taken to hang. Only failures reach it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What cannot be mistaken for anything else, at any offset.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn receive_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Resets the connection.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn everything_arrives_in_both_directions_at_once() {
    const LENGTH: usize = 8 << 20;
    for runtime in RUNTIMES {
        let (fixture, target) = Fixture::with_target(runtime, &["--buffer", "5000"]);
        thread::scope(|scope| {
            for number in 0..4 {
                let (client, target) = fixture.connect(&target);
                let up = Arc::new(noise(number, LENGTH));
                let down = Arc::new(noise(number + 100, LENGTH));
                for (stream, sent, expected) in
                    [(client, Arc::clone(&up), Arc::clone(&down)), (target, down, up)]
                {
                    let sender = stream.try_clone().unwrap();
                    scope.spawn(move || {
                        (&sender).write_all(&sent).unwrap();
                        sender.shutdown(Shutdown::Write).unwrap();
                    });
                    scope.spawn(move || {
                        assert!(receive_all(&stream) == *expected, "bytes are lost or changed");
                    });
                }
            }
        });
        assert_eq!(fixture.count_when_closed(|counters| &counters.ended), 4);
        assert_eq!(fixture.count_when_closed(|counters| &counters.upward), 4 * LENGTH as u64);
        assert_eq!(fixture.count_when_closed(|counters| &counters.downward), 4 * LENGTH as u64);
    }
}

#[test]
fn one_direction_may_end_before_the_other() {
    for runtime in RUNTIMES {
        let (fixture, target) = Fixture::with_target(runtime, &[]);
        for client_first in [true, false] {
            let (client, target) = fixture.connect(&target);
            let (mut first, mut second) =
                if client_first { (client, target) } else { (target, client) };
            first.write_all(b"question").unwrap();
            first.shutdown(Shutdown::Write).unwrap();
            assert_eq!(receive_all(&second), b"question");
            // The end has come, and the other direction is still there.
            for _ in 0..3 {
                second.write_all(b"answer").unwrap();
                let mut answer = [0; 6];
                first.read_exact(&mut answer).unwrap();
            }
            drop(second);
            assert_eq!(receive_all(&first), b"");
        }
        assert_eq!(fixture.count_when_closed(|counters| &counters.ended), 2);
        assert_eq!(fixture.proxy.counters.failed.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    for runtime in RUNTIMES {
        let (fixture, target) = Fixture::with_target(runtime, &[]);
        for client_first in [true, false] {
            let (client, target) = fixture.connect(&target);
            let (mut first, mut second) =
                if client_first { (client, target) } else { (target, client) };
            first.write_all(b"x").unwrap();
            second.read_exact(&mut [0]).unwrap();
            // The second one's sender is stuck by then: the reset ends it, wherever it is.
            second.set_nonblocking(true).unwrap();
            while second.write(&[0; 64 << 10]).is_ok() {}
            second.set_nonblocking(false).unwrap();
            reset(first);
            let error = second.read(&mut [0]).expect_err("an end of file looks like all there is");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert_eq!(fixture.count_when_closed(|counters| &counters.failed), 2);
    }
}

#[test]
fn targets_take_turns_and_dead_ones_are_passed_over() {
    let [one, two] = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    // Bound, and so nobody else's, but not listening.
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    dead.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let dead_name = dead.local_addr().unwrap().as_socket().unwrap().to_string();
    let names = [&one, &two].map(|target| target.local_addr().unwrap().to_string());
    let fixture = Fixture::new((2, false), &[&names[0], &dead_name, &names[1]], &[]);
    for turn in 0..6 {
        let client = TcpStream::connect(fixture.address).unwrap();
        // The dead one's turn falls to the next.
        let target = if turn % 3 == 0 { &one } else { &two };
        let target = target.accept().unwrap().0;
        drop(target);
        assert_eq!(receive_all(&client), b"");
        drop(client);
        fixture.count_when_closed(|counters| &counters.ended);
    }
    let statistics = fixture.proxy.statistics();
    assert!(statistics.starts_with("6 connections: 0 open, 6 ended, 0 failed"), "{statistics}");
    assert!(statistics.contains(&format!("{}: 2 connections, 0 failed", names[0])), "{statistics}");
    assert!(statistics.contains(&format!("{dead_name}: 0 connections, 2 failed")), "{statistics}");
    assert!(statistics.contains(&format!("{}: 4 connections, 0 failed", names[1])), "{statistics}");

    let fixture = Fixture::new((2, false), &[&dead_name], &[]);
    let error = TcpStream::connect(fixture.address).unwrap().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(fixture.count_when_closed(|counters| &counters.unserved), 1);
}

#[test]
fn a_connection_on_which_nothing_moves_is_reset() {
    let (fixture, target) = Fixture::with_target((2, false), &["--idle-timeout", "1"]);
    let (mut client, mut target) = fixture.connect(&target);
    client.write_all(b"x").unwrap();
    target.read_exact(&mut [0]).unwrap();
    for stream in [&mut client, &mut target] {
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(fixture.count_when_closed(|counters| &counters.idle), 1);
}

#[test]
fn more_connections_than_allowed_wait() {
    let (fixture, target) = Fixture::with_target((2, false), &["--max-connections", "1"]);
    let (first, first_target) = fixture.connect(&target);
    let mut second = TcpStream::connect(fixture.address).unwrap();
    second.write_all(b"x").unwrap();
    assert_eq!(fixture.proxy.connections.accepted(), 1);
    drop((first, first_target));
    target.accept().unwrap().0.read_exact(&mut [0]).unwrap();
    assert_eq!(fixture.proxy.connections.accepted(), 2);
}

#[test]
fn a_stop_resets_what_is_still_open() {
    for runtime in RUNTIMES {
        let (fixture, target) = Fixture::with_target(runtime, &[]);
        let ends: Vec<_> = (0..10)
            .map(|_| {
                let (mut client, mut target) = fixture.connect(&target);
                // The proxy, too, knows that the target has taken the connection.
                client.write_all(b"x").unwrap();
                target.read_exact(&mut [0]).unwrap();
                (client, target)
            })
            .collect();
        let address = fixture.address;
        assert_eq!(fixture.stop(), 10);
        assert!(TcpStream::connect(address).is_err(), "it still listens");
        for mut end in ends.into_iter().flat_map(|(client, target)| [client, target]) {
            assert_eq!(end.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
}
