//! What the macros accept, and what they make of it, against a stand-in for the runtime: the
//! expansion names `::bine`, and this crate gives itself that name.

#![deny(warnings)]
#![allow(missing_docs, missing_debug_implementations)]

extern crate self as bine;

pub use bine_macros::{main, test};
pub use runtime::run;

/// The interface that the expansion uses, with the bounds of the real one. It runs everything on
/// OS threads, each of which knows what its runtime was built with.
pub mod runtime {
    use std::cell::Cell;
    use std::io;

    /// What a [`Builder`] was told.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Settings {
        pub workers: Option<usize>,
        pub stack_size: Option<usize>,
        pub migrate: bool,
        /// Whether it is the runtime behind [`run`](super::run), which no builder made.
        pub shared: bool,
    }

    thread_local! {
        static CURRENT: Cell<Option<Settings>> = const { Cell::new(None) };
    }

    /// The settings of the runtime that the caller runs on.
    pub fn settings() -> Settings {
        CURRENT.get().expect("not on a runtime")
    }

    #[derive(Default)]
    pub struct Builder(Settings);

    impl Builder {
        pub fn new() -> Self {
            Self::default()
        }

        #[must_use]
        pub fn workers(mut self, number: usize) -> Self {
            self.0.workers = Some(number);
            self
        }

        #[must_use]
        pub fn stack_size(mut self, bytes: usize) -> Self {
            self.0.stack_size = Some(bytes);
            self
        }

        /// # Safety
        ///
        /// None needed here.
        #[must_use]
        pub unsafe fn migrate(mut self) -> Self {
            self.0.migrate = true;
            self
        }

        pub fn build(self) -> io::Result<Runtime> {
            match self.0.workers {
                Some(usize::MAX) => Err(io::Error::other("too many workers")),
                _ => Ok(Runtime(self.0)),
            }
        }
    }

    pub struct Runtime(Settings);

    impl Runtime {
        pub fn run<F, T>(&self, f: F) -> T
        where
            F: FnOnce() -> T + Send + 'static,
            T: Send + 'static,
        {
            let settings = self.0;
            let on_its_thread = move || {
                CURRENT.set(Some(settings));
                f()
            };
            match std::thread::spawn(on_its_thread).join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    }

    pub fn run<F, T>(f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Runtime(Settings { shared: true, ..Settings::default() }).run(f)
    }
}

use std::error::Error;
use std::process::{ExitCode, Termination};

use runtime::{Settings, settings};

#[bine::main]
fn main() {
    assert_eq!(settings(), Settings { shared: true, ..Settings::default() });
}

#[test]
fn main_without_options_runs_on_the_shared_runtime() {
    main();
}

/// `Box<dyn Error>` is not `Send`.
#[bine::main]
fn main_that_fails() -> Result<(), Box<dyn Error>> {
    assert!(settings().shared);
    let _: u32 = "forty-two".parse()?;
    Ok(())
}

#[bine::main(workers = 2)]
pub(crate) fn main_that_succeeds() -> Result<(), Box<dyn Error>> {
    assert_eq!(settings().workers, Some(2));
    Ok(())
}

#[test]
fn results_become_exit_codes() {
    assert_eq!(main_that_fails(), ExitCode::FAILURE);
    assert_eq!(main_that_succeeds(), ExitCode::SUCCESS);
}

#[bine::main]
fn main_with_an_opaque_result() -> impl Termination {
    ExitCode::from(7)
}

#[test]
fn opaque_results_are_reported() {
    assert_eq!(main_with_an_opaque_result(), ExitCode::from(7));
}

#[bine::main]
fn main_that_never_returns() -> ! {
    panic!("on the way out");
}

#[test]
#[should_panic(expected = "on the way out")]
fn functions_that_never_return_are_run() {
    main_that_never_returns();
}

// SAFETY: the stand-in moves nothing.
#[bine::main(stack_size = 1 << 16, unsafe(migrate), workers = 4,)]
fn main_with_all_options() {
    let expected =
        Settings { workers: Some(4), stack_size: Some(1 << 16), migrate: true, shared: false };
    assert_eq!(settings(), expected);
}

#[test]
fn options_come_in_any_order() {
    main_with_all_options();
}

#[bine::main]
fn main_with_an_explicit_unit() -> () {
    assert!(settings().shared);
}

#[test]
fn an_explicit_unit_is_no_result() {
    main_with_an_explicit_unit();
}

#[bine::test]
fn a_test_has_a_runtime_of_its_own() {
    assert_eq!(settings(), Settings::default());
}

#[bine::test(workers = 3)]
fn a_test_takes_options() {
    assert_eq!(settings().workers, Some(3));
}

/// Two words at once, from one type with two parameters.
type Pair<A, B> = (A, B);

#[bine::test(workers = size_of::<Pair<u8, u8>>() + usize::from(1 < 2), stack_size = <Pair<u8, usize> as Wide<u8, u8>>::WIDTH)]
fn commas_between_angle_brackets_end_no_value() {
    assert_eq!((settings().workers, settings().stack_size), (Some(3), Some(4096)));
}

trait Wide<A, B> {
    const WIDTH: usize;
}

impl Wide<u8, u8> for Pair<u8, usize> {
    const WIDTH: usize = 4096;
}

#[bine::test]
#[should_panic(expected = "from the body")]
fn a_panic_of_the_body_fails_the_test() {
    panic!("from the body");
}

#[bine::test(workers = usize::MAX)]
#[should_panic(
    expected = r#"cannot start the bine runtime: Custom { kind: Other, error: "too many workers" }"#
)]
fn a_failure_to_build_is_a_panic_with_the_error() {
    unreachable!("there is no runtime to run this");
}

#[bine::test]
#[ignore = "checks that ignored tests do not run"]
fn an_ignored_test_does_not_run() {
    panic!("this test is ignored");
}

#[bine::test]
fn a_test_may_return_a_result() -> Result<(), Box<dyn Error>> {
    assert_eq!("42".parse::<u32>()?, 42);
    Ok(())
}

/// A name that the expansion might have used for a variable.
#[bine::test(workers = 1)]
fn runtime_builder() -> Result<(), Box<dyn Error>> {
    assert_eq!(settings().workers, Some(1));
    Ok(())
}

/// The inner function sees what the outer one sees, and calls itself by its own name.
#[bine::main]
fn recurses() {
    static LEFT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(3);
    if LEFT.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0 {
        recurses();
    }
}

#[test]
fn a_body_may_call_itself() {
    recurses();
}

macro_rules! tests {
    ($($vis:vis fn $name:ident() -> $output:ty $body:block)*) => {
        $(#[bine::test] $vis fn $name() -> $output $body)*
    };
}

tests! {
    fn written_by_a_macro() -> Result<(), Box<dyn Error>> {
        assert_eq!(settings(), Settings::default());
        Ok(())
    }

    pub(crate) fn written_by_a_macro_with_a_visibility() -> () {
        assert_eq!(settings(), Settings::default());
    }
}
