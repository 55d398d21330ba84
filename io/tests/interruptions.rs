//! Signals during everything that waits for sockets but TCP's, for which the facade's tests have
//! it. Alone in its process, whose handlers it sets.

mod bound;

use std::io::{ErrorKind, IoSlice, PipeReader, Read, Write, pipe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bine_io::Async;
use bine_io::net::UdpSocket;
use bine_io::os::linux::net::SocketAddrExt;
use bine_io::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use bound::{everywhere, spawn};

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Sends SIGUSR1 to all other threads of the process, every 100 us or so, until `done`.
fn interrupt_all(done: &AtomicBool) {
    // SAFETY: no memory is involved.
    let (process, own) = unsafe { (libc::getpid(), libc::gettid()) };
    while !done.load(Ordering::Relaxed) {
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let name = task.unwrap().file_name();
            let thread: libc::pid_t = name.to_str().unwrap().parse().unwrap();
            if thread != own {
                // SAFETY: a handler is installed. Fails if the thread has ended.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Each call returns what it should, and none returns `Interrupted`: nothing here hides it.
fn datagrams() {
    let one = UdpSocket::bind("127.0.0.1:0").unwrap();
    let two = UdpSocket::bind("127.0.0.1:0").unwrap();
    two.connect(one.local_addr().unwrap()).unwrap();
    let echo = spawn(move || {
        for _ in 0..50 {
            let mut buf = [0; 64];
            let (len, from) = one.recv_from(&mut buf).unwrap();
            assert_eq!(one.send_to(&buf[..len], from).unwrap(), len);
        }
    });
    for round in 0..50u8 {
        assert_eq!(two.send(&[round; 9]).unwrap(), 9);
        let mut buf = [0; 64];
        assert_eq!(two.recv(&mut buf).unwrap(), 9);
        assert_eq!(buf[..9], [round; 9]);
    }
    echo.join();
    let (one, two) = UnixDatagram::pair().unwrap();
    let sender =
        spawn(move || (0..50u8).for_each(|round| assert_eq!(one.send(&[round]).unwrap(), 1)));
    for round in 0..50 {
        let mut byte = [0];
        assert_eq!(two.recv_from(&mut byte).unwrap().0, 1);
        assert_eq!(byte, [round]);
    }
    sender.join();
}

fn streams() {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    let name = format!("bine-signals-{}-{number}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let server = spawn(move || {
        for _ in 0..10 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buf = [0; 1000];
            loop {
                match stream.read(&mut buf).unwrap() {
                    0 => break,
                    len => assert_eq!(
                        stream.write_vectored(&[IoSlice::new(&buf[..len])]).unwrap(),
                        len
                    ),
                }
            }
        }
    });
    for round in 0..10u8 {
        let mut stream = UnixStream::connect_addr(&address).unwrap();
        for _ in 0..20 {
            assert_eq!(stream.write(&[round; 700]).unwrap(), 700);
            let (mut got, mut buf) = (0, [0; 700]);
            while got < 700 {
                got += stream.read(&mut buf[got..]).unwrap();
            }
            assert_eq!(buf, [round; 700]);
        }
    }
    server.join();
}

fn pipes() {
    let (reader, writer) = pipe().unwrap();
    let (reader, writer) = (Async::new(reader).unwrap(), Async::new(writer).unwrap());
    let sender = spawn(move || {
        let mut left = 200_000;
        while left > 0 {
            left -= (&writer).write(&vec![1; left.min(9000)]).unwrap();
        }
    });
    let mut got = 0;
    while got < 200_000 {
        reader.readable().unwrap();
        got += reader.read_with(|mut pipe: &PipeReader| pipe.read(&mut [0; 4096])).unwrap();
    }
    sender.join();
    let short = Duration::from_millis(2);
    let end = reader.read_with_timeout(short, |mut pipe| pipe.read(&mut [0]));
    assert!(matches!(end, Ok(0)), "{end:?}");
}

fn timeouts() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(3))).unwrap();
    for _ in 0..5 {
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn interrupted_system_calls_are_no_errors() {
    // SAFETY: the handler only touches an atomic. Without SA_RESTART, so that calls are
    // interrupted. SIGPIPE, which Rust's start-up code ignores, would end the process.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| interrupt_all(&done));
        // Also where a test fails: else the scope waits for ever.
        let _done = Done(&done);
        for part in [datagrams, streams, pipes, timeouts, broken_pipes] {
            everywhere(part);
        }
        while HANDLED.load(Ordering::Relaxed) < 2_000 {
            everywhere(streams);
        }
    });
    println!("{} signals", HANDLED.load(Ordering::Relaxed));
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A peer that is gone is an error, where SIGPIPE would end the process.
fn broken_pipes() {
    let (mut one, two) = UnixStream::pair().unwrap();
    drop(two);
    assert_eq!(one.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let vectors = [IoSlice::new(b"x"), IoSlice::new(b"y")];
    assert_eq!(one.write_vectored(&vectors).unwrap_err().kind(), ErrorKind::BrokenPipe);
    let (mut one, two) = UnixStream::pair().unwrap();
    let writer = spawn(move || {
        loop {
            if let Err(error) = one.write(&[0; 1 << 16]) {
                return error.kind();
            }
        }
    });
    assert_ne!((&two).read(&mut [0; 100]).unwrap(), 0);
    drop(two);
    let gone = writer.join();
    assert!(matches!(gone, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{gone}");
    let (one, two) = UnixDatagram::pair().unwrap();
    drop(two);
    let gone = one.send(b"x").unwrap_err().kind();
    assert!(matches!(gone, ErrorKind::ConnectionRefused | ErrorKind::BrokenPipe), "{gone}");
}
