//! Guard pages: which mechanism the kernel has, and how to install one guard.

#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::class::{SizeClass, guard_size};
use super::slab::{FreshSlots, Slot};
use crate::valgrind;

/// `MADV_GUARD_INSTALL` of `<asm-generic/mman-common.h>`, the same on all architectures.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Stands for the calling process where a pidfd is expected (Linux 6.15), the same everywhere.
const PIDFD_SELF_THREAD_GROUP: libc::c_int = -10001;

/// Whether the kernel makes several guards at once.
static BATCHES: AtomicU8 = AtomicU8::new(UNTRIED);
const UNTRIED: u8 = 0;
const WORK: u8 = 1;
const REFUSED: u8 = 2;

/// Forces the fallback when it is set to `mprotect`.
const ENVIRONMENT: &str = "BINE_STACK_GUARD";

/// Mappings that are left to the rest of the process (its allocator, libraries, OS threads): to run
/// into the limit itself would make any of these fail, at a place that cannot tell why.
const MAPPINGS_FOR_OTHERS: usize = 2048;

/// What a guard by `mprotect` costs: the guard itself, and the stack that it separates from its
/// neighbours.
const MAPPINGS_PER_GUARD: usize = 2;

/// Mappings that valgrind can keep account of (`VG_N_SEGMENTS`, in 3.19): with more it ends.
const VALGRINDS_MAPPINGS: usize = 30_000;

/// How the guard page below a stack is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardMechanism {
    /// `madvise(MADV_GUARD_INSTALL)`: no mappings of its own, done when a stack is first lent.
    Madvise,
    /// `mprotect(PROT_NONE)`: two mappings a stack, done when it is reserved.
    Mprotect,
}

/// Decided once, by the first slab of the process.
static MECHANISM: OnceLock<GuardMechanism> = OnceLock::new();

impl GuardMechanism {
    /// The mechanism that was decided on, if it was.
    pub(super) fn in_force() -> Option<Self> {
        MECHANISM.get().copied()
    }

    /// Decides on a mechanism, if that has not been done, by guarding `slot`: one that nobody uses.
    pub(super) fn decide(slot: Slot) -> io::Result<Self> {
        if let Some(mechanism) = Self::in_force() {
            return Ok(mechanism);
        }
        let forced = cfg!(bine_mprotect_guards)
            || valgrind::is_running()
            || std::env::var_os(ENVIRONMENT).as_deref() == Some(OsStr::new("mprotect"));
        let mechanism = if forced { Self::Mprotect } else { probe(slot)? };
        Ok(*MECHANISM.get_or_init(|| mechanism))
    }

    /// How many guards are made by one system call at most: its arguments lie on a stack.
    pub(super) const MOST_AT_ONCE: usize = 16;

    /// Whether to make several guards at once takes less than one after the other.
    pub(super) fn guards_many(self) -> bool {
        // Relaxed: a hint.
        self == Self::Madvise && BATCHES.load(Ordering::Relaxed) != REFUSED
    }

    /// [`install`](Self::install) for all of `fresh`, or for some, and an error.
    pub(super) fn install_all(self, fresh: &FreshSlots) -> io::Result<()> {
        let many = (2..=Self::MOST_AT_ONCE).contains(&fresh.left()) && self.guards_many();
        if many && madvise_guards(fresh) {
            return Ok(());
        }
        fresh.slots().try_for_each(|slot| self.install(slot, fresh.class()))
    }

    /// Makes the bottom page of `slot` its guard, and the rest a stack. To do it twice does no
    /// harm.
    fn install(self, slot: Slot, class: SizeClass) -> io::Result<()> {
        match self {
            Self::Madvise => match madvise_guard(slot) {
                // The kernel knows guards, but not here: the memory was locked (mlockall) since the
                // probe.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => mprotect_guard(slot, class),
                other => other.map_err(|e| madvise_error(&e, class)),
            },
            Self::Mprotect => mprotect_guard(slot, class),
        }?;
        valgrind::register_stack(slot.limit().addr().get()..slot.end(class));
        Ok(())
    }
}

fn probe(slot: Slot) -> io::Result<GuardMechanism> {
    match madvise_guard(slot) {
        // Emulators answer "yes" to any advice: believe it when the page can no longer be read.
        Ok(()) if is_unreadable(slot) => Ok(GuardMechanism::Madvise),
        Ok(()) => Ok(GuardMechanism::Mprotect),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(GuardMechanism::Mprotect),
        Err(e) => Err(e),
    }
}

