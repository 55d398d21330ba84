//! The standard streams, in children whose streams are pipes, files and terminals.

mod scratch;

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bine_io::stdio::{stderr, stdin, stdout};
use bine_runtime::time::timeout;
use bine_runtime::{Builder, Runtime, thread};
use scratch::Scratch;

const ROLE: &str = "BINE_IO_TEST_ROLE";

/// What a child does.
const ROLES: [(&str, fn()); 5] = [
    ("echo", echo),
    ("wait beside a neighbour", wait_beside),
    ("give up", give_up),
    ("write", write),
    ("lock", lock),
];

/// Runs in children only: what the parent has asked for, in one mode or on the OS thread.
#[test]
fn role() {
    let Some(role) = std::env::var_os(ROLE) else { return };
    // SAFETY: SIGALRM ends the process. Only one that hangs lives so long.
    unsafe { libc::alarm(60) };
    let role = role.into_string().unwrap();
    let (role, mode) = role.split_once('/').unwrap();
    let (_, run) = ROLES.into_iter().find(|(name, _)| *name == role).unwrap();
    match mode {
        "os" => run(),
        _ => runtime(mode).run(run),
    }
    std::process::exit(0);
}

const MODES: [&str; 5] = ["pinned 1", "pinned 8", "migrating 1", "migrating 2", "os"];

fn runtime(mode: &str) -> Runtime {
    let (mode, workers) = mode.split_once(' ').unwrap();
    let builder = Builder::new().workers(workers.parse().unwrap());
    match mode {
        "pinned" => builder.build().unwrap(),
        // SAFETY: the roles keep no borrow of std's thread-locals across a blocking call.
        _ => unsafe { builder.migrate() }.build().unwrap(),
    }
}

/// A child that plays `role`; what the test harness itself prints comes before.
fn play(role: &str, mode: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    // Under an emulator, the kernel cannot start the child by itself.
    let mut command = match std::env::var_os("BINE_TEST_RUNNER") {
        None => Command::new(test),
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.arg(test);
            command
        }
    };
    command.args(["--exact", "role", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, format!("{role}/{mode}")).stderr(Stdio::piped());
    command
}

/// What comes after the mark, with which each role begins.
fn after_mark(printed: &[u8]) -> String {
    let printed = String::from_utf8_lossy(printed);
    printed.split_once("MARK\n").unwrap_or_else(|| panic!("no mark in {printed:?}")).1.into()
}

fn mark() {
    writeln!(stdout(), "\nMARK").unwrap();
}

fn echo() {
    mark();
    let input = stdin();
    let mut line = String::new();
    input.read_line(&mut line).unwrap();
    write!(stdout(), "first {line}").unwrap();
    let mut bytes = [0; 3];
    input.lock().read_exact(&mut bytes).unwrap();
    writeln!(stdout(), "then {}", bytes.escape_ascii()).unwrap();
    for line in input.lines() {
        println!("{}", line.unwrap());
    }
    // At the end, for ever.
    assert_eq!(stdin().read(&mut bytes).unwrap(), 0);
    writeln!(stderr(), "told").unwrap();
    // Without a newline: std flushes it at the end of the process.
    write!(stdout().lock(), "end").unwrap();
}

const INPUT: &str = "one\nabcd\ne\n";
const EXPECTED: &str = "first one\nthen abc\nd\ne\nend";

#[test]
fn a_pipe_and_a_file_are_read_to_the_end() {
    let scratch = Scratch::new();
    let path = scratch.path("input");
    std::fs::write(&path, INPUT).unwrap();
    for mode in MODES {
        let output = play("echo", mode).stdin(File::open(&path).unwrap()).output().unwrap();
        assert_eq!(after_mark(&output.stdout), EXPECTED, "{mode}: {output:?}");
        assert!(output.stderr.ends_with(b"told\n"));

        let mut child = play("echo", mode);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // In pieces, so that it has to wait in between.
        for piece in INPUT.as_bytes().chunks(2) {
            input.write_all(piece).unwrap();
            std::thread::yield_now();
        }
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert_eq!(after_mark(&output.stdout), EXPECTED, "{mode}");
    }
}

