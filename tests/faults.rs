//! What goes wrong around a server and must not bring it down: panics, full descriptor tables,
//! signals, refused threads and memory, forks. Whatever concerns a whole process happens in a child
//! process of its own.

mod harness;

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bine::net::{SocketAddr, TcpListener, TcpStream};
use bine::runtime::Runtime;
use bine::thread;
use harness::{
    Child, Mode, bound, echo, os_threads, receive, role, run_child, run_child_to_success, seed,
    send, tell, wait_for_parent,
};

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// A connection: the end that connected, and the end that accepted.
fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let client = TcpStream::connect(address).expect("connect");
    (client, listener.accept().expect("accept").0)
}

/// Sends a number and expects it back.
fn ping(mut stream: &TcpStream, number: u64) -> io::Result<()> {
    send(&mut stream, &number.to_ne_bytes())?;
    receive(stream, &number.to_ne_bytes())
}

/// The runtime works: a connection between two of its green threads carries bytes.
fn assert_serves(runtime: &Runtime) {
    runtime.run(|| {
        let (client, server) = pair();
        let server = bine::spawn(move || echo(&server, &mut [0; 64], &mut (0, 0)));
        for number in 0..10 {
            ping(&client, number).expect("echoed");
        }
        drop(client);
        server.join().expect("no panic").expect("no error");
    });
}

/// Runs the test's child in both modes, each to its success.
fn in_both_modes(test: &str) {
    for mode in Mode::BOTH {
        let _bound = bound(format_args!("{test} in {mode} mode"));
        run_child_to_success(test, &mode.to_string());
    }
}

fn set_limit(resource: libc::__rlimit_resource_t, soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls; the hard limit stays as it is.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &raw mut limit), 0);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(resource, &raw const limit), 0);
    }
}

// ---- panics ----

const PANIC: u64 = u64::MAX;

/// Sends back numbers, and panics at one of them.
fn serve_until_told_to_panic(mut stream: TcpStream) {
    let mut word = [0; 8];
    while stream.read_exact(&mut word).is_ok() {
        assert_ne!(u64::from_ne_bytes(word), PANIC, "told to panic");
        send(&stream, &word).expect("sent");
    }
}

