//! What the macros refuse, with which message, and at which place.
//!
//! Compiles the files in `errors/` and compares the compiler's errors with the comments there. A line
//! with an error ends in ``//~ `TEXT`: MESSAGE``: the error points at TEXT, on that line, and its
//! text begins with MESSAGE. Errors without a comment and comments without an error both fail.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const MARK: &str = "//~ `";

/// An error on a line, in the form of the comments.
type Case = (usize, String);

fn rustc() -> Command {
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.arg("--edition=2024").arg("--out-dir").arg(env!("CARGO_TARGET_TMPDIR"));
    command
}

/// The macros, compiled once more, since cargo does not tell where it put them.
fn compiled_macros() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(compile_macros);
    &LIBRARY
}

fn compile_macros() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = rustc()
        .args(["--crate-type=proc-macro", "--crate-name=bine_macros", "--extern=proc_macro"])
        .arg(root.join("src/lib.rs"))
        .output()
        .expect("rustc can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = format!("{}bine_macros{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(file)
}

/// `path:line:column: error: message`, one error a line.
fn compile_cases(macros: &Path, cases: &Path) -> String {
    let output = rustc()
        .args(["--crate-type=lib", "--emit=metadata", "--error-format=short"])
        .arg("--extern")
        .arg(format!("bine_macros={}", macros.display()))
        .arg(cases)
        .output()
        .expect("rustc can be run");
    String::from_utf8(output.stderr).expect("rustc writes UTF-8")
}

fn expected(source: &str) -> Vec<Case> {
    let lines = source.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            line.split_once(MARK).map(|(_, case)| (index + 1, format!("`{case}")))
        })
        .collect()
}

/// The errors that the compiler gave on this file, each with so much of the source as `expected`
/// names for that line.
fn found(source: &str, stderr: &str, expected: &[Case]) -> Vec<Case> {
    let lines: Vec<&str> = source.lines().collect();
    let mut cases = Vec::new();
    for report in stderr.lines() {
        let Some((place, message)) = report.split_once(": error") else { continue };
        let mut numbers = place.rsplit(':').map(str::parse::<usize>);
        let (Some(Ok(column)), Some(Ok(line))) = (numbers.next(), numbers.next()) else { continue };
        let (_, message) = message.split_once(": ").expect("a message follows");
        let rest = &lines[line - 1][column - 1..];
        let wanted = expected.iter().find(|(number, case)| {
            let (text, start) = case[1..].split_once("`: ").expect("a comment is `TEXT`: MESSAGE");
            *number == line && rest.starts_with(text) && message.starts_with(start)
        });
        let case = wanted.map_or_else(|| format!("`{rest}`: {message}"), |(_, case)| case.clone());
        cases.push((line, case));
    }
    cases.sort();
    cases
}

/// Compiles the file of that name and checks its comments.
fn check(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = root.join("tests/errors").join(name);
    let source = std::fs::read_to_string(&cases).expect("the cases can be read");
    let stderr = compile_cases(compiled_macros(), &cases);
    let expected = expected(&source);
    assert!(!expected.is_empty(), "{name} has no comments to check");
    assert_eq!(found(&source, &stderr, &expected), expected, "the compiler said:\n{stderr}");
}

#[test]
fn refusals_point_at_the_mistake() {
    check("refused.rs");
}

#[test]
fn the_compiler_sees_through_the_expansion() {
    check("expanded.rs");
}
