//! Context switches, guarded stacks and coroutines of the bine green-thread runtime.
//!
//! Modules none of which knows what a scheduler is:
//!
//! - [`context`] lays the first frame on a stack and switches between stacks. It is the only place
//!   in bine that is written in assembly; one file per architecture, the contract of such a file in
//!   [`context`].
//! - [`stack`] maps, guards, lends and takes back the memory of the stacks.
//! - [`coroutine`] makes safe coroutines and generators of the two.
//! - [`overflow`] reports whose stack has overflowed when a guard page is touched.
//! - [`frames`] and [`tls`] tell what a check of a stack has to know: its frames, and where the
//!   thread-locals of an OS thread lie.
//!
//! This is the lowest layer of bine: nearly every function of [`context`] is unsafe, and the
//! guarantees that programs rely on are made by [`coroutine`] and by the crates above.
//!
//! ```
//! use bine_arch::{context::{self, Context}, stack::{self, StackCache}};
//!
//! /// What the two sides share: where each of them was suspended.
//! struct Pair { main: Context, green: Context }
//!
//! unsafe extern "C" fn add_one(mut arg: usize, pair: usize) -> ! {
//!     let pair = pair as *mut Pair;
//!     loop {
//!         // SAFETY: `pair` outlives the stack, and `main` was saved by the switch that came here.
//!         arg = unsafe { context::switch(&raw mut (*pair).green, (*pair).main, arg + 1) };
//!     }
//! }
//!
//! let mut cache = StackCache::new();
//! let permit = cache.reserve(stack::DEFAULT_STACK_SIZE)?;
//! let stack = cache.take(&permit)?;
//! let mut pair = Pair { main: Context::null(), green: Context::null() };
//! let pair = &raw mut pair;
//! // SAFETY: the stack is fresh, large enough, and lives until its last switch is over; each
//! // context is continued once after each time that it was saved.
//! unsafe {
//!     (*pair).green = context::prepare(stack.bounds(), add_one, pair as usize);
//!     assert_eq!(context::switch(&raw mut (*pair).main, (*pair).green, 41), 42);
//!     assert_eq!(context::switch(&raw mut (*pair).main, (*pair).green, 1), 2);
//! }
//! cache.put(stack);
//! cache.release(permit);
//! # Ok::<(), std::io::Error>(())
//! ```

#![deny(unsafe_code)]

mod backend;
pub mod context;
pub mod coroutine;
#[cfg(any(bine_sanitize = "address", bine_sanitize = "thread"))]
mod fiber;
pub mod frames;
pub mod overflow;
pub mod stack;
pub mod tls;
mod valgrind;
