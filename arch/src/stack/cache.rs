//! A worker's own supply of stacks and permits.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;

use super::class::SizeClass;
use super::depot::Depot;
use super::slab::Slot;
use super::{DEFAULT_STACK_SIZE, Permit, Stack};

/// A worker's own supply of stacks and permits of one size class, used without locks.
///
/// All operations take any size class; those of the class of the cache are cheap (a few
/// instructions, but for one call in dozens that goes to the depot), the others go to the depot
/// each time.
///
/// What it holds goes back to the process when it is dropped. While stacks are scarce it gives its
/// stock back at the next [`release`](Self::release), and takes no new one; see the
/// [module](super).
///
/// # Invariant
///
/// `credit + room` of the depot's promises belong to this cache, and `magazine.len() <= room`.
pub struct StackCache {
    class: SizeClass,
    /// That of `class`.
    depot: &'static Depot,
    /// Permits that can be given out.
    credit: usize,
    /// Free stacks of `class`; the last is the hottest.
    magazine: Vec<Slot>,
    /// How many stacks `magazine` may hold: zero until the depot has promised them.
    room: usize,
    /// Whether the depot was asked to grow for `room`; if it could not, it is not asked again.
    asked: bool,
    not_sync: PhantomData<Cell<()>>,
}

impl StackCache {
    /// An empty cache for stacks of [`DEFAULT_STACK_SIZE`]. Nothing is mapped or allocated before
    /// its first use.
    #[must_use]
    pub fn new() -> Self {
        Self::of_class(SizeClass::of(DEFAULT_STACK_SIZE).expect("the default size is a valid one"))
    }

    /// An empty cache for stacks of at least `size` bytes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `size` is above [`MAX_STACK_SIZE`](super::MAX_STACK_SIZE).
    pub fn with_stack_size(size: usize) -> io::Result<Self> {
        SizeClass::of(size).map(Self::of_class)
    }

    fn of_class(class: SizeClass) -> Self {
        Self {
            class,
            depot: Depot::of(class),
            credit: 0,
            magazine: Vec::new(),
            room: 0,
            asked: false,
            not_sync: PhantomData,
        }
    }

    /// Reserves a stack of at least `size` bytes (to within the 16 cache lines of [`Stack::size`]).
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `size` is above [`MAX_STACK_SIZE`](super::MAX_STACK_SIZE). `OutOfMemory`
    /// if address space cannot be had, or with guards by `mprotect` if the limit of mappings is
    /// reached; the text says what was tried and what to do. Other kinds if the kernel refuses the
    /// guard mechanism for another reason.
    #[inline]
    pub fn reserve(&mut self, size: usize) -> io::Result<Permit> {
        let class = SizeClass::of(size)?;
        if class != self.class || self.credit == 0 {
            return self.reserve_from_depot(class);
        }
        self.credit -= 1;
        Ok(Permit(class))
    }

    /// Takes a stack of the class of `permit`: the one that was last put here, if there is one.
    ///
    /// At most one stack is taken on a permit at a time, and put back before the permit is
    /// released; else the guarantee of the [module](super) is lost (and only that).
    ///
    /// # Errors
    ///
    /// The kernel refuses memory for the page tables of a guard page. Nothing has been taken then.
    #[inline]
    pub fn take(&mut self, permit: &Permit) -> io::Result<Stack> {
        let class = permit.0;
        if class == self.class
            && let Some(slot) = self.magazine.pop()
        {
            return Ok(Stack { slot, class });
        }
        self.take_from_depot(class)
    }

    /// Gives a stack back. It is the first to be taken again.
    #[inline]
    pub fn put(&mut self, stack: Stack) {
        if stack.class == self.class && self.magazine.len() < self.room {
            self.magazine.push(stack.into_slot());
        } else {
            self.put_with_depot(stack);
        }
    }

