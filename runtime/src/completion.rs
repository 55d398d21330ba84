//! How a green thread's end meets the one who joins it.
//!
//! ```text
//!   RUNNING --register--> WAITING --complete--> DONE     (complete returns the joiner to wake)
//!   RUNNING --complete--> DONE                           (the joiner finds the result)
//!   RUNNING --detach----> DETACHED --complete--> DONE    (the thread itself drops the result)
//!   WAITING --take_back-> RUNNING                        (the joiner registers anew, or not at all)
//!   WAITING --detach----> DETACHED                       (a joiner that gave up; as above)
//!   DONE    --detach----> DETACHED                       (the detacher drops the result)
//! ```
//!
//! The result belongs to the thread before `complete`, and then to whoever holds the join handle,
//! or to the thread again if that handle is gone.

use crate::primitive::atomic::{AtomicU32, Ordering};
use crate::primitive::cell::UnsafeCell;

const RUNNING: u32 = 0;
const WAITING: u32 = 1;
const DONE: u32 = 2;
const DETACHED: u32 = 3;

/// What the thread that has ended must do.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Completed<W> {
    /// The result is the joiner's; wake it if there is one that waits.
    Joinable(Option<W>),
    /// Nobody will join: the result is still the thread's, to drop.
    Detached,
}

/// The word and the joiner; see the module's documentation.
#[derive(Debug)]
pub struct Completion<W> {
    state: AtomicU32,
    /// Invariant: the joiner's in RUNNING, and in DONE unless that was reached from WAITING, where it
    /// belongs to whoever leaves that state, by `complete` or by `take_back`.
    joiner: UnsafeCell<Option<W>>,
}

// SAFETY: by the invariant on `joiner`, at most one thread has access to it at a time, and the
// state hands it over.
unsafe impl<W: Send> Sync for Completion<W> {}

impl<W> Default for Completion<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W> Completion<W> {
    /// Of a thread that has not ended.
    pub fn new() -> Self {
        Self { state: AtomicU32::new(RUNNING), joiner: UnsafeCell::new(None) }
    }

