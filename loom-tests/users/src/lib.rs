//! Small concurrent programs on [bine](https://docs.rs/bine), written as a user would, and model-checked:
//! the tests run each of them once as an ordinary program, and under `--cfg bine_loom` in every
//! interleaving. Nothing here knows which of the two it is.
//!
//! Each has a mistake in it that can be switched on: the parameter `MISTAKEN`. Ordinary runs hardly ever
//! stumble over it. The models find it.

pub mod buffer;
pub mod cache;
pub mod pool;
pub mod queue;
