//! The servers under load, as a user has them measured: the program, its children, and what comes out.
//!
//! On those runtimes alone that must not fail; what is measured is not looked at.

use std::process::Command;

use serde_json::Value;

/// Runs one round of these on every runtime that must not fail, and returns all results.
fn results(workloads: &str) -> Vec<Value> {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let json = format!("{folder}/servers-{}-{workloads}.json", std::process::id());
    let output = Command::new(env!("CARGO_BIN_EXE_bine-benches"))
        .args(["--quick", "--rounds", "1", "--workloads", workloads, "--json", &json])
        .args(["--runtimes", "threads,tokio,raw,bine,bine-migrate"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let content: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(json).unwrap();
    content["results"].as_array().unwrap().clone()
}

/// Every metric has a value for each of five runtimes, and nothing has failed.
fn check(workloads: &str, metrics: usize) {
    let results = results(workloads);
    assert_eq!(results.len(), 5 * metrics);
    for result in results {
        assert_eq!(result["failures"].as_array().unwrap().len(), 0, "{result}");
        assert_eq!(result["values"].as_array().unwrap().len(), 1, "{result}");
    }
}

#[test]
fn echo_is_served_and_measured_everywhere() {
    check("echo-100", 5);
}

#[test]
fn http_is_served_and_measured_everywhere() {
    check("http-64", 5);
    check("http-pipelined", 5);
}

#[test]
fn a_server_that_never_gets_its_connections_is_shown_as_a_failure() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 500 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_bine-benches")]);
    command.args(["--quick", "--rounds", "1", "--workloads", "echo-1000", "--runtimes", "bine"]);
    let output = command.output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    let refused = "1000 connections take 1100 open files, and the limit is 500";
    assert!(table.contains("fails") && table.contains(refused), "{table}");
}
