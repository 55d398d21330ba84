//! How much of the stacks was used: what is resident, and how deep they went.
//!
//! Nothing is counted while stacks are used. The kernel knows which pages were touched
//! (mincore(2)), and untouched memory is zero: the lowest word that is not zero, of the lowest
//! page that has one, is as deep as the stack went since it was mapped or trimmed. What these
//! figures do not see:
//!
//! - A word of a frame that was never written, or in which zero was written. A frame with a large
//!   buffer that nobody filled counts down to its lowest byte that is not zero.
//! - A page that was swapped out: the kernel calls it not resident.
//! - What was there before the stack was trimmed.
//! - An overflow. The guard page never has memory.

#![allow(unsafe_code)]

use std::arch::asm;
use std::io;
use std::ops::ControlFlow;
use std::ptr::NonNull;

use super::Stack;
use super::class::{SizeClass, page_size};
use super::depot::Depot;
use super::slab::{Extent, Slot};
use super::{registry, trim};

/// Pages that the kernel is asked for at a time: 64 MiB, at 4 KiB a page.
const CHUNK: usize = 16 * 1024;

/// What the stacks of a size class have used. See [`usage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The size of these stacks, in bytes.
    pub stack_size: usize,
    /// How many there are that have their guard page, in use or free.
    pub stacks: usize,
    /// The memory that they have now, in bytes.
    pub resident: usize,
    /// How many bytes the deepest of them has used since it was mapped or trimmed, as
    /// [`Stack::high_water`] would say.
    pub deepest: usize,
}

/// Measures the stacks of each size class of which there are any: to choose a
/// [stack size](super#choosing-a-size) by.
///
/// Asks the kernel for each page of all slabs and reads the deepest pages: a measurement for tests
/// and for operators, not for a loop. 100,000 stacks of 256 KiB are 6.5 million pages. The stacks
/// may be in use meanwhile; then the figures are of no single moment.
///
/// # Errors
///
/// The kernel has no mincore(2), or no memory for its answer.
pub fn usage() -> io::Result<Vec<Usage>> {
    let mut residence = Residence::new();
    let mut measured = Vec::new();
    for class in SizeClass::all() {
        let mut extents = registry::extents().filter(|extent| extent.class() == class).peekable();
        if extents.peek().is_none() {
            continue;
        }
        let stacks = Depot::of(class).guarded();
        let mut usage = Usage { stack_size: class.bytes(), stacks, resident: 0, deepest: 0 };
        for extent in extents {
            measure(extent, class, &mut residence, &mut usage)?;
        }
        measured.push(usage);
    }
    Ok(measured)
}

/// Adds the stacks of one slab.
fn measure(
    extent: Extent,
    class: SizeClass,
    residence: &mut Residence,
    usage: &mut Usage,
) -> io::Result<()> {
    let mut slots = extent.slots().peekable();
    let Some(first) = slots.peek() else { return Ok(()) };
    let start = first.guard_page();
    // The slot of the last page.
    let mut current = slots.next();
    let mut visit = |page: NonNull<u8>| {
        usage.resident += page_size();
        while current.is_some_and(|slot| slot.end(class) <= page.addr().get()) {
            current = slots.next();
        }
        // Only where it may be deeper than the deepest is anything read.
        if let Some(slot) = current
            && slot.top(class).addr().get().saturating_sub(page.addr().get()) > usage.deepest
            && let Some(depth) = depth_in(page, slot, class)
        {
            usage.deepest = usage.deepest.max(depth);
        }
        ControlFlow::Continue(())
    };
    for offset in (0..extent.bytes()).step_by(CHUNK * page_size()) {
        let bytes = (extent.bytes() - offset).min(CHUNK * page_size());
        // SAFETY: within the slab.
        let chunk = unsafe { start.add(offset) };
        // To read a page that was trimmed since the kernel was asked would give it one again: the
        // zero page, but resident.
        trim::with_nothing_in_hand(|| residence.pages(chunk, bytes, &mut visit))?;
    }
    Ok(())
}

impl Stack {
    /// How many bytes of the stack, from its top, were used since it was mapped or trimmed, by any
    /// green thread: up to the lowest word that is not zero. Costs a system call (one for each
    /// 64 MiB of the stack), and reads one page or few.
    ///
    /// A stack is recycled without being cleared. For the depth of one use, take a stack that is
    /// fresh or [trimmed](super::trim). If something runs on the stack meanwhile, the answer is a
    /// moment's.
    ///
    /// # Errors
    ///
    /// The kernel has no mincore(2), or no memory for its answer.
    pub fn high_water(&self) -> io::Result<usize> {
        let mut deepest = 0;
        Residence::new().pages(self.limit(), self.class.usable(), |page| {
            match depth_in(page, self.slot, self.class) {
                None => ControlFlow::Continue(()),
                Some(depth) => {
                    deepest = depth;
                    ControlFlow::Break(())
                }
            }
        })?;
        Ok(deepest)
    }
}