/// In a child, which prints the panics with backtraces: on the small stacks of green threads.
#[test]
fn a_handlers_panic_closes_its_own_connection_only() {
    const CONNECTIONS: u64 = 60;
    const ROUNDS: u64 = 20;
    let test = "a_handlers_panic_closes_its_own_connection_only";
    let Some(role) = role() else { return in_both_modes(test) };
    for workers in [1, 2, 8] {
        let runtime = Mode::named(&role).runtime(workers);
        let (listener, address) = listen();
        let server = runtime.spawn(move || {
            let accept = |_| listener.accept().expect("accept").0;
            let streams: Vec<_> = (0..CONNECTIONS).map(accept).collect();
            let handlers: Vec<_> = streams
                .into_iter()
                .map(|stream| bine::spawn(move || serve_until_told_to_panic(stream)))
                .collect();
            handlers.into_iter().map(thread::JoinHandle::join).collect::<Vec<_>>()
        });
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let client = TcpStream::connect(address).expect("connect");
                runtime.spawn(move || {
                    for round in 0..ROUNDS {
                        if number % 6 == 0 && round == number / 6 {
                            send(&client, &PANIC.to_ne_bytes()).expect("sent");
                            let end = (&client).read(&mut [0]);
                            let reset = |e: &io::Error| e.kind() == ErrorKind::ConnectionReset;
                            assert!(matches!(&end, Ok(0)) || end.as_ref().is_err_and(reset));
                            return;
                        }
                        ping(&client, round).expect("the others go on");
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("a client"));
        let ends = server.join().expect("the server");
        let panics: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
        assert_eq!(panics.len() as u64, CONNECTIONS / 6);
        for payload in panics {
            let text = payload.downcast::<String>().expect("the text of an assertion");
            assert!(text.contains("told to panic"), "{text}");
        }
        assert_eq!(runtime.metrics().alive, 0);
        assert_serves(&runtime);
    }
}

// ---- descriptors ----

/// The server has room for some 30 connections; 100 clients want one.
#[test]
fn a_full_descriptor_table_is_an_error_and_the_server_goes_on() {
    const CLIENTS: usize = 100;
    let test = "a_full_descriptor_table_is_an_error_and_the_server_goes_on";
    if let Some(role) = role() {
        return serve_with_few_descriptors(Mode::named(&role));
    }
    for mode in Mode::BOTH {
        let _bound = bound(format_args!("{test} in {mode} mode"));
        let mut server = Child::start(test, &mode.to_string());
        let port = u16::try_from(server.hear("port")).expect("a port");
        // Those that are not accepted yet wait in the listener's queue.
        let mut waiting: Vec<_> = (0..CLIENTS as u64)
            .map(|number| {
                let stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
                send(&stream, &number.to_ne_bytes()).expect("sent");
                (stream, number)
            })
            .collect();
        let errno = server.hear("error");
        assert_eq!(errno, libc::EMFILE as u64);
        // Each client that leaves makes room for another.
        let mut round = 0;
        for (stream, number) in waiting.drain(..) {
            receive(&stream, &number.to_ne_bytes()).expect("served in the end");
            round += 1;
        }
        assert_eq!(round, CLIENTS);
        server.release();
        let errors = server.hear("errors");
        println!("{mode}: {CLIENTS} clients served, {errors} times EMFILE");
        server.finish();
    }
}

fn serve_with_few_descriptors(mode: Mode) {
    let runtime = mode.runtime(2);
    harness::start_poller();
    let (listener, address) = listen();
    set_limit(libc::RLIMIT_NOFILE, harness::open_descriptors() as u64 + 30);
    let errors = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&errors);
    runtime.spawn(move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    drop(bine::spawn(move || echo(&stream, &mut [0; 64], &mut (0, 0))));
                }
                Err(error) => {
                    if counted.fetch_add(1, Ordering::Relaxed) == 0 {
                        // Every other call that needs a descriptor says so as well.
                        let connect = TcpStream::connect(address).unwrap_err();
                        assert_eq!(connect.raw_os_error(), Some(libc::EMFILE));
                        let clone = listener.try_clone().unwrap_err();
                        assert_eq!(clone.raw_os_error(), Some(libc::EMFILE));
                        let errno = error.raw_os_error().expect("an error of the system");
                        tell("error", u64::from(errno.unsigned_abs()));
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            }
        }
    });
    tell("port", address.port().into());
    wait_for_parent();
    while runtime.metrics().alive > 1 {
        std::thread::yield_now();
    }
    tell("errors", errors.load(Ordering::Relaxed));
    assert_serves(&runtime);
}

// ---- signals ----

