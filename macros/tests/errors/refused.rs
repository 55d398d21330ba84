//! Every use of the macros that they refuse.

use bine_macros as bine;

// The function.

#[bine::main]
async fn asynchronous() {} //~ `async`: code on bine blocks and is never `async`

#[bine::test]
pub(crate) async fn asynchronous_test() {} //~ `async`: code on bine blocks and is never `async`

#[bine::main]
fn arguments(number: usize) {} //~ `(number: usize)`: a `#[bine::main]` function takes no arguments

#[bine::main]
fn generic<T>() {} //~ `<T>`: a `#[bine::main]` function cannot be generic

#[bine::test]
fn bounded() where String: Clone {} //~ `where`: a `#[bine::test]` function cannot have a `where` clause

#[bine::main]
const fn constant() {} //~ `const`: `#[bine::main]` does not work on `const` functions

#[bine::main]
unsafe fn dangerous() {} //~ `unsafe`: `#[bine::main]` does not work on `unsafe` functions

#[bine::main]
pub extern "C" fn foreign() {} //~ `extern`: `#[bine::main]` does not work on `extern` functions

#[bine::main]
struct Structure; //~ `struct`: `#[bine::main]` goes on a function

#[bine::test]
const CONSTANT: usize = 1; //~ `const`: `#[bine::test]` goes on a function

pub trait Trait {
    #[bine::main]
    fn declared(); //~ `declared`: a `#[bine::main]` function needs a body
}

#[bine::test]
#[test] //~ `[test]`: `#[bine::test]` adds `#[test]` itself
fn twice_a_test() {}

// The options.

#[bine::main(verbose)] //~ `verbose`: unknown option `verbose`: the options are `workers = EXPR`
fn unknown() {}

#[bine::main(4)] //~ `4`: expected an option: the options are `workers = EXPR`
fn no_name() {}

#[bine::main(workers = 1, worker = 2)] //~ `worker = 2`: unknown option `worker`
fn unknown_second() {}

#[bine::main(workers)] //~ `workers)`: expected a value: `workers = EXPR`
fn no_sign() {}

#[bine::main(workers(4))] //~ `(4)`: expected a value: `workers = EXPR`
fn like_a_call() {}

#[bine::main(stack_size =, workers = 4)] //~ `stack_size`: expected a value: `stack_size = EXPR`
fn no_value() {}

#[bine::main(workers = 1, stack_size = 2, workers = 3)] //~ `workers = 3`: the option `workers` is given twice
fn workers_twice() {}

#[bine::test(unsafe(migrate), unsafe(migrate))] //~ `unsafe(migrate))`: the option `unsafe(migrate)` is given twice
fn migrate_twice() {}

#[bine::main(migrate)] //~ `migrate`: `migrate` must be written as `unsafe(migrate)`: it promises that no green thread holds a thread-local borrow across a blocking call
fn without_unsafe() {}

#[bine::test(workers = 2, migrate = true)] //~ `migrate`: `migrate` must be written as `unsafe(migrate)`
fn migrate_with_a_value() {}

#[bine::main(unsafe)] //~ `unsafe`: expected `unsafe(migrate)`
fn unsafe_alone() {}

#[bine::main(unsafe(workers = 4))] //~ `workers`: only `migrate` is unsafe
fn unsafe_workers() {}

#[bine::main(unsafe())] //~ `()`: only `migrate` is unsafe
fn unsafe_nothing() {}

#[bine::main(unsafe(migrate) workers = 4)] //~ `workers`: expected `,` after `unsafe(migrate)`
fn no_comma() {}
