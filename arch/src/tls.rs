//! Where the thread-locals of an OS thread lie.
//!
//! Each module of a program (the executable, the shared libraries) that has thread-locals has a block of
//! them in each OS thread. The dynamic linker is asked for the blocks (`dl_iterate_phdr`), so this knows
//! nothing of an architecture's way to lay them out. A block that an OS thread has not needed yet may
//! not exist there: those of libraries that were loaded at run time are made at their first use.
//!
//! For the C library of GNU alone. musl's answers differ by a constant on riscv64, and nobody has
//! tried it here.

#![allow(unsafe_code)]

use std::ops::Range;

/// The block of one module's thread-locals in one OS thread.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// Its addresses. Good for as long as the OS thread lives and the module is loaded.
    pub range: Range<usize>,
    /// The file that the module was loaded from; empty for the executable.
    pub module: String,
}

/// The blocks of the calling OS thread, in the order in which the modules were loaded. `None` where
/// nobody can be asked: with other C libraries than GNU's.
///
/// It takes a lock of the dynamic linker's, which is one for the process.
// Not inlined: a caller that switches stacks may be on another OS thread afterwards.
#[inline(never)]
#[must_use]
pub fn blocks() -> Option<Vec<Block>> {
    #[cfg(target_env = "gnu")]
    return Some(with_glibc::blocks());
    #[cfg(not(target_env = "gnu"))]
    None
}

/// A place in the code or the data of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// As [`Block::module`].
    pub module: String,
    /// The address that the symbols of the module's file have for it.
    pub address: usize,
}

/// The module that was loaded to `address`. `None` if there is none, or where [`blocks`] is `None`.
#[must_use]
pub fn origin(address: usize) -> Option<Origin> {
    #[cfg(target_env = "gnu")]
    return with_glibc::origin(address);
    #[cfg(not(target_env = "gnu"))]
    {
        let _ = address;
        None
    }
}

#[cfg(target_env = "gnu")]
mod with_glibc {
    use std::ffi::{CStr, c_int, c_void};
    use std::slice;

    use super::{Block, Origin};

    pub(super) fn blocks() -> Vec<Block> {
        let mut blocks = Vec::new();
        for_each(&mut |info, headers| {
            let tls = headers.iter().find(|header| header.p_type == libc::PT_TLS);
            let start = info.dlpi_tls_data.addr();
            if let Some(tls) = tls.filter(|_| start != 0) {
                let range = start..start + tls.p_memsz as usize;
                blocks.push(Block { range, module: name(info) });
            }
        });
        blocks
    }

    pub(super) fn origin(address: usize) -> Option<Origin> {
        let mut origin = None;
        for_each(&mut |info, headers| {
            let relative = address.wrapping_sub(info.dlpi_addr as usize);
            let holds = |header: &&libc::Elf64_Phdr| {
                header.p_type == libc::PT_LOAD
                    && relative.wrapping_sub(header.p_vaddr as usize) < header.p_memsz as usize
            };
            if headers.iter().any(|header| holds(&header)) {
                origin = Some(Origin { module: name(info), address: relative });
            }
        });
        origin
    }

    fn name(info: &libc::dl_phdr_info) -> String {
        if info.dlpi_name.is_null() {
            return String::new();
        }
        // SAFETY: the linker's, and a string.
        unsafe { CStr::from_ptr(info.dlpi_name) }.to_string_lossy().into_owned()
    }

    type Visit<'a> = &'a mut dyn FnMut(&libc::dl_phdr_info, &[libc::Elf64_Phdr]);

    /// Calls `visit` for each module.
    fn for_each(mut visit: Visit<'_>) {
        // SAFETY: the callback is called with the pointer it expects, before this returns.
        unsafe { libc::dl_iterate_phdr(Some(call), (&raw mut visit).cast()) };
    }

    /// # Safety
    ///
    /// For `dl_iterate_phdr` to call, with a `Visit` that nobody else uses.
    unsafe extern "C" fn call(
        info: *mut libc::dl_phdr_info,
        size: usize,
        visit: *mut c_void,
    ) -> c_int {
        // An older library passes less.
        if size < size_of::<libc::dl_phdr_info>() {
            return 0;
        }
        // SAFETY: the caller's promise; the linker's description, with so many headers, is valid for the
        // length of the call.
        unsafe {
            let info = &*info;
            if !info.dlpi_phdr.is_null() {
                let headers = slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
                (*visit.cast::<Visit<'_>>())(info, headers);
            }
        }
        0
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::cell::Cell;
    use std::thread;

    use super::{blocks, origin};

    thread_local! {
        static CONSTANT: Cell<u64> = const { Cell::new(7) };
        static LAZY: Cell<Option<Box<u64>>> = Cell::new(Some(Box::new(7)));
    }

    fn addresses() -> [usize; 3] {
        // SAFETY: no more than an address is taken.
        let errno = unsafe { libc::__errno_location() };
        let constant = CONSTANT.with(|place| &raw const *place).addr();
        [constant, LAZY.with(|place| &raw const *place).addr(), errno.addr()]
    }

    fn hold(address: usize) -> usize {
        blocks().unwrap().iter().filter(|block| block.range.contains(&address)).count()
    }

    #[test]
    fn hold_the_thread_locals_of_each_thread() {
        let ours = addresses();
        let theirs = thread::spawn(|| {
            let theirs = addresses();
            assert_eq!(theirs.map(hold), [1; 3]);
            theirs
        });
        let theirs = theirs.join().unwrap();
        assert_eq!(ours.map(hold), [1; 3]);
        assert_eq!(theirs.map(hold), [0; 3]);
    }

    #[test]
    fn hold_nothing_else() {
        static STATIC: u64 = 7;
        let (stack, heap) = (7_u64, Box::new(7_u64));
        let others = [&raw const stack, &raw const *heap, &raw const STATIC];
        assert_eq!(others.map(|place| hold(place.addr())), [0; 3]);
    }

    #[test]
    fn origins() {
        let ours = origin(origins as *const () as usize).unwrap();
        assert_eq!(ours.module, "");
        // One that no sanitizer puts another in front of.
        let theirs = origin(libc::gnu_get_libc_version as *const () as usize).unwrap();
        assert!(theirs.module.contains("libc"), "{theirs:?}");
        assert_eq!(origin((&raw const *Box::new(7)).addr()), None);
    }

    #[test]
    fn do_not_overlap() {
        let mut blocks = blocks().unwrap();
        assert!(blocks.iter().any(|block| block.module.is_empty()), "{blocks:?}");
        assert!(blocks.iter().any(|block| block.module.contains("libc")), "{blocks:?}");
        blocks.sort_by_key(|block| block.range.start);
        assert!(blocks.is_sorted_by(|a, b| a.range.end <= b.range.start), "{blocks:?}");
    }
}