#[test]
fn writing_to_a_closed_peer_is_an_error_where_sigpipe_kills() {
    let test = "writing_to_a_closed_peer_is_an_error_where_sigpipe_kills";
    let Some(role) = role() else {
        in_both_modes(test);
        let control = std::os::unix::process::ExitStatusExt::signal(&run_child(test, "std").status);
        assert_eq!(control, Some(libc::SIGPIPE), "what is not sent by bine dies of it");
        return;
    };
    // SAFETY: the default disposition involves no handler. (Rust's start-up code ignores it.)
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if role == "std" {
        let (client, server) = pair();
        drop(server);
        loop {
            // SAFETY: one byte of a live array, to a descriptor that is open.
            unsafe {
                libc::write(std::os::fd::AsRawFd::as_raw_fd(&client), b"x".as_ptr().cast(), 1)
            };
        }
    }
    let runtime = Mode::named(&role).runtime(2);
    let writers: [fn(&TcpStream) -> io::Result<usize>; 3] = [
        |mut stream| stream.write(b"x"),
        |mut stream| stream.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]),
        |mut stream| stream.write_all(&[7; 1 << 20]).map(|()| 1),
    ];
    for write in writers {
        runtime.run(move || {
            let (client, server) = pair();
            drop(server);
            let mut errors = 0;
            // The first writes may still fit in; then each fails.
            while errors < 3 {
                if let Err(error) = write(&client) {
                    errors += 1;
                    let kind = error.kind();
                    let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                    assert!(gone.contains(&kind), "{error}");
                    assert!(errors == 1 || kind == ErrorKind::BrokenPipe, "{error}");
                }
            }
        });
    }
    // The peer leaves while a writer waits for room.
    runtime.run(|| {
        let (client, server) = pair();
        let writer = bine::spawn(move || send(&client, &vec![7; 64 << 20]).unwrap_err().kind());
        receive(&server, &[7; 100]).expect("received");
        drop(server);
        let kind = writer.join().expect("no panic");
        assert!(matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{kind}");
    });
    assert_eq!(runtime.metrics().alive, 0);
}

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Sends SIGUSR1 to all other threads of the process, every 100 us or so, until `done`.
fn interrupt_all(done: &AtomicBool) {
    // SAFETY: no memory is involved.
    let (process, own) = unsafe { (libc::getpid(), libc::gettid()) };
    while !done.load(Ordering::Relaxed) {
        for task in std::fs::read_dir("/proc/self/task").expect("/proc is there") {
            let name = task.expect("an entry").file_name();
            let thread: libc::pid_t = name.to_str().and_then(|n| n.parse().ok()).expect("a number");
            if thread != own {
                // SAFETY: a handler is installed. Fails if the thread has ended.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn interrupted_system_calls_are_no_errors() {
    let test = "interrupted_system_calls_are_no_errors";
    let Some(role) = role() else { return in_both_modes(test) };
    // SAFETY: the handler only touches an atomic. Without SA_RESTART, so that calls are interrupted.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    let runtime = Mode::named(&role).runtime(2);
    let done = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let done = Arc::clone(&done);
        move || interrupt_all(&done)
    });
    let seed = seed();
    let mut rounds = 0;
    // As long as it takes until there were many signals.
    while HANDLED.load(Ordering::Relaxed) < 5_000 {
        talk_while_interrupted(&runtime, seed + rounds);
        rounds += 1;
    }
    done.store(true, Ordering::Relaxed);
    sender.join().expect("the sender of signals");
    assert_eq!(runtime.metrics().alive, 0);
    println!("{role}: {rounds} rounds, {} signals", HANDLED.load(Ordering::Relaxed));
}

/// Twenty connections, half of them from an OS thread. Nothing here hides `Interrupted`.
fn talk_while_interrupted(runtime: &Runtime, seed: u64) {
    const CONNECTIONS: u64 = 20;
    let (listener, address) = listen();
    let client = move |number| {
        let mut random = fastrand::Rng::with_seed(seed ^ number);
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(200))).expect("a timeout");
        let mut message = [0; 2000];
        for _ in 0..40 {
            let message = &mut message[..random.usize(1..=2000)];
            random.fill(message);
            send(&stream, message).expect("sent");
            receive(&stream, message).expect("echoed");
            if random.u8(..) < 8 {
                thread::sleep(Duration::from_micros(300));
            }
        }
    };
    let server = runtime.spawn(move || {
        let handlers: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (stream, _) = listener.accept().expect("accept");
                // A message may be sent back in two pieces, without waiting in between.
                stream.set_nodelay(true).expect("an option");
                bine::spawn(move || echo(&stream, &mut [0; 1024], &mut (0, 0)).expect("echo"))
            })
            .collect();
        handlers.into_iter().for_each(|handler| handler.join().expect("a handler"));
    });
    let green: Vec<_> =
        (0..CONNECTIONS / 2).map(|number| runtime.spawn(move || client(number))).collect();
    (CONNECTIONS / 2..CONNECTIONS).for_each(client);
    green.into_iter().for_each(|client| client.join().expect("a client"));
    server.join().expect("the server");
}

// ---- threads and memory ----

/// Makes limits on the number of threads count: they do not bind root.
fn become_nobody() {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: changes the credentials of this process, which exists for one test only.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setresuid(NOBODY, NOBODY, NOBODY), 0);
        }
    }
}

/// Waits until those that were started beyond `count` have ended. They have been joined, but the
/// kernel may still list them.
fn wait_for_os_threads(count: usize) {
    while os_threads() > count {
        std::thread::yield_now();
    }
}

