//! What a panic on a green thread prints: its own name and where it was spawned, not the name of the
//! OS thread that happens to run it.
//!
//! std prints from its panic hook, which belongs to the program. So bine sets one only if nobody has
//! set any when the first runtime is built, and it passes the panics of other threads on to the hook
//! that it found, which is std's. Whoever sets a hook later replaces bine's, and one that calls the
//! hook before it calls bine's.
//!
//! Whether the hook in place is std's is not to be asked. But `take_hook` puts std's in the place of
//! the one that it returns, so the second of two calls returns std's for sure, and the first was
//! std's too if both have the same vtable and address. (Where the linker has two vtables for the
//! same hook, bine takes std's for the user's, and leaves it.)
//!
//! Between the taking and the setting another thread may panic, and is reported by std's hook, or set
//! a hook of its own, which is lost. A program that sets one does so before its first runtime, or
//! after that has been built.

use std::any::Any;
use std::backtrace::Backtrace;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, io, ptr, thread};

use parking_lot::Mutex;

use crate::task::TaskRef;
use crate::worker;

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Sets the hook if none is set and this is the first call that can. A thread that panics must not
/// touch the hook: then the next call does it.
pub(crate) fn install() {
    static DONE: Mutex<bool> = Mutex::new(false);
    if thread::panicking() {
        return;
    }
    let mut done = DONE.lock();
    if *done {
        return;
    }
    *done = true;
    let found = panic::take_hook();
    let default = panic::take_hook();
    if ptr::eq(&raw const *found, &raw const *default) {
        panic::set_hook(hook_before(default));
    } else {
        panic::set_hook(found);
    }
}

/// bine's hook, which leaves the panics of threads that are not green to `others`.
fn hook_before(others: Hook) -> Hook {
    Box::new(move |info| match worker::green() {
        Some((_, task)) => {
            // SAFETY: the thread that runs is alive.
            report(&unsafe { TaskRef::from_borrowed(task) }, info);
        }
        None => others(info),
    })
}

fn report(task: &TaskRef, info: &PanicHookInfo<'_>) {
    let mut text = String::new();
    // A String takes all that is written. A `Display` that panics here ends the process, as in
    // std's hook.
    let _ = describe(&mut text, task, info);
    // In one piece, so that nothing comes between the lines. Nobody is there to hear of a failure,
    // and `eprint!` would panic.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn describe(text: &mut String, task: &TaskRef, info: &PanicHookInfo<'_>) -> fmt::Result {
    match task.name() {
        Some(name) => write!(text, "\ngreen thread '{name}'")?,
        None => write!(text, "\ngreen thread '<unnamed>' (id {})", task.id)?,
    }
    match info.location() {
        Some(location) => writeln!(text, " panicked at {location}:")?,
        None => writeln!(text, " panicked:")?,
    }
    writeln!(text, "{}", message(info.payload()))?;
    writeln!(text, "note: the thread was spawned at {}", task.spawned_at)?;
    match BacktraceStyle::asked_for() {
        BacktraceStyle::Off => {
            static SAID: AtomicBool = AtomicBool::new(false);
            // Relaxed: nothing hangs on it.
            if !SAID.swap(true, Ordering::Relaxed) {
                text.push_str(
                    "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                );
            }
        }
        BacktraceStyle::Short => {
            text.push_str("stack backtrace:\n");
            shorten(&Backtrace::force_capture().to_string(), text)?;
            text.push_str(
                "note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose \
                 backtrace.\n",
            );
        }
        BacktraceStyle::Full => {
            write!(text, "stack backtrace:\n{:#}", Backtrace::force_capture())?;
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
    }
    Ok(())
}

/// What std's hook prints for a payload.
fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "Box<dyn Any>"
    }
}

/// What RUST_BACKTRACE says. (std keeps its own answer to itself.)
#[derive(Clone, Copy)]
enum BacktraceStyle {
    Off,
    Short,
    Full,
}

impl BacktraceStyle {
    /// Looks once, as std does.
    fn asked_for() -> Self {
        static ASKED_FOR: OnceLock<BacktraceStyle> = OnceLock::new();
        *ASKED_FOR.get_or_init(|| match env::var_os("RUST_BACKTRACE") {
            None => Self::Off,
            Some(text) if text == "0" => Self::Off,
            Some(text) if text == "full" => Self::Full,
            Some(_) => Self::Short,
        })
    }
}

/// One function in the text of a backtrace. An inlined one has no number of its own.
struct Frame<'a> {
    numbered: bool,
    name: &'a str,
    location: Option<&'a str>,
}

/// The frames between the panic machinery and what called the thread's closure, numbered anew. All
/// of them where the symbols that tell are missing.
fn shorten(backtrace: &str, into: &mut String) -> fmt::Result {
    let frames = parse(backtrace);
    let first = frames.iter().rposition(|f| f.name.contains("__rust_end_short_backtrace"));
    let first = first.map_or(0, |index| index + 1);
    let run = frames
        .iter()
        .rposition(|f| f.name.contains("task::TaskCell<") && f.name.ends_with("::run"));
    let mut end = run.filter(|run| *run > first).unwrap_or(frames.len());
    if end < frames.len() {
        while end > first && calls_the_closure(frames[end - 1].name) {
            end -= 1;
        }
    }
    let mut number = 0;
    for (index, frame) in frames[first..end].iter().enumerate() {
        if frame.numbered || index == 0 {
            writeln!(into, "{number:4}: {}", frame.name)?;
            number += 1;
        } else {
            writeln!(into, "      {}", frame.name)?;
        }
        if let Some(location) = frame.location {
            writeln!(into, "             {location}")?;
        }
    }
    Ok(())
}

fn parse(backtrace: &str) -> Vec<Frame<'_>> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    for line in backtrace.lines().map(str::trim) {
        if line.starts_with("at ") {
            if let Some(frame) = frames.last_mut() {
                frame.location = Some(line);
            }
            continue;
        }
        let number = line.split_once(": ").filter(|(n, _)| n.bytes().all(|b| b.is_ascii_digit()));
        let (numbered, name) = number.map_or((false, line), |(_, name)| (true, name));
        frames.push(Frame { numbered, name, location: None });
    }
    frames
}

/// What std puts between `TaskCell::run` and the closure.
fn calls_the_closure(name: &str) -> bool {
    name == "__rust_try"
        || name.starts_with("std::panicking::")
        || name.starts_with("std::panic::catch_unwind")
        || name.starts_with("<core::panic::unwind_safe::AssertUnwindSafe<")
        || name.starts_with("core::panic::unwind_safe::")
}
