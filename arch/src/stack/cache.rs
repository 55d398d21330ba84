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

/// The most stacks that a magazine holds, and the number of permits that are fetched at once.
const MOST: usize = 64;
/// Neither exceeds this many bytes of address space, as long as it is one stack.
const MOST_BYTES: usize = 16 << 20;

/// A worker's own supply of stacks and permits of one size class, used without locks.
///
/// All operations take any size class; those of the class of the cache are cheap (a few
/// instructions, but for one call in dozens that goes to the depot), the others go to the depot
/// each time.
///
/// What it holds goes back to the process when it is dropped.
///
/// # Invariant
///
/// `credit + room` of the depot's promises belong to this cache, and `magazine.len() <= room`.
pub struct StackCache {
    class: SizeClass,
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
        if self.credit > 2 * self.batch() {
            self.shed_credit();
        }
    }

    /// How many permits, or stacks, the depot is asked for at once.
    #[inline]
    fn batch(&self) -> usize {
        (MOST_BYTES / self.class.bytes()).clamp(1, MOST)
    }

    #[cold]
    fn reserve_from_depot(&mut self, class: SizeClass) -> io::Result<Permit> {
        let depot = Depot::of(class);
        if class == self.class && depot.promise(self.batch()).is_ok() {
            self.credit += self.batch() - 1;
        } else {
            // Near the limit a single one may be left.
            depot.promise(1)?;
        }
        Ok(Permit(class))
    }

    #[cold]
    fn take_from_depot(&mut self, class: SizeClass) -> io::Result<Stack> {
        let depot = Depot::of(class);
        if class == self.class && self.room > 0 {
            depot.take_recycled(self.room.div_ceil(2), &mut self.magazine);
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
            Depot::of(self.class).put_all(self.magazine.drain(..colder));
        }
        self.magazine.push(stack.into_slot());
    }

    /// Sees to it that the magazine may be used at all.
    fn has_room(&mut self) -> bool {
        if self.room > 0 {
            return true;
        }
        let (depot, room) = (Depot::of(self.class), self.batch());
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
        let batch = self.batch();
        self.credit -= batch;
        Depot::of(self.class).withdraw(batch);
    }
}

impl Default for StackCache {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        // The stacks first: see the module on the order.
        let depot = Depot::of(self.class);
        depot.put_all(self.magazine.drain(..));
        depot.withdraw(self.credit + self.room);
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