#[test]
fn refused_worker_threads_are_an_error() {
    let test = "refused_worker_threads_are_an_error";
    let Some(role) = role() else { return in_both_modes(test) };
    let mode = Mode::named(&role);
    become_nobody();
    let before = os_threads();
    // The workers', and the monitor's.
    let needed = 8 + 1;
    for limit in 0..(before + needed) as u64 {
        set_limit(libc::RLIMIT_NPROC, limit);
        let error = mode.builder().workers(8).build().expect_err("so many threads are too many");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        println!("{limit} threads allowed, {before} there: {error}");
    }
    set_limit(libc::RLIMIT_NPROC, u64::MAX);
    wait_for_os_threads(before);
    let runtime = mode.runtime(8);
    assert_eq!(os_threads(), before + needed);
    assert_serves(&runtime);
}

#[test]
fn a_refused_poller_thread_is_an_error() {
    let test = "a_refused_poller_thread_is_an_error";
    let Some(role) = role() else { return in_both_modes(test) };
    let runtime = Mode::named(&role).runtime(2);
    become_nobody();
    set_limit(libc::RLIMIT_NPROC, 0);
    let descriptors = runtime.run(|| {
        let (listener, _) = listen();
        let before = harness::open_descriptors();
        for _ in 0..3 {
            let error = listener.accept().expect_err("nobody could wake us");
            assert!(error.to_string().contains("poller thread"), "{error}");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
        assert_eq!(harness::open_descriptors(), before);
        before
    });
    set_limit(libc::RLIMIT_NPROC, u64::MAX);
    assert_serves(&runtime);
    println!("{role}: {descriptors} descriptors with and without the errors");
}

#[test]
fn blocking_calls_without_threads_run_in_place() {
    let test = "blocking_calls_without_threads_run_in_place";
    let Some(role) = role() else { return in_both_modes(test) };
    let runtime = Mode::named(&role).runtime(2);
    become_nobody();
    set_limit(libc::RLIMIT_NPROC, 0);
    let before = os_threads();
    let job = |number| {
        let name = std::thread::current().name().map(String::from);
        (number * 2, name.is_some_and(|name| name.starts_with("bine-blocking-")))
    };
    let all = |pooled: bool| {
        let call = |number: u64| runtime.spawn(move || bine::blocking(move || job(number)));
        let threads: Vec<_> = (0..100).map(call).collect();
        for (number, thread) in (0..).zip(threads) {
            assert_eq!(thread.join().expect("no panic"), (number * 2, pooled));
        }
    };
    all(false);
    assert_eq!(os_threads(), before);
    set_limit(libc::RLIMIT_NPROC, u64::MAX);
    all(true);
}

/// Bytes of address space that the process uses.
fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc is there");
    pages.split(' ').next().and_then(|text| text.parse::<u64>().ok()).expect("a number") * 4096
}

