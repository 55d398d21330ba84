//! The names of the functions on a stack, and whose they are.

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::thread;

use super::elf;

/// Whose code a function is: by its symbol and the names of what was inlined into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A function of C's, or one whose name comes without its path.
    Unknown,
    /// The standard library's.
    Std,
    Bine,
    Program,
}

/// A function; others may be inlined into it.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) owner: Owner,
    symbol: Option<String>,
    /// Names and places, the innermost first. Empty where there are no symbols.
    pub(super) names: Vec<(String, Option<String>)>,
}

impl Function {
    fn at(instruction: usize) -> Self {
        // The instruction after a call may be another function's first.
        let symbol = elf::function_at(instruction.saturating_sub(1));
        let root = symbol.as_deref().and_then(elf::crate_of);
        let owner = root.as_deref().map_or(Owner::Unknown, owner_of_crate);
        // Without a root it is C's, or has a name that `owner_of` knows.
        Self { owner, symbol: root.and(symbol), names: Vec::new() }
    }

    /// Whose it is with what was inlined into it: what calls a closure may have become one with it.
    fn owner_with_inlined(&self) -> Owner {
        let mut owners = self.names.iter().map(|(name, _)| owner_of(name));
        let Some(symbol) = &self.symbol else { return owners.max().unwrap_or(self.owner) };
        let has_programs = match self.owner {
            // With tables of lines alone, the names of what was inlined have no paths.
            Owner::Std => owners.any(|it| matches!(it, Owner::Program | Owner::Unknown)),
            Owner::Bine => {
                let runs_threads = elf::path_of(symbol).ends_with(&["run"])
                    && symbol.contains("bine_runtime4task")
                    && self.names.len() > 1;
                runs_threads || owners.any(|it| it == Owner::Program)
            }
            Owner::Program | Owner::Unknown => true,
        };
        if has_programs { Owner::Program } else { self.owner }
    }

    /// Of the function itself, and not of what was inlined into it.
    pub(super) fn name(&self) -> String {
        match (&self.symbol, self.names.last()) {
            // With tables of lines alone, only the symbol has the path.
            (Some(symbol), Some((name, _))) if !name.contains("::") => {
                elf::path_of(symbol).join("::")
            }
            (_, Some((name, _))) => name.clone(),
            _ => "<unknown>".to_owned(),
        }
    }
}

/// The functions on the calling stack, by where they go on when what they have called returns.
pub(super) fn of_this_stack() -> HashMap<usize, Function> {
    let mut functions: HashMap<usize, Function> = HashMap::new();
    for (instruction, name, place) in parse(&print(Backtrace::force_capture())) {
        let function = functions.entry(instruction).or_insert_with(|| Function::at(instruction));
        // A function that recurses comes again.
        if !function.names.iter().any(|(known, at)| *known == name && *at == place) {
            function.names.push((name, place));
        }
    }
    for function in functions.values_mut() {
        function.owner = function.owner_with_inlined();
    }
    functions
}

/// On another OS thread: looking names up takes more of a stack than a green thread may have left.
fn print(backtrace: Backtrace) -> String {
    let printer = thread::Builder::new().name("bine-check-tls".into());
    let printed = printer.spawn(move || format!("{backtrace:#}")).map(thread::JoinHandle::join);
    match printed {
        Ok(Ok(text)) => text,
        _ => String::new(),
    }
}

/// Instructions, names and places in the text of a backtrace.
fn parse(text: &str) -> Vec<(usize, String, Option<String>)> {
    let mut frames: Vec<(usize, String, Option<String>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(place) = line.strip_prefix("at ") {
            if let Some(frame) = frames.last_mut() {
                frame.2 = Some(place.to_owned());
            }
            continue;
        }
        let numbered = line.split_once(": ").filter(|(n, _)| n.bytes().all(|b| b.is_ascii_digit()));
        let rest = numbered.map_or(line, |(_, rest)| rest).trim_start();
        let addressed = rest.strip_prefix("0x").and_then(|rest| rest.split_once(" - "));
        let address = addressed.and_then(|(hex, _)| usize::from_str_radix(hex.trim(), 16).ok());
        match (address, addressed, frames.last()) {
            (Some(address), Some((_, name)), _) => frames.push((address, shorten(name), None)),
            (None, _, Some(&(address, ..))) => frames.push((address, shorten(rest), None)),
            _ => {}
        }
    }
    frames.retain(|(_, name, _)| name != "<unknown>");
    frames
}