fn madvise_guard(slot: Slot) -> io::Result<()> {
    loop {
        let page = slot.guard_page().as_ptr().cast();
        // SAFETY: the bottom page of a slot belongs to nobody but its guard: no Rust value is ever
        // there.
        if unsafe { libc::madvise(page, guard_size(), MADV_GUARD_INSTALL) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Guards all of `fresh`, up to [`GuardMechanism::MOST_AT_ONCE`], by one system call: of 0.7 to 0.9 us
/// that it takes to guard a stack, 0.55 are left then, and the lock of the address space, which page
/// faults and the allocator want as well, is taken once. False if that could not be done, as before
/// Linux 6.15; some may be guarded.
fn madvise_guards(fresh: &FreshSlots) -> bool {
    let nothing = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let mut pages = [nothing; GuardMechanism::MOST_AT_ONCE];
    for (page, slot) in pages.iter_mut().zip(fresh.slots()) {
        page.iov_base = slot.guard_page().as_ptr().cast();
        page.iov_len = guard_size();
    }
    let count = fresh.left();
    // SAFETY: as in `madvise_guard`, for each of them; `pages` has that many.
    let advised = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            PIDFD_SELF_THREAD_GROUP,
            pages.as_ptr(),
            count,
            MADV_GUARD_INSTALL,
            0,
        )
    };
    let mut done = usize::try_from(advised).is_ok_and(|bytes| bytes == count * guard_size());
    if done && BATCHES.load(Ordering::Relaxed) == UNTRIED {
        // An emulator may say what is not so.
        done = fresh.slots().last().is_some_and(is_unreadable);
    }
    // A signal may have come in between: then there is a next time.
    let interrupted =
        advised == -1 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
    if !interrupted {
        BATCHES.store(if done { WORK } else { REFUSED }, Ordering::Relaxed);
    }
    done
}

/// Whether the guard page of `slot` is one, found out without a fault: a system call that reads a
/// path there answers `EFAULT`.
fn is_unreadable(slot: Slot) -> bool {
    let path = slot.guard_page().as_ptr().cast();
    // SAFETY: if the page can be read it is zero, an empty path; if it cannot, the kernel says so.
    let result = unsafe { libc::access(path, libc::F_OK) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

fn mprotect_guard(slot: Slot, class: SizeClass) -> io::Result<()> {
    /// How many there are: they are never removed.
    static INSTALLED: AtomicUsize = AtomicUsize::new(0);
    // A counter that orders nothing: Relaxed.
    let installed = INSTALLED.fetch_add(1, Ordering::Relaxed);
    let result = if installed < budget() {
        let page = slot.guard_page().as_ptr().cast();
        // SAFETY: as in `madvise_guard`.
        match unsafe { libc::mprotect(page, guard_size(), libc::PROT_NONE) } {
            0 => return Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    } else {
        Err(io::Error::from_raw_os_error(libc::ENOMEM))
    };
    INSTALLED.fetch_sub(1, Ordering::Relaxed);
    result.map_err(|e| mprotect_error(&e, class, installed))
}

/// How many guards `mprotect` may make. Without a limit that can be read, the kernel's answers
/// decide.
fn budget() -> usize {
    static BUDGET: OnceLock<usize> = OnceLock::new();
    *BUDGET.get_or_init(|| {
        let of_valgrind = valgrind::is_running().then_some(VALGRINDS_MAPPINGS);
        match max_map_count().into_iter().chain(of_valgrind).min() {
            Some(limit) => limit.saturating_sub(MAPPINGS_FOR_OTHERS) / MAPPINGS_PER_GUARD,
            None => usize::MAX,
        }
    })
}

fn max_map_count() -> Option<usize> {
    fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

#[cold]
fn madvise_error(error: &io::Error, class: SizeClass) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "cannot guard a stack of {} KiB: \
             madvise(MADV_GUARD_INSTALL) of its bottom page failed: {error}",
            class.bytes() / 1024,
        ),
    )
}

#[cold]
fn mprotect_error(error: &io::Error, class: SizeClass, installed: usize) -> io::Error {
    let limit = max_map_count().map_or_else(String::new, |n| format!(", now {n}"));
    io::Error::new(
        error.kind(),
        format!(
            "cannot guard one more stack of {} KiB beside the {installed} that there are: \
             mprotect(PROT_NONE) of its bottom page: {error}. Each such guard takes two mappings \
             of the process, and vm.max_map_count limits them{limit}. \
             Raise it (sysctl -w vm.max_map_count=1000000), have fewer green threads at once, \
             or run on Linux 6.13 or later, whose guards take no mappings",
            class.bytes() / 1024,
        ),
    )
}
