//! A pool of connections: as many as it was made with, lent to one user each.

use std::ops::Deref;
use std::time::Duration;

use bine::sync::{Mutex, Semaphore};

/// Connections of the type `C`.
///
/// The mistake: one that comes back is announced before it is in the list. Who was waiting for it may find
/// the list empty.
#[derive(Debug)]
pub struct Pool<C, const MISTAKEN: bool = false> {
    idle: Mutex<Vec<C>>,
    /// A permit for each connection in `idle`.
    available: Semaphore,
}

/// A connection that is lent; it goes back when dropped.
#[derive(Debug)]
pub struct Lent<'a, C, const MISTAKEN: bool = false> {
    pool: &'a Pool<C, MISTAKEN>,
    connection: Option<C>,
}

impl<C, const MISTAKEN: bool> Pool<C, MISTAKEN> {
    /// A pool of these.
    pub fn new(connections: Vec<C>) -> Self {
        let available = Semaphore::new(connections.len());
        Self { idle: Mutex::new(connections), available }
    }

    /// A connection, or none if all are lent for longer than `patience`.
    ///
    /// # Panics
    ///
    /// If a thread has panicked in the middle of a call.
    pub fn get(&self, patience: Duration) -> Option<Lent<'_, C, MISTAKEN>> {
        self.available.acquire_timeout(patience).ok()?.forget();
        let connection = self.idle.lock().unwrap().pop();
        Some(Lent { pool: self, connection: Some(connection.expect("a permit is a connection")) })
    }

    fn put_back(&self, connection: C) {
        if MISTAKEN {
            self.available.add_permits(1);
        }
        self.idle.lock().unwrap().push(connection);
        if !MISTAKEN {
            self.available.add_permits(1);
        }
    }
}

impl<C, const MISTAKEN: bool> Deref for Lent<'_, C, MISTAKEN> {
    type Target = C;

    fn deref(&self) -> &C {
        self.connection.as_ref().expect("taken out at the end only")
    }
}

impl<C, const MISTAKEN: bool> Drop for Lent<'_, C, MISTAKEN> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put_back(connection);
        }
    }
}