#[test]
fn no_address_space_for_stacks_is_an_error_of_the_spawn() {
    let test = "no_address_space_for_stacks_is_an_error_of_the_spawn";
    let Some(role) = role() else { return in_both_modes(test) };
    let runtime = Mode::named(&role).runtime(2);
    assert_serves(&runtime);
    set_limit(libc::RLIMIT_AS, address_space() + (300 << 20));
    let spawned = runtime.run(|| {
        let (client, server) = pair();
        let server = bine::spawn(move || echo(&server, &mut [0; 64], &mut (0, 0)));
        let mut threads = Vec::with_capacity(100_000);
        let error = loop {
            match thread::Builder::new().spawn(thread::park) {
                Ok(thread) => threads.push(thread),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("stack"), "{error}");
        println!("{} stacks, then: {error}", threads.len());
        // Those that have their stacks go on, and what ends makes room.
        ping(&client, 1).expect("echoed");
        threads.iter().for_each(|thread| thread.thread().unpark());
        let ended = threads.into_iter().map(|thread| thread.join().expect("it ends")).count();
        bine::spawn(|| ()).join().expect("there is room");
        drop(client);
        server.join().expect("no panic").expect("no error");
        ended
    });
    assert!(spawned > 100, "{spawned}");
    assert_eq!(runtime.metrics().alive, 0);
    assert_serves(&runtime);
}

#[test]
fn no_address_space_for_workers_is_an_error_of_the_build() {
    let test = "no_address_space_for_workers_is_an_error_of_the_build";
    let Some(role) = role() else { return in_both_modes(test) };
    let mode = Mode::named(&role);
    drop(mode.runtime(1));
    let before = os_threads();
    // A worker's own stack has 2 MiB.
    set_limit(libc::RLIMIT_AS, address_space() + (200 << 20));
    let error = mode.builder().workers(1_024).build().expect_err("there is no room for 2 GiB");
    println!("{role}: {error}");
    wait_for_os_threads(before);
    set_limit(libc::RLIMIT_AS, u64::MAX);
    assert_serves(&mode.runtime(2));
}

/// However little there is: the thread's own start needs some, too.
#[test]
fn no_address_space_for_the_poller_is_an_error_of_the_operation() {
    let test = "no_address_space_for_the_poller_is_an_error_of_the_operation";
    let Some(role) = role() else { return in_both_modes(test) };
    let runtime = Mode::named(&role).runtime(2);
    // std's own, so that nothing has needed a poller; and a green thread that has its stack.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let client = std::net::TcpStream::connect(address).expect("connect");
    let client = TcpStream::from(std::os::fd::OwnedFd::from(client));
    let server = listener.accept().expect("accept").0;
    let refused = runtime.run(move || {
        client.set_read_timeout(Some(Duration::from_micros(1))).expect("a timeout");
        // What the texts of errors take is to be had without more address space.
        drop((0..1_000).map(|_| Box::new([0_u8; 100])).collect::<Vec<_>>());
        let used = address_space();
        let mut refused = 0;
        for more in (0..4 << 20).step_by(16 << 10) {
            set_limit(libc::RLIMIT_AS, used + more);
            let error = { &client }.read(&mut [0]).expect_err("nothing was sent");
            if error.kind() == ErrorKind::WouldBlock && !error.to_string().contains("poller") {
                break;
            }
            refused += 1;
        }
        set_limit(libc::RLIMIT_AS, u64::MAX);
        drop(server);
        refused
    });
    println!("{role}: refused {refused} times");
    assert!((1..256).contains(&refused), "{refused}");
    assert_serves(&runtime);
}

// ---- fork ----

/// Forks, and returns whether `f` returns true in the child. A child that hangs is killed.
fn forked(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `f` and ends at once, without destructors or hooks of its parent.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            // SAFETY: no memory is involved; SIGALRM ends the process.
            unsafe { libc::alarm(60) };
            let good = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(false);
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is valid for the call.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } != child {}
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
    }
}

/// What a forked child finds. `silent` has been waited for before the fork.
fn sees_errors(silent: &TcpStream, parents: &TcpListener) -> bool {
    let refused = |error: io::Error| {
        error.kind() == ErrorKind::Unsupported && error.to_string().contains("forked")
    };
    let (fresh, address) = listen();
    let wait = [
        { silent }.read(&mut [0]).map(drop),
        silent.peek(&mut [0]).map(drop),
        parents.accept().map(drop),
        fresh.accept().map(drop),
        // More than fits into the buffers.
        send(silent, &vec![0; 64 << 20]),
    ];
    let all = wait.into_iter().all(|result| result.is_err_and(refused));
    // What need not wait works, or fails; nothing hangs.
    let client = std::net::TcpStream::connect(address).expect("std's own");
    let accepted = fresh.accept().is_ok();
    drop(client);
    let connected = TcpStream::connect(address);
    all && accepted && (connected.is_ok() || connected.is_err_and(refused))
}

