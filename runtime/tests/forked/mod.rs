//! Forks, in a process that a test has for itself.

use std::any::Any;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::panic::{self, AssertUnwindSafe};

/// How a forked child has ended, and what it has written to standard error.
#[derive(Debug)]
pub(crate) struct Ended {
    status: libc::c_int,
    printed: String,
}

/// Forks. The child runs `f` and exits with success if that returns true. One that hangs is killed.
pub(crate) fn fork(f: impl FnOnce() -> bool) -> Ended {
    let mut pipe = [0; 2];
    // SAFETY: the array takes two descriptors.
    assert_eq!(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: the child runs `f` and ends at once, without destructors or hooks of its parent.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            // SAFETY: SIGALRM ends the process; the descriptors are open.
            unsafe {
                libc::alarm(30);
                libc::dup2(pipe[1], libc::STDERR_FILENO);
            }
            let good = panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or(false);
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        child => {
            // SAFETY: both are ours.
            let mut reader = unsafe {
                libc::close(pipe[1]);
                File::from_raw_fd(pipe[0])
            };
            let mut printed = String::new();
            reader.read_to_string(&mut printed).expect("text");
            let mut status = 0;
            // SAFETY: `status` is valid for the call.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } != child {}
            Ended { status, printed }
        }
    }
}

impl Ended {
    /// `f` has returned true.
    #[track_caller]
    pub(crate) fn well(&self) {
        assert!(libc::WIFEXITED(self.status) && libc::WEXITSTATUS(self.status) == 0, "{self:?}");
    }

    /// The process has aborted and said why.
    #[allow(dead_code, reason = "not every test binary has children that abort")]
    #[track_caller]
    pub(crate) fn aborted(&self) {
        let aborted =
            libc::WIFSIGNALED(self.status) && libc::WTERMSIG(self.status) == libc::SIGABRT;
        assert!(aborted, "{self:?}");
        assert!(self.printed.contains("fatal: this process was forked"), "{self:?}");
        assert!(self.printed.contains("exec or exit, or fork from an OS thread"), "{self:?}");
    }
}

/// Whether `f` panics and says that the process was forked.
pub(crate) fn panics<T>(f: impl FnOnce() -> T) -> bool {
    let Err(payload) = panic::catch_unwind(AssertUnwindSafe(f)) else { return false };
    let text = text_of(&*payload);
    eprintln!("panicked: {text}");
    text.contains("this process was forked") && text.contains("exec")
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}
