//! Connections that come and go: nothing of them stays, no descriptor, stack, slot of the poller
//! or byte.
//!
//! `BINE_CHURN_SECONDS` has each mode go on for that long, with 15,000 connections a round.

mod harness;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bine::net::{SocketAddr, TcpListener, TcpStream};
use bine::runtime::Runtime;
use bine::sync::Barrier;
use bine::{stack, thread};
use harness::{Mode, bound, receive, role, run_child_to_success, send};
use socket2::SockRef;

/// Connections of a round, and how many of them are open at once.
#[derive(Clone, Copy, Debug)]
struct Load {
    connections: usize,
    at_once: usize,
}

/// What must be as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    registrations: usize,
    threads: u64,
}

impl Held {
    fn now(runtime: &Runtime) -> Self {
        Self {
            descriptors: harness::open_descriptors(),
            registrations: bine_io::registrations(),
            threads: runtime.metrics().alive,
        }
    }
}

/// Counts what is allocated and not freed.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator, as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's duties are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's duties are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

fn reset_when_closed(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("an option");
}

/// The ways in which a connection ends, in turns.
fn serve(mut stream: &TcpStream) {
    let mut number = [0; 8];
    stream.read_exact(&mut number).expect("a number");
    send(stream, &number).expect("sent");
    match usize::from_ne_bytes(number) % 4 {
        // The client goes first.
        0 => assert_eq!(stream.read(&mut [0]).expect("the end"), 0),
        // It resets the connection, while somebody waits here.
        1 => {
            let reset = stream.read(&mut [0]).expect_err("no end");
            assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        }
        // The server goes first.
        2 => {}
        // And leaves what nobody reads.
        _ => {
            send(stream, &[7; 1000]).expect("sent");
            reset_when_closed(stream);
        }
    }
}

fn visit(server: SocketAddr, number: usize, all: &Barrier) {
    let stream = loop {
        match TcpStream::connect(server) {
            Ok(stream) => break stream,
            // All ports wait for late packets of earlier connections.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => panic!("{error}"),
        }
    };
    send(&stream, &number.to_ne_bytes()).expect("sent");
    receive(&stream, &number.to_ne_bytes()).expect("echoed");
    all.wait();
    if number % 4 == 1 {
        reset_when_closed(&stream);
    }
}

/// Connections that are all open at once, and then closed.
fn wave(runtime: &Runtime, count: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let server = runtime.spawn(move || {
        let handler = |_| {
            let (stream, _) = listener.accept().expect("accept");
            bine::spawn(move || serve(&stream))
        };
        let handlers: Vec<_> = (0..count).map(handler).collect();
        handlers.into_iter().for_each(|handler| handler.join().expect("a handler"));
    });
    let all = Arc::new(Barrier::new(count));
    let client = |number| {
        let all = Arc::clone(&all);
        runtime.spawn(move || visit(address, number, &all))
    };
    let clients: Vec<_> = (0..count).map(client).collect();
    clients.into_iter().for_each(|client| client.join().expect("a client"));
    server.join().expect("the server");
}

fn round(runtime: &Runtime, load: Load) {
    let mut left = load.connections;
    while left > 0 {
        let count = left.min(load.at_once);
        wave(runtime, count);
        left -= count;
    }
}

fn churn(mode: Mode) {
    let limit = harness::raise_file_limit();
    let seconds = std::env::var("BINE_CHURN_SECONDS").ok();
    let seconds: Option<u64> = seconds.map(|text| text.parse().expect("a number of seconds"));
    // Two descriptors a connection.
    let most = (limit - 100) / 2;
    let load = match seconds {
        None => Load { connections: 1_000, at_once: most.min(100) },
        Some(_) => Load { connections: 15_000, at_once: most.min(7_500) },
    };
    let runtime = mode.runtime(4);
    harness::start_poller();
    // The first rounds fill caches, which have bounds.
    (0..3).for_each(|_| round(&runtime, load));
    let (held, before, stacks) = (Held::now(&runtime), allocated(), stack::stats().lent);
    let (started, mut rounds) = (Instant::now(), 0);
    while match seconds {
        None => rounds < 10,
        Some(seconds) => started.elapsed() < Duration::from_secs(seconds),
    } {
        round(&runtime, load);
        rounds += 1;
        assert_eq!(Held::now(&runtime), held, "after {rounds} rounds");
    }
    let more = allocated().saturating_sub(before);
    let connections = rounds * load.connections;
    println!(
        "{mode}: {connections} connections in {:?}, {} at once; {held:?}; \
         {before} bytes, and {more} more",
        started.elapsed(),
        load.at_once,
    );
    // Each connection has two stacks. Free ones may be with the workers, who keep some.
    let lent = stack::stats().lent;
    assert!(lent < stacks + connections / 10, "{stacks} stacks, and then {lent}");
    // What grows with the number of connections at once, and stays, may have grown a little since.
    // Anything that each connection left would be more.
    assert!(more < connections * 16, "{more} bytes more after {connections} connections");
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let test = "connections_that_come_and_go_leave_nothing";
    if let Some(role) = role() {
        // A longer run has its own bound.
        if std::env::var_os("BINE_CHURN_SECONDS").is_some() {
            // SAFETY: no memory is involved.
            unsafe { libc::alarm(0) };
        }
        return churn(Mode::named(&role));
    }
    for mode in Mode::BOTH {
        let _bound = bound(format_args!("{test} in {mode} mode"));
        run_child_to_success(test, &mode.to_string());
    }
}
