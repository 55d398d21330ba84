//! A message whose type is known only to those who send it and who receive it.
#![allow(unsafe_code)]

use std::mem::{MaybeUninit, align_of, size_of};

/// Words that a message may have to travel without an allocation.
const WORDS: usize = 4;

/// A message that is on its way to a select. It is unpacked once, by a thread that knows its type;
/// one that is just dropped leaks it, since its type, and hence how to drop it, is not known here.
pub(crate) struct Parcel {
    /// # Invariant
    /// Holds a `T`, if that [fits](Self::fits), or a pointer from a `Box<T>`. Which `T` is known to
    /// whoever owns the parcel.
    words: [MaybeUninit<usize>; WORDS],
}

impl Parcel {
    const fn fits<T>() -> bool {
        size_of::<T>() <= size_of::<[usize; WORDS]>() && align_of::<T>() <= align_of::<usize>()
    }

    pub(crate) fn new<T>(message: T) -> Self {
        let mut parcel = Self { words: [MaybeUninit::uninit(); WORDS] };
        let words = parcel.words.as_mut_ptr();
        // SAFETY: the words are ours, and have the size and the alignment for what is written.
        unsafe {
            match Self::fits::<T>() {
                true => words.cast::<T>().write(message),
                false => words.cast::<*mut T>().write(Box::into_raw(Box::new(message))),
            }
        }
        parcel
    }

    /// Unpacks.
    ///
    /// # Safety
    /// - The parcel was made from a `T`.
    pub(crate) unsafe fn open<T>(self) -> T {
        let words = self.words.as_ptr();
        // SAFETY: the caller's promise with the invariant. The parcel is gone after this.
        unsafe {
            match Self::fits::<T>() {
                true => words.cast::<T>().read(),
                false => *Box::from_raw(words.cast::<*mut T>().read()),
            }
        }
    }
}

#[cfg(all(test, not(bine_loom)))]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[repr(align(64))]
    struct Aligned(u8);

    #[test]
    fn messages_of_all_sizes_come_out_as_they_went_in() {
        // SAFETY: each is opened as what it was made from.
        unsafe {
            Parcel::new(()).open::<()>();
            assert_eq!(Parcel::new(7u8).open::<u8>(), 7);
            assert_eq!(Parcel::new([1usize, 2, 3, 4]).open::<[usize; 4]>(), [1, 2, 3, 4]);
            assert_eq!(Parcel::new([9usize; 5]).open::<[usize; 5]>(), [9; 5]);
            assert_eq!(Parcel::new(Aligned(3)).open::<Aligned>().0, 3);
            assert_eq!(Parcel::new([5u8; 1000]).open::<[u8; 1000]>(), [5; 1000]);
        }
    }

    #[test]
    fn a_message_is_dropped_by_its_receiver() {
        let message = Rc::new(());
        let small = Parcel::new(message.clone());
        let large = Parcel::new((message.clone(), [0usize; 8]));
        assert_eq!(Rc::strong_count(&message), 3);
        // SAFETY: opened as what they were made from.
        unsafe {
            drop(small.open::<Rc<()>>());
            drop(large.open::<(Rc<()>, [usize; 8])>());
        }
        assert_eq!(Rc::strong_count(&message), 1);
    }
}
