//! Runs one test of this binary again, in a child process that may be limited, or killed.

use std::process::{Command, Output};

const MARK: &str = "BINE_ARCH_TEST_CHILD";

/// Whether this process is such a child.
pub(crate) fn is_child() -> bool {
    std::env::var_os(MARK).is_some()
}

/// The child: the test `name` alone, in a process with `environment`.
pub(crate) fn run(name: &str, environment: &[(&str, &str)]) -> Output {
    assert!(!is_child(), "the child has survived what was to end it");
    let test = std::env::current_exe().unwrap();
    // Under an emulator, the kernel cannot start the child by itself.
    let mut command = match std::env::var_os("BINE_TEST_RUNNER") {
        None => Command::new(test),
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.arg(test);
            command
        }
    };
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env_remove("BINE_STACK_GUARD")
        .envs(environment.iter().copied())
        .env(MARK, "1")
        .output()
        .unwrap()
}

/// As [`run`], and the child's test passes.
#[allow(dead_code, reason = "not every test binary has children that live")]
pub(crate) fn run_to_success(name: &str, environment: &[(&str, &str)]) {
    let output = run(name, environment);
    assert!(output.status.success(), "{name} {environment:?}: {output:?}");
}
