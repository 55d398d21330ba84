//! Which cores OS threads may run on.
//!
//! A thread inherits the cores of the one that starts it. So once a runtime has pinned its workers,
//! the OS threads that bine starts from a worker (the poller, those for blocking calls) are given back
//! the cores that the process had: see [`release_thread`].

use std::sync::OnceLock;
use std::{io, mem, ptr};

/// The kernel's set of cores, as long as the kernel wants it: one bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CoreSet(Vec<libc::c_ulong>);

const BITS: usize = libc::c_ulong::BITS as usize;
/// More cores than this are taken for an error of another kind.
const MAX_CORES: usize = 1 << 20;

impl CoreSet {
    /// That of the calling thread.
    fn current() -> io::Result<Self> {
        let mut words = vec![0; 1024 / BITS];
        loop {
            // SAFETY: the buffer is as long as we say. 0 is the calling thread.
            let result = unsafe {
                libc::sched_getaffinity(0, mem::size_of_val(&*words), words.as_mut_ptr().cast())
            };
            if result == 0 {
                return Ok(Self(words));
            }
            let error = io::Error::last_os_error();
            // The kernel has more cores than fit.
            if error.raw_os_error() != Some(libc::EINVAL) || words.len() * BITS >= MAX_CORES {
                return Err(error);
            }
            words = vec![0; words.len() * 2];
        }
    }

    fn of_core(core: usize) -> Self {
        let mut words = vec![0; core / BITS + 1];
        words[core / BITS] = 1 << (core % BITS);
        Self(words)
    }

    fn cores(&self) -> impl Iterator<Item = usize> {
        let bits = self.0.len() * BITS;
        (0..bits).filter(|core| self.0[core / BITS] & 1 << (core % BITS) != 0)
    }

    /// Makes it the calling thread's.
    fn apply(&self) -> io::Result<()> {
        let size = mem::size_of_val(&*self.0);
        // SAFETY: as above.
        let result = unsafe { libc::sched_setaffinity(0, size, ptr::from_ref(&*self.0).cast()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// What the process had when the first runtime pinned its workers.
static BEFORE: OnceLock<CoreSet> = OnceLock::new();

/// The cores that the calling thread may run on, for a runtime that pins its workers.
pub(super) fn cores() -> io::Result<Vec<usize>> {
    let set = CoreSet::current().map_err(|error| {
        let text = format!("cannot read which cores the workers may be pinned to: {error}");
        io::Error::new(error.kind(), text)
    })?;
    let cores = set.cores().collect();
    BEFORE.get_or_init(|| set);
    Ok(cores)
}

/// Pins the calling OS thread, that of a worker.
pub(super) fn pin(worker: usize, core: usize) -> io::Result<()> {
    CoreSet::of_core(core).apply().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot pin worker {worker} to core {core}: {error}"))
    })
}

/// Lets the calling OS thread, which may have been started by a pinned worker, run on all cores of
/// the process.
pub(crate) fn release_thread() {
    if let Some(set) = BEFORE.get() {
        // If the cores have been taken from the process since, it stays where it is.
        let _ = set.apply();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_names_its_cores() {
        for core in [0, 1, 63, 64, 1023, 5000] {
            assert_eq!(CoreSet::of_core(core).cores().collect::<Vec<_>>(), [core]);
        }
        let current = CoreSet::current().unwrap();
        assert!(current.cores().count() > 0);
        current.apply().unwrap();
        assert_eq!(CoreSet::current().unwrap(), current);
    }

    #[test]
    fn a_core_that_is_not_there_is_an_error() {
        let error = pin(3, MAX_CORES - 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot pin worker 3 to core 1048575"), "{error}");
    }
}
