//! The roll of a runtime's green threads that have waited at least once: where those are found that
//! are parked, when all are to be cancelled.
//!
//! A thread enters when it first waits, and leaves when it has ended, so one that never waits costs
//! nothing. Whoever calls the roll sets `called` first and then walks all shards, and a thread that
//! enters looks at `called` under its shard's lock: if its critical section comes first, the walk
//! finds the thread, and if it comes second, the thread finds that the roll was called.
//!
//! An entry is no reference: it is valid because a thread leaves before its run reference goes.

use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::primitive::cell::UnsafeCell;

/// Neighbours in a shard. Not initialised before the member enters: most never do.
struct Neighbours<T> {
    before: *mut T,
    after: *mut T,
}

/// What a member has in it. Guarded by its shard's lock.
pub struct Links<T>(UnsafeCell<MaybeUninit<Neighbours<T>>>);

// SAFETY: only reached under the lock of the one shard that the member is in.
unsafe impl<T> Sync for Links<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Links<T> {}

impl<T> std::fmt::Debug for Links<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

impl<T> Default for Links<T> {
    #[inline]
    fn default() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }
}

impl<T> Links<T> {
    fn set(&self, before: *mut T, after: *mut T) {
        // SAFETY: the caller holds the shard's lock.
        self.0.with_mut(|cell| unsafe { (*cell).write(Neighbours { before, after }) });
    }

    /// # Safety
    ///
    /// The member is in a shard, whose lock the caller holds.
    unsafe fn get(&self) -> (*mut T, *mut T) {
        // SAFETY: written when the member entered.
        self.0.with(|cell| unsafe {
            let neighbours = (*cell).assume_init_ref();
            (neighbours.before, neighbours.after)
        })
    }
}

/// What may be on a [`Roll`].
///
/// # Safety
///
/// `links` always returns the same field, which nothing but the roll uses.
pub unsafe trait Member: Sized {
    /// The field.
    fn links(&self) -> &Links<Self>;
}

#[derive(Debug)]
struct First<T>(*mut T);

// SAFETY: members are made for sharing; the lock around this guards the links.
unsafe impl<T: Sync> Send for First<T> {}

/// See the module's documentation.
#[derive(Debug)]
pub struct Roll<T> {
    shards: Box<[Mutex<First<T>>]>,
    called: AtomicBool,
}

impl<T: Member> Roll<T> {
    /// An empty one.
    pub fn new(shards: usize) -> Self {
        // A power of two, so that `shard` need not divide.
        let shards =
            (0..shards.next_power_of_two()).map(|_| Mutex::new(First(ptr::null_mut()))).collect();
        Self { shards, called: AtomicBool::new(false) }
    }

    fn shard(&self, key: u64) -> &Mutex<First<T>> {
        &self.shards[key as usize & (self.shards.len() - 1)]
    }

    /// Whether it was called. A hint: [`enter`](Self::enter) knows.
    pub fn is_called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// Enters `member` into the shard that `key` selects. True if the roll was called.
    ///
    /// # Safety
    ///
    /// The member is not on a roll, and stays alive and where it is until it has left this one.
    pub unsafe fn enter(&self, key: u64, member: NonNull<T>) -> bool {
        let mut first = self.shard(key).lock();
        // SAFETY: the caller's promise, and that of the one who entered what is the first so far.
        unsafe {
            if let Some(after) = NonNull::new(first.0) {
                let (_, further) = after.as_ref().links().get();
                after.as_ref().links().set(member.as_ptr(), further);
            }
            member.as_ref().links().set(ptr::null_mut(), first.0);
        }
        first.0 = member.as_ptr();
        // Relaxed: ordered by the lock (see the module's documentation).
        self.called.load(Ordering::Relaxed)
    }

    /// Takes `member` out.
    ///
    /// # Safety
    ///
    /// It is on this roll, entered with the same key.
    pub unsafe fn leave(&self, key: u64, member: NonNull<T>) {
        let mut first = self.shard(key).lock();
        // SAFETY: the caller's promise; the neighbours are on the roll, and hence alive.
        unsafe {
            let (before, after) = member.as_ref().links().get();
            if let Some(after) = NonNull::new(after) {
                let (_, further) = after.as_ref().links().get();
                after.as_ref().links().set(before, further);
            }
            match NonNull::new(before) {
                Some(before) => {
                    let (further, _) = before.as_ref().links().get();
                    before.as_ref().links().set(further, after);
                }
                None => first.0 = after,
            }
        }
    }

    /// Calls the roll: `each` gets every member, under its shard's lock, and whoever enters later is
    /// told.
    pub fn call(&self, mut each: impl FnMut(NonNull<T>)) {
        // Relaxed: ordered by the locks.
        self.called.store(true, Ordering::Relaxed);
        for shard in &self.shards {
            let first = shard.lock();
            let mut next = first.0;
            while let Some(member) = NonNull::new(next) {
                // SAFETY: on the roll, hence alive while we hold the lock.
                next = unsafe { member.as_ref().links().get().1 };
                each(member);
            }
        }
    }
}
