//! Atomics with the interface of `std::sync::atomic`, `const` constructors included, on loom's.
//!
//! What is not there: `as_ptr` and `from_ptr`, since the value is not in place, and what is unstable.
//!
//! The object's value and the atomic's differ by the slot's offset. What loom can do in one step with such
//! a value is one step here; the rest (a `fetch_and` of an atomic that did not begin with 0, say)
//! is a loop around `compare_exchange`, which is longer to explore and has the same results.

use std::fmt;

pub use loom::sync::atomic::fence;
pub use std::sync::atomic::{Ordering, compiler_fence};

use loom::sync::atomic as modelled;

use super::slot::Slot;

macro_rules! integers {
    ($($(#[$about:meta])* $name:ident: $value:ident on $object:ident $unsigned:ident;)*) => { $(
        $(#[$about])*
        pub struct $name {
            initial: $value,
            slot: Slot<modelled::$object>,
        }

        impl $name {
            /// An atomic that holds `value`.
            #[must_use]
            pub const fn new(value: $value) -> Self {
                Self { initial: value, slot: Slot::new() }
            }

            #[track_caller]
            fn object(&self) -> (&modelled::$object, $unsigned) {
                let (object, offset) = self.slot.get(self.initial as $unsigned as u64);
                (object, offset as $unsigned)
            }

            /// The value now.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                let (object, offset) = self.object();
                object.load(order).wrapping_add(offset) as $value
            }

            /// Writes `value`.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                let (object, offset) = self.object();
                object.store((value as $unsigned).wrapping_sub(offset), order);
            }

            /// Writes `value` and returns the one before.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                let (object, offset) = self.object();
                let before = object.swap((value as $unsigned).wrapping_sub(offset), order);
                before.wrapping_add(offset) as $value
            }

            /// Writes `new` if the value is `current`.
            ///
            /// # Errors
            ///
            /// With the value if it is another one.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let (object, offset) = self.object();
                let shifted = |value: $value| (value as $unsigned).wrapping_sub(offset);
                let back = |value: $unsigned| value.wrapping_add(offset) as $value;
                object
                    .compare_exchange(shifted(current), shifted(new), success, failure)
                    .map(back)
                    .map_err(back)
            }

            /// As [`compare_exchange`](Self::compare_exchange): no model has one that fails for no
            /// reason.
            ///
            /// # Errors
            ///
            /// As there.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            /// Adds, wrapping around, and returns the value before.
            #[track_caller]
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                let (object, offset) = self.object();
                object.fetch_add(value as $unsigned, order).wrapping_add(offset) as $value
            }

            /// Subtracts, wrapping around, and returns the value before.
            #[track_caller]
            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                let (object, offset) = self.object();
                object.fetch_sub(value as $unsigned, order).wrapping_add(offset) as $value
            }

            /// Bitwise "and"; returns the value before.
            #[track_caller]
            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                match self.object() {
                    (object, 0) => object.fetch_and(value as $unsigned, order) as $value,
                    _ => self.change(order, |now| now & value),
                }
            }

            /// Bitwise "nand"; returns the value before.
            #[track_caller]
            pub fn fetch_nand(&self, value: $value, order: Ordering) -> $value {
                match self.object() {
                    (object, 0) => object.fetch_nand(value as $unsigned, order) as $value,
                    _ => self.change(order, |now| !(now & value)),
                }
            }

            /// Bitwise "or"; returns the value before.
            #[track_caller]
            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                match self.object() {
                    (object, 0) => object.fetch_or(value as $unsigned, order) as $value,
                    _ => self.change(order, |now| now | value),
                }
            }

            /// Bitwise "xor"; returns the value before.
            #[track_caller]
            pub fn fetch_xor(&self, value: $value, order: Ordering) -> $value {
                match self.object() {
                    (object, 0) => object.fetch_xor(value as $unsigned, order) as $value,
                    _ => self.change(order, |now| now ^ value),
                }
            }

            /// Writes the greater of the two; returns the value before.
            #[track_caller]
            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                match self.object() {
                    // loom's order is that of the unsigned type.
                    (object, 0) if $value::MIN == 0 => {
                        object.fetch_max(value as $unsigned, order) as $value
                    }
                    _ => self.change(order, |now| now.max(value)),
                }
            }

            /// Writes the lesser of the two; returns the value before.
            #[track_caller]
            pub fn fetch_min(&self, value: $value, order: Ordering) -> $value {
                match self.object() {
                    // loom's order is that of the unsigned type.
                    (object, 0) if $value::MIN == 0 => {
                        object.fetch_min(value as $unsigned, order) as $value
                    }
                    _ => self.change(order, |now| now.min(value)),
                }
            }

            /// One step, by way of several.
            #[track_caller]
            fn change(&self, order: Ordering, f: impl Fn($value) -> $value) -> $value {
                let mut now = self.load(Ordering::Relaxed);
                while let Err(other) = self.compare_exchange(now, f(now), order, Ordering::Relaxed) {
                    now = other;
                }
                now
            }

            /// Writes what `f` makes of the value, until it gives none or nobody has come between.
            ///
            /// # Errors
            ///
            /// With the value for which `f` gave none.
            #[track_caller]
            pub fn fetch_update<F>(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                f: F,
            ) -> Result<$value, $value>
            where
                F: FnMut($value) -> Option<$value>,
            {
                self.try_update(set_order, fetch_order, f)
            }

            /// As [`fetch_update`](Self::fetch_update).
            ///
            /// # Errors
            ///
            /// As there.
            #[track_caller]
            pub fn try_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut now = self.load(fetch_order);
                while let Some(next) = f(now) {
                    match self.compare_exchange(now, next, set_order, fetch_order) {
                        Ok(before) => return Ok(before),
                        Err(other) => now = other,
                    }
                }
                Err(now)
            }

            /// Writes what `f` makes of the value; returns the one before.
            #[track_caller]
            pub fn update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut f: impl FnMut($value) -> $value,
            ) -> $value {
                match self.try_update(set_order, fetch_order, |now| Some(f(now))) {
                    Ok(before) | Err(before) => before,
                }
            }

            /// The value, for its one owner.
            pub fn get_mut(&mut self) -> &mut $value {
                if self.slot.is_filled() {
                    // A step that changes nothing reads the last value there is, also where loom has
                    // not seen what makes this thread the owner: a count of std's, say.
                    self.initial = self.fetch_add(0, Ordering::AcqRel);
                    self.slot.empty();
                }
                &mut self.initial
            }

            /// The value.
            pub fn into_inner(mut self) -> $value {
                *self.get_mut()
            }

            /// loom fails the model if an access of another thread is not before this.
            #[allow(dead_code, reason = "of one type alone")]
            pub(super) fn end(&mut self) {
                if let Some(object) = self.slot.filled_mut() {
                    object.with_mut(|_| ());
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl From<$value> for $name {
            fn from(value: $value) -> Self {
                Self::new(value)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.load(Ordering::Relaxed), f)
            }
        }
    )* };
}

