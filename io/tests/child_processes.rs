//! Children that are started, waited for, talked to and killed.

mod everywhere;
mod scratch;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use bine_io::process::unix::{CommandExt, ExitStatusExt};
use bine_io::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use bine_runtime::thread::{self, Cancelled};
use bine_runtime::time::{Elapsed, timeout};
use everywhere::{everywhere, on_green_threads};
use scratch::Scratch;

/// Soon, and never.
const SOON: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// A child that lives until its standard input ends.
fn cat() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The state of the process `id`, as /proc shows it: Z for a zombie, none if it is gone.
fn state_of(id: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Under qemu's user mode a child is a fork of a process with several threads, which the emulator does
/// not survive each time, and a spawn does not say what becomes of it.
fn is_emulated() -> bool {
    let is = std::env::var_os("BINE_TEST_RUNNER").is_some();
    if is {
        eprintln!("skipped: an emulator does not fork a process with several threads");
    }
    is
}

fn with_children(test: fn()) {
    if !is_emulated() {
        everywhere(test);
    }
}

#[test]
fn the_status_says_how_the_child_ended() {
    with_children(|| {
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(shell("exit 42").status().unwrap().code(), Some(42));
        let status = shell("kill -TERM $$").status().unwrap();
        assert_eq!((status.code(), status.signal()), (None, Some(libc::SIGTERM)));
        let error = Command::new("/no/such/program").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        // Again and again, and after the end.
        let mut child = shell("exit 1").spawn().unwrap();
        let id = child.id();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(1));
        child.kill().unwrap();
        assert_eq!(state_of(id), None);
    });
}

#[test]
fn output_is_read_from_both_pipes_at_once() {
    with_children(|| {
        // More than fits into both pipes, in an order in which a reader of one would never end.
        let script = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; echo end >&2; exit 5";
        let output = shell(script).output().unwrap();
        assert_eq!(output.status.code(), Some(5));
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_004));
        assert!(output.stderr.ends_with(b"end\n"));
        // What is not piped is not read; what is not set has the default of the call each time.
        let mut command = shell("cat; echo out");
        command.stderr(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b""[..]));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_child_is_talked_to() {
    with_children(|| {
        let mut child = cat();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        for round in 0..50 {
            writeln!(stdin, "line {round}").unwrap();
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            assert_eq!(line, format!("line {round}\n"));
        }
        // Nothing to read: somebody waits, and the writer's thread goes on.
        let large = vec![7; 1 << 20];
        let mut back = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                stdin.write_all(&large).unwrap();
                drop(stdin);
            });
            stdout.read_to_end(&mut back).unwrap();
        });
        assert!(back == large);
        assert!(child.wait().unwrap().success());
        // A reader that is gone.
        let mut child = shell("exec <&-; echo; exec sleep 1000");
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut gone = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut gone).unwrap();
        let error = child.stdin.as_mut().unwrap().write_all(&large).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    });
}

#[test]
fn a_wait_closes_the_childs_input() {
    with_children(|| {
        assert!(cat().wait().unwrap().success());
        assert!(cat().wait_with_output().unwrap().status.success());
        let mut child = cat();
        assert!(child.try_wait().unwrap().is_none());
        assert!(child.wait_timeout(LONG).unwrap().unwrap().success());
    });
}

#[test]
fn a_wait_has_a_limit() {
    with_children(|| {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(child.wait_timeout(SOON).unwrap().is_none());
        assert!(child.wait_timeout(Duration::ZERO).unwrap().is_none());
        assert!(matches!(timeout(SOON, || child.wait()), Err(Elapsed)));
        child.kill().unwrap();
        let status = child.wait_timeout(LONG).unwrap().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), Some(status));
    });
}

#[test]
fn pipelines_are_made_of_pipes_and_files() {
    with_children(|| {
        let scratch = Scratch::new();
        let path = scratch.path("out");
        let mut first = shell("printf 'b\\na\\n'").stdout(Stdio::piped()).spawn().unwrap();
        // Was waited at on this side, and is a blocking pipe for the next child all the same.
        let waited = first.wait().unwrap();
        assert!(waited.success());
        let file = bine_io::fs::File::create(&path).unwrap();
        let sorted = Command::new("sort").stdin(first.stdout.take().unwrap()).stdout(file).status();
        assert!(sorted.unwrap().success());
        assert_eq!(std::fs::read(&path).unwrap(), b"a\nb\n");
        // To and from descriptors.
        let mut child = cat();
        let stdin = OwnedFd::from(child.stdin.take().unwrap());
        // SAFETY: F_GETFL reads the flags of a descriptor that is open.
        assert_eq!(unsafe { libc::fcntl(stdin.as_raw_fd(), libc::F_GETFL) } & libc::O_NONBLOCK, 0);
        let mut stdin = ChildStdin::from(stdin);
        let mut stdout = ChildStdout::from(OwnedFd::from(child.stdout.take().unwrap()));
        assert_eq!(stdout.as_fd().as_raw_fd(), stdout.as_raw_fd());
        stdin.write_all(b"x").unwrap();
        drop(stdin);
        let mut back = String::new();
        stdout.read_to_string(&mut back).unwrap();
        assert_eq!(back, "x");
        child.wait().unwrap();
    });
}

