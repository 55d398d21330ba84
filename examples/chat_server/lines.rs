//! Lines of bounded length, as people send them with nc or telnet.

use std::io::{self, Read};

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// A line without its end, and without what could upset a terminal.
    Line(String),
    /// More bytes without an end of line than are allowed.
    TooLong,
    /// The client sends no more.
    End,
}

pub(crate) struct Lines<R> {
    stream: R,
    bytes: Vec<u8>,
    /// What of `bytes` was received and is not read.
    start: usize,
    end: usize,
}

impl<R: Read> Lines<R> {
    /// Lines of `most` bytes at most, with their ends.
    pub(crate) fn new(stream: R, most: usize) -> Self {
        Self { stream, bytes: vec![0; most], start: 0, end: 0 }
    }

    pub(crate) fn next(&mut self) -> io::Result<Sent> {
        let mut searched = 0;
        loop {
            let unread = &self.bytes[self.start..self.end];
            if let Some(at) = unread[searched..].iter().position(|&byte| byte == b'\n') {
                let line = text(&unread[..searched + at]);
                self.start += searched + at + 1;
                return Ok(Sent::Line(line));
            }
            searched = unread.len();
            if searched == self.bytes.len() {
                return Ok(Sent::TooLong);
            }
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, searched);
            match self.stream.read(&mut self.bytes[self.end..])? {
                0 if searched == 0 => return Ok(Sent::End),
                // The last line may lack its end.
                0 => {
                    let line = text(&self.bytes[..searched]);
                    self.end = 0;
                    return Ok(Sent::Line(line));
                }
                count => self.end += count,
            }
        }
    }
}

/// Marks a command of the telnet protocol.
const IAC: u8 = 255;
/// The commands that are followed by an option: WILL, WONT, DO and DONT.
const WITH_OPTION: std::ops::RangeInclusive<u8> = 251..=254;

/// The text of a line, without telnet's commands and without control characters: what one client sends
/// must not move the cursor of another one's terminal.
fn text(mut line: &[u8]) -> String {
    let mut kept = Vec::with_capacity(line.len());
    while let Some((&byte, rest)) = line.split_first() {
        line = match (byte, rest) {
            (IAC, [command, rest @ ..]) if WITH_OPTION.contains(command) => {
                rest.get(1..).unwrap_or_default()
            }
            (IAC, rest) => rest.get(1..).unwrap_or_default(),
            _ => {
                kept.push(byte);
                rest
            }
        };
    }
    let text = String::from_utf8_lossy(&kept);
    text.chars().filter(|&c| !c.is_control()).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time: a line may come in any pieces.
    struct Slowly<'a>(&'a [u8]);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    fn lines(bytes: &[u8], most: usize) -> Vec<Sent> {
        let read = |stream: &mut dyn Read| {
            let mut lines = Lines::new(stream, most);
            let mut sent = Vec::new();
            loop {
                sent.push(lines.next().unwrap());
                if matches!(sent.last(), Some(Sent::End | Sent::TooLong)) {
                    return sent;
                }
            }
        };
        let slowly = read(&mut Slowly(bytes));
        assert_eq!(read(&mut &*bytes), slowly, "it depends on the pieces");
        slowly
    }

    fn line(text: &str) -> Sent {
        Sent::Line(text.to_owned())
    }

    #[test]
    fn lines_end_in_every_way() {
        let expected = [line("one"), line("two"), line(""), line("three"), Sent::End];
        assert_eq!(lines(b"one\ntwo\r\n\nthree", 16), expected);
        assert_eq!(lines(b"", 16), [Sent::End]);
    }

    #[test]
    fn long_lines_are_not_read() {
        assert_eq!(lines(b"1234567\n1\n", 8), [line("1234567"), line("1"), Sent::End]);
        assert_eq!(lines(b"12345678\n", 8), [Sent::TooLong]);
    }

    #[test]
    fn terminals_are_safe() {
        assert_eq!(lines(b"a\x1b[2Jb\x07\tc\n", 32)[0], line("a[2Jbc"));
        assert_eq!(lines(b"\xff\xfd\x01a\xff\xf1b\xff", 32)[0], line("ab"));
        assert_eq!(lines(b"gr\xc3\xbcn \xc3\n", 32)[0], line("grün \u{fffd}"));
    }
}
