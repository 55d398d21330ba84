//! The attribute macros of the [bine](https://docs.rs/bine) runtime: [`macro@main`] and
//! [`macro@test`]. Use them as `#[bine::main]` and `#[bine::test]`; what they expand to names the
//! crate `bine`, so it must be a dependency under that name.
//!
//! Both take an ordinary function without arguments and run its body as a green thread. The
//! function's attributes and visibility stay where they are. Its body moves, as it is, into an
//! inner function of the same name and signature:
//!
//! ```text
//! fn main() {
//!     fn main() { body }
//!     ::bine::run(main)
//! }
//! ```
//!
//! A function with a return type reports its result on the green thread, with
//! [`Termination::report`](std::process::Termination::report), and hands on the exit code. So the
//! result need not be `Send`: `Result<(), Box<dyn Error>>` works as it does in a program without
//! bine. Such an outer function returns an [`ExitCode`](std::process::ExitCode) to those who call
//! it.
//!
//! # Options
//!
//! | option | meaning | without it |
//! |---|---|---|
//! | `workers = EXPR` | the number of worker OS threads, a `usize` | `BINE_WORKERS`, else one for each CPU |
//! | `stack_size = EXPR` | bytes of stack of a green thread, a `usize` | the runtime's default |
//! | `unsafe(migrate)` | started green threads may move between workers | they stay where they first ran |
//!
//! They may come in any order, each once. The expressions are evaluated when the function is
//! called, before the runtime starts.
//!
//! # Migration
//!
//! `unsafe(migrate)` is `unsafe { Builder::migrate() }`: it promises that no green thread of the
//! runtime holds a thread-local borrow across a blocking call. It is unsafe code like any other:
//! the lint `unsafe_code` sees it, and the reason why the promise holds belongs in a comment
//! above the attribute.

#![forbid(unsafe_code)]

mod error;
mod expand;
mod function;
mod options;

use proc_macro::TokenStream;

use expand::Kind;

/// Runs the body of `main` as a green thread.
///
/// The process ends when it returns, whatever other green threads are doing then, as in a program
/// that uses `std::thread`.
///
/// Without options this is [`bine::run`](https://docs.rs/bine/latest/bine/fn.run.html) on the
/// default runtime. With options it builds a runtime of its own, which has ended when the
/// function returns. See the [crate's documentation](crate) for the options and the expansion.
///
/// # Panics
///
/// If the runtime cannot start; the message holds the error. A panic of the body goes on as a
/// panic of the function.
///
/// # Examples
///
/// ```
/// # extern crate self as bine;
/// # pub use bine_macros::main;
/// # pub fn run<T>(f: impl FnOnce() -> T) -> T { f() }
/// #[bine::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let answer: u32 = "42".parse()?;
///     println!("{answer}");
///     Ok(())
/// }
/// ```
///
/// ```
/// # extern crate self as bine;
/// # pub use bine_macros::main;
/// # pub mod runtime {
/// #     pub struct Builder;
/// #     impl Builder {
/// #         pub fn new() -> Self { Self }
/// #         pub fn workers(self, _: usize) -> Self { self }
/// #         pub unsafe fn migrate(self) -> Self { self }
/// #         pub fn build(self) -> std::io::Result<Self> { Ok(self) }
/// #         pub fn run<T>(&self, f: impl FnOnce() -> T) -> T { f() }
/// #     }
/// # }
/// // SAFETY: nothing in this program holds a thread-local borrow across a blocking call.
/// #[bine::main(workers = 4, unsafe(migrate))]
/// fn main() {
///     println!("hello from a green thread");
/// }
/// ```
///
/// # Errors
///
/// What cannot work is refused when the program is compiled. An `async` function, because code on
/// bine blocks:
///
/// ```compile_fail
/// #[bine_macros::main]
/// async fn main() {}
/// ```
///
/// Arguments:
///
/// ```compile_fail
/// #[bine_macros::main]
/// fn main(arguments: Vec<String>) {}
/// ```
///
/// Migration without `unsafe`:
///
/// ```compile_fail
/// #[bine_macros::main(migrate)]
/// fn main() {}
/// ```
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::attribute(Kind::Main, options, item)
}

/// Makes a function a test that runs as a green thread, on a runtime of its own.
///
/// It adds `#[test]`, takes the same options as [`macro@main`], and goes together with
/// `#[should_panic]`, `#[ignore]` and a `Result` as the return type. See the
/// [crate's documentation](crate) for the options and the expansion.
///
/// Each test builds its runtime and ends it, so that tests share no workers: one that blocks its
/// OS threads cannot hold up another, and what the workers print belongs to the test that started
/// them, so that the test harness can capture it.
///
/// The runtime is the default one, as `Builder::new()` gives it, not a smaller one for tests: a
/// test should run as the program will. So `BINE_WORKERS=1 cargo test` runs all of a program's
/// tests on one worker each, and `BINE_WORKERS=8` on eight, without a change to the code. A test
/// that needs a certain number says so with `workers = EXPR`.
///
/// # Panics
///
/// The test fails if its runtime cannot start; the message holds the error.
///
/// # Examples
///
/// ```
/// # extern crate self as bine;
/// # pub use bine_macros::test;
/// # fn main() {}
/// #[bine::test(workers = 2)]
/// fn parses() -> Result<(), std::num::ParseIntError> {
///     assert_eq!("42".parse::<u32>()?, 42);
///     Ok(())
/// }
///
/// #[bine::test]
/// #[should_panic(expected = "divide by zero")]
/// fn divides() {
///     let zero = "0".parse::<u32>().unwrap();
///     println!("{}", 1 / zero);
/// }
/// ```
///
/// # Errors
///
/// It refuses what [`macro@main`] refuses, and a second `#[test]`:
///
/// ```compile_fail
/// #[bine_macros::test]
/// #[test]
/// fn twice() {}
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::attribute(Kind::Test, options, item)
}
