//! Size classes, and the geometry of their slots.

use std::io;
use std::num::NonZeroU8;
use std::sync::OnceLock;

use super::{MAX_STACK_SIZE, MIN_STACK_SIZE};

/// How many size classes there are: 16 KiB, 32 KiB, ... 4 GiB.
pub(super) const COUNT: usize = 19;

/// The most stacks that a cache's magazine holds, and the permits that it fetches at once.
const MOST: usize = 64;
/// Neither exceeds this many bytes of address space, as long as it is one stack.
const MOST_BYTES: usize = 16 << 20;

/// A size class.
///
/// # Invariant
///
/// One more than an index below [`COUNT`] (so that an `Option` of it takes no room).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeClass(NonZeroU8);

impl SizeClass {
    /// The class of stacks of at least `size` bytes.
    #[inline]
    pub(super) fn of(size: usize) -> io::Result<Self> {
        if size > MAX_STACK_SIZE {
            return Err(too_large(size));
        }
        let bytes = size.max(MIN_STACK_SIZE).next_power_of_two();
        Ok(Self::at((bytes / MIN_STACK_SIZE).trailing_zeros() as usize))
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..COUNT).map(Self::at)
    }

    /// The class at `index`, which is below [`COUNT`].
    #[inline]
    pub(super) const fn at(index: usize) -> Self {
        debug_assert!(index < COUNT);
        Self(NonZeroU8::MIN.saturating_add(index as u8))
    }

    #[inline]
    pub(super) const fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    /// The size that the class stands for.
    #[inline]
    pub(super) const fn bytes(self) -> usize {
        MIN_STACK_SIZE << self.index()
    }

    /// How many stacks, or permits, a cache asks the depot for at once: the most that its magazine
    /// holds.
    #[inline]
    pub(super) const fn batch(self) -> usize {
        match MOST_BYTES / self.bytes() {
            0 => 1,
            count if count < MOST => count,
            _ => MOST,
        }
    }

    /// The bytes of a slot above its guard page: whole pages.
    #[inline]
    pub(super) fn usable(self) -> usize {
        // The first is known at compile time, where the size of a page is.
        if page_size() <= MIN_STACK_SIZE { self.bytes() } else { self.bytes().max(page_size()) }
    }

    /// The distance of two slots. An odd number of pages, as long as a page is no larger than the
    /// class.
    #[inline]
    pub(super) fn stride(self) -> usize {
        self.usable() + guard_size()
    }
}

/// The size of a guard, in bytes: whole pages, an odd number of them.
///
/// One page suffices where the compiler has functions touch each page of a large frame in turn. On
/// riscv64 rustc 1.95 does not, so that a frame may reach past its guard: there it takes more than
/// 15 pages to do so.
#[inline]
pub(super) fn guard_size() -> usize {
    const PROBES: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    if PROBES { page_size() } else { 15 * page_size() }
}

#[cold]
fn too_large(size: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("a stack of {size} bytes was asked for; the largest is {MAX_STACK_SIZE} bytes"),
    )
}

/// The size of a page, in bytes: a power of two.
#[inline]
pub(crate) fn page_size() -> usize {
    // The architecture has no other; known at compile time, it keeps divisions out of the hot
    // paths.
    const FIXED: Option<usize> = if cfg!(target_arch = "x86_64") { Some(4096) } else { None };
    static PAGE_SIZE: OnceLock<usize> = OnceLock::new();
    FIXED.unwrap_or_else(|| *PAGE_SIZE.get_or_init(ask_page_size))
}

#[allow(unsafe_code)]
fn ask_page_size() -> usize {
    // SAFETY: no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("the kernel has a page size")
}
