//! Host names are resolved on other OS threads than workers. The resolver here is the test's own:
//! the program's definition comes before the C library's.

mod bound;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use bine_io::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use bound::{bounded, runtimes};

static CALLS: AtomicUsize = AtomicUsize::new(0);
/// Whether the resolver may answer.
static ANSWERS: Mutex<bool> = Mutex::new(false);
static CHANGED: Condvar = Condvar::new();
const FAILURE: libc::c_int = libc::EAI_FAIL;

fn answer(now: bool) {
    *ANSWERS.lock().unwrap() = now;
    CHANGED.notify_all();
}

/// Blocks its OS thread until the test lets it go, and then knows no host.
///
/// # Safety
///
/// As the C library's function of this name; nothing is dereferenced.
// SAFETY: has the C library's signature, and fails as that may.
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    _node: *const libc::c_char,
    _service: *const libc::c_char,
    _hints: *const libc::addrinfo,
    _result: *mut *mut libc::addrinfo,
) -> libc::c_int {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let mut answers = ANSWERS.lock().unwrap();
    while !*answers {
        answers = CHANGED.wait(answers).unwrap();
    }
    FAILURE
}

/// What resolves a name, in all the ways that a name may be given.
#[allow(clippy::needless_borrows_for_generic_args, reason = "references are other types")]
fn attempts() -> Vec<fn() -> std::io::Error> {
    vec![
        || TcpStream::connect("name.invalid:80").unwrap_err(),
        || TcpStream::connect(&("name.invalid", 80)).unwrap_err(),
        || TcpStream::connect(String::from("name.invalid:80")).unwrap_err(),
        || TcpListener::bind(("name.invalid", 80)).unwrap_err(),
        || UdpSocket::bind(&String::from("name.invalid:80")).unwrap_err(),
        || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect((String::from("name.invalid"), 80)).unwrap_err()
        },
        || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", "name.invalid:80").unwrap_err()
        },
    ]
}

#[test]
fn a_name_that_takes_long_keeps_no_worker() {
    answer(true);
    let stds = "name.invalid:80".to_socket_addrs().map(drop).unwrap_err();
    for (runtime, kind) in runtimes() {
        println!("on {kind}");
        answer(false);
        let before = CALLS.load(Ordering::Relaxed);
        let expected = (stds.kind(), stds.to_string());
        bounded(move || {
            runtime.run(move || {
                let waiting: Vec<_> = attempts().into_iter().map(bine_runtime::spawn).collect();
                // This thread runs, though every resolver there is blocks.
                while CALLS.load(Ordering::Relaxed) - before < waiting.len() {
                    bine_runtime::thread::sleep(Duration::from_micros(100));
                }
                // Numbers need no resolver.
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                TcpStream::connect(("127.0.0.1", port)).unwrap();
                answer(true);
                for thread in waiting {
                    let error = thread.join().unwrap();
                    assert_eq!((error.kind(), error.to_string()), expected);
                }
            });
        });
    }
    // An OS thread asks by itself.
    let error = TcpStream::connect("name.invalid:80").unwrap_err();
    assert_eq!(error.kind(), stds.kind());
    assert_ne!(error.kind(), ErrorKind::WouldBlock);
}
