//! Epoll poller, sockets, files, processes, standard streams and signals of the bine runtime.
//!
//! [`net`](https://docs.rs/bine-io/latest/bine_io/net) mirrors [`std::net`]: the same types,
//! signatures, errors and blocking behaviour, but an operation that must wait suspends the calling
//! green thread only. A plain OS thread may use every type here as well, and blocks.
//!
//! How a blocking operation goes (details in `readiness.rs` and `source.rs`):
//!
//! 1. The system call is tried, unless the descriptor is known not to be ready.
//! 2. If it would block, the descriptor is registered with the poller, once in its life: in an epoll
//!    instance of the worker's own, where threads stay on their workers, or in the process's.
//! 3. The caller publishes its waker in the descriptor's slot and parks.
//! 4. An event arrives, taken by a worker that is out of work or by the poller thread; the caller
//!    is woken and tries again.
//!
//! Under `--cfg bine_loom` only the protocol of step 3 and 4 is compiled, for the models, and sockets,
//! signals and `Async` are names that cannot be used.
#![deny(unsafe_code)]

#[cfg(bine_loom)]
mod absent;
#[cfg(not(bine_loom))]
mod async_fd;
#[cfg(not(bine_loom))]
mod fork;
#[cfg(not(bine_loom))]
pub mod fs;
#[cfg(not(bine_loom))]
mod lane;
#[cfg(not(bine_loom))]
pub mod net;
#[cfg(not(bine_loom))]
mod offload;
#[cfg(not(bine_loom))]
pub mod os;
#[cfg(not(bine_loom))]
mod poller;
#[cfg(not(bine_loom))]
pub mod process;
#[cfg(bine_loom)]
pub mod readiness;
#[cfg(not(bine_loom))]
mod readiness;
#[cfg(bine_loom)]
pub mod seat;
#[cfg(not(bine_loom))]
mod seat;
#[cfg(not(bine_loom))]
pub mod signal;
#[cfg(not(bine_loom))]
mod slot;
#[cfg(not(bine_loom))]
mod source;
#[cfg(not(bine_loom))]
pub mod stdio;
#[cfg(not(bine_loom))]
mod sys;
#[cfg(bine_loom)]
pub mod watch;
#[cfg(not(bine_loom))]
mod watch;

#[cfg(not(bine_loom))]
pub use async_fd::Async;
#[cfg(not(bine_loom))]
#[doc(hidden)]
pub use poller::{lanes, registrations};

#[cfg(bine_loom)]
pub use self::absent::{Async, net, signal, unix};
