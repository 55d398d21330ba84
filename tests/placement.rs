//! Which OS threads the green threads of a server run on.

mod harness;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::ThreadId;
use std::time::Duration;

use bine::net::{SocketAddr, TcpListener, TcpStream};
use bine::thread::{self, JoinHandle};
use harness::{Mode, bound, receive, seed, send};

fn os_thread() -> ThreadId {
    std::thread::current().id()
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// One green thread accepts all connections, and spawns their handlers on its own worker. Each
/// handler blocks its OS thread until all four run, so all workers but one have stolen.
#[test]
fn other_workers_steal_an_acceptors_handlers() {
    const WORKERS: usize = 4;
    for mode in Mode::BOTH {
        let _bound = bound(format_args!("stealing in {mode} mode"));
        let runtime = mode.runtime(WORKERS);
        let seen = runtime.run(|| {
            let (listener, address) = listen();
            let _clients: Vec<_> = (0..WORKERS)
                .map(|_| {
                    let client = TcpStream::connect(address).expect("connect");
                    send(&client, b"x").expect("sent");
                    client
                })
                .collect();
            let meeting = Arc::new(Barrier::new(WORKERS));
            let handlers: Vec<_> = (0..WORKERS)
                .map(|_| {
                    let (stream, _) = listener.accept().expect("accept");
                    let meeting = Arc::clone(&meeting);
                    bine::spawn(move || {
                        receive(&stream, b"x").expect("received");
                        meeting.wait();
                        os_thread()
                    })
                })
                .collect();
            handlers.into_iter().map(|handler| handler.join().unwrap()).collect::<HashSet<_>>()
        });
        let steals = runtime.metrics().steals;
        println!("{mode}: {} OS threads ran {WORKERS} handlers, {steals} steals", seen.len());
        assert_eq!(seen.len(), WORKERS, "in {mode} mode");
        assert!(steals >= WORKERS as u64 - 1, "{steals} steals in {mode} mode");
    }
}

/// An echo server's handler that returns the OS threads on which it was seen after each read.
fn handler(stream: TcpStream, moved: Arc<AtomicBool>) -> JoinHandle<HashSet<ThreadId>> {
    bine::spawn(move || {
        let (mut seen, mut word) = (HashSet::new(), [0; 8]);
        seen.insert(os_thread());
        while std::io::Read::read_exact(&mut &stream, &mut word).is_ok() {
            seen.insert(os_thread());
            send(&stream, &word).expect("sent");
            // Keeps some worker from those whom the poller wakes.
            if word[0] == 0 {
                bine::spawn(|| std::thread::sleep(Duration::from_millis(1)));
            }
            if seen.len() > 1 {
                moved.store(true, Ordering::Relaxed);
            }
        }
        seen
    })
}

/// Twenty connections from plain OS threads, which talk for `rounds` or until a handler has moved.
/// Returns on how many OS threads each handler was seen.
fn os_threads_of_handlers(mode: Mode, rounds: usize, seed: u64) -> Vec<usize> {
    const CONNECTIONS: u64 = 20;
    let runtime = mode.runtime(4);
    let (listener, address) = listen();
    let moved = Arc::new(AtomicBool::new(false));
    let server = runtime.spawn({
        let moved = Arc::clone(&moved);
        move || {
            let handlers: Vec<_> = (0..CONNECTIONS)
                .map(|_| handler(listener.accept().expect("accept").0, Arc::clone(&moved)))
                .collect();
            let join = |handler: JoinHandle<HashSet<_>>| handler.join().expect("a handler").len();
            handlers.into_iter().map(join).collect()
        }
    });
    std::thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            let moved = &moved;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + number);
                let stream = std::net::TcpStream::connect(address).expect("connect");
                for _ in 0..rounds {
                    if moved.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut word = random.u64(..).to_ne_bytes();
                    word[0] %= 16;
                    send(&stream, &word).expect("sent");
                    receive(&stream, &word).expect("echoed");
                }
            });
        }
    });
    server.join().expect("the server")
}

#[test]
fn a_connection_stays_on_its_os_thread_in_pinned_mode() {
    let _bound = bound("pinned connections");
    let seen = os_threads_of_handlers(Mode::Pinned, 300, seed());
    println!("20 connections with 300 messages each: seen on {seen:?} OS threads");
    assert!(seen.iter().all(|&count| count == 1), "{seen:?}");
}

#[test]
fn a_connection_moves_in_migrating_mode() {
    let _bound = bound("migrating connections");
    let seen = os_threads_of_handlers(Mode::Migrating, usize::MAX, seed());
    println!("20 connections: seen on {seen:?} OS threads");
    assert!(seen.iter().any(|&count| count > 1), "{seen:?}");
}

/// The one that is exempt stays, however many of its neighbours move.
#[test]
fn a_pinned_connection_stays_in_migrating_mode() {
    let _bound = bound("a pinned connection in migrating mode");
    let runtime = Mode::Migrating.runtime(4);
    runtime.run(|| {
        let (listener, address) = listen();
        let mut connections = Vec::new();
        for _ in 0..20 {
            let client = TcpStream::connect(address).expect("connect");
            let (server, _) = listener.accept().expect("accept");
            let serve = move || {
                let (home, mut word) = (os_thread(), [0; 8]);
                while std::io::Read::read_exact(&mut &server, &mut word).is_ok() {
                    assert_eq!(os_thread(), home);
                    send(&server, &word).expect("sent");
                }
            };
            let pinned = thread::Builder::new().pinned(true);
            connections.push(pinned.spawn(serve).expect("a green thread"));
            connections.push(bine::spawn(move || {
                for round in 0..300u64 {
                    send(&client, &round.to_ne_bytes()).expect("sent");
                    receive(&client, &round.to_ne_bytes()).expect("echoed");
                }
            }));
        }
        connections.into_iter().for_each(|end| end.join().expect("neither end panics"));
    });
}