    /// Whether the thread has ended; its result is then visible to the caller.
    #[inline]
    pub fn is_done(&self) -> bool {
        // Acquire pairs with the Release of `complete`.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Whether nobody will take the result. For the thread, before it completes.
    pub fn is_detached(&self) -> bool {
        // Acquire pairs with the Release of `detach`.
        self.state.load(Ordering::Acquire) == DETACHED
    }

    /// The joiner asks to be woken. False if the thread has ended already.
    ///
    /// # Safety
    ///
    /// There is one joiner. It is not registered, and has not detached.
    pub unsafe fn register(&self, joiner: W) -> bool {
        // SAFETY: in RUNNING the cell belongs to the one joiner; in DONE nobody reads it. It is empty:
        // whoever takes a joiner back, or out, leaves none. So nothing has to be dropped.
        self.joiner.with_mut(|cell| unsafe {
            debug_assert!((*cell).is_none());
            cell.write(Some(joiner));
        });
        // Release pairs with the Acquire of `complete`, which reads the joiner. Acquire on failure
        // pairs with its Release, as in `is_done`.
        let exchange =
            self.state.compare_exchange(RUNNING, WAITING, Ordering::Release, Ordering::Acquire);
        if exchange.is_err() {
            // Not kept until the thread's cell goes: that may be anywhere, and what is dropped with
            // a waker is somebody's code.
            // SAFETY: in DONE the cell is the joiner's, as it was.
            drop(self.joiner.with_mut(|cell| unsafe { (*cell).take() }));
        }
        exchange.is_ok()
    }

    /// The joiner takes back what it registered, if it did and the thread has not ended since.
    ///
    /// # Safety
    ///
    /// By the one joiner, which has not detached.
    pub unsafe fn take_back(&self) -> Option<W> {
        // Relaxed: the joiner's own step is the only one to WAITING.
        if self.state.load(Ordering::Relaxed) != WAITING {
            return None;
        }
        // Relaxed: what we read we have written; the completer that comes later finds what the next
        // `register` releases.
        let relaxed = Ordering::Relaxed;
        self.state.compare_exchange(WAITING, RUNNING, relaxed, relaxed).ok()?;
        // SAFETY: out of WAITING the cell is the joiner's again.
        self.joiner.with_mut(|cell| unsafe { (*cell).take() })
    }

    /// The thread has ended and its result is in place. Unless `Detached` is returned, the result
    /// and the thread's memory may be gone when this returns: the caller needs a reference of its
    /// own to the latter.
    ///
    /// # Safety
    ///
    /// Once, by the thread that has ended.
    pub unsafe fn complete(&self) -> Completed<W> {
        // Release publishes the result to `is_done`, `register` and `detach`; Acquire pairs with
        // the Release of `register`.
        match self.state.swap(DONE, Ordering::AcqRel) {
            RUNNING => Completed::Joinable(None),
            // SAFETY: the joiner wrote the cell before WAITING and does not touch it any more.
            WAITING => Completed::Joinable(self.joiner.with_mut(|cell| unsafe { (*cell).take() })),
            DETACHED => Completed::Detached,
            _ => unreachable!("a green thread ends once"),
        }
    }

    /// The join handle is dropped. True if the thread has ended, and its result is thus the
    /// caller's to drop.
    #[must_use = "the result is the caller's to drop"]
    pub fn detach(&self) -> bool {
        // Acquire pairs with the Release of `complete`.
        self.state.swap(DETACHED, Ordering::AcqRel) == DONE
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_joiner_is_handed_to_the_completer() {
        let completion = Completion::new();
        assert!(!completion.is_done());
        // SAFETY: each once.
        unsafe {
            assert!(completion.register(7));
            assert_eq!(completion.complete(), Completed::Joinable(Some(7)));
        }
        assert!(completion.is_done());
    }

    #[test]
    fn a_late_joiner_finds_the_result() {
        let completion = Completion::new();
        // SAFETY: each once.
        unsafe {
            assert_eq!(completion.complete(), Completed::Joinable(None));
            assert!(!completion.register(7));
        }
    }

    #[test]
    fn a_late_joiner_is_not_kept() {
        let (completion, joiner) = (Completion::new(), std::rc::Rc::new(()));
        // SAFETY: each once.
        unsafe {
            assert_eq!(completion.complete(), Completed::Joinable(None));
            assert!(!completion.register(joiner.clone()));
        }
        assert_eq!(std::rc::Rc::strong_count(&joiner), 1);
    }

    #[test]
    fn exactly_one_side_drops_a_detached_result() {
        let first = Completion::<u8>::new();
        assert!(!first.detach());
        // SAFETY: once.
        assert_eq!(unsafe { first.complete() }, Completed::Detached);
        let second = Completion::<u8>::new();
        // SAFETY: once.
        assert_eq!(unsafe { second.complete() }, Completed::Joinable(None));
        assert!(second.detach());
    }

    #[test]
    fn a_joiner_replaces_what_it_registered() {
        let completion = Completion::new();
        // SAFETY: one joiner; each once, or after it was taken back.
        unsafe {
            assert_eq!(completion.take_back(), None);
            assert!(completion.register(7));
            assert_eq!(completion.take_back(), Some(7));
            assert_eq!(completion.take_back(), None);
            assert!(completion.register(8));
            assert_eq!(completion.complete(), Completed::Joinable(Some(8)));
            assert_eq!(completion.take_back(), None);
        }
        assert!(completion.is_done());
    }

    #[test]
    fn a_joiner_that_gives_up_leaves_the_result_to_the_thread() {
        let completion = Completion::new();
        // SAFETY: each once.
        unsafe {
            assert!(completion.register(7));
            assert!(!completion.detach());
            assert_eq!(completion.complete(), Completed::Detached);
        }
    }
}