integers! {
    /// As [`std::sync::atomic::AtomicU8`].
    AtomicU8: u8 on AtomicU8 u8;
    /// As [`std::sync::atomic::AtomicU16`].
    AtomicU16: u16 on AtomicU16 u16;
    /// As [`std::sync::atomic::AtomicU32`].
    AtomicU32: u32 on AtomicU32 u32;
    /// As [`std::sync::atomic::AtomicU64`].
    AtomicU64: u64 on AtomicU64 u64;
    /// As [`std::sync::atomic::AtomicUsize`].
    AtomicUsize: usize on AtomicUsize usize;
    /// As [`std::sync::atomic::AtomicI8`].
    AtomicI8: i8 on AtomicU8 u8;
    /// As [`std::sync::atomic::AtomicI16`].
    AtomicI16: i16 on AtomicU16 u16;
    /// As [`std::sync::atomic::AtomicI32`].
    AtomicI32: i32 on AtomicU32 u32;
    /// As [`std::sync::atomic::AtomicI64`].
    AtomicI64: i64 on AtomicU64 u64;
    /// As [`std::sync::atomic::AtomicIsize`].
    AtomicIsize: isize on AtomicUsize usize;
}

/// As [`std::sync::atomic::AtomicBool`].
pub struct AtomicBool {
    /// The initial value, and 0 or 1 in the object.
    initial: bool,
    slot: Slot<modelled::AtomicU8>,
}

