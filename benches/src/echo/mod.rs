//! TCP echo: what a server does, and what it is asked.
//!
//! The same work on every runtime: one task for each connection with a buffer of 16 KiB, which reads
//! what there is and writes it back, until the end of the stream; Nagle's algorithm is off. The raw
//! loop has no tasks and one buffer for all connections. Messages have 64 bytes, and the next one is
//! sent when all of the last has come back unchanged.

use std::io;

use crate::blocking::{self, bine::Bine, may::May, threads::Threads};
use crate::cli::Seat;
use crate::workload::{Runtime, Service};
use crate::{go, load, raw, tokio_peer};

/// Bytes of a message.
const MESSAGE: usize = 64;

/// Bytes of the buffer that a server has for a connection.
pub(crate) const BUFFER: usize = 16 << 10;

/// Serves for ever; `started` is told the port.
pub(crate) fn serve(seat: &Seat, started: fn(u16) -> io::Result<()>) -> io::Result<()> {
    let workers = seat.workers;
    match seat.runtime {
        Runtime::Threads => blocking::serve::<Threads>(workers, started, blocking::echo),
        Runtime::May => blocking::serve::<May>(workers, started, blocking::echo),
        Runtime::Bine => blocking::serve::<Bine<false>>(workers, started, blocking::echo),
        Runtime::BineMigrate => blocking::serve::<Bine<true>>(workers, started, blocking::echo),
        Runtime::Tokio => tokio_peer::serve(workers, started, tokio_peer::echo),
        Runtime::Corosensei => Err(io::Error::other("coroutines have no sockets")),
        Runtime::Raw => {
            let mut buffer = vec![0; BUFFER];
            raw::serve(started, || (), move |stream, ()| raw::echo(stream, &mut buffer))
        }
        Runtime::Go => Err(go::become_server(seat, Service::Echo)),
        Runtime::GoNetHttp => Err(io::Error::other("net/http serves HTTP alone")),
    }
}

/// What the load says on a connection: message after message, all of them different.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What was sent last: the number of the message in its first bytes, then the connection's.
    message: [u8; MESSAGE],
    /// The number of the message.
    number: u64,
    /// How much of it has come back.
    received: usize,
}

impl Exchange {
    /// For the connection of that number.
    pub(crate) fn new(connection: usize, _: usize) -> Self {
        Self { message: [connection as u8; MESSAGE], number: 0, received: 0 }
    }
}

impl load::Exchange for Exchange {
    fn send(&mut self) -> &[u8] {
        self.number += 1;
        self.message[..8].copy_from_slice(&self.number.to_le_bytes());
        self.received = 0;
        &self.message
    }

    fn receive(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let expected = &self.message[self.received..];
        if expected.get(..bytes.len()) != Some(bytes) {
            return Err(io::Error::other("a message came back changed"));
        }
        self.received += bytes.len();
        Ok(usize::from(self.received == MESSAGE))
    }
}

#[cfg(test)]
mod tests {
    use super::Exchange;
    use crate::load::Exchange as _;

    #[test]
    fn a_message_may_come_back_in_parts() {
        let mut exchange = Exchange::new(300, 1);
        let message = exchange.send().to_vec();
        assert_eq!(exchange.receive(&message[..10]).unwrap(), 0);
        assert_eq!(exchange.receive(&message[10..]).unwrap(), 1);
        assert_ne!(exchange.send(), message);
    }

    #[test]
    fn what_differs_or_is_too_much_is_an_error() {
        let mut exchange = Exchange::new(1, 1);
        let mut message = exchange.send().to_vec();
        message.push(1);
        assert!(exchange.receive(&message).is_err());
        message.truncate(64);
        message[63] ^= 1;
        assert!(exchange.receive(&message).is_err());
    }
}
