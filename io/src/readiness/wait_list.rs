//! The waiters of one direction of one descriptor.

use std::collections::VecDeque;

/// The waiters of one direction, first come first served.
#[derive(Debug)]
pub(super) struct WaitList<W> {
    /// The first one; `None` only if `rest` is empty too.
    first: Option<(u64, W)>,
    rest: VecDeque<(u64, W)>,
}

impl<W> WaitList<W> {
    pub(super) const fn new() -> Self {
        Self { first: None, rest: VecDeque::new() }
    }

    /// Adds a waiter, whose ticket is higher than all before.
    pub(super) fn push(&mut self, ticket: u64, waker: W) {
        match self.first {
            None => self.first = Some((ticket, waker)),
            Some(_) => self.rest.push_back((ticket, waker)),
        }
    }

    /// Takes the first waiter off.
    pub(super) fn pop(&mut self) -> Option<W> {
        let (_, waker) = self.first.take()?;
        self.first = self.rest.pop_front();
        Some(waker)
    }

    /// Takes the waiter `ticket` off, if it is on the list.
    pub(super) fn remove(&mut self, ticket: u64) -> Option<W> {
        if self.first.as_ref()?.0 == ticket {
            return self.pop();
        }
        // Tickets only go up, so the list is sorted by them.
        let at = self.rest.binary_search_by_key(&ticket, |waiter| waiter.0).ok()?;
        self.rest.remove(at).map(|waiter| waiter.1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}
