//! The bodies of requests.

use std::io::{self, Read};

use crate::Limits;
use crate::input::Input;
use crate::request::Framing;
use crate::response::Status;

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Status),
    /// Also if the client ended in the midst of it.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The longest line with the size of a chunk.
const LONGEST_SIZE: usize = 1 << 10;
/// Memory is taken in such steps, as the bytes come, and not as the client announces them.
const STEP: usize = 64 << 10;

/// Receives a body into `body`, which is empty.
pub(crate) fn receive(
    framing: Framing,
    input: &mut Input,
    stream: impl Read,
    limits: &Limits,
    body: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut source = Source { input, stream, limits };
    match framing {
        Framing::Empty => Ok(()),
        Framing::Length(length) => Ok(source.copy(length, body)?),
        Framing::Chunked => source.chunks(body),
    }
}

struct Source<'a, S> {
    input: &'a mut Input,
    stream: S,
    limits: &'a Limits,
}

impl<S: Read> Source<'_, S> {
    /// Adds the next `count` bytes to `body`.
    fn copy(&mut self, count: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let here = count.min(self.input.unread().len());
        body.extend_from_slice(&self.input.unread()[..here]);
        self.input.consume(here);
        let mut left = count - here;
        while left > 0 {
            let from = body.len();
            body.resize(from + left.min(STEP), 0);
            let received = self.stream.read(&mut body[from..])?;
            body.truncate(from + received);
            if received == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= received;
        }
        Ok(())
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            let (length, size) = self.chunk_size()?;
            self.input.consume(length);
            // Compared before it is added, and before it is made smaller: it may be anything.
            if size > (self.limits.body - body.len()) as u64 {
                return Err(Failure::Refused(Status::CONTENT_TOO_LARGE));
            }
            if size == 0 {
                return self.skip_trailers();
            }
            self.copy(size as usize, body)?;
            if self.line(2)? != b"\r\n" {
                return Err(Failure::Refused(Status::BAD_REQUEST));
            }
            self.input.consume(2);
        }
    }

    /// The length of the next line and the size that it tells.
    fn chunk_size(&mut self) -> Result<(usize, u64), Failure> {
        let line = self.line(LONGEST_SIZE)?;
        match httparse::parse_chunk_size(line) {
            Ok(httparse::Status::Complete((length, size))) => Ok((length, size)),
            // A whole line is there, but it ends as none should.
            Ok(httparse::Status::Partial) | Err(_) => Err(Failure::Refused(Status::BAD_REQUEST)),
        }
    }

    /// Header fields after the last chunk, which nobody asks for, and the empty line after them.
    fn skip_trailers(&mut self) -> Result<(), Failure> {
        let mut left = self.limits.head;
        loop {
            let line = self.line(left)?;
            let (length, is_last) = (line.len(), matches!(line, b"\r\n" | b"\n"));
            self.input.consume(length);
            if is_last {
                return Ok(());
            }
            left -= length;
        }
    }

    /// The next line, with its end, which has `most` bytes at most and is not consumed.
    fn line(&mut self, most: usize) -> Result<&[u8], Failure> {
        let mut searched = 0;
        let length = loop {
            let unread = self.input.unread();
            let until = unread.len().min(most);
            if let Some(at) = unread[searched..until].iter().position(|&byte| byte == b'\n') {
                break searched + at + 1;
            }
            if until == most {
                return Err(Failure::Refused(Status::BAD_REQUEST));
            }
            searched = until;
            // A head that ends just at its limit leaves room: it is consumed by now.
            if self.input.fill(&mut self.stream, self.limits.head.max(most + 1))? == 0 {
                return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        Ok(&self.input.unread()[..length])
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Gives one byte at a time: a body may come in any pieces.
    struct Slowly<'a>(&'a [u8]);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    /// What is received of `bytes`, of which so many have come with the head, and what is left.
    fn receive_cut(framing: Framing, bytes: &[u8], cut: usize) -> Result<Vec<u8>, Failure> {
        let limits = Limits::of(&crate::Options::parse_from(["http_server", "--max-body", "64"]));
        let (mut input, mut body) = (Input::default(), Vec::new());
        if cut > 0 {
            input.fill(&bytes[..cut], limits.head)?;
        }
        receive(framing, &mut input, Slowly(&bytes[cut..]), &limits, &mut body).map(|()| body)
    }

    #[test]
    fn bodies_come_in_any_pieces() {
        let chunked = b"4\r\nwiki\r\n00A;x=\"y\"\r\npedia\r\n\r\n.\r\n0\r\nA: b\r\n\r\n";
        for cut in 0..=chunked.len() {
            assert_eq!(receive_cut(Framing::Chunked, chunked, cut).unwrap(), b"wikipedia\r\n\r\n.");
        }
        for cut in 0..=5 {
            assert_eq!(receive_cut(Framing::Length(5), b"hello", cut).unwrap(), b"hello");
        }
    }

    #[test]
    fn bodies_that_end_early_are_none() {
        let chunked = b"4\r\nwiki\r\n0\r\nA: b\r\n\r\n";
        for end in 0..chunked.len() {
            let failure = receive_cut(Framing::Chunked, &chunked[..end], 0).unwrap_err();
            assert!(matches!(failure, Failure::Io(_)), "after {end} bytes: {failure:?}");
        }
        assert!(matches!(receive_cut(Framing::Length(6), b"hello", 2), Err(Failure::Io(_))));
    }

    #[test]
    fn bodies_and_trailers_are_bounded() {
        let (chunk, line) = ("20\r\n0123456789abcdef0123456789abcdef\r\n", "A: b\r\n");
        for (bytes, status) in [
            (format!("{chunk}{chunk}1\r\n"), Status::CONTENT_TOO_LARGE),
            ("fffffffffffffff\r\n".to_owned(), Status::CONTENT_TOO_LARGE),
            (format!("0\r\n{}", line.repeat(4_096)), Status::BAD_REQUEST),
            ("4\r\nwiki?\r\n".to_owned(), Status::BAD_REQUEST),
        ] {
            let failure = receive_cut(Framing::Chunked, bytes.as_bytes(), 0).unwrap_err();
            assert!(
                matches!(failure, Failure::Refused(refused) if refused == status),
                "{failure:?}"
            );
        }
    }
}
