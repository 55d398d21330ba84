//! The load's side of a connection: requests, and whether the answers are right.

use std::io;

use crate::load;

/// One request. It names no port, since all runtimes are to be sent the same bytes.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// What every answer begins and ends with.
const STATUS_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";
const END: &[u8] = b"\r\n\r\nHello, World!";

/// What the load says on a connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What is sent at once.
    requests: Vec<u8>,
    /// Answers that have not come in full.
    input: Vec<u8>,
    /// How long an answer is, once the first has been parsed. All are as long: they differ in the date.
    answer_length: Option<usize>,
}

impl Exchange {
    /// For a connection with so many requests under way at once.
    pub(crate) fn new(_: usize, depth: usize) -> Self {
        Self { requests: REQUEST.repeat(depth), input: Vec::new(), answer_length: None }
    }

    /// The length of an answer, if the first of them is there.
    fn answer_length(&mut self) -> io::Result<Option<usize>> {
        if self.answer_length.is_none() {
            self.answer_length = parse(&self.input)?;
        }
        Ok(self.answer_length)
    }
}

impl load::Exchange for Exchange {
    fn send(&mut self) -> &[u8] {
        &self.requests
    }

    fn receive(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.extend_from_slice(bytes);
        let Some(length) = self.answer_length()? else { return Ok(0) };
        let answers = self.input.chunks_exact(length);
        let complete = answers.len();
        for answer in answers {
            if !answer.starts_with(STATUS_LINE) || !answer.ends_with(END) {
                let answer = String::from_utf8_lossy(answer);
                return Err(io::Error::other(format!("a wrong answer: {answer:?}")));
            }
        }
        self.input.drain(..complete * length);
        Ok(complete)
    }
}

/// The length of the answer that `input` begins with, if all of it is there; an error if it is none of
/// those that a server has to give.
fn parse(input: &[u8]) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(input).map_err(io::Error::other)? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(head) => head,
    };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        let found = found.and_then(|header| str::from_utf8(header.value).ok());
        found.ok_or_else(|| io::Error::other(format!("an answer without {name}")))
    };
    header("Server")?;
    httpdate::parse_http_date(header("Date")?).map_err(io::Error::other)?;
    let (kind, length) = (header("Content-Type")?, header("Content-Length")?);
    if response.code != Some(200) || kind != "text/plain" || length != "13" {
        let code = response.code;
        return Err(io::Error::other(format!("a wrong answer: {code:?}, {kind}, {length} bytes")));
    }
    let length = head + 13;
    Ok((input.len() >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::super::{ANSWER, Conversation};
    use super::*;
    use crate::load::Exchange as _;

    #[test]
    fn server_and_load_understand_each_other() {
        let (mut exchange, mut conversation) = (Exchange::new(0, 16), Conversation::new());
        for _ in 0..3 {
            let requests = exchange.send().to_vec();
            conversation.space()[..requests.len()].copy_from_slice(&requests);
            let answers = conversation.answer(requests.len()).unwrap();
            let (first, second) = answers.split_at(1_000);
            assert_eq!(exchange.receive(first).unwrap(), 1_000 / ANSWER.len());
            assert_eq!(exchange.receive(second).unwrap(), 16 - 1_000 / ANSWER.len());
        }
    }

    #[test]
    fn an_answer_may_come_byte_by_byte() {
        let mut exchange = Exchange::new(0, 1);
        for (n, byte) in ANSWER.iter().enumerate() {
            let complete = usize::from(n + 1 == ANSWER.len());
            assert_eq!(exchange.receive(&[*byte]).unwrap(), complete);
        }
    }

    #[test]
    fn wrong_answers_are_errors() {
        let answer = str::from_utf8(ANSWER).unwrap();
        let changes = [
            ("200 OK", "404 Not Found"),
            ("Server", "Sender"),
            ("Date: Thu", "Date: today"),
            ("text/plain", "text/html"),
            ("13", "12"),
            ("HTTP", "SMTP"),
        ];
        for (from, to) in changes {
            let wrong = answer.replacen(from, to, 1);
            assert!(Exchange::new(0, 1).receive(wrong.as_bytes()).is_err(), "{from} -> {to}");
            let later = [answer, &wrong].concat();
            let same_length = from.len() == to.len() && to != "Sender" && to != "12";
            if same_length {
                assert!(Exchange::new(0, 2).receive(later.as_bytes()).is_err(), "{from} -> {to}");
            }
        }
        let body = answer.replace("World", "Earth");
        assert!(Exchange::new(0, 1).receive(body.as_bytes()).is_err());
    }
}
