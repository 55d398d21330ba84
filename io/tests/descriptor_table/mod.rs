//! How many descriptors the process has open. Holds no test.

/// How many descriptors the process has open, but those of lanes, which stay for the next worker. The one of
/// this very look is always among them.
pub(crate) fn open_descriptors() -> usize {
    symbolize();
    let all = std::fs::read_dir("/proc/self/fd").expect("/proc is there").count();
    all - 2 * bine_io::lanes()
}

/// The thread sanitizer looks names up for its suppressions, when it first sees a race of theirs,
/// and keeps the pipes to the program that knows them. It shall have them before anyone counts.
fn symbolize() {
    #[cfg(bine_sanitize = "thread")]
    {
        use std::ffi::{c_char, c_void};

        unsafe extern "C" {
            /// Of the sanitizer's runtime (`sanitizer/common_interface_defs.h`).
            fn __sanitizer_symbolize_pc(
                pc: *mut c_void,
                format: *const c_char,
                name: *mut c_char,
                size: usize,
            );
        }
        let (pc, mut name) = (open_descriptors as fn() -> usize as *mut c_void, [0 as c_char; 256]);
        // SAFETY: the format is terminated, the name has room for as many bytes as are said, and
        // the address is one of this program's code.
        unsafe {
            __sanitizer_symbolize_pc(pc, c"%f".as_ptr(), name.as_mut_ptr(), name.len());
        }
    }
}