/// A name without the compiler's hashes.
fn shorten(name: &str) -> String {
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let name = match name.rsplit_once("::h") {
        Some((name, hash)) if is_hash(hash) => name,
        _ => name,
    };
    let mut short = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('[') {
        short.push_str(before);
        match after.split_once(']') {
            Some((hash, after)) if is_hash(hash) => rest = after,
            _ => {
                short.push('[');
                rest = after;
            }
        }
    }
    short + rest
}

/// By the crate that the name begins with.
fn owner_of(name: &str) -> Owner {
    match crate_of(name) {
        Some(root) => owner_of_crate(root),
        None if name.starts_with("__rust") => Owner::Std,
        None => Owner::Unknown,
    }
}

fn owner_of_crate(name: &str) -> Owner {
    match name {
        "std" | "core" | "alloc" => Owner::Std,
        name if is_bine(name) => Owner::Bine,
        _ => Owner::Program,
    }
}

pub(super) fn is_bine(name: &str) -> bool {
    matches!(name, "bine" | "bine_arch" | "bine_runtime" | "bine_sync" | "bine_io")
}

pub(super) fn crate_of(name: &str) -> Option<&str> {
    let mut path = name;
    loop {
        let before = path;
        path = path.trim_start_matches(['<', '&', '*', '(', '[', ' ']);
        for word in ["dyn ", "mut ", "const "] {
            path = path.strip_prefix(word).unwrap_or(path);
        }
        if path == before {
            break;
        }
    }
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    let (first, rest) = path.split_at(end);
    if rest.starts_with("::") {
        return Some(first);
    }
    // `<T as some_crate::Trait>::method`
    let (_, of_trait) = rest.split_once(" as ")?;
    crate_of(of_trait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened() {
        for (name, short) in [
            ("m::main::h4009bc0cd8b193aa", "m::main"),
            ("m::h::hello", "m::h::hello"),
            (
                "<std[e28293b1aa0f68bd]::backtrace::Backtrace>::create",
                "<std::backtrace::Backtrace>::create",
            ),
            ("m::f::<[u8]>", "m::f::<[u8]>"),
            ("main", "main"),
        ] {
            assert_eq!(shorten(name), short);
        }
    }

    #[test]
    fn owners() {
        for (name, owner) in [
            ("bine_runtime::worker::Core::park", Owner::Bine),
            ("<bine_sync::mutex::Mutex<T> as core::fmt::Debug>::fmt", Owner::Bine),
            ("<F as bine_runtime::primitive::Run>::run", Owner::Bine),
            ("bine_cup::fill", Owner::Program),
            ("<&mut kettle::Kettle as core::ops::drop::Drop>::drop", Owner::Program),
            ("<&dyn core::ops::function::Fn<()> as x::Y>::call_once", Owner::Std),
            ("std::thread::local::LocalKey<T>::with", Owner::Std),
            ("core::ptr::drop_in_place<kettle::Kettle>", Owner::Std),
            ("__rust_try", Owner::Std),
            ("qsort", Owner::Unknown),
        ] {
            assert_eq!(owner_of(name), owner, "{name}");
        }
    }

    #[inline(never)]
    fn marked() -> HashMap<usize, Function> {
        std::hint::black_box(of_this_stack())
    }

    #[test]
    fn functions_are_found_where_the_unwinder_finds_them() {
        let (functions, frames) = (marked(), bine_arch::frames::walk());
        let mut marked = functions.values().filter(|it| it.name().ends_with("marked"));
        assert!(marked.any(|it| it.owner == Owner::Bine), "{functions:?}");
        // Not this test's, which goes on elsewhere, and those that this has called.
        let common = frames.iter().filter(|frame| functions.contains_key(&frame.instruction));
        assert!(common.count() >= frames.len() / 2, "{functions:?} {frames:x?}");
    }
}