impl AtomicBool {
    /// An atomic that holds `value`.
    #[must_use]
    pub const fn new(value: bool) -> Self {
        Self { initial: value, slot: Slot::new() }
    }

    /// The object, and whether it holds the opposite.
    #[track_caller]
    fn object(&self) -> (&modelled::AtomicU8, bool) {
        // What the slot would add, modulo 2, is a "not".
        let (object, offset) = self.slot.get(self.initial.into());
        (object, offset != 0)
    }

    /// The value now.
    #[track_caller]
    pub fn load(&self, order: Ordering) -> bool {
        let (object, not) = self.object();
        (object.load(order) != 0) ^ not
    }

    /// Writes `value`.
    #[track_caller]
    pub fn store(&self, value: bool, order: Ordering) {
        let (object, not) = self.object();
        object.store((value ^ not).into(), order);
    }

    /// Writes `value` and returns the one before.
    #[track_caller]
    pub fn swap(&self, value: bool, order: Ordering) -> bool {
        let (object, not) = self.object();
        (object.swap((value ^ not).into(), order) != 0) ^ not
    }

    /// Writes `new` if the value is `current`.
    ///
    /// # Errors
    ///
    /// With the value if it is another one.
    #[track_caller]
    pub fn compare_exchange(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        let (object, not) = self.object();
        let back = |value: u8| (value != 0) ^ not;
        object
            .compare_exchange((current ^ not).into(), (new ^ not).into(), success, failure)
            .map(back)
            .map_err(back)
    }

    /// As [`compare_exchange`](Self::compare_exchange).
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn compare_exchange_weak(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        self.compare_exchange(current, new, success, failure)
    }

    /// Logical "and"; returns the value before.
    #[track_caller]
    pub fn fetch_and(&self, value: bool, order: Ordering) -> bool {
        match (self.object(), value) {
            ((object, false), _) => object.fetch_and(value.into(), order) != 0,
            ((object, true), false) => object.fetch_or(1, order) == 0,
            ((object, true), true) => object.fetch_or(0, order) == 0,
        }
    }

    /// Logical "nand"; returns the value before.
    #[track_caller]
    pub fn fetch_nand(&self, value: bool, order: Ordering) -> bool {
        if value { self.fetch_xor(true, order) } else { self.swap(true, order) }
    }

    /// Logical "or"; returns the value before.
    #[track_caller]
    pub fn fetch_or(&self, value: bool, order: Ordering) -> bool {
        match (self.object(), value) {
            ((object, false), _) => object.fetch_or(value.into(), order) != 0,
            ((object, true), true) => object.fetch_and(0, order) == 0,
            ((object, true), false) => object.fetch_and(1, order) == 0,
        }
    }

    /// Logical "xor"; returns the value before.
    #[track_caller]
    pub fn fetch_xor(&self, value: bool, order: Ordering) -> bool {
        let (object, not) = self.object();
        (object.fetch_xor(value.into(), order) != 0) ^ not
    }

    /// Logical "not"; returns the value before.
    #[track_caller]
    pub fn fetch_not(&self, order: Ordering) -> bool {
        self.fetch_xor(true, order)
    }

    /// Writes what `f` makes of the value, until it gives none or nobody has come between.
    ///
    /// # Errors
    ///
    /// With the value for which `f` gave none.
    #[track_caller]
    pub fn fetch_update<F>(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut f: F,
    ) -> Result<bool, bool>
    where
        F: FnMut(bool) -> Option<bool>,
    {
        let mut now = self.load(fetch_order);
        while let Some(next) = f(now) {
            match self.compare_exchange(now, next, set_order, fetch_order) {
                Ok(before) => return Ok(before),
                Err(other) => now = other,
            }
        }
        Err(now)
    }

    /// The value, for its one owner.
    pub fn get_mut(&mut self) -> &mut bool {
        if self.slot.is_filled() {
            // As the others.
            self.initial = self.fetch_xor(false, Ordering::AcqRel);
            self.slot.empty();
        }
        &mut self.initial
    }

    /// The value.
    #[must_use]
    pub fn into_inner(mut self) -> bool {
        *self.get_mut()
    }
}

impl Default for AtomicBool {
    fn default() -> Self {
        Self::new(false)
    }
}

