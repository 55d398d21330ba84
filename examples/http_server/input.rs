//! What was received and is not understood yet.

use std::io::{self, Read};

/// A buffer that grows up to a bound, and is moved only when a part of a request stands at its end.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// What connections begin with: some pipelined requests fit.
    const SMALL: usize = 4 << 10;

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Receives some more, once, with room for `most` unread bytes in all. 0 is the end.
    ///
    /// # Panics
    ///
    /// If so many are there already.
    pub(crate) fn fill(&mut self, mut stream: impl Read, most: usize) -> io::Result<usize> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        assert!(self.end < most, "there is no room for more");
        if self.end == self.bytes.len() {
            self.bytes.resize((self.end * 2).clamp(Self::SMALL, most.max(Self::SMALL)), 0);
        }
        let count = stream.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }
}
