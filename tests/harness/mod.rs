//! What the integration tests share: modes, seeds, bounds, child processes. Holds no test.
#![allow(dead_code, reason = "each test binary uses some of this")]

#[path = "../../io/tests/descriptor_table/mod.rs"]
mod descriptor_table;

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bine::runtime::{Builder, Runtime};

/// Tells a child process what it is to do.
const ROLE: &str = "BINE_TEST_CHILD";
/// After this long a test is taken to hang. Only failures reach it.
const BOUND: Duration = Duration::from_secs(300);

/// Whether green threads that have run may move to another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pinned,
    Migrating,
}

impl Mode {
    pub(crate) const BOTH: [Self; 2] = [Self::Pinned, Self::Migrating];

    pub(crate) fn builder(self) -> Builder {
        match self {
            Self::Pinned => Builder::new(),
            // SAFETY: these tests keep no thread-local borrow across a blocking call.
            Self::Migrating => unsafe { Builder::new().migrate() },
        }
    }

    pub(crate) fn runtime(self, workers: usize) -> Runtime {
        self.builder().workers(workers).build().expect("the runtime starts")
    }

    /// The mode that a child process was told, by its name.
    pub(crate) fn named(name: &str) -> Self {
        let mode = Self::BOTH.into_iter().find(|mode| mode.to_string() == name);
        mode.unwrap_or_else(|| panic!("there is no mode {name}"))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "pinned",
            Self::Migrating => "migrating",
        })
    }
}

/// The seed of the test's random numbers, which it prints: `BINE_TEST_SEED`, or a fixed one.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("BINE_TEST_SEED")
        .map_or(0x6269_6e65, |text| text.parse().expect("BINE_TEST_SEED is a number"));
    println!("BINE_TEST_SEED={seed}");
    seed
}

/// Keeps tests that look at the whole process apart.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many descriptors the process has open. The one of this very look is always among them.
pub(crate) fn open_descriptors() -> usize {
    descriptor_table::open_descriptors()
}

/// How many OS threads the process has.
pub(crate) fn os_threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("/proc is there").count()
}

/// Raises the limit on open descriptors as far as the system allows, and returns it.
pub(crate) fn raise_file_limit() -> usize {
    let limit = rlimit::increase_nofile_limit(u64::MAX).expect("the limit is known");
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Has the poller started and its descriptors opened.
pub(crate) fn start_poller() {
    let listener = bine::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let client = bine::net::TcpStream::connect(address).expect("connect");
    client.set_read_timeout(Some(Duration::from_micros(1))).expect("a timeout");
    assert!((&client).read(&mut [0]).is_err(), "nobody has sent anything");
}

/// Ends the process when a test hangs: a green thread that never runs again could not be unwound.
pub(crate) struct Bound {
    _ended: mpsc::Sender<()>,
}

pub(crate) fn bound(what: impl fmt::Display) -> Bound {
    let (ended, end) = mpsc::channel::<()>();
    let what = what.to_string();
    thread::spawn(move || {
        if end.recv_timeout(BOUND) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{what} hangs: not done after {BOUND:?}");
            std::process::abort();
        }
    });
    Bound { _ended: ended }
}

/// Sends all of `bytes`. Unlike `write_all` it does not hide `Interrupted`.
pub(crate) fn send(mut stream: impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            sent => bytes = &bytes[sent..],
        }
    }
    Ok(())
}

/// Receives as many bytes as `expected` has, and compares them. Unlike `read_exact` it does not
/// hide `Interrupted`.
pub(crate) fn receive(mut stream: impl Read, mut expected: &[u8]) -> io::Result<()> {
    let mut buffer = vec![0; expected.len().clamp(1, 64 << 10)];
    while !expected.is_empty() {
        let most = buffer.len().min(expected.len());
        let count = stream.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (now, later) = expected.split_at(count);
        if buffer[..count] != *now {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a byte has changed"));
        }
        expected = later;
    }
    Ok(())
}

/// The server's side of a connection: sends back what it receives until there is no more. Counts
/// what it has received, and sent, also where it fails.
pub(crate) fn echo(
    mut stream: impl Read + Write,
    buffer: &mut [u8],
    counts: &mut (u64, u64),
) -> io::Result<()> {
    loop {
        let count = stream.read(buffer)?;
        if count == 0 {
            return Ok(());
        }
        counts.0 += count as u64;
        let mut left = &buffer[..count];
        while !left.is_empty() {
            let sent = stream.write(left)?;
            counts.1 += sent as u64;
            left = &left[sent..];
        }
    }
}

/// What this process is to do, if it is a child that one of the functions below has started. Such a
/// child is killed when it hangs.
pub(crate) fn role() -> Option<String> {
    let role = std::env::var(ROLE).ok()?;
    // SAFETY: no memory is involved; SIGALRM ends the process.
    unsafe { libc::alarm(BOUND.as_secs() as libc::c_uint) };
    Some(role)
}

/// What runs the test again, as a child with a role.
pub(crate) fn child_command(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test has a path"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("RUST_BACKTRACE", "1");
    command
}

/// Runs the test again, as a child with a role, to its end.
pub(crate) fn run_child(test: &str, role: &str) -> Output {
    child_command(test, role).output().expect("the child starts")
}

/// As [`run_child`]; shows what the child has printed, and fails unless it succeeds.
pub(crate) fn run_child_to_success(test: &str, role: &str) {
    let output = run_child(test, role);
    let shown = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    println!("-- {test}, {role}:\n{}", shown(&output.stdout));
    assert!(output.status.success(), "{role}: {}\n{}", output.status, shown(&output.stderr));
}

/// A child with which this process talks while both run.
pub(crate) struct Child {
    process: std::process::Child,
    orders: Option<ChildStdin>,
    words: BufReader<ChildStdout>,
}

impl Child {
    /// Starts the test again, as a child with a role.
    pub(crate) fn start(test: &str, role: &str) -> Self {
        let mut process = child_command(test, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let words = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { orders: process.stdin.take(), process, words }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the child [`tell`]s `what`, and returns the value.
    pub(crate) fn hear(&mut self, what: &str) -> u64 {
        for line in self.words.by_ref().lines() {
            let line = line.expect("the child writes text");
            if let Some((key, value)) = line.strip_prefix('@').and_then(|word| word.split_once(' '))
                && key == what
            {
                return value.parse().expect("a number");
            }
        }
        panic!("the child ended before it told {what}");
    }

    /// Ends what the child [`wait_for_parent`]s for.
    pub(crate) fn release(&mut self) {
        self.orders = None;
    }

    /// Waits for the child's end, as a success.
    pub(crate) fn finish(mut self) {
        self.release();
        io::copy(&mut self.words, &mut io::sink()).expect("the child's output can be read");
        let status = self.process.wait().expect("the child can be waited for");
        assert!(status.success(), "the child failed: {status}");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail for a child that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In a child: tells the parent.
pub(crate) fn tell(what: &str, value: u64) {
    // The test harness leaves a line unfinished, hence the first newline.
    let mut stdout = io::stdout().lock();
    write!(stdout, "\n@{what} {value}\n").and_then(|()| stdout.flush()).expect("somebody listens");
}

/// In a child: blocks the OS thread until the parent calls [`Child::release`], or ends.
pub(crate) fn wait_for_parent() {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).expect("a pipe");
}
