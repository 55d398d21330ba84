//! The targets, which take turns.

use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bine::net::{TcpStream, ToSocketAddrs};

pub(crate) struct Targets {
    targets: Vec<Target>,
    /// Whose turn it is, modulo their number.
    next: AtomicUsize,
    timeout: Duration,
}

struct Target {
    name: String,
    connected: AtomicU64,
    failed: AtomicU64,
}

impl Targets {
    /// # Errors
    ///
    /// If a name is no name with a port. Whether it has an address turns out later, and may change.
    pub(crate) fn new(names: &[String], timeout: Duration) -> io::Result<Self> {
        let targets = names.iter().map(|name| {
            let port = name.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.ok_or_else(|| {
                io::Error::new(ErrorKind::InvalidInput, format!("the target {name} has no port"))
            })?;
            let (connected, failed) = (AtomicU64::new(0), AtomicU64::new(0));
            Ok(Target { name: name.clone(), connected, failed })
        });
        Ok(Self {
            targets: targets.collect::<io::Result<_>>()?,
            next: AtomicUsize::new(0),
            timeout,
        })
    }

    pub(crate) fn name(&self, target: usize) -> &str {
        &self.targets[target].name
    }

    /// Connects to the target whose turn it is, or to the next one that can be reached.
    ///
    /// # Errors
    ///
    /// The last one's, if none can be reached.
    pub(crate) fn connect(&self) -> io::Result<(usize, TcpStream)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last_error = ErrorKind::AddrNotAvailable.into();
        for turn in 0..self.targets.len() {
            let number = first.wrapping_add(turn) % self.targets.len();
            let target = &self.targets[number];
            match self.connect_to(&target.name) {
                Ok(stream) => {
                    target.connected.fetch_add(1, Ordering::Relaxed);
                    return Ok((number, stream));
                }
                Err(error) => {
                    target.failed.fetch_add(1, Ordering::Relaxed);
                    last_error = io::Error::new(error.kind(), format!("{}: {error}", target.name));
                }
            }
        }
        Err(last_error)
    }

    fn connect_to(&self, name: &str) -> io::Result<TcpStream> {
        let mut last_error = ErrorKind::AddrNotAvailable.into();
        for address in name.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, self.timeout) {
                Ok(stream) => return Ok(stream),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    pub(crate) fn statistics(&self) -> String {
        let mut text = String::new();
        for target in &self.targets {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let (connected, failed) = (count(&target.connected), count(&target.failed));
            writeln!(text, "{}: {connected} connections, {failed} failed attempts", target.name)
                .expect("a String takes everything");
        }
        text
    }
}
