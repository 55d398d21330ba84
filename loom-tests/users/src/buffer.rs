//! A bounded buffer, the subject of `docs/model-checking.md`.

use std::collections::VecDeque;

use bine::sync::{Condvar, Mutex};

/// A queue with room for so many items: a sender waits for room, a receiver for an item.
///
/// The mistake: both kinds wait at one condition variable, and a change wakes one thread. It may be one of
/// the wrong kind, who goes back to sleep, while the one that could go on is not told.
#[derive(Debug)]
pub struct Buffer<T, const MISTAKEN: bool = false> {
    items: Mutex<VecDeque<T>>,
    changed: Condvar,
    room: usize,
}

impl<T, const MISTAKEN: bool> Buffer<T, MISTAKEN> {
    /// An empty buffer for up to `room` items.
    pub const fn new(room: usize) -> Self {
        Self { items: Mutex::new(VecDeque::new()), changed: Condvar::new(), room }
    }

    /// Puts an item in, as soon as there is room.
    ///
    /// # Panics
    ///
    /// If a thread has panicked in the middle of a call. So for all methods here.
    pub fn send(&self, item: T) {
        let items = self.items.lock().unwrap();
        let mut items = self.changed.wait_while(items, |items| items.len() == self.room).unwrap();
        items.push_back(item);
        self.tell();
    }

    /// Takes the oldest item out, as soon as there is one.
    pub fn receive(&self) -> T {
        let items = self.items.lock().unwrap();
        let mut items = self.changed.wait_while(items, |items| items.is_empty()).unwrap();
        let item = items.pop_front().unwrap();
        self.tell();
        item
    }

    fn tell(&self) {
        if MISTAKEN {
            self.changed.notify_one();
        } else {
            self.changed.notify_all();
        }
    }
}
