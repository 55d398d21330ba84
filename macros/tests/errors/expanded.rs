//! What the compiler refuses in the code that the macros make of good input.

extern crate self as bine;

pub fn run<T>(f: impl FnOnce() -> T) -> T {
    f()
}

pub mod runtime {
    pub struct Builder;

    impl Builder {
        pub fn new() -> Self {
            Self
        }

        pub fn workers(self, _: usize) -> Self {
            self
        }

        pub unsafe fn migrate(self) -> Self {
            self
        }

        pub fn build(self) -> std::io::Result<Self> {
            Ok(self)
        }

        pub fn run<T>(&self, f: impl FnOnce() -> T) -> T {
            f()
        }
    }
}

unsafe fn dangerous_number() -> usize {
    4
}

#[bine_macros::main(unsafe(migrate), workers = dangerous_number())] //~ `dangerous_number()`: call to unsafe function
pub fn values_stand_outside_the_unsafe_block() {}

#[bine_macros::main(workers = "4")] //~ `"4"`: mismatched types
pub fn values_are_numbers() {}

#[deny(unsafe_code)]
#[bine_macros::main(unsafe(migrate))] //~ `migrate`: usage of an `unsafe` block
pub fn migration_is_unsafe_code() {}

#[bine_macros::main]
pub fn results_are_what_main_may_return() -> u32 { //~ `u32`: the trait bound `u32: Termination` is not satisfied
    4
}
