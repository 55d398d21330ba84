//! HTTP/1.1 plaintext: what a server does, and what it is asked.
//!
//! The same work on every runtime: one task for each connection, which reads into a buffer of 4 KiB,
//! parses what has come with httparse, appends an answer for each complete request to a second
//! buffer, writes those at once, and keeps the connection; Nagle's algorithm is off. An answer has
//! `Server`, `Date`, `Content-Type`, `Content-Length` and the 13 bytes `Hello, World!`. All of that is
//! [`Conversation`], the same code for all that is Rust; the raw loop has no tasks, but a
//! `Conversation` for each connection. Go's loop parses with code of its own that checks the same
//! (`go/http.go`), and `go-net-http` is `net/http`, which does more than the others.
//!
//! What it is asked: `GET /`, with a `Host` and no other header, as wrk does; the next requests are
//! sent when all the answers to the last ones are there. The answers are checked.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::blocking::{self, bine::Bine, may::May, threads::Threads};
use crate::cli::Seat;
use crate::workload::{Runtime, Service};
use crate::{go, raw, tokio_peer};

mod exchange;

pub(crate) use exchange::Exchange;

/// Bytes of the buffer that requests are read into: no request may be longer.
const BUFFER: usize = 4 << 10;

/// The most headers that a request may have.
const HEADERS: usize = 32;

/// An answer but for its date.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: bench\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 13\r\n\
    \r\n\
    Hello, World!";

/// Where in [`ANSWER`] the date begins.
const DATE: usize = b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: ".len();

/// Seconds since 1970. [`start_clock`] keeps it; it orders nothing.
static NOW: AtomicU64 = AtomicU64::new(0);

/// Serves for ever; `started` is told the port.
pub(crate) fn serve(seat: &Seat, started: fn(u16) -> io::Result<()>) -> io::Result<()> {
    let workers = seat.workers;
    match seat.runtime {
        Runtime::Threads => blocking::serve::<Threads>(workers, started, blocking::http),
        Runtime::May => blocking::serve::<May>(workers, started, blocking::http),
        Runtime::Bine => blocking::serve::<Bine<false>>(workers, started, blocking::http),
        Runtime::BineMigrate => blocking::serve::<Bine<true>>(workers, started, blocking::http),
        Runtime::Tokio => tokio_peer::serve(workers, started, tokio_peer::http),
        Runtime::Corosensei => Err(io::Error::other("coroutines have no sockets")),
        Runtime::Raw => raw::serve(started, Conversation::new, raw::http),
        Runtime::Go | Runtime::GoNetHttp => Err(go::become_server(seat, Service::Http)),
    }
}

/// What a server keeps of a connection: requests that have not come in full, and answers to send.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// What has come, in its first `filled` bytes.
    input: Box<[u8]>,
    filled: usize,
    /// The answers to the requests that came last.
    output: Vec<u8>,
    /// An answer of the second `as_of`.
    answer: Box<[u8]>,
    as_of: u64,
}

impl Conversation {
    /// A connection on which nothing has come yet. The first starts the clock, on an OS thread.
    pub(crate) fn new() -> Self {
        static CLOCK: Once = Once::new();
        CLOCK.call_once(start_clock);
        let (input, output) = (vec![0; BUFFER].into_boxed_slice(), Vec::with_capacity(BUFFER));
        Self { input, filled: 0, output, answer: ANSWER.into(), as_of: 0 }
    }

    /// Where to put what is read next; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.input[self.filled..]
    }

    /// Takes note of `length` bytes more, and returns the answers to what are complete requests now
    /// (nothing, if there is none). `None` if the connection must be closed: it has sent something else
    /// than a `GET /`, or more than there is room for.
    ///
    /// # Panics
    ///
    /// If there were not that many bytes of [`space`](Self::space).
    pub(crate) fn answer(&mut self, length: usize) -> Option<&[u8]> {
        self.filled += length;
        self.output.clear();
        self.renew();
        let mut taken = 0;
        while let Some(request) = request_length(&self.input[taken..self.filled])? {
            taken += request;
            self.output.extend_from_slice(&self.answer);
        }
        self.input.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        (self.filled < BUFFER).then_some(&self.output)
    }

    /// Writes the date into the answer if a second has passed.
    fn renew(&mut self) {
        let now = NOW.load(Ordering::Relaxed);
        if now != self.as_of {
            self.as_of = now;
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
            self.answer[DATE..DATE + date.len()].copy_from_slice(date.as_bytes());
        }
    }
}

/// How long the first request of `input` is: `Some(None)` if it is not complete, `None` if it is wrong.
fn request_length(input: &[u8]) -> Option<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(input).ok()? {
        httparse::Status::Partial => Some(None),
        httparse::Status::Complete(length) => {
            let is_known = request.method == Some("GET") && request.path == Some("/");
            is_known.then_some(Some(length))
        }
    }
}

/// Keeps [`NOW`] from now on. A thread that wakes once a second costs nothing that can be measured.
fn start_clock() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    NOW.store(now().as_secs(), Ordering::Relaxed);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(
                Duration::from_secs(1) - Duration::from_nanos(now().subsec_nanos().into()),
            );
            NOW.store(now().as_secs(), Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n";

    fn say<'a>(conversation: &'a mut Conversation, bytes: &[u8]) -> Option<&'a [u8]> {
        conversation.space()[..bytes.len()].copy_from_slice(bytes);
        conversation.answer(bytes.len())
    }

    #[test]
    fn every_request_has_an_answer_of_today() {
        let mut conversation = Conversation::new();
        let answers = say(&mut conversation, &REQUEST.repeat(3)).unwrap().to_vec();
        assert_eq!(answers.len(), 3 * ANSWER.len());
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(&answers).unwrap();
        let date = response.headers.iter().find(|header| header.name == "Date").unwrap();
        let date = httpdate::parse_http_date(str::from_utf8(date.value).unwrap()).unwrap();
        assert!(date.duration_since(UNIX_EPOCH).unwrap() > Duration::from_secs(1_700_000_000));
    }

    #[test]
    fn requests_may_come_in_parts() {
        let mut conversation = Conversation::new();
        for (n, byte) in REQUEST.iter().enumerate() {
            let complete = n + 1 == REQUEST.len();
            let answers = say(&mut conversation, &[*byte]).unwrap();
            assert_eq!(answers.len(), if complete { ANSWER.len() } else { 0 });
        }
    }

    #[test]
    fn part_of_the_next_request_is_kept() {
        let mut conversation = Conversation::new();
        let two = REQUEST.repeat(2);
        assert_eq!(say(&mut conversation, &two[..50]).unwrap().len(), ANSWER.len());
        assert_eq!(say(&mut conversation, &two[50..]).unwrap().len(), ANSWER.len());
        assert_eq!(conversation.filled, 0);
    }

    #[test]
    fn what_is_no_such_request_closes_the_connection() {
        for wrong in ["nonsense\r\n\r\n", "POST / HTTP/1.1\r\n\r\n", "GET /else HTTP/1.1\r\n\r\n"] {
            assert_eq!(say(&mut Conversation::new(), wrong.as_bytes()), None, "{wrong}");
        }
        let endless = [b"GET / HTTP/1.1\r\nHost: ".as_slice(), &[b'x'; BUFFER]].concat();
        assert_eq!(say(&mut Conversation::new(), &endless[..BUFFER]), None);
    }
}
