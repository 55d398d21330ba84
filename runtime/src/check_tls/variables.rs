//! The thread-locals of a module by their offsets, from the symbols in its file.
//!
//! Most of the addresses that earlier calls leave on a stack are those of thread-locals that nobody
//! lends: bine's, std's, those of the crates that bine is made of. With names they are told apart.

use super::elf::{self, path_of};

/// What is known of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    /// Its name, and how far into it the address is.
    Named(String, usize),
    /// The module's file has no names.
    Unknown,
    /// Nobody lends it across a wait, or it is none.
    NeverLent,
}

/// The variable at `offset` into the thread-locals of `module`.
pub(super) fn at(module: &str, offset: usize) -> Variable {
    let symbols = elf::symbols_of(module);
    let table = &symbols.variables;
    if table.is_empty() {
        return Variable::Unknown;
    }
    let found = table.iter().find(|(range, _)| range.contains(&offset));
    let Some((range, symbol)) = found else { return Variable::NeverLent };
    let path = path_of(symbol);
    if is_lent(module, &path) {
        Variable::Named(path.join("::"), offset - range.start)
    } else {
        Variable::NeverLent
    }
}

/// Whether a program may borrow it.
fn is_lent(module: &str, path: &[&str]) -> bool {
    let file = module.rsplit('/').next().unwrap_or(module);
    if file.starts_with("libc.") || file.starts_with("ld-") {
        return path.last().is_some_and(|name| name.ends_with("errno"));
    }
    let internal = ["std", "core", "alloc", "parking_lot_core", "crossbeam_epoch"];
    match path {
        // A function of C's, or a variable that is exported.
        [] | [_] => true,
        [root, ..] => !internal.contains(root) && !super::symbols::is_bine(root),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn who_lends() {
        assert!(is_lent("", &["kettle", "WATER"]));
        assert!(is_lent("", &["some_c_variable"]));
        assert!(!is_lent("", &["bine_runtime", "worker", "CURRENT"]));
        assert!(!is_lent("", &["std", "thread", "current", "CURRENT"]));
        assert!(is_lent("/lib/libc.so.6", &["errno"]));
        assert!(!is_lent("/lib/libc.so.6", &["tcache"]));
    }

    /// Where this module's thread-locals begin, and what is at the address.
    fn at_address(address: usize) -> Variable {
        let blocks = bine_arch::tls::blocks().unwrap();
        let block = blocks.iter().find(|block| block.range.contains(&address)).unwrap();
        at(&block.module, address - block.range.start)
    }

    #[test]
    fn variables_are_found() {
        thread_local! {
            static OURS: Cell<u64> = const { Cell::new(7) };
        }
        if cfg!(not(target_env = "gnu")) {
            return;
        }
        // This crate's own, by the names of which they are known.
        assert_eq!(at_address(OURS.with(|place| &raw const *place).addr()), Variable::NeverLent);
        // SAFETY: no more than an address is taken.
        let errno = unsafe { libc::__errno_location() }.addr();
        let named = at_address(errno);
        assert!(matches!(&named, Variable::Named(name, 0) if name.ends_with("errno")), "{named:?}");
        assert_eq!(at("/dev/null", 0), Variable::Unknown);
        assert_eq!(at("no such file", 0), Variable::Unknown);
        let symbols = elf::symbols_of("");
        let table = &symbols.variables;
        let ours = table.iter().filter(|(_, symbol)| path_of(symbol).ends_with(&["OURS"]));
        assert_eq!(ours.count(), 1, "{table:?}");
    }
}