#[test]
fn a_forked_child_gets_errors_and_its_parent_goes_on() {
    let test = "a_forked_child_gets_errors_and_its_parent_goes_on";
    let Some(role) = role() else { return in_both_modes(test) };
    let runtime = Mode::named(&role).runtime(2);
    let streams = runtime.run(|| {
        let (silent, peer) = pair();
        silent.set_read_timeout(Some(Duration::from_micros(1))).expect("a timeout");
        assert_eq!({ &silent }.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        silent.set_read_timeout(None).expect("no timeout");
        let (listener, _) = listen();
        assert!(forked(|| sees_errors(&silent, &listener)), "forked from a green thread");
        (silent, peer, listener)
    });
    let (silent, peer, listener) = streams;
    assert!(forked(|| sees_errors(&silent, &listener)), "forked from an OS thread");
    // The parent's registrations are as they were. The children have filled the connection.
    runtime.run(move || {
        let sender = bine::spawn(move || send(&peer, b"hello").map(|()| peer).expect("sent"));
        receive(&silent, b"hello").expect("received");
        drop(silent);
        let mut peer = sender.join().expect("no panic");
        let read = io::copy(&mut peer, &mut io::sink()).expect("to the end");
        assert!(read > 0, "what the children sent");
    });
    assert_serves(&runtime);
}

/// Locks, condition variables and channels that only the parent's threads could give, or fill.
fn waits_in_vain(
    mutex: &bine::sync::Mutex<()>,
    condvar: &bine::sync::Condvar,
    receiver: &bine::channel::Receiver<()>,
    (silent, sender): (&TcpStream, &bine::channel::Sender<()>),
) -> bool {
    let panics = |f: &mut dyn FnMut()| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
        panic.downcast_ref::<String>().is_some_and(|text| text.contains("forked by a green thread"))
    };
    let own = bine::sync::Mutex::new(());
    // What has to wait for nobody works, and many times.
    for _ in 0..1_000 {
        drop(own.lock().expect("free"));
    }
    let refused = { silent }.read(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::Unsupported);
    panics(&mut || drop(mutex.lock()))
        && panics(&mut || drop(condvar.wait(own.lock().expect("free"))))
        && !own.is_poisoned()
        && panics(&mut || assert!(receiver.recv().is_ok()))
        && panics(&mut || assert!(receiver.recv_timeout(Duration::from_millis(1)).is_ok()))
        && panics(&mut || assert!(sender.send(()).is_ok()))
        && refused
}

/// An OS thread that is alone in a child is told so where it would wait for a message, or for room; and
/// nothing of that wait is left in the channel.
#[test]
fn an_os_thread_that_is_alone_in_a_forked_child_waits_for_no_channel() {
    let test = "an_os_thread_that_is_alone_in_a_forked_child_waits_for_no_channel";
    let Some(role) = role() else { return in_both_modes(test) };
    let runtime = Mode::named(&role).runtime(2);
    let panics = |f: &mut dyn FnMut()| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
        panic.downcast_ref::<String>().is_some_and(|text| text.contains("its only thread"))
    };
    for (sender, receiver) in [bine::channel::unbounded(), bine::channel::bounded(1)] {
        let in_child = || {
            panics(&mut || assert!(receiver.recv().is_ok()))
                && sender.send(1).is_ok()
                && (sender.capacity().is_none() || panics(&mut || assert!(sender.send(2).is_ok())))
                && receiver.recv() == Ok(1)
                && sender.send(3).is_ok()
                && receiver.recv() == Ok(3)
        };
        assert!(forked(in_child), "it hangs, or a message is lost");
    }
    assert_serves(&runtime);
}

#[test]
fn a_green_thread_that_forked_waits_for_nothing_of_its_parents() {
    let test = "a_green_thread_that_forked_waits_for_nothing_of_its_parents";
    let Some(role) = role() else { return in_both_modes(test) };
    let runtime = Mode::named(&role).runtime(2);
    runtime.run(|| {
        let mutex = Arc::new(bine::sync::Mutex::new(()));
        let condvar = bine::sync::Condvar::new();
        let (_keeps, receiver) = bine::channel::bounded(1);
        let (full, _receiver) = bine::channel::bounded(1);
        full.send(()).expect("room");
        let (silent, _peer) = pair();
        let (tell, told) = bine::channel::bounded(1);
        let (end, ends) = bine::channel::bounded::<()>(1);
        let held = Arc::clone(&mutex);
        let holder = bine::spawn(move || {
            let _held = held.lock().expect("free");
            tell.send(()).expect("the parent waits");
            ends.recv().expect("the parent tells");
        });
        told.recv().expect("the holder tells");
        let in_child = || waits_in_vain(&mutex, &condvar, &receiver, (&silent, &full));
        assert!(forked(in_child), "something hangs, or goes on");
        end.send(()).expect("the holder waits");
        holder.join().expect("no panic");
        drop(mutex.lock().expect("not poisoned"));
    });
    assert_serves(&runtime);
}
