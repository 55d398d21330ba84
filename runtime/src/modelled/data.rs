//! The value that a lock guards.

use std::cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::statics;

/// As [`std::cell::UnsafeCell`]; in a static, each execution begins with its first value.
#[derive(Debug)]
pub struct UnsafeCell<T: ?Sized> {
    magic: u64,
    reached: AtomicBool,
    value: cell::UnsafeCell<T>,
}

impl<T> UnsafeCell<T> {
    /// A cell that holds `value`.
    pub const fn new(value: T) -> Self {
        Self {
            magic: statics::MAGIC,
            reached: AtomicBool::new(false),
            value: cell::UnsafeCell::new(value),
        }
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> UnsafeCell<T> {
    /// A pointer to the value.
    pub fn get(&self) -> *mut T {
        let value = self.value.get();
        // Relaxed, both: models run one at a time.
        if !self.reached.load(Relaxed) {
            self.reached.store(true, Relaxed);
            // SAFETY: only the size is asked for.
            let size = unsafe { size_of_val(&*value) };
            statics::reached(&raw const self.magic, value.cast(), size);
        }
        value
    }

    /// The value.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default> Default for UnsafeCell<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
