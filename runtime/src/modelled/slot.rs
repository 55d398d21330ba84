//! Objects of loom's that are made late.
//!
//! A constructor that is `const` cannot make an object of loom's. So an atomic of a user's begins with a
//! slot and its initial value, and takes an object when it is first used in an execution.
//!
//! # As if it had always been there
//!
//! loom wants the making of an object to happen before every use of it, by whatever thread, and reports
//! a race otherwise. Which thread is the first to use one depends on the interleaving, and says nothing
//! about who made it. So objects are not made then but taken from a *pool*, which the main thread of
//! the execution fills before anything else. All of them begin with 0, and the slot keeps what has to
//! be added. How many an execution takes is only known afterwards: if there are too few, the search
//! is given up and begins anew with more. As long as the main thread is the only one, it makes them
//! itself when they are needed, with their value.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use super::explorer;
use super::statics;

/// Where an object's owner keeps it.
pub(crate) struct Slot<A> {
    magic: u64,
    /// The execution to which the other two belong. None of the three is shared by OS threads: models
    /// run one at a time, and the caller of a model waits for it.
    execution: AtomicU64,
    place: AtomicPtr<A>,
    /// What is to be added to the object's value.
    offset: AtomicU64,
}

/// What a slot holds.
pub(crate) trait Pooled: Sized + 'static {
    fn with_value(value: u64) -> Self;
    fn pool(pools: &Pools) -> &RefCell<Pool<Self>>;
}

/// Objects of one execution, all of which live until the next one begins.
pub(crate) struct Pool<A> {
    /// In boxes: slots point to them.
    made: Vec<Box<A>>,
    taken: usize,
    /// How many to make at the beginning.
    wanted: usize,
}

impl<A: Pooled> Pool<A> {
    const fn new(wanted: usize) -> Self {
        Self { made: Vec::new(), taken: 0, wanted }
    }

    fn begin(&mut self) {
        self.made.clear();
        self.made.extend((0..self.wanted).map(|_| Box::new(A::with_value(0))));
        self.taken = 0;
    }

    /// An object with 0, or none if there are too few.
    fn take(&mut self) -> Option<*mut A> {
        let object = self.made.get_mut(self.taken)?;
        self.taken += 1;
        Some(&raw mut **object)
    }

    /// One that the only thread makes for itself.
    fn make(&mut self, value: u64) -> *mut A {
        let mut object = Box::new(A::with_value(value));
        let place = &raw mut *object;
        // In front, where those are that were taken.
        self.made.insert(self.taken, object);
        self.taken += 1;
        place
    }
}

macro_rules! pools {
    ($($field:ident: $atomic:ident $value:ident $wanted:literal,)*) => {
        /// The pools of a model.
        pub(crate) struct Pools {
            $($field: RefCell<Pool<loom::sync::atomic::$atomic>>,)*
        }

        /// How many objects of each kind an execution needs.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct Sizes { $($field: usize,)* }

        impl Sizes {
            pub(crate) const fn new() -> Self {
                Self { $($field: $wanted,)* }
            }
        }

        impl Pools {
            pub(crate) fn new(sizes: Sizes) -> Self {
                Self { $($field: RefCell::new(Pool::new(sizes.$field)),)* }
            }

            /// Fills them. By the main thread, before it does anything else.
            pub(crate) fn begin(&self) {
                $(self.$field.borrow_mut().begin();)*
            }

            /// What to begin anew with: more of what has run out.
            pub(crate) fn larger(&self) -> Sizes {
                Sizes { $($field: {
                    let pool = self.$field.borrow();
                    match pool.taken == pool.made.len() {
                        true => pool.wanted + pool.wanted / 2 + 2,
                        false => pool.wanted,
                    }
                },)* }
            }
        }

        $(impl Pooled for loom::sync::atomic::$atomic {
            fn with_value(value: u64) -> Self {
                Self::new(value as $value)
            }

            fn pool(pools: &Pools) -> &RefCell<Pool<Self>> {
                &pools.$field
            }
        })*
    };
}

pools! {
    bytes: AtomicU8 u8 0,
    halves: AtomicU16 u16 0,
    words: AtomicU32 u32 4,
    doubles: AtomicU64 u64 0,
    sizes: AtomicUsize usize 2,
}

impl<A: Pooled> Slot<A> {
    pub(crate) const fn new() -> Self {
        Self {
            magic: statics::MAGIC,
            execution: AtomicU64::new(0),
            place: AtomicPtr::new(std::ptr::null_mut()),
            offset: AtomicU64::new(0),
        }
    }

    /// The object of this execution, and what is to be added to its value. A new one has the value
    /// `initial`.
    #[inline]
    #[track_caller]
    pub(crate) fn get(&self, initial: u64) -> (&A, u64) {
        explorer::sleep_if_dead();
        if self.execution.load(Relaxed) != explorer::execution() {
            self.fill(initial);
        }
        // SAFETY: filled in this execution, and what is in a pool lives until the next one begins. No
        // thread of this one is left then.
        (unsafe { &*self.place.load(Relaxed) }, self.offset.load(Relaxed))
    }

    #[cold]
    #[track_caller]
    fn fill(&self, initial: u64) {
        let execution = explorer::execution();
        assert!(execution != 0, "{OUTSIDE}");
        if self.execution.load(Relaxed) != 0 && !statics::is_static(&raw const self.magic) {
            panic!("{SURVIVOR}");
        }
        let (place, offset) = explorer::with_pools(|pools, alone| {
            let mut pool = A::pool(pools).borrow_mut();
            match alone {
                true => Some((pool.make(initial), 0)),
                false => pool.take().map(|object| (object, initial)),
            }
        })
        .unwrap_or_else(|| explorer::begin_anew());
        self.place.store(place, Relaxed);
        self.offset.store(offset, Relaxed);
        self.execution.store(execution, Relaxed);
    }

    /// The object, if the slot was used in this execution, for its one owner.
    pub(crate) fn filled_mut(&mut self) -> Option<&mut A> {
        // SAFETY: as in `get`; the slot is the only way to the object, and the caller's alone.
        self.is_filled().then(|| unsafe { &mut *self.place.load(Relaxed) })
    }

    /// Forgets the object: the next use takes another one.
    pub(crate) fn empty(&mut self) {
        *self.execution.get_mut() = 0;
    }

    /// Whether it was used in this execution.
    pub(crate) fn is_filled(&self) -> bool {
        let execution = self.execution.load(Relaxed);
        execution != 0 && execution == explorer::execution()
    }
}

impl<A> fmt::Debug for Slot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

const OUTSIDE: &str = "this program was built with --cfg bine_loom, under which the atomics, locks, \
    channels and threads of bine exist inside of `bine::model` alone";

const SURVIVOR: &str = "an atomic, or a lock, of bine outlives the execution of the model that used it: make \
    it inside of the closure of `bine::model`, or in a `static` with a constant initial value (to collect \
    something over all executions, use std's own types)";
