//! Names and stack sizes, and errors where the plain constructors panic.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::io;
use std::panic::Location;

use super::control::{self, Label};
use super::{Coroutine, Generator, OwnedStack, StackMemory, Yielder};
use crate::stack::DEFAULT_STACK_SIZE;

/// How a coroutine is to be made.
///
/// ```
/// use bine_arch::coroutine::Builder;
/// let squares = Builder::new().name("squares").stack_size(64 << 10).generator(|yielder| {
///     for n in 1.. {
///         yielder.suspend(n * n);
///     }
/// })?;
/// assert_eq!(squares.take(3).sum::<i32>(), 1 + 4 + 9);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until something is made with it"]
pub struct Builder {
    name: Option<Cow<'static, str>>,
    stack_size: Option<usize>,
}

impl Builder {
    /// No name, and a stack of [`DEFAULT_STACK_SIZE`].
    pub fn new() -> Self {
        Self::default()
    }

    /// What it is called in the report of an overflow, and in `Debug` output.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The least size of its stack, in bytes; rounded up to a power of two. Only what is touched
    /// costs memory.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// A coroutine; see [`Coroutine::new`].
    ///
    /// # Errors
    ///
    /// If no stack can be had (the text says what was tried), or the closure is too large for it
    /// (`InvalidInput`).
    #[track_caller]
    pub fn coroutine<Input, Yield, Return, F>(
        self,
        f: F,
    ) -> io::Result<Coroutine<Input, Yield, Return>>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'static,
        Input: 'static,
        Yield: 'static,
        Return: 'static,
    {
        // SAFETY: all is 'static.
        unsafe { self.build(f) }
    }

    /// A generator; see [`Generator::new`].
    ///
    /// # Errors
    ///
    /// As [`coroutine`](Self::coroutine).
    #[track_caller]
    pub fn generator<Item, F>(self, f: F) -> io::Result<Generator<Item>>
    where
        F: FnOnce(&Yielder<Option<()>, Item>) + 'static,
        Item: 'static,
    {
        self.receiving_generator(f)
    }

    /// A generator that values are sent to; see [`Generator::receiving`].
    ///
    /// # Errors
    ///
    /// As [`coroutine`](Self::coroutine).
    #[track_caller]
    pub fn receiving_generator<Item, Sent, F>(self, f: F) -> io::Result<Generator<Item, Sent>>
    where
        F: FnOnce(&Yielder<Option<Sent>, Item>) + 'static,
        Item: 'static,
        Sent: 'static,
    {
        self.coroutine(|yielder: &_, _| f(yielder)).map(Generator::from)
    }

    /// # Safety
    ///
    /// What the closure and the values that travel borrow outlives the coroutine.
    #[track_caller]
    pub(super) unsafe fn build<Input, Yield, Return, F>(
        self,
        f: F,
    ) -> io::Result<Coroutine<Input, Yield, Return>>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return,
    {
        let stack = OwnedStack::new(self.stack_size.unwrap_or(DEFAULT_STACK_SIZE))?;
        if !control::fits::<F, Return>(stack.bounds()) {
            return Err(too_large(control::stage_size::<F, Return>(), stack.size()));
        }
        let label = Label { name: self.name, created_at: Location::caller() };
        // SAFETY: the caller's promise.
        Ok(unsafe { Coroutine::on(stack, label, f) })
    }
}

#[cold]
fn too_large(size: usize, stack: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "the closure of a coroutine, or its result ({size} bytes), does not fit on its stack of \
             {stack} bytes; ask for a larger one with Builder::stack_size"
        ),
    )
}
