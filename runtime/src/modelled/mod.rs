//! What stands for the runtime in a model of a user's program: `bine_runtime`'s interface on loom's
//! threads.
//!
//! Compiled under `--cfg bine_loom` only. The locks and channels above run as they ship; this is the
//! thin layer below them that starts threads, has them wait, and tells one execution from the next.
//!
//! # Concepts
//!
//! - A *model* is a closure that is run again and again, once for each *execution*: one interleaving of
//!   its threads together with one choice of what each load sees. loom chooses, and ends when it has been
//!   through all of them within the bounds. ([`explorer`])
//! - A *modelled thread* is one of loom's threads, a generator. All of them run on one OS thread, which
//!   the model starts for itself, one at a time. ([`thread`])
//! - Objects of loom's belong to one execution, and must be made by it. What a user may put into a
//!   `static` is made late: it has a [`slot::Slot`], which is filled once in each execution. What such
//!   a static guards gets its first value back. ([`statics`])
//!
//! # Failures
//!
//! A model that fails is not unwound: destructors of a user's would go on with locks and channels of
//! an execution that has ended, and loom panics once more at each of them, which ends the process.
//! Instead the model's OS thread hands the failure to the caller of `bine::model`, who panics with it,
//! and sleeps for ever. It costs the memory of one OS thread for each model that fails. It is also what
//! makes a scope sound: the frames that its threads borrow from are never freed under them.
//!
//! What was rejected: to have all operations do nothing once an execution has failed. Destructors that
//! wait for something would then wait for ever.

mod absent;
pub(crate) mod atomic;
pub(crate) mod data;
pub(crate) mod explorer;
pub(crate) mod lock_word;
mod runtime;
mod scope;
mod slot;
mod statics;
pub(crate) mod thread;
pub(crate) mod token;

pub use self::absent::{Abandoned, BlockingPool, time};
pub use self::runtime::{AsRuntime, Builder, Handle, Runtime, block_on, blocking, run};
pub(crate) use self::token::Shield;
