//! How to wait for another OS thread that is in the middle of a few instructions.

use bine_runtime::primitive::hint::spin_loop;

/// Spins that double, then yields of the OS thread.
///
/// For gaps that another thread closes within nanoseconds unless the kernel has preempted it
/// between two instructions: only then is the processor given up. The pauses follow
/// `crossbeam_utils::Backoff`.
pub(crate) struct Backoff(u32);

/// Up to 2^6 pauses in a row; that is longer than any gap in this crate takes.
const SPIN_LIMIT: u32 = 6;

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    /// Waits after an exchange for which another thread was quicker: as long as that one takes for a few
    /// dozen of them with the cache line to itself. If they took turns, the line would travel to and fro
    /// for each. (64 producers and 64 consumers on two workers that migrate, ns a message: 78
    /// without, 42 with 16 pauses, 32 with 32, 28 with 64, 34 with 100.)
    #[cold]
    pub(crate) fn give_way() {
        for _ in 0..64 {
            spin_loop();
        }
    }

    /// Waits a little, longer each time.
    pub(crate) fn snooze(&mut self) {
        // Under loom a spin hands the model's processor over at once; more would be noise.
        if cfg!(bine_loom) {
            spin_loop();
        } else if self.0 <= SPIN_LIMIT {
            for _ in 0..1 << self.0 {
                spin_loop();
            }
            self.0 += 1;
        } else {
            std::thread::yield_now();
        }
    }
}
