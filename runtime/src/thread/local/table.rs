//! Where a thread's local values are, and how they end.
//!
//! Each value lies in an allocation of its own, so that it stays where it is while the table grows.
//! The table is touched by its thread alone, and no reference into it is held while the user's code
//! runs: initialisers and destructors come back here.
//!
//! # What is in use stays
//!
//! A thread ends when its closure has returned or unwound, so one would think that nobody is in the
//! midst of using its values by then. But a coroutine may be: suspended while it was lent a value, and
//! kept where it outlives that, by an older value of the same thread, or by a thread-local of the OS
//! thread, where a neighbour finds it and resumes it. So each value counts by whom it is in use,
//! and one that is in use is not dropped: it waits for the destructors of the others, which may end
//! the coroutine, and if none does, it is leaked.
//!
//! The count is the thread's alone, as the value is. A coroutine stays on its OS thread, and so does a
//! pinned green thread; of others it was promised that they keep nothing where a neighbour finds it.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::{mem, ptr};

#[cfg(not(bine_loom))]
use crate::interrupt::Shield;
#[cfg(bine_loom)]
use crate::modelled::{Shield, thread::current_locals};
#[cfg(not(bine_loom))]
use crate::worker;

/// Under the number of a value that was dropped. No allocation ends at the last byte of all, and
/// nothing without a size is aligned so strangely.
const DESTROYED: *mut Head = ptr::without_provenance_mut(usize::MAX);

/// A value, in a box.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Kept<T> {
    head: Head,
    value: T,
}

/// What a value starts with, whatever its type.
#[derive(Debug)]
pub(super) struct Head {
    /// How many are in the midst of using the value.
    users: Cell<usize>,
    /// Frees the value, which lies in a box.
    drop: unsafe fn(*mut Head),
}

impl<T> Kept<T> {
    fn new(value: T) -> *mut Self {
        /// Frees what `new` has returned.
        unsafe fn drop_kept<T>(value: *mut Head) {
            // SAFETY: the caller's promise; the head is the first field of such a box.
            drop(unsafe { Box::from_raw(value.cast::<Kept<T>>()) });
        }
        let head = Head { users: Cell::new(0), drop: drop_kept::<T> };
        Box::into_raw(Box::new(Self { head, value }))
    }

    /// Calls `f` with the value, which stays until `f` is done.
    ///
    /// # Safety
    ///
    /// `this` is a value of the calling thread's that is there now.
    #[inline]
    pub(super) unsafe fn lend<R>(this: *const Self, f: impl FnOnce(&T) -> R) -> R {
        struct Ended<'a>(&'a Cell<usize>);

        impl Drop for Ended<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }

        // SAFETY: a value that has users is not freed, and this is one until `_ended` is dropped.
        let this = unsafe { &*this };
        let users = &this.head.users;
        // Cannot overflow: each keeps a frame on some stack.
        users.set(users.get() + 1);
        let _ended = Ended(users);
        f(&this.value)
    }
}

/// A thread's table; nothing until its first value.
#[derive(Debug)]
pub(crate) struct Locals(Cell<*mut Table>);

#[derive(Debug, Default)]
struct Table {
    /// By number, less one: null, [`DESTROYED`], or the value.
    values: Vec<*mut Head>,
    /// The numbers of those to be dropped, in the order of their initialisation.
    drops: Vec<usize>,
    /// Those without a destructor. They outlive the others, which may use them to the end.
    frees: Vec<usize>,
    /// Values in whose place another one came.
    replaced: Vec<*mut Head>,
}

/// What there is under a number.
pub(super) enum Found {
    Nothing,
    Alive(*mut Head),
    Destroyed,
}

impl Table {
    #[inline]
    fn get(&self, number: usize) -> Found {
        match self.values.get(number.wrapping_sub(1)) {
            Some(&value) if value == DESTROYED => Found::Destroyed,
            Some(&value) if !value.is_null() => Found::Alive(value),
            _ => Found::Nothing,
        }
    }

    fn set(&mut self, number: usize, value: *mut Head) -> *mut Head {
        if self.values.len() < number {
            // Exactly: there may be a million such tables.
            self.values.reserve_exact(number - self.values.len());
            self.values.resize(number, ptr::null_mut());
        }
        mem::replace(&mut self.values[number - 1], value)
    }

    /// Takes out the value that is to be dropped next. None if all that are left are in use.
    fn next(&mut self) -> Option<*mut Head> {
        // SAFETY: what is in the table was not freed.
        let is_free = |value: *mut Head| unsafe { (*value).users.get() } == 0;
        if let Some(index) = self.replaced.iter().rposition(|&value| is_free(value)) {
            return Some(self.replaced.remove(index));
        }
        let index = self.drops.iter().rposition(|&number| is_free(self.values[number - 1]))?;
        let number = self.drops.remove(index);
        Some(self.set(number, DESTROYED))
    }
}

