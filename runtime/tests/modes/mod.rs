//! Runtimes of both modes, for tests that must hold in each.

use bine_runtime::{Builder, Runtime};

/// A runtime for each mode and each number of workers, as `builder` says otherwise.
pub(crate) fn runtimes_of(builder: &Builder, workers: &[usize]) -> Vec<Runtime> {
    let mut all = Vec::new();
    for &workers in workers {
        let builder = builder.clone().workers(workers);
        all.push(builder.clone().build().unwrap());
        // SAFETY: no test that uses this keeps a borrow of std's thread-locals across a blocking call.
        all.push(unsafe { builder.migrate() }.build().unwrap());
    }
    all
}

/// Runtimes of both modes with one and several workers, more than there are cores among them.
#[allow(dead_code, reason = "not every test binary uses these")]
pub(crate) fn runtimes() -> Vec<Runtime> {
    runtimes_of(&Builder::new(), &[1, 2, 3, 8])
}
