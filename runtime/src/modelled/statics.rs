//! Statics get their first values back at the beginning of each execution.
//!
//! An atomic's slot knows its initial value. What a lock guards is a value of a user's, in place in the
//! `static`, and has been changed by the execution before. The compiler has evaluated its initial value,
//! and the bytes of that are in the program's file. So these bytes are kept: before `main`, when the
//! dynamic linker has put the addresses in and no code of a user's has run, all memory of the
//! program that can be written is copied. Copying the bytes back is what evaluating the constant
//! anew would give.
//!
//! Not every lock in such memory was made by the compiler: a `static` of std's, a `OnceLock` for
//! example, may hold one that was made when the program ran. Then the place of its [`MAGIC`] holds
//! something else in the copy, and the lock is none of ours.
//!
//! The value that an execution leaves is not dropped, as that of a static never is: what it has on the heap is
//! leaked.

use std::ffi::{c_int, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// In every object that a user may put into a static.
pub(crate) const MAGIC: u64 = 0x6269_6e65_2e6c_6f6d;

/// The copy of one writable segment.
struct Segment {
    start: usize,
    copy: Box<[u8]>,
}

/// Set once, before `main`.
static SEGMENTS: AtomicPtr<Vec<Segment>> = AtomicPtr::new(std::ptr::null_mut());
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// What is to be restored: the address and the size of each value that was reached in a static.
static REACHED: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

// Before the program's own constructors, which have no priority or a higher one.
#[used]
#[unsafe(link_section = ".init_array.00101")]
static TAKE_COPY: extern "C" fn() = take_copy;

extern "C" fn take_copy() {
    let mut segments: Vec<Segment> = Vec::new();
    // SAFETY: the callback gets the pointer that it expects.
    unsafe { libc::dl_iterate_phdr(Some(add_segments), (&raw mut segments).cast()) };
    SEGMENTS.store(Box::into_raw(Box::new(segments)), Relaxed);
    TAKEN.store(1, Relaxed);
}

/// Called for each loaded object, the program itself first; the others do not matter.
unsafe extern "C" fn add_segments(
    object: *mut libc::dl_phdr_info,
    _: usize,
    segments: *mut c_void,
) -> c_int {
    // SAFETY: as `dl_iterate_phdr` says, and `take_copy` passes it a vector.
    let (object, segments) = unsafe { (&*object, &mut *segments.cast::<Vec<Segment>>()) };
    // SAFETY: the headers of a loaded object.
    let headers =
        unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W == 0 {
            continue;
        }
        let start = (object.dlpi_addr + header.p_vaddr) as usize;
        // SAFETY: a loaded segment of the program, which can be read, also where a part of it is write
        // protected after relocation. No other thread runs that would write it.
        let bytes = unsafe {
            std::slice::from_raw_parts(
                std::ptr::with_exposed_provenance::<u8>(start),
                header.p_memsz as usize,
            )
        };
        segments.push(Segment { start, copy: bytes.into() });
    }
    1
}

/// The first bytes of the `size` bytes at `address`, if they belong to the program's statics.
fn first_bytes(address: usize, size: usize) -> Option<&'static [u8]> {
    // Named here so that the linker keeps it.
    let _ = std::hint::black_box(&TAKE_COPY);
    // SAFETY: null, or a box that is never freed.
    let segments = unsafe { SEGMENTS.load(Relaxed).as_ref() }?;
    segments.iter().find_map(|segment| {
        let from = address.checked_sub(segment.start)?;
        segment.copy.get(from..from.checked_add(size)?)
    })
}

/// Whether the object with this magic number is in a static, and was made by the compiler there.
pub(super) fn is_static(magic: *const u64) -> bool {
    first_bytes(magic.addr(), size_of::<u64>()).is_some_and(|bytes| bytes == MAGIC.to_ne_bytes())
}

/// Has the value restored from the next execution on, if the object to which it belongs is in a static.
pub(super) fn reached(magic: *const u64, value: *mut u8, size: usize) {
    if size == 0 || !is_static(magic) {
        return;
    }
    let _ = value.expose_provenance();
    let mut reached = REACHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !reached.iter().any(|(address, _)| *address == value.addr()) {
        reached.push((value.addr(), size));
    }
}

/// Restores them all.
///
/// # Safety
///
/// No thread is left that uses any of them: between two executions, of which there is one at a time.
pub(super) unsafe fn restore() {
    for &(address, size) in &*REACHED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        let bytes = first_bytes(address, size).expect("looked up when it was reached");
        let value = std::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: a static of the program, which nobody uses: the caller's promise. The bytes are those
        // of a constant, as its magic number says, so they are good for as many values as are wanted.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), value, size) };
    }
}
