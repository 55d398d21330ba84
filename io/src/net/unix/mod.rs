//! Unix sockets; see [`os::unix::net`](crate::os::unix::net).

mod address;
mod credentials;
mod datagram;
mod listener;
mod stream;

pub use self::credentials::{UCred, UnixSocketExt};
pub use self::datagram::UnixDatagram;
pub use self::listener::{Incoming, UnixListener};
pub use self::stream::UnixStream;

use std::time::Duration;

/// The pauses between attempts that the kernel cannot tell the time for.
#[derive(Debug)]
struct Pauses {
    next: Duration,
}

impl Pauses {
    const LONGEST: Duration = Duration::from_millis(10);

    fn new() -> Self {
        Self { next: Duration::from_micros(100) }
    }

    /// Each twice as long as the one before, to a bound.
    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        pause
    }
}
