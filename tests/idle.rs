//! A server with a thousand connections on which nothing happens uses no CPU.

mod harness;

use std::net::TcpStream;
use std::time::Duration;

use bine::net::TcpListener;
use harness::{Child, Mode, bound, echo, receive, send, tell, wait_for_parent};

const CONNECTIONS: usize = 1_000;
const SPAN: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_millis(20);

/// The child: an echo server, until the parent has seen enough.
fn serve(mode: Mode) {
    harness::raise_file_limit();
    let runtime = mode.builder().build().expect("the runtime starts");
    runtime.spawn(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        tell("port", listener.local_addr().expect("an address").port().into());
        for stream in listener.incoming() {
            let stream = stream.expect("accept");
            bine::spawn(move || echo(&stream, &mut [0; 4096], &mut (0, 0)));
        }
    });
    wait_for_parent();
}

/// CPU time of another process, of all its threads.
fn cpu_time(process: u32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both pointers are valid for the calls.
    unsafe {
        assert_eq!(libc::clock_getcpuclockid(process.cast_signed(), &raw mut clock), 0);
        assert_eq!(libc::clock_gettime(clock, &raw mut time), 0);
    }
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("nanoseconds"))
}

fn an_idle_server(test: &str, mode: Mode) {
    if harness::role().is_some() {
        return serve(mode);
    }
    let _bound = bound(test);
    let limit = harness::raise_file_limit();
    assert!(limit > 2 * CONNECTIONS + 100, "the limit of {limit} open files is too low");
    let mut server = Child::start(test, "server");
    let port = u16::try_from(server.hear("port")).expect("a port");
    let talk = |stream: &TcpStream| {
        send(stream, b"hello").expect("sent");
        receive(stream, b"hello").expect("echoed");
    };
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
            talk(&stream);
            stream
        })
        .collect();

    // The workers go to sleep.
    std::thread::sleep(Duration::from_millis(500));
    let before = cpu_time(server.id());
    std::thread::sleep(SPAN);
    let used = cpu_time(server.id()) - before;
    println!("{mode}: {used:?} of CPU in {SPAN:?}, {before:?} before");
    assert!(!before.is_zero() && used < LIMIT, "{mode}: {used:?}");

    clients.iter().for_each(talk);
    drop(clients);
    server.finish();
}

#[test]
fn an_idle_server_in_pinned_mode() {
    an_idle_server("an_idle_server_in_pinned_mode", Mode::Pinned);
}

#[test]
fn an_idle_server_in_migrating_mode() {
    an_idle_server("an_idle_server_in_migrating_mode", Mode::Migrating);
}
