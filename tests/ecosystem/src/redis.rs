//! The `redis` crate on any stream.
//!
//! Its own `Connection` opens a socket of std's, which blocks a worker. All of its commands,
//! pipelines and scripts are written for `ConnectionLike`, though, and its parser reads from any
//! `Read`.

use std::io::{Read, Write};

use redis::{ConnectionLike, Parser, RedisResult, Value};

/// A connection to a Redis server on a stream of bine's, or on any other.
pub struct Connection<S> {
    stream: S,
    /// Keeps what has come beyond the value that was asked for.
    parser: Parser,
    open: bool,
}

impl<S: Read + Write> Connection<S> {
    /// On a stream that is connected. A server that wants a password or another database is to be
    /// told by the commands `AUTH` and `SELECT`.
    pub fn new(stream: S) -> Self {
        Self { stream, parser: Parser::new(), open: true }
    }

    /// The next value that the server sends: an answer, or, once subscribed, a message.
    ///
    /// # Errors
    ///
    /// That of the stream, or that the server does not speak Redis's protocol. After either the
    /// connection is of no use.
    pub fn receive(&mut self) -> RedisResult<Value> {
        let value = self.parser.parse_value(&mut self.stream);
        self.open &= value.is_ok();
        value
    }

    /// Sends commands without waiting for their answers.
    ///
    /// # Errors
    ///
    /// That of the stream. After it the connection is of no use.
    pub fn send(&mut self, packed: &[u8]) -> RedisResult<()> {
        let sent = self.stream.write_all(packed).and_then(|()| self.stream.flush());
        self.open &= sent.is_ok();
        Ok(sent?)
    }

    /// The stream, to set its timeouts.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Read + Write> ConnectionLike for Connection<S> {
    fn req_packed_command(&mut self, cmd: &[u8]) -> RedisResult<Value> {
        self.send(cmd)?;
        self.receive()?.extract_error()
    }

    fn req_packed_commands(
        &mut self,
        cmd: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        self.send(cmd)?;
        // Of a transaction, that its commands are queued; or that one is not, and all are dropped.
        let mut refusal = None;
        for _ in 0..offset {
            refusal = refusal.or(self.receive()?.extract_error().err());
        }
        // Errors among these are for the caller to find.
        let answers = (0..count).map(|_| self.receive()).collect::<RedisResult<_>>()?;
        refusal.map_or(Ok(answers), Err)
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").query::<String>(self).is_ok()
    }

    fn is_open(&self) -> bool {
        self.open
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}
