//! One connection: requests come in, responses go out.
//!
//! All requests that a read brings are answered by one write. A batch of them makes no other system
//! call, and once the buffers are there, no allocation.

use std::io::{self, ErrorKind, Read};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bine::net::{Shutdown, TcpStream};
use bine::{thread, time};

use crate::body::{self, Failure};
use crate::input::Input;
use crate::request::{self, Parsed, Request, Route};
use crate::response::{Output, Reply, Status};
use crate::{Server, pages};

/// How long a client has to read the last response before the connection is closed on it, and how
/// much it may still send meanwhile.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 1 << 20);

/// What others may know of a connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Requests answered. Written by its own thread alone.
    requests: AtomicU64,
    /// A part of a request is there.
    is_receiving: AtomicBool,
    server: Arc<Server>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, server: &Arc<Server>) -> Self {
        Self {
            stream,
            requests: AtomicU64::new(0),
            is_receiving: AtomicBool::new(false),
            server: Arc::clone(server),
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Wakes the connection if it waits for a request, to find that there will be none. What the
    /// kernel has received is still read, and answered. To be called once the server is stopping.
    pub(crate) fn end_if_idle(&self) {
        // SeqCst, like the server's flag, which was set before: a connection that has just received the
        // rest of a request clears this first and looks at the flag afterwards. So either this finds
        // that the connection will wait, or that finds that it should not.
        if !self.is_receiving.load(Ordering::SeqCst) {
            // Fails where the client has gone.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
    }

    pub(crate) fn cut_off(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(crate) fn serve(&self) {
        let mut session = Session {
            server: &self.server,
            connection: self,
            stream: &self.stream,
            input: Input::default(),
            output: Output::default(),
            body: Vec::new(),
            began: None,
        };
        // An error means that the client has gone, or hangs: there is nobody to tell.
        let _ = session.run();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.server.past_requests.fetch_add(self.requests(), Ordering::Relaxed);
    }
}

struct Session<'a> {
    server: &'a Server,
    connection: &'a Connection,
    stream: &'a TcpStream,
    input: Input,
    output: Output,
    /// Empty between requests.
    body: Vec<u8>,
    /// When the request began of which a part is there.
    began: Option<Instant>,
}

/// What to do when all that is there is answered.
#[must_use]
enum Next {
    /// Wait for another request.
    Wait,
    /// Receive the rest of one.
    Receive,
    Close,
    /// Close when the client has read what it was told: it may still send, and would be reset.
    Linger,
}

impl Session<'_> {
    fn run(&mut self) -> io::Result<()> {
        let limits = &self.server.limits;
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(limits.idle)?;
        self.stream.set_write_timeout(Some(limits.request))?;
        loop {
            let next = self.answer()?;
            self.output.flush(self.stream)?;
            let received = match next {
                Next::Wait => self.wait()?,
                Next::Receive => self.receive_rest()?,
                Next::Close => return Ok(()),
                Next::Linger => return self.linger(),
            };
            if !received {
                return self.linger();
            }
        }
    }

    /// Answers the requests that are there as a whole.
    fn answer(&mut self) -> io::Result<Next> {
        loop {
            if self.input.unread().is_empty() {
                return Ok(Next::Wait);
            }
            match request::parse(self.input.unread(), &self.server.limits) {
                Parsed::Partial => return Ok(Next::Receive),
                Parsed::Refused(status) => {
                    self.output.refuse(status);
                    return Ok(Next::Linger);
                }
                Parsed::Complete(request, length) => {
                    self.input.consume(length);
                    if let Some(next) = self.answer_one(&request)? {
                        return Ok(next);
                    }
                }
            }
        }
    }

    /// Answers a request, whose body is still to be received. Returns what follows if it is the last
    /// one of the connection.
    fn answer_one(&mut self, request: &Request) -> io::Result<Option<Next>> {
        if request.body != request::Framing::Empty
            && let Err(failure) = self.receive_body(request)
        {
            return match failure {
                Failure::Refused(status) => {
                    self.output.refuse(status);
                    Ok(Some(Next::Linger))
                }
                Failure::Io(error) => Err(error),
            };
        }
        if self.began.take().is_some() {
            // `end_if_idle` tells what this is paired with.
            self.connection.is_receiving.store(false, Ordering::SeqCst);
        }
        if matches!(request.route, Route::Sleep(_)) || self.output.is_large() {
            self.output.flush(self.stream)?;
        }
        let keep_alive = self.reply(request);
        // No more than a load and a store: nobody else writes.
        self.connection.requests.store(self.connection.requests() + 1, Ordering::Relaxed);
        Ok(match keep_alive {
            true => None,
            // It said so, and so will not be surprised.
            false if !request.keep_alive && self.input.unread().is_empty() => Some(Next::Close),
            false => Some(Next::Linger),
        })
    }

    /// Adds the response. Whether another request may follow.
    fn reply(&mut self, request: &Request) -> bool {
        let keep_alive = request.keep_alive && !self.server.is_stopping.load(Ordering::SeqCst);
        let before = self.output.len();
        let (server, output, body) = (self.server, &mut self.output, &self.body);
        // A panic is this request's alone. What it may have left half-done is cut off below.
        let replied = panic::catch_unwind(AssertUnwindSafe(|| {
            pages::reply(server, request, body, |reply| output.reply(request, keep_alive, reply));
        }));
        if !self.body.is_empty() {
            self.body = Vec::new();
        }
        match replied {
            Ok(()) => keep_alive,
            Err(payload) if payload.is::<thread::Cancelled>() => panic::resume_unwind(payload),
            Err(_) => {
                self.output.truncate(before);
                let reply = Reply::text(Status::SERVER_ERROR, b"500 Internal Server Error\n");
                self.output.reply(request, false, reply);
                false
            }
        }
    }

    fn receive_body(&mut self, request: &Request) -> Result<(), Failure> {
        if request.expects_continue && self.input.unread().is_empty() {
            self.output.ask_for_body();
        }
        self.connection.is_receiving.store(true, Ordering::Relaxed);
        // The body may be long in coming.
        self.output.flush(self.stream)?;
        let (began, limits) = (self.began(), &self.server.limits);
        let received = time::timeout(limits.request.saturating_sub(began.elapsed()), || {
            body::receive(request.body, &mut self.input, self.stream, limits, &mut self.body)
        });
        match received {
            Ok(Err(Failure::Io(error))) if error.kind() == ErrorKind::WouldBlock => {
                Err(Failure::Refused(Status::TIMED_OUT))
            }
            Ok(received) => received,
            Err(time::Elapsed) => Err(Failure::Refused(Status::TIMED_OUT)),
        }
    }

    fn began(&mut self) -> Instant {
        *self.began.get_or_insert_with(Instant::now)
    }

    /// Waits for the first bytes of a request. False if none come.
    fn wait(&mut self) -> io::Result<bool> {
        let count = match self.input.fill(self.stream, self.server.limits.head) {
            // Idle for too long.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            count => count?,
        };
        Ok(count > 0)
    }

    /// Receives more of a request of which a part is there. False if that is not worth while.
    fn receive_rest(&mut self) -> io::Result<bool> {
        self.connection.is_receiving.store(true, Ordering::Relaxed);
        let (began, limits) = (self.began(), &self.server.limits);
        let left = limits.request.saturating_sub(began.elapsed());
        let filled = time::timeout(left, || self.input.fill(self.stream, limits.head));
        match filled {
            Ok(Err(error)) if error.kind() != ErrorKind::WouldBlock => Err(error),
            Ok(Ok(count)) => Ok(count > 0),
            Ok(Err(_)) | Err(time::Elapsed) => {
                self.output.refuse(Status::TIMED_OUT);
                self.output.flush(self.stream)?;
                Ok(false)
            }
        }
    }

    /// Lets the client read the last response: a connection that is closed with bytes unread is reset,
    /// and a reset overtakes what was sent.
    fn linger(&mut self) -> io::Result<()> {
        let (patience, most) = LINGER;
        self.stream.shutdown(Shutdown::Write)?;
        let _ = time::timeout(patience, || {
            let (mut left, mut scrap) = (most, [0; 4 << 10]);
            while left > 0 {
                match self.stream.take(left as u64).read(&mut scrap) {
                    Ok(count @ 1..) => left -= count,
                    _ => return,
                }
            }
        });
        Ok(())
    }
}
