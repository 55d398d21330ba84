//! Go as a peer: its program is built on demand and then takes the place of the measuring process.
//!
//! The source is part of this binary, so that the benchmarks can be copied to another machine as
//! one file; the Go toolchain is the one that `GO` names, else `go` on the `PATH`.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::Seat;
use crate::workload::{Runtime, Service, Size, Workload};

/// The files of the program.
const SOURCES: [(&str, &str); 3] = [
    ("main.go", include_str!("../go/main.go")),
    ("http.go", include_str!("../go/http.go")),
    ("go.mod", include_str!("../go/go.mod")),
];

/// The Go command of this machine, if it has one that runs.
pub(crate) fn toolchain() -> Option<OsString> {
    let go = std::env::var_os("GO").unwrap_or_else(|| "go".into());
    let mut command = Command::new(&go);
    command.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success()).then_some(go)
}

/// Builds the program beside the running one and returns its path.
///
/// # Errors
///
/// If it cannot be written or built; the message has what the compiler said.
pub(crate) fn build(toolchain: &OsString) -> io::Result<PathBuf> {
    let folder = std::env::current_exe()?.with_file_name("bine-benches-go");
    std::fs::create_dir_all(&folder)?;
    for (name, source) in SOURCES {
        std::fs::write(folder.join(name), source)?;
    }
    let program = folder.join("peer");
    let output = Command::new(toolchain)
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(&folder)
        .output()?;
    if output.status.success() {
        Ok(program)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Replaces this process by the Go program, measuring; returns only if that fails.
pub(crate) fn become_measurement(seat: &Seat, workload: Workload, size: Size) -> io::Error {
    let Some(mut command) = command(seat) else { return missing() };
    command.args(["-workload", workload.name()]);
    command.args(["-tasks", &size.tasks.to_string(), "-rounds", &size.rounds.to_string()]);
    command.args(["-millis", &size.millis.to_string()]);
    command.exec()
}

/// Replaces this process by the Go program, serving; returns only if that fails.
pub(crate) fn become_server(seat: &Seat, service: Service) -> io::Error {
    let Some(mut command) = command(seat) else { return missing() };
    let service = match service {
        Service::Echo => "echo",
        Service::Http if seat.runtime == Runtime::GoNetHttp => "net-http",
        Service::Http => "http",
    };
    command.args(["-serve", service]).exec()
}

fn command(seat: &Seat) -> Option<Command> {
    let program: &Path = seat.go_program.as_deref()?;
    let mut command = Command::new(program);
    command.args(["-workers", &seat.workers.to_string()]);
    Some(command)
}

fn missing() -> io::Error {
    io::Error::other("--go-program is not given")
}
