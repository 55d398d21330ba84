//! The message: built in a fixed buffer, written in one piece.

use std::fmt::{self, Write};
use std::process;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::stack::Describe;

/// The size of the buffer, in bytes.
const MOST: usize = 1024;
/// How much of it the description may take. The rest is for what we add ourselves.
const MOST_OF_DESCRIPTION: usize = 640;

/// A stack that the interrupted code ran on, and has overflowed.
pub(super) struct Overflow {
    pub(super) describe: Describe,
    pub(super) data: *const (),
    pub(super) stack_size: usize,
}

impl Overflow {
    /// Ends the process with a message. Called in the handler, by a thread that cannot go on.
    pub(super) fn report_and_abort(&self) -> ! {
        be_the_only_one();
        self.compose().print();
        process::abort()
    }

    fn compose(&self) -> Message {
        let mut message = Message { bytes: [0; MOST], used: 0, most: MOST_OF_DESCRIPTION };
        // No write here fails but those that do not fit.
        let _ = message.write_str("\n");
        // SAFETY: the stack has overflowed on this thread, as `Stack::set_owner` has it.
        let described = unsafe { (self.describe)(self.data, &mut message) };
        message.most = MOST;
        if described.is_err() {
            let _ = message.write_str("...");
        }
        let _ = write!(
            message,
            " has overflowed its stack of {} KiB\n\
             note: its builder's `stack_size` gives it a larger one; \
             `runtime::Builder::stack_size` all green threads\n\
             fatal runtime error: stack overflow, aborting\n",
            self.stack_size / 1024,
        );
        message
    }
}

/// Returns on the first thread that calls it. The others wait until that one has ended the process.
fn be_the_only_one() {
    static REPORTER: AtomicI32 = AtomicI32::new(0);
    // SAFETY: no preconditions.
    let me = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
    // Relaxed: nothing but the word is shared.
    match REPORTER.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => {}
        // The report itself has overflowed, on a stack of ours: there is nobody to wait for.
        Err(reporter) if reporter == me => process::abort(),
        Err(_) => loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        },
    }
}

/// Text up to a limit; what is beyond is cut off, between characters.
struct Message {
    bytes: [u8; MOST],
    used: usize,
    /// At most [`MOST`].
    most: usize,
}

impl Message {
    fn print(&self) {
        let mut rest = &self.bytes[..self.used];
        while !rest.is_empty() {
            // SAFETY: the bytes are initialised.
            let written =
                unsafe { libc::write(libc::STDERR_FILENO, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(written) {
                Ok(written) => rest = &rest[written..],
                Err(_) if was_interrupted() => {}
                // There is nobody to tell.
                Err(_) => return,
            }
        }
    }
}

fn was_interrupted() -> bool {
    // SAFETY: the location is the thread's; a handler stays on its thread.
    unsafe { *libc::__errno_location() == libc::EINTR }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(self.most - self.used);
        self.bytes[self.used..][..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.used += fits;
        if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe fn long(_: *const (), message: &mut dyn Write) -> fmt::Result {
        (0..1_000).try_for_each(|_| message.write_str("ß"))
    }

    #[test]
    fn a_long_description_is_cut_between_characters() {
        let overflow = Overflow { describe: long, data: std::ptr::null(), stack_size: 4 << 30 };
        let message = overflow.compose();
        let text = std::str::from_utf8(&message.bytes[..message.used]).unwrap();
        let letters = text.trim_start_matches('\n').trim_start_matches('ß');
        assert!(
            letters.starts_with("... has overflowed its stack of 4194304 KiB\nnote: "),
            "{text}"
        );
        assert!(letters.ends_with("fatal runtime error: stack overflow, aborting\n"), "{text}");
        assert_eq!(text.matches('ß').count(), (MOST_OF_DESCRIPTION - 1) / 2);
    }
}