/// Reads the child's lines up to the mark, and then one more.
fn line_after_mark(child: &mut Child) -> String {
    let mut lines = std::io::BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "MARK"));
    lines.next().unwrap().unwrap()
}

/// The neighbour writes while the reader waits, on one worker: what it writes makes the parent answer.
fn wait_beside() {
    thread::scope(|scope| {
        scope.spawn(|| {
            mark();
            writeln!(stdout(), "go").unwrap();
        });
        let mut line = String::new();
        stdin().read_line(&mut line).unwrap();
        assert_eq!(line, "going\n");
    });
}

#[test]
fn neighbours_go_on_while_a_thread_waits_for_input() {
    for mode in MODES {
        let mut child = play("wait beside a neighbour", mode);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(line_after_mark(&mut child), "go");
        child.stdin.take().unwrap().write_all(b"going\n").unwrap();
        assert!(child.wait().unwrap().success(), "{mode}");
    }
}

fn give_up() {
    let given_up = timeout(Duration::from_millis(1), || stdin().read_line(&mut String::new()));
    assert!(given_up.is_err());
    mark();
    writeln!(stdout(), "gave up").unwrap();
    // The lock is free again, and nothing is lost.
    let mut line = String::new();
    stdin().read_line(&mut line).unwrap();
    assert_eq!(line, "late\n");
}

#[test]
fn who_waits_for_input_can_give_up() {
    for mode in MODES {
        let mut child = play("give up", mode);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        assert_eq!(line_after_mark(&mut child), "gave up");
        child.stdin.take().unwrap().write_all(b"late\n").unwrap();
        assert!(child.wait().unwrap().success(), "{mode}");
    }
}

/// More than fits into a pipe.
const LINES: usize = 20_000;

fn write() {
    mark();
    let text: String = (0..LINES).map(|line| format!("{line}\n")).collect();
    stdout().write_all(text.as_bytes()).unwrap();
    stdout().flush().unwrap();
}

#[test]
fn more_than_a_pipe_holds_is_written() {
    for mode in MODES {
        let output = play("write", mode).output().unwrap();
        let printed = after_mark(&output.stdout);
        assert_eq!(printed.lines().count(), LINES, "{mode}");
        assert!(printed.lines().enumerate().all(|(number, line)| line == number.to_string()));
    }
}

/// Lines of threads that hold the lock do not mix, and a thread may lock again.
fn lock() {
    mark();
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let mut out = stdout().lock();
                for _ in 0..5 {
                    write!(out, "{number}").unwrap();
                    thread::yield_now();
                    write!(stdout(), "{number}").unwrap();
                }
                writeln!(out).unwrap();
            });
        }
    });
}

#[test]
fn a_lock_keeps_the_others_out() {
    for mode in MODES {
        let output = play("lock", mode).output().unwrap();
        let printed = after_mark(&output.stdout);
        let mut lines: Vec<_> = printed.lines().collect();
        lines.sort_unstable();
        let expected: Vec<_> = (0..8).map(|number| number.to_string().repeat(10)).collect();
        assert_eq!(lines, expected, "{mode}: {output:?}");
    }
}

/// The ends of a new terminal: the program's that shows it, and that of those who run in it.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut outer, mut inner) = (0, 0);
    let (name, modes, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: the numbers are written, and nothing else is passed. Both are ours.
    unsafe {
        assert_eq!(libc::openpty(&mut outer, &mut inner, name, modes, size), 0);
        (OwnedFd::from_raw_fd(outer), OwnedFd::from_raw_fd(inner))
    }
}

#[test]
fn a_terminal_gives_its_lines_as_they_come() {
    for mode in MODES {
        let (outer, inner) = terminal();
        let mut child = play("echo", mode);
        let child = child.stdin(inner).stdout(Stdio::piped()).spawn();
        let mut outer = File::from(outer);
        outer.write_all(INPUT.as_bytes()).unwrap();
        // The end of the input, as a user gives it: once for each read that is to find it.
        outer.write_all(&[4, 4]).unwrap();
        let output = child.unwrap().wait_with_output().unwrap();
        assert_eq!(after_mark(&output.stdout), EXPECTED, "{mode}");
    }
}
