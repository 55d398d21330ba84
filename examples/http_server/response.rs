//! Responses, gathered in a buffer that is sent at once.

use std::io::{self, Write};

use crate::date::Date;
use crate::request::Request;

/// A status code with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) &'static str);

impl Status {
    pub(crate) const OK: Self = Self("200 OK");
    pub(crate) const BAD_REQUEST: Self = Self("400 Bad Request");
    pub(crate) const NOT_FOUND: Self = Self("404 Not Found");
    pub(crate) const NOT_ALLOWED: Self = Self("405 Method Not Allowed");
    pub(crate) const TIMED_OUT: Self = Self("408 Request Timeout");
    pub(crate) const CONTENT_TOO_LARGE: Self = Self("413 Content Too Large");
    pub(crate) const URI_TOO_LONG: Self = Self("414 URI Too Long");
    pub(crate) const EXPECTATION_FAILED: Self = Self("417 Expectation Failed");
    pub(crate) const HEADERS_TOO_LARGE: Self = Self("431 Request Header Fields Too Large");
    pub(crate) const SERVER_ERROR: Self = Self("500 Internal Server Error");
    pub(crate) const NOT_IMPLEMENTED: Self = Self("501 Not Implemented");
    pub(crate) const VERSION_NOT_SUPPORTED: Self = Self("505 HTTP Version Not Supported");
}

/// What a response says beside its status and its body.
#[derive(Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) status: Status,
    pub(crate) content_type: &'static str,
    /// Further header lines, each with its end.
    pub(crate) headers: &'a [&'a str],
    pub(crate) body: &'a [u8],
}

impl<'a> Reply<'a> {
    pub(crate) const fn text(status: Status, body: &'a [u8]) -> Self {
        Self { status, content_type: "text/plain", headers: &[], body }
    }
}

/// Responses that have not been sent yet.
#[derive(Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    date: Date,
}

impl Output {
    /// More than so much is sent before the next response is added.
    const LARGE: usize = 64 << 10;

    /// Adds the response to a request.
    pub(crate) fn reply(&mut self, request: &Request, keep_alive: bool, reply: Reply<'_>) {
        let connection = match (keep_alive, request.old) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        self.head(reply, connection);
        if !request.head_only {
            self.bytes.extend_from_slice(reply.body);
        }
    }

    /// Adds the response to something that was no request, after which the connection is closed.
    pub(crate) fn refuse(&mut self, status: Status) {
        let body = [status.0.as_bytes(), b"\n"].concat();
        self.head(Reply::text(status, &body), "Connection: close\r\n");
        self.bytes.extend_from_slice(&body);
    }

    fn head(&mut self, reply: Reply<'_>, connection: &str) {
        let Self { bytes, date } = self;
        let mut add = |part: &str| bytes.extend_from_slice(part.as_bytes());
        add("HTTP/1.1 ");
        add(reply.status.0);
        add("\r\nServer: bine\r\nDate: ");
        add(date.text());
        add("\r\nContent-Type: ");
        add(reply.content_type);
        add("\r\nContent-Length: ");
        add(decimal(reply.body.len(), &mut [0; 20]));
        add("\r\n");
        add(connection);
        reply.headers.iter().copied().for_each(&mut add);
        add("\r\n");
    }

    /// Tells a client that waits for it to send the body.
    pub(crate) fn ask_for_body(&mut self) {
        self.bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all but the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    pub(crate) fn is_large(&self) -> bool {
        self.bytes.len() >= Self::LARGE
    }

    /// Sends it all.
    pub(crate) fn flush(&mut self, mut stream: impl Write) -> io::Result<()> {
        // The next batch may come at any other time.
        self.date.forget();
        if self.bytes.is_empty() {
            return Ok(());
        }
        let sent = stream.write_all(&self.bytes);
        self.bytes.clear();
        // One large response should not keep its memory as long as the connection lasts.
        self.bytes.shrink_to(Self::LARGE);
        sent
    }
}

fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &str {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return str::from_utf8(&digits[at..]).expect("digits are ASCII");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for number in [0, 1, 9, 10, 4_096, usize::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string());
        }
    }
}
