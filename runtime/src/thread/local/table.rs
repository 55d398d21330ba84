//! Where a thread's local values are, and how they end.
//!
//! Each value lies in an allocation of its own, so that it stays where it is while the table grows.
//! The table is touched by its thread alone, and no reference into it is held while the user's code
//! runs: initialisers and destructors come back here.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use crate::interrupt::Shield;
use crate::worker;

/// Under the number of a value that was dropped. No allocation ends at the last byte of all, and
/// nothing without a size is aligned so strangely.
const DESTROYED: *mut () = ptr::without_provenance_mut(usize::MAX);

/// A thread's table; nothing until its first value.
#[derive(Debug)]
pub(crate) struct Locals(Cell<*mut Table>);

#[derive(Debug, Default)]
struct Table {
    /// By number, less one: null, [`DESTROYED`], or the value.
    values: Vec<*mut ()>,
    /// Those to be dropped, in the order of their initialisation.
    drops: Vec<Entry>,
    /// Those without a destructor. They outlive the others, which may use them to the end.
    frees: Vec<Entry>,
    /// Values in whose place another one came.
    replaced: Vec<(*mut (), DropFn)>,
}

/// Drops a value, which lies in a box.
type DropFn = unsafe fn(*mut ());

#[derive(Debug)]
struct Entry {
    number: usize,
    drop: DropFn,
}

/// What there is under a number.
pub(super) enum Found {
    Nothing,
    Alive(*mut ()),
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

    fn set(&mut self, number: usize, value: *mut ()) -> *mut () {
        if self.values.len() < number {
            // Exactly: there may be a million such tables.
            self.values.reserve_exact(number - self.values.len());
            self.values.resize(number, ptr::null_mut());
        }
        std::mem::replace(&mut self.values[number - 1], value)
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

    /// Keeps `value` under `number`, where there was nothing, until the thread ends and `drop` is
    /// called with it.
    pub(super) unsafe fn insert(
        &self,
        number: usize,
        value: *mut (),
        needs_drop: bool,
        drop: DropFn,
    ) {
        self.with(|table| {
            table.set(number, value);
            let list = if needs_drop { &mut table.drops } else { &mut table.frees };
            list.push(Entry { number, drop });
        });
    }

    /// Puts `value` in the place of the one that is there, for which `drop` is called when the thread
    /// ends.
    pub(super) unsafe fn replace(&self, number: usize, value: *mut (), drop: unsafe fn(*mut ())) {
        self.with(|table| {
            let before = table.set(number, value);
            table.replaced.push((before, drop));
        });
    }

    /// Drops all values, the one last initialised first, also those that are initialised meanwhile.
    /// Afterwards there are none.
    ///
    /// # Safety
    ///
    /// As `get`, and no reference to a value is used any more.
    #[cold]
    pub(crate) unsafe fn destroy(&self) {
        let _shield = Shield::raise();
        while let Some((value, drop)) = self.with(|table| {
            if let Some(replaced) = table.replaced.pop() {
                return Some(replaced);
            }
            let entry = table.drops.pop()?;
            Some((table.set(entry.number, DESTROYED), entry.drop))
        }) {
            // SAFETY: the value was kept for this function, is no longer in the table, and by the
            // caller's promise nobody uses it.
            let dropped = panic::catch_unwind(AssertUnwindSafe(|| unsafe { drop(value) }));
            if dropped.is_err() {
                // As std.
                eprintln!("fatal: a thread's local value panicked when it was dropped");
                std::process::abort();
            }
        }
        // SAFETY: the pointer is a box's, as `with` has been called. No code of the user's runs
        // from here on: the values that are left have no destructors.
        unsafe {
            let table = Box::from_raw(self.0.replace(ptr::null_mut()));
            for entry in &table.frees {
                (entry.drop)(table.values[entry.number - 1]);
            }
        }
    }
}

/// A plain OS thread's table.
struct OsLocals {
    locals: Locals,
    /// All have been dropped; there is no second time.
    ended: Cell<bool>,
}

/// Ends an OS thread's table with the thread.
struct EndOfThread;

std::thread_local! {
    // Without a destructor, so that it can still be used while the values are dropped.
    static OS: OsLocals = const { OsLocals { locals: Locals::new(), ended: Cell::new(false) } };
    static END: EndOfThread = const { EndOfThread };
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        OS.with(|os| {
            // SAFETY: the calling thread's own; it ends, so no `with` is open.
            unsafe { os.locals.destroy() };
            os.ended.set(true);
        });
    }
}

/// The calling thread's table, valid until the thread ends. None on an OS thread that has dropped
/// it.
#[inline]
pub(super) fn current() -> Option<*const Locals> {
    match worker::green() {
        // SAFETY: the thread that runs is alive.
        Some((_, task)) => Some(unsafe { &raw const (*task.as_ptr()).locals }),
        None => current_os(),
    }
}

/// Never inlined: on a green thread's stack the compiler must not keep the address of a
/// thread-local across a switch.
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
