//! TCP echo under load: who serves, who asks, and what is counted.
//!
//! The measuring process is the load client, a raw epoll loop on one thread; the server is a
//! process of its own, so that its CPU time can be told from the client's. Each connection has
//! one message under way at any time. What is counted lies between two readings of the server's
//! CPU clock, after a warm-up in which every connection is in use.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::blocking::may::May;
use crate::blocking::threads::Threads;
use crate::blocking::{self, bine::Bine};
use crate::cli::Seat;
use crate::figures::Figures;
use crate::workload::{Runtime, Size};
use crate::{go, process, tokio_peer};

mod load;
mod raw;

/// Starts the server of `seat` in a process of its own, loads it, and ends it.
pub(crate) fn measure(seat: &Seat, size: Size) -> io::Result<Figures> {
    let mut server = Server::start(seat)?;
    let port = server.port()?;
    load::run(port, server.process.id(), size)
}

/// Serves until the process is killed.
pub(crate) fn serve(seat: &Seat) -> io::Result<()> {
    raise_descriptor_limit()?;
    match seat.runtime {
        Runtime::Threads => blocking::serve::<Threads>(seat.workers, announce),
        Runtime::May => blocking::serve::<May>(seat.workers, announce),
        Runtime::Bine => blocking::serve::<Bine<false>>(seat.workers, announce),
        Runtime::BineMigrate => blocking::serve::<Bine<true>>(seat.workers, announce),
        Runtime::Tokio => tokio_peer::serve(seat.workers, announce),
        Runtime::Raw => raw::serve(announce),
        Runtime::Go => Err(go::become_server(seat)),
    }
}

/// Tells the load client where the server listens.
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

/// A server process, which does not outlive this value.
struct Server {
    process: Child,
}

impl Server {
    fn start(seat: &Seat) -> io::Result<Self> {
        let mut command = process::this_program();
        command.arg("serve").args(seat.arguments());
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        Ok(Self { process })
    }

    /// Waits until the server listens.
    fn port(&mut self) -> io::Result<u16> {
        let output = self.process.stdout.as_mut().expect("the output is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        line.trim().parse().map_err(|_| io::Error::other("the server did not start"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the server has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