    /// Gives a permit back, after the stack that was taken on it.
    #[inline]
    pub fn release(&mut self, permit: Permit) {
        if permit.0 != self.class {
            return drop(permit);
        }
        mem::forget(permit);
        self.credit += 1;
        if self.credit > self.depot.most_credit() {
            self.shed_credit();
        }
    }

    /// Whether the cache holds nothing back: neither permits nor stacks, nor the right to keep
    /// stacks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.credit == 0 && self.room == 0
    }

    /// Gives all that the cache holds to the process. It fills again as it is used.
    pub fn clear(&mut self) {
        // The stacks first: see the module on the order.
        if !self.magazine.is_empty() {
            self.depot.put_all(self.magazine.drain(..));
        }
        let promised = mem::take(&mut self.credit) + mem::take(&mut self.room);
        if promised > 0 {
            self.depot.withdraw(promised);
        }
        self.asked = false;
    }

    /// As [`clear`](Self::clear), but only while stacks are scarce. For a worker that is about to
    /// sleep; cheap.
    #[inline]
    pub fn clear_if_scarce(&mut self) {
        if self.depot.is_scarce() {
            self.clear();
        }
    }

    /// Gives the colder half of its free stacks to the process, where they can be
    /// [trimmed](super::trim_cold).
    pub fn shed_colder_half(&mut self) {
        let colder = self.magazine.len() / 2;
        if colder > 0 {
            self.depot.put_all(self.magazine.drain(..colder));
        }
    }

    #[cold]
    fn reserve_from_depot(&mut self, class: SizeClass) -> io::Result<Permit> {
        if class != self.class {
            Depot::of(class).promise(1)?;
            return Ok(Permit(class));
        }
        let batch = class.batch();
        if !self.depot.is_scarce() && self.depot.promise(batch).is_ok() {
            self.credit += batch - 1;
            return Ok(Permit(class));
        }
        // Near the limit a single one may be left.
        if let Err(e) = self.depot.promise(1) {
            // Or what this cache withholds.
            self.clear();
            self.depot.try_promise(1).map_err(|_| e)?;
        }
        Ok(Permit(class))
    }

    #[cold]
    fn take_from_depot(&mut self, class: SizeClass) -> io::Result<Stack> {
        let depot = Depot::of(class);
        if class == self.class && self.room > 0 {
            depot.take_guarded(self.room.div_ceil(2), &mut self.magazine);
            if let Some(slot) = self.magazine.pop() {
                return Ok(Stack { slot, class });
            }
        }
        depot.take().map(|slot| Stack { slot, class })
    }

    /// The class is another one, or the magazine is full, or it has no room yet.
    #[cold]
    fn put_with_depot(&mut self, stack: Stack) {
        if stack.class != self.class || !self.has_room() {
            return drop(stack);
        }
        if self.magazine.len() == self.room {
            // The colder half: it was put first.
            let colder = self.room.div_ceil(2);
            self.depot.put_all(self.magazine.drain(..colder));
        }
        self.magazine.push(stack.into_slot());
    }

    /// Sees to it that the magazine may be used at all.
    fn has_room(&mut self) -> bool {
        if self.room > 0 {
            return true;
        }
        let (depot, room) = (self.depot, self.class.batch());
        if depot.is_scarce() {
            return false;
        }
        let promised = match mem::replace(&mut self.asked, true) {
            false => depot.promise(room).is_ok(),
            // It could not grow before; permits may have been given back since.
            true => depot.try_promise(room).is_ok(),
        };
        if promised {
            self.magazine.reserve_exact(room);
            self.room = room;
        }
        promised
    }

    #[cold]
    fn shed_credit(&mut self) {
        if self.depot.is_scarce() {
            return self.clear();
        }
        let batch = self.class.batch().min(self.credit);
        self.credit -= batch;
        self.depot.withdraw(batch);
    }
}

impl Default for StackCache {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for StackCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackCache")
            .field("stack_size", &self.class.bytes())
            .field("credit", &self.credit)
            .field("stacks", &self.magazine.len())
            .finish()
    }
}
