//! One measurement in a process of its own: started, watched, and ended in every case.
//!
//! A peer may abort, hang or exhaust memory; none of that may end the run. The process leads a
//! process group with the servers that it starts, and the group is killed when the time is up or
//! the user interrupts. The kernel kills it if this program itself is killed (`die_with_parent`).

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::cli::Seat;
use crate::figures::Figures;
use crate::workload::{Size, Workload};

/// Set once the user has asked for an end.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often a measurement is looked after. So few wake-ups do not disturb it.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// How a measurement ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    /// With figures.
    Figures(Figures),
    /// In an error, a panic or a signal; the text says which.
    Failed(String),
    /// It was killed because its time was up.
    TimedOut,
    /// It was killed because the user interrupted the run.
    Interrupted,
}

/// Asks the kernel to kill this process when the one that started it ends.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// This program again: the very file that is running, even if a newer one has taken its name.
pub(crate) fn this_program() -> Command {
    Command::new("/proc/self/exe")
}

/// Takes one measurement.
///
/// # Errors
///
/// If no process can be started; what goes wrong inside it is an [`Ending`].
pub(crate) fn measure(
    workload: Workload,
    size: Size,
    seat: &Seat,
    limit: Duration,
) -> io::Result<Ending> {
    let (mut output, mut errors) = (anonymous_file()?, anonymous_file()?);
    let mut command = this_program();
    command.args(["measure", "--workload", workload.name()]);
    command.args(size.arguments()).args(seat.arguments());
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
    let child = command.process_group(0).spawn()?;
    Ok(match watch(child, Instant::now() + limit)? {
        Watched::Ended(status) if status.success() => read_figures(&content(&mut output)?),
        Watched::Ended(status) => Ending::Failed(reason(status, &content(&mut errors)?)),
        Watched::TimedOut => Ending::TimedOut,
        Watched::Interrupted => Ending::Interrupted,
    })
}

/// Why there is nothing more to watch.
enum Watched {
    Ended(ExitStatus),
    TimedOut,
    Interrupted,
}

/// Waits for `child` until `deadline`; kills its group if it does not end by itself.
fn watch(mut child: Child, deadline: Instant) -> io::Result<Watched> {
    let group = Pid::from_raw(child.id().cast_signed());
    let why = loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Watched::Ended(status));
        } else if INTERRUPTED.load(Ordering::Relaxed) {
            break Watched::Interrupted;
        } else if Instant::now() >= deadline {
            break Watched::TimedOut;
        }
        std::thread::sleep(WATCH_INTERVAL);
    };
    // It fails only if every process of the group has just ended.
    let _ = killpg(group, Signal::SIGKILL);
    child.wait()?;
    Ok(why)
}

fn read_figures(output: &str) -> Ending {
    match Figures::parse(output) {
        Some(figures) => Ending::Figures(figures),
        None => Ending::Failed(format!("it printed what is no figure: {output:?}")),
    }
}

/// What to tell about a process that failed: how it ended, and the first thing that it said; of a
/// panic the message, which is the line after the place.
fn reason(status: ExitStatus, errors: &str) -> String {
    let how = match (status.signal().map(Signal::try_from), status.code()) {
        (Some(Ok(signal)), _) => signal.to_string(),
        (_, Some(code)) => format!("exit status {code}"),
        _ => status.to_string(),
    };
    let place = |line: &str| line.starts_with("thread '") && line.contains(" panicked at ");
    match errors.lines().map(str::trim).find(|line| !line.is_empty() && !place(line)) {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }
}

/// A file that takes any amount of output, so that a talkative child never waits for a reader.
fn anonymous_file() -> io::Result<File> {
    Ok(memfd_create(c"bine-benches", MFdFlags::MFD_CLOEXEC)?.into())
}

fn content(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(program: &str, limit: Duration) -> Watched {
        let mut command = Command::new("sh");
        let child = command.args(["-c", program]).process_group(0).spawn().unwrap();
        watch(child, Instant::now() + limit).unwrap()
    }

    #[test]
    fn a_process_that_hangs_is_killed() {
        let start = Instant::now();
        assert!(matches!(ended("sleep 60", Duration::from_millis(50)), Watched::TimedOut));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_failure_says_how_and_why() {
        let Watched::Ended(status) = ended("kill -ABRT $$", Duration::from_secs(30)) else {
            panic!("it did not end by itself");
        };
        assert_eq!(reason(status, "\nout of memory\nmore\n"), "SIGABRT: out of memory");
        let panic = "\nthread 'main' (7) panicked at src/main.rs:1:1:\nno more stacks\n";
        assert_eq!(
            reason(ExitStatus::from_raw(101 << 8), panic),
            "exit status 101: no more stacks"
        );
        assert_eq!(reason(ExitStatus::from_raw(7 << 8), ""), "exit status 7");
    }

    #[test]
    fn output_that_is_no_figure_is_a_failure() {
        assert!(matches!(read_figures("ns 1.5\n"), Ending::Figures(_)));
        assert!(matches!(read_figures("hello world"), Ending::Failed(_)));
    }
}