#[test]
fn the_environment_and_what_unix_has() {
    with_children(|| {
        let scratch = Scratch::new();
        let mut command = shell("echo $ONE-$TWO-$THREE; pwd; echo $0");
        command.env("ONE", "1").envs([("TWO", "2"), ("THREE", "3")]).env_remove("TWO");
        command.current_dir(scratch.root()).arg0("shell");
        assert_eq!(command.get_program(), "sh");
        assert_eq!(command.get_args().next(), Some(OsStr::new("-c")));
        assert_eq!(command.get_envs().count(), 3);
        assert_eq!(command.get_current_dir(), Some(scratch.root()));
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(lines[0], "1--3");
        assert_eq!(
            std::fs::canonicalize(lines[1]).unwrap(),
            scratch.root().canonicalize().unwrap()
        );
        assert_eq!(lines[2], "shell");
        let empty = Command::new("/usr/bin/env").env_clear().output().unwrap();
        assert_eq!(empty.stdout, b"");
        // A group of its own.
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let id = child.id() as libc::pid_t;
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::getpgid(id) }, id);
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

/// The thread sanitizer does not care for what a fork of many threads does before it execs.
#[cfg(not(bine_sanitize = "thread"))]
#[test]
fn what_is_to_run_before_the_program_does() {
    with_children(|| {
        let mut command = shell("echo $1");
        // SAFETY: neither allocates nor takes a lock.
        unsafe {
            command.pre_exec(|| Err(std::io::Error::from_raw_os_error(libc::EOWNERDEAD)));
        }
        let error = command.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOWNERDEAD));
        let mut command = shell("umask");
        // SAFETY: as above.
        unsafe {
            command.pre_exec(|| {
                libc::umask(0o123);
                Ok(())
            });
        }
        assert!(command.output().unwrap().stdout.ends_with(b"0123\n"));
        let error = Command::new("/no/such/program").exec();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_child_that_is_dropped_goes_on_or_is_killed() {
    with_children(|| {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let child = command.spawn().unwrap();
        let id = child.id();
        drop(child);
        assert!(matches!(state_of(id), Some('S' | 'R' | 'D')), "{:?}", state_of(id));
        // SAFETY: no memory is involved; the child is not reaped, so the id is its own.
        unsafe {
            libc::kill(id as libc::pid_t, libc::SIGKILL);
            libc::waitpid(id as libc::pid_t, std::ptr::null_mut(), 0);
        }
        let child = command.kill_on_drop(true).spawn().unwrap();
        let id = child.id();
        drop(child);
        assert_eq!(state_of(id), None);
        // One that has ended is not killed, whoever has its id.
        let mut child = Command::new("true").kill_on_drop(true).spawn().unwrap();
        child.wait().unwrap();
        drop(child);
        // Those that are consumed.
        let output = shell("echo x").kill_on_drop(true).output().unwrap();
        assert_eq!(output.stdout, b"x\n");
    });
}

#[test]
fn whoever_waits_for_a_child_can_be_cancelled() {
    if is_emulated() {
        return;
    }
    on_green_threads(|| {
        let (told, tell) =
            (std::sync::Arc::new(std::sync::OnceLock::new()), |child: &Child| child.id());
        let tells = std::sync::Arc::clone(&told);
        let thread = bine_runtime::spawn(move || {
            let mut sleeps = Command::new("sleep");
            let mut sleeps = sleeps.arg("1000").kill_on_drop(true).spawn().unwrap();
            tells.set(tell(&sleeps)).unwrap();
            sleeps.wait()
        });
        while told.get().is_none() {
            thread::yield_now();
        }
        thread.cancel().unwrap();
        assert!(thread.join().unwrap_err().is::<Cancelled>());
        assert_eq!(state_of(*told.get().unwrap()), None);
        // With both pipes, by two threads.
        let output = timeout(SOON, || {
            let mut sleeps = Command::new("sleep");
            sleeps.arg("1000").kill_on_drop(true).output()
        });
        assert!(matches!(output, Err(Elapsed)));
    });
}

#[test]
fn many_children_at_once() {
    if is_emulated() {
        return;
    }
    on_green_threads(|| {
        let mut codes: Vec<_> = thread::scope(|scope| {
            let run = |number: i32| move || shell(&format!("exit {number}")).status().unwrap();
            let threads: Vec<_> = (0..40).map(|number| scope.spawn(run(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().code()).collect()
        });
        codes.sort();
        assert_eq!(codes, (0..40).map(Some).collect::<Vec<_>>());
    });
}

#[test]
fn no_descriptor_and_no_zombie_is_left() {
    // The number is the process's: the tests beside this one have descriptors, too. So each of these
    // is looked at by its own number.
    with_children(|| {
        for _ in 0..20 {
            let mut child = cat();
            let id = child.id();
            let pipe = child.stdin.as_ref().unwrap().as_raw_fd();
            let link = std::fs::read_link(format!("/proc/self/fd/{pipe}")).unwrap();
            child.wait().unwrap();
            drop(child);
            assert_eq!(state_of(id), None);
            let held = std::fs::read_dir("/proc/self/fd").unwrap();
            let mut held = held.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
            assert!(!held.any(|held| held == link));
        }
    });
}

/// As std's: they may be sent and shared, and a child taken apart.
#[test]
fn the_types_go_where_those_of_std_go() {
    fn goes_everywhere<T: Send + Sync>() {}
    goes_everywhere::<Command>();
    goes_everywhere::<Child>();
    goes_everywhere::<ChildStdin>();
    goes_everywhere::<ChildStdout>();
    goes_everywhere::<bine_io::stdio::Stdin>();
    goes_everywhere::<bine_io::stdio::Stdout>();
    let child = cat();
    drop(child.stdin.unwrap());
    let mut text = String::new();
    child.stdout.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
}
