//! Real programs at the other end of a connection, which know nothing of bine.
#![allow(unsafe_code)]

use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::{env, thread};

/// The first of `candidates` that runs with `arguments`, and succeeds.
///
/// If there is none, the test cannot show what it is for. It says so on standard error itself, since
/// the harness shows what a test prints only if that fails.
///
/// # Panics
///
/// There is none, and `BINE_TEST_PEERS` is `required`: so it is on the CI machine, where a peer that
/// is missing is a failure.
pub fn find(what: &str, candidates: &[&str], arguments: &[&str]) -> Option<String> {
    let works = |candidate: &&&str| {
        let mut command = Command::new(candidate);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = candidates.iter().find(works).map(|candidate| (*candidate).to_owned());
    if found.is_none() {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        assert!(!required(), "{test} needs {what}, which is not installed");
        let _ = writeln!(io::stderr(), "skipped: {test}, which needs {what}");
    }
    found
}

fn required() -> bool {
    env::var("BINE_TEST_PEERS").is_ok_and(|value| value == "required")
}

/// A server that runs until this is dropped, or the thread that has started it ends.
#[derive(Debug)]
pub struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server that listens where it likes, on loopback, and then writes a line that ends in
    /// `:PORT`. `ready` is in that line, and in no line before it.
    ///
    /// # Panics
    ///
    /// The server ends before that.
    pub fn start(command: Command, ready: &str) -> Self {
        let mut server = Self::start_on(command, ready, 0).unwrap_or_else(|line| panic!("{line}"));
        assert_ne!(server.address.port(), 0, "no port in the server's line");
        server.address.set_ip(Ipv4Addr::LOCALHOST.into());
        server
    }

    /// Starts a server that has to be told its port, by `command`, and once it listens writes a
    /// line with `ready` in it. A port that is free may be gone when the server wants it; then it is
    /// started again on another one.
    ///
    /// # Panics
    ///
    /// The server ends before it listens, many times.
    pub fn start_on_free_port(mut command: impl FnMut(u16) -> Command, ready: &str) -> Self {
        for _ in 0..10 {
            let port = free_port();
            match Self::start_on(command(port), ready, port) {
                Ok(server) => return server,
                Err(line) => println!("the server has ended: {line}"),
            }
        }
        panic!("the server does not start");
    }

    /// Or else the last line that the server has written.
    fn start_on(mut command: Command, ready: &str, port: u16) -> Result<Self, String> {
        let (output, input) = io::pipe().expect("a pipe");
        command.stdin(Stdio::null()).stdout(input.try_clone().expect("a descriptor")).stderr(input);
        die_with_the_caller(&mut command);
        let mut process = command.spawn().expect("the server starts");
        // The server's ends are its own now: the pipe is at its end when the server is.
        drop(command);
        match await_line(output, ready) {
            Ok(line) => {
                let told = line.rsplit(':').next().and_then(|word| word.trim().parse().ok());
                let port = if port == 0 { told.unwrap_or(0) } else { port };
                Ok(Self { process, address: (Ipv4Addr::LOCALHOST, port).into() })
            }
            Err(line) => {
                let _ = process.wait();
                Err(line)
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails for one that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads until a line contains `ready`; what comes after it is shown by a thread of its own, so that
/// the writer never waits for room in the pipe. Or else the last line.
fn await_line(output: PipeReader, ready: &str) -> Result<String, String> {
    let mut lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
    let mut last = "it has written nothing".to_owned();
    for line in lines.by_ref() {
        last = String::from_utf8_lossy(&line).into_owned();
        println!("server: {last}");
        if last.contains(ready) {
            thread::spawn(move || {
                lines.for_each(|line| println!("server: {}", String::from_utf8_lossy(&line)));
            });
            return Ok(last);
        }
    }
    Err(last)
}

/// A test that hangs is aborted, and drops nothing. Its servers end with the thread that has
/// started them.
fn die_with_the_caller(command: &mut Command) {
    let ask = || {
        // SAFETY: sets a property of the calling process; no memory is involved.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec this makes one system call, takes no lock and allocates nothing.
    unsafe { command.pre_exec(ask) };
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    listener.local_addr().expect("an address").port()
}