/// How deep below the top the lowest word of `page` is that is not zero. `page` is a resident one
/// of `slot`.
fn depth_in(page: NonNull<u8>, slot: Slot, class: SizeClass) -> Option<usize> {
    let top = slot.top(class).addr().get();
    let below_top = top.saturating_sub(page.addr().get()).min(page_size());
    (0..below_top)
        .step_by(size_of::<usize>())
        // SAFETY: within a page that can be read: the guard page is never resident, and the memory
        // of slabs stays mapped.
        .find(|&offset| unsafe { word_at(page.add(offset)) } != 0)
        .map(|offset| top - page.addr().get() - offset)
}

/// Reads an aligned word that somebody may be writing: whoever runs on the stack. In assembly,
/// since that is no data race there; nor do sanitizers, which have words on stacks that may not be
/// read, look at it.
///
/// # Safety
///
/// The word can be read.
unsafe fn word_at(address: NonNull<u8>) -> usize {
    let word: usize;
    // SAFETY: one load, by the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "mov {word}, qword ptr [{address}]",
            address = in(reg) address.as_ptr(),
            word = out(reg) word,
            options(nostack, readonly, preserves_flags),
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "ldr {word}, [{address}]",
            address = in(reg) address.as_ptr(),
            word = out(reg) word,
            options(nostack, readonly, preserves_flags),
        );
        #[cfg(target_arch = "riscv64")]
        asm!(
            "ld {word}, 0({address})",
            address = in(reg) address.as_ptr(),
            word = out(reg) word,
            options(nostack, readonly, preserves_flags),
        );
    }
    word
}

/// Asks the kernel which pages have memory.
#[derive(Debug)]
pub(super) struct Residence {
    /// A byte a page, of which the lowest bit counts.
    answer: Vec<u8>,
}

impl Residence {
    pub(super) fn new() -> Self {
        Self { answer: Vec::new() }
    }

    /// How many of the `bytes` from `start` on have memory. None, if the kernel cannot tell.
    pub(super) fn bytes(&mut self, start: NonNull<u8>, bytes: usize) -> usize {
        let mut resident = 0;
        let told = self.pages(start, bytes, |_| {
            resident += page_size();
            ControlFlow::Continue(())
        });
        told.map_or(0, |()| resident)
    }

    /// Visits the pages that have memory, of `bytes` from `start` on, the lowest first. The range
    /// is mapped, and whole pages.
    fn pages(
        &mut self,
        start: NonNull<u8>,
        bytes: usize,
        mut visit: impl FnMut(NonNull<u8>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let pages = bytes / page_size();
        self.answer.resize(pages.min(CHUNK), 0);
        for first in (0..pages).step_by(CHUNK) {
            let answer = &mut self.answer[..(pages - first).min(CHUNK)];
            // SAFETY: within the caller's range.
            let chunk = unsafe { start.add(first * page_size()) };
            match ask(chunk, answer) {
                // The range is mapped, but emulators have no answer where guards are in it.
                Err(e) if e.raw_os_error() == Some(libc::ENOMEM) => ask_each(chunk, answer),
                other => other?,
            }
            for (page, _) in answer.iter().enumerate().filter(|(_, byte)| **byte & 1 != 0) {
                // SAFETY: within the range.
                if visit(unsafe { chunk.add(page * page_size()) }).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Asks for as many pages from `start` on as `answer` has bytes. All of them are mapped.
fn ask(start: NonNull<u8>, answer: &mut [u8]) -> io::Result<()> {
    let length = answer.len() * page_size();
    // SAFETY: `answer` has a byte for each page; of the pages nothing but this is learnt.
    match unsafe { libc::mincore(start.as_ptr().cast(), length, answer.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As [`ask`], one by one. Those for which there is no answer have no memory.
fn ask_each(start: NonNull<u8>, answer: &mut [u8]) {
    for (page, byte) in answer.chunks_mut(1).enumerate() {
        // SAFETY: one of the pages.
        let page = unsafe { start.add(page * page_size()) };
        if ask(page, byte).is_err() {
            byte.fill(0);
        }
    }
}
