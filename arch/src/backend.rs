//! Selects the file that holds the switch of the target's architecture. Its contract stands in
//! [`context`](crate::context).

#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod arch;

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod arch;

#[cfg(target_arch = "riscv64")]
#[path = "riscv64.rs"]
mod arch;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!(
    "bine has no context switch for this architecture: only for x86_64, aarch64 and riscv64"
);

pub(crate) use arch::{prefetch, prepare, stack_pointer, switch, switch_final};