impl From<bool> for AtomicBool {
    fn from(value: bool) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for AtomicBool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.load(Ordering::Relaxed), f)
    }
}

/// As [`std::sync::atomic::AtomicPtr`].
pub struct AtomicPtr<T> {
    initial: *mut T,
    /// Addresses.
    slot: Slot<modelled::AtomicUsize>,
}

// SAFETY: an atomic pointer may be used by any thread, as std's.
unsafe impl<T> Send for AtomicPtr<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for AtomicPtr<T> {}

impl<T> AtomicPtr<T> {
    /// An atomic that holds `pointer`.
    #[must_use]
    pub const fn new(pointer: *mut T) -> Self {
        Self { initial: pointer, slot: Slot::new() }
    }

    #[track_caller]
    fn object(&self) -> (&modelled::AtomicUsize, usize) {
        let (object, offset) = self.slot.get(self.initial.expose_provenance() as u64);
        (object, offset as usize)
    }

    /// The pointer now.
    #[track_caller]
    pub fn load(&self, order: Ordering) -> *mut T {
        let (object, offset) = self.object();
        std::ptr::with_exposed_provenance_mut(object.load(order).wrapping_add(offset))
    }

    /// Writes `pointer`.
    #[track_caller]
    pub fn store(&self, pointer: *mut T, order: Ordering) {
        let (object, offset) = self.object();
        object.store(pointer.expose_provenance().wrapping_sub(offset), order);
    }

    /// Writes `pointer` and returns the one before.
    #[track_caller]
    pub fn swap(&self, pointer: *mut T, order: Ordering) -> *mut T {
        let (object, offset) = self.object();
        let before = object.swap(pointer.expose_provenance().wrapping_sub(offset), order);
        std::ptr::with_exposed_provenance_mut(before.wrapping_add(offset))
    }

    /// Writes `new` if the pointer is `current`.
    ///
    /// # Errors
    ///
    /// With the pointer if it is another one.
    #[track_caller]
    pub fn compare_exchange(
        &self,
        current: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
        let (object, offset) = self.object();
        let shifted = |pointer: *mut T| pointer.expose_provenance().wrapping_sub(offset);
        let back = |value: usize| std::ptr::with_exposed_provenance_mut(value.wrapping_add(offset));
        object
            .compare_exchange(shifted(current), shifted(new), success, failure)
            .map(back)
            .map_err(back)
    }

    /// As [`compare_exchange`](Self::compare_exchange).
    ///
    /// # Errors
    ///
    /// As there.
    #[track_caller]
    pub fn compare_exchange_weak(
        &self,
        current: *mut T,
        new: *mut T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<*mut T, *mut T> {
        self.compare_exchange(current, new, success, failure)
    }

    /// Writes what `f` makes of the pointer, until it gives none or nobody has come between.
    ///
    /// # Errors
    ///
    /// With the pointer for which `f` gave none.
    #[track_caller]
    pub fn fetch_update<F>(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut f: F,
    ) -> Result<*mut T, *mut T>
    where
        F: FnMut(*mut T) -> Option<*mut T>,
    {
        let mut now = self.load(fetch_order);
        while let Some(next) = f(now) {
            match self.compare_exchange(now, next, set_order, fetch_order) {
                Ok(before) => return Ok(before),
                Err(other) => now = other,
            }
        }
        Err(now)
    }

    /// The pointer, for its one owner.
    pub fn get_mut(&mut self) -> &mut *mut T {
        if self.slot.is_filled() {
            // As the others.
            let (object, offset) = self.object();
            let address = object.fetch_add(0, Ordering::AcqRel).wrapping_add(offset);
            self.initial = std::ptr::with_exposed_provenance_mut(address);
            self.slot.empty();
        }
        &mut self.initial
    }

    /// The pointer.
    #[must_use]
    pub fn into_inner(mut self) -> *mut T {
        *self.get_mut()
    }
}

impl<T> Default for AtomicPtr<T> {
    fn default() -> Self {
        Self::new(std::ptr::null_mut())
    }
}

impl<T> From<*mut T> for AtomicPtr<T> {
    fn from(pointer: *mut T) -> Self {
        Self::new(pointer)
    }
}

impl<T> fmt::Debug for AtomicPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.load(Ordering::Relaxed), f)
    }
}