impl Locals {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(ptr::null_mut()))
    }

    /// Whether the thread has used no local value, or all are gone.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_null()
    }

    /// # Safety
    ///
    /// By the thread to which the table belongs. So for all methods here.
    #[inline]
    pub(super) unsafe fn get(&self, number: usize) -> Found {
        // SAFETY: the pointer is null or a box's, and nobody else has a reference into the table.
        unsafe { self.0.get().as_ref() }.map_or(Found::Nothing, |table| table.get(number))
    }

    fn with<R>(&self, f: impl FnOnce(&mut Table) -> R) -> R {
        if self.0.get().is_null() {
            self.0.set(Box::into_raw(Box::default()));
        }
        // SAFETY: the pointer is a box's. No `f` here runs code of the user's, so this is the one
        // reference into the table.
        f(unsafe { &mut *self.0.get() })
    }

    /// Keeps `value` under `number`, where there was nothing, until the thread ends.
    pub(super) unsafe fn insert<T>(&self, number: usize, value: T) -> *const Kept<T> {
        let value = Kept::new(value);
        self.with(|table| {
            table.set(number, value.cast());
            let list = if mem::needs_drop::<T>() { &mut table.drops } else { &mut table.frees };
            list.push(number);
        });
        value
    }

    /// Puts `value` in the place of the one that is there, which is dropped when the thread ends.
    pub(super) unsafe fn replace<T>(&self, number: usize, value: T) -> *const Kept<T> {
        let value = Kept::new(value);
        self.with(|table| {
            let before = table.set(number, value.cast());
            table.replaced.push(before);
        });
        value
    }

    /// Drops all values, the one last initialised first, also those that are initialised meanwhile;
    /// those in use as soon as they are not, or never. Afterwards there are none.
    ///
    /// # Safety
    ///
    /// As `get`, and no reference to a value is used any more but by those whom it counts as users.
    #[cold]
    pub(crate) unsafe fn destroy(&self) {
        let _shield = Shield::raise();
        while let Some(value) = self.with(Table::next) {
            // SAFETY: the value is no longer in the table, and by the caller's promise nobody uses
            // it, as it has no users.
            let dropped =
                panic::catch_unwind(AssertUnwindSafe(|| unsafe { ((*value).drop)(value) }));
            if dropped.is_err() {
                // As std.
                eprintln!("fatal: a thread's local value panicked when it was dropped");
                std::process::abort();
            }
        }
        // SAFETY: the pointer is a box's, as `with` has been called. No code of the user's runs
        // from here on: the values that are freed have no destructors. Those in use are leaked.
        unsafe {
            let table = Box::from_raw(self.0.replace(ptr::null_mut()));
            table.replaced.iter().for_each(|&value| leak(value));
            table.drops.iter().for_each(|number| leak(table.values[number - 1]));
            for number in &table.frees {
                let value = table.values[number - 1];
                match (*value).users.get() {
                    0 => ((*value).drop)(value),
                    _ => leak(value),
                }
            }
        }
    }
}

/// Nothing is to be done, but for the sanitizer: the value is not to be reported.
fn leak(value: *mut Head) {
    #[cfg(bine_sanitize = "address")]
    // SAFETY: looks at the address alone.
    unsafe {
        __lsan_ignore_object(value.cast());
    }
    let _ = value;
}

#[cfg(bine_sanitize = "address")]
unsafe extern "C" {
    fn __lsan_ignore_object(object: *const std::ffi::c_void);
}

/// A plain OS thread's table.
#[cfg(not(bine_loom))]
struct OsLocals {
    locals: Locals,
    /// All have been dropped; there is no second time.
    ended: Cell<bool>,
}

/// Ends an OS thread's table with the thread.
#[cfg(not(bine_loom))]
struct EndOfThread;

#[cfg(not(bine_loom))]
std::thread_local! {
    // Without a destructor, so that it can still be used while the values are dropped.
    static OS: OsLocals = const { OsLocals { locals: Locals::new(), ended: Cell::new(false) } };
    static END: EndOfThread = const { EndOfThread };
}

#[cfg(not(bine_loom))]
impl Drop for EndOfThread {
    fn drop(&mut self) {
        OS.with(|os| {
            // SAFETY: the calling thread's own, and it ends.
            unsafe { os.locals.destroy() };
            os.ended.set(true);
        });
    }
}

/// The calling thread's table, valid until the thread ends. None on an OS thread that has dropped
/// it.
#[inline]
pub(super) fn current() -> Option<*const Locals> {
    #[cfg(bine_loom)]
    return current_locals();
    #[cfg(not(bine_loom))]
    match worker::green() {
        // SAFETY: the thread that runs is alive.
        Some((_, task)) => Some(unsafe { &raw const (*task.as_ptr()).locals }),
        None => current_os(),
    }
}

/// Never inlined: on a green thread's stack the compiler must not keep the address of a
/// thread-local across a switch.
#[cfg(not(bine_loom))]
#[inline(never)]
fn current_os() -> Option<*const Locals> {
    OS.with(|os| {
        if os.ended.get() {
            return None;
        }
        if os.locals.is_empty() {
            // Has the destructor registered. Fails while it runs, and is not needed then.
            let _ = END.try_with(|_| ());
        }
        Some(&raw const os.locals)
    })
}
