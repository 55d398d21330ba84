//! A server under load: who serves, who asks, and what is counted.
//!
//! The measuring process is the load, raw epoll loops (`load.rs`); the server is a process of its
//! own, so that its CPU time can be told from the load's. What is counted lies between two readings
//! of the server's CPU clock, after a warm-up in which every connection is used.
//!
//! What a server does is the same on every runtime: `echo` and `http` say what that is.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::cli::Seat;
use crate::figures::Figures;
use crate::load::{self, Load};
use crate::workload::{Service, Size, Workload};
use crate::{echo, http, process};

/// Descriptors that a process of either kind opens beside its connections, generously.
const OTHER_DESCRIPTORS: u64 = 100;

/// Starts the server of `seat` in a process of its own, loads it, and ends it.
///
/// # Errors
///
/// If the server does not start, ends, closes a connection, is silent for too long, or answers
/// wrongly; and if the limit on open files does not allow for that many connections.
///
/// # Panics
///
/// If `workload` has no server.
pub(crate) fn measure(seat: &Seat, workload: Workload, size: Size) -> io::Result<Figures> {
    allow_connections(size.tasks)?;
    let mut server = Server::start(seat, workload)?;
    let load = Load::new(server.port()?, server.process.id(), workload, size, seat.workers)?;
    let figures = match workload.service().expect("a workload with a server") {
        Service::Echo => load::run(&load, echo::Exchange::new),
        Service::Http => load::run(&load, http::Exchange::new),
    };
    figures.map_err(|error| server.explain(error))
}

/// Serves what `workload` asks for until the process is killed.
pub(crate) fn serve(workload: Workload, seat: &Seat) -> io::Result<()> {
    raise_descriptor_limit()?;
    match workload.service() {
        Some(Service::Echo) => echo::serve(seat, announce),
        Some(Service::Http) => http::serve(seat, announce),
        None => Err(io::Error::other(format!("{} has no server", workload.name()))),
    }
}

/// Tells the load where the server listens.
fn announce(port: u16) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{port}")?;
    output.flush()
}

/// Raises the soft limit on open files to the hard one: a connection is a descriptor.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// An error that says what to do, where the server or the load would run out of descriptors.
fn allow_connections(connections: usize) -> io::Result<()> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = connections as u64 + OTHER_DESCRIPTORS;
    if soft < needed {
        return Err(io::Error::other(format!(
            "{connections} connections take {needed} open files, and the limit is {soft}: raise the hard \
             limit (`ulimit -Hn {needed}` as root)"
        )));
    }
    Ok(())
}

/// A server process, which does not outlive this value.
struct Server {
    process: Child,
}

impl Server {
    fn start(seat: &Seat, workload: Workload) -> io::Result<Self> {
        let mut command = process::this_program();
        command.args(["serve", "--workload", workload.name()]).args(seat.arguments());
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        Ok(Self { process })
    }

    /// Waits until the server listens.
    fn port(&mut self) -> io::Result<u16> {
        let output = self.process.stdout.as_mut().expect("the output is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim().parse();
        port.map_err(|_| self.explain(io::Error::other("the server did not start")))
    }

    /// Ends the server and says, if it had ended by itself, how.
    fn explain(&mut self, error: io::Error) -> io::Error {
        // It fails only if the server has ended by itself.
        let _ = self.process.kill();
        match self.process.wait() {
            Ok(status) if status.signal() != Some(Signal::SIGKILL as i32) => {
                io::Error::other(format!("{error}; the server ended: {status}"))
            }
            _ => error,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_connections_are_refused_with_advice() {
        assert!(allow_connections(1).is_ok());
        let refused = allow_connections(usize::MAX >> 1).unwrap_err().to_string();
        assert!(refused.contains("ulimit -Hn"), "{refused}");
    }
}
