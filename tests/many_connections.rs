//! Ten thousand connections at once, or as many as the system allows: every byte comes back.
//! Server and clients are two processes, since a process may not have enough descriptors for both.

mod harness;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bine::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use harness::{Child, Mode, alone, bound, echo, receive, seed, send, tell, wait_for_parent};

const CONNECTIONS: usize = 10_000;
/// Descriptors that either process needs for other things.
const SPARE: usize = 64;
/// Green threads that connect, so that the listener's queue never overflows.
const CONNECTORS: usize = 32;
const LARGEST: usize = 4 << 10;

/// The child: an echo server that counts its connections.
fn serve(mode: Mode) {
    harness::raise_file_limit();
    let runtime = mode.builder().build().expect("the runtime starts");
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&open), Arc::clone(&most));
    runtime.spawn(move || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        tell("port", listener.local_addr().expect("an address").port().into());
        loop {
            let (stream, _) = listener.accept().expect("accept");
            peak.fetch_max(counted.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let counted = Arc::clone(&counted);
            bine::spawn(move || {
                echo(&stream, &mut [0; 4096], &mut (0, 0)).expect("no connection fails");
                drop(stream);
                counted.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    wait_for_parent();
    let alive = || runtime.metrics().alive;
    // The parent has closed all its connections. Only the acceptor stays.
    while alive() > 1 {
        std::thread::yield_now();
    }
    assert_eq!(open.load(Ordering::Relaxed), 0);
    tell("most", most.load(Ordering::Relaxed) as u64);
}

/// A greeting, after which the connection is known to be served.
fn connect(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    send(&stream, &number.to_ne_bytes())?;
    receive(&stream, &number.to_ne_bytes())?;
    Ok(stream)
}

/// A few messages of random sizes; how many bytes came back.
fn converse(stream: &TcpStream, mut random: fastrand::Rng) -> io::Result<usize> {
    let mut message = [0; LARGEST];
    let mut bytes = 0;
    for _ in 0..random.usize(2..=4) {
        let message = &mut message[..random.usize(1..=LARGEST)];
        random.fill(message);
        send(stream, message)?;
        receive(stream, message)?;
        bytes += message.len();
    }
    Ok(bytes)
}

/// All clients, on a green thread; how many bytes came back.
fn load(server: SocketAddr, connections: usize, seed: u64) -> usize {
    let connectors: Vec<_> = (0..CONNECTORS)
        .map(|first| {
            bine::spawn(move || {
                let numbers = (first..connections).step_by(CONNECTORS);
                numbers
                    .map(|number| (number, connect(server, number).expect("connect")))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    // All are there before the first goes on.
    let streams: Vec<_> = connectors.into_iter().flat_map(|share| share.join().unwrap()).collect();
    assert_eq!(streams.len(), connections);
    let clients: Vec<_> = streams
        .into_iter()
        .map(|(number, stream)| {
            let random = fastrand::Rng::with_seed(seed.wrapping_add(number as u64));
            // Returns its stream, so that none is closed before all are done.
            bine::spawn(move || (converse(&stream, random).expect("no byte is lost"), stream))
        })
        .collect();
    let done: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    done.iter().map(|(bytes, _)| bytes).sum()
}

fn many_connections(test: &str, mode: Mode) {
    if harness::role().is_some() {
        return serve(mode);
    }
    let _alone = alone();
    let _bound = bound(test);
    let limit = harness::raise_file_limit();
    let connections = CONNECTIONS.min(limit.saturating_sub(SPARE));
    assert!(connections >= 100, "a limit of {limit} open files leaves nothing to test");
    if connections < CONNECTIONS {
        eprintln!(
            "{test}: the system allows a process {limit} open files, so there are {connections} \
             connections and not {CONNECTIONS}"
        );
    }
    let started = Instant::now();
    let mut server = Child::start(test, "server");
    let port = u16::try_from(server.hear("port")).expect("a port");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let seed = seed();

    let runtime = mode.builder().build().expect("the runtime starts");
    let bytes = runtime.run(move || load(address, connections, seed));
    assert_eq!(runtime.metrics().alive, 0);
    server.release();
    assert_eq!(server.hear("most"), connections as u64);
    println!(
        "{mode}: {connections} connections at once, {bytes} bytes echoed, {:.1} s, {:?}",
        started.elapsed().as_secs_f64(),
        runtime.metrics()
    );
    server.finish();
}

#[test]
fn many_connections_in_pinned_mode() {
    many_connections("many_connections_in_pinned_mode", Mode::Pinned);
}

#[test]
fn many_connections_in_migrating_mode() {
    many_connections("many_connections_in_migrating_mode", Mode::Migrating);
}
