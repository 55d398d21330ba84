//! The symbols of a module, from its file, and what rustc has put into their names.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

/// Names, and the addresses that they are for.
pub(super) type Table = Vec<(Range<usize>, String)>;

#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// By offsets into the module's thread-locals.
    pub(super) variables: Table,
    /// By addresses relative to where the module was loaded.
    pub(super) functions: Table,
}

/// The symbols of a module, which is named as in [`bine_arch::tls`]; none if they cannot be read. The
/// file is read once.
pub(super) fn symbols_of(module: &str) -> Arc<Symbols> {
    static READ: LazyLock<Mutex<HashMap<String, Arc<Symbols>>>> = LazyLock::new(Mutex::default);
    let mut read_before = READ.lock();
    if let Some(symbols) = read_before.get(module) {
        return Arc::clone(symbols);
    }
    let path = if module.is_empty() { "/proc/self/exe" } else { module };
    let symbols = File::open(path).ok().and_then(|file| read(&file)).unwrap_or_default();
    let symbols = Arc::new(symbols);
    read_before.insert(module.to_owned(), Arc::clone(&symbols));
    symbols
}

/// The symbol of the function at an address.
pub(super) fn function_at(address: usize) -> Option<String> {
    let origin = bine_arch::tls::origin(address)?;
    let symbols = symbols_of(&origin.module);
    let found = symbols.functions.iter().find(|(range, _)| range.contains(&origin.address));
    found.map(|(_, symbol)| symbol.clone())
}

/// The parts of a symbol that say where it was declared; of a name of C's, itself. Both ways of
/// rustc's to make symbols have the names in clear, each after its length.
pub(super) fn path_of(symbol: &str) -> Vec<&str> {
    let (legacy, mut path) = parts_of(symbol);
    // Not closures and the like, what std calls the variable itself, and hashes.
    path.retain(|part| {
        let hash = legacy && part.len() == 17 && part.starts_with('h');
        !hash && !part.is_empty() && !part.contains('$') && !part.contains("RUST_STD_INTERNAL")
    });
    path
}

/// The name of the crate, if a symbol begins with it.
pub(super) fn crate_of(symbol: &str) -> Option<String> {
    let first = *parts_of(symbol).1.first()?;
    if first == symbol {
        return None;
    }
    if !first.contains("$LT$") {
        return Some(first.to_owned());
    }
    // `_$LT$tea..Pot$u20$as$u20$core..fmt..Debug$GT$`
    let mut name = first.trim_start_matches('_').replace("..", "::");
    for (code, char) in [("$LT$", "<"), ("$GT$", ">"), ("$u20$", " "), ("$RF$", "&"), ("$BP$", "*")]
    {
        name = name.replace(code, char);
    }
    super::symbols::crate_of(&name).map(str::to_owned)
}

/// The parts of a symbol, and whether they are made in the old way.
fn parts_of(symbol: &str) -> (bool, Vec<&str>) {
    let (mut rest, legacy) = match (symbol.strip_prefix("_ZN"), symbol.strip_prefix("_R")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => return (false, vec![symbol]),
    };
    let mut path = Vec::new();
    while let Some(tag) = rest.chars().next() {
        if !tag.is_ascii_digit() {
            // Numbers in base 62, which end with an underscore; other tags are single letters.
            let skipped = if !legacy && matches!(tag, 's' | 'B') { rest.find('_') } else { None };
            rest = &rest[skipped.unwrap_or(0)..];
            rest = rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or("");
            continue;
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = if tag == '0' { 1 } else { digits };
        let (length, after) = rest.split_at(digits);
        let after = if legacy { after } else { after.strip_prefix('_').unwrap_or(after) };
        let Some((part, after)) = after.split_at_checked(length.parse().unwrap_or(0)) else {
            break;
        };
        path.push(part);
        rest = after;
    }
    (legacy, path)
}

/// A number at `offset`, in the processor's byte order.
fn number<const N: usize>(bytes: &[u8], offset: usize) -> Option<usize> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(bytes.get(offset..offset + N)?);
    usize::try_from(u64::from_le_bytes(number)).ok()
}

/// The symbols of an ELF file of 64 bits, little-endian: all, or if those were stripped, the exported
/// ones. (<elf.h> has the layouts.)
fn read(file: &File) -> Option<Symbols> {
    const SYMBOLS: usize = 2;
    const EXPORTED: usize = 11;
    let piece = |offset: usize, size: usize| {
        let mut bytes = vec![0; size.min(256 << 20)];
        file.read_exact_at(&mut bytes, offset as u64).ok()?;
        Some(bytes)
    };
    let header = piece(0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (at, size) = (number::<8>(&header, 0x28)?, number::<2>(&header, 0x3a)?);
    let sections = piece(at, size * number::<2>(&header, 0x3c)?)?;
    let sections: Vec<&[u8]> = sections.chunks_exact(size.max(64)).collect();
    let content = |section: &[u8]| piece(number::<8>(section, 0x18)?, number::<8>(section, 0x20)?);
    let of_type = |kind| sections.iter().find(|it| number::<4>(it, 4) == Some(kind));
    let symbols = of_type(SYMBOLS).or_else(|| of_type(EXPORTED))?;
    let names = content(sections.get(number::<4>(symbols, 0x28)?)?)?;
    let symbols = content(symbols)?;
    let table = |kind| symbols.chunks_exact(24).filter_map(|it| symbol(it, kind, &names)).collect();
    Some(Symbols { variables: table(THREAD_LOCAL), functions: table(FUNCTION) })
}

const FUNCTION: u8 = 2;
const THREAD_LOCAL: u8 = 6;

fn symbol(symbol: &[u8], kind: u8, names: &[u8]) -> Option<(Range<usize>, String)> {
    let (start, size) = (number::<8>(symbol, 8)?, number::<8>(symbol, 16)?);
    // Section 0: it is another module's.
    if symbol[4] & 0xf != kind || number::<2>(symbol, 6)? == 0 {
        return None;
    }
    let name = names.get(number::<4>(symbol, 0)?..)?;
    let name = name.split(|byte| *byte == 0).next()?;
    // Marks of the assembler's, which some architectures have: no variables.
    if name.is_empty() || name.starts_with(b"$") || name.starts_with(b".L") {
        return None;
    }
    Some((start..start.checked_add(size.max(1))?, String::from_utf8_lossy(name).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cup = "_ZN3tea3pot3CUP29_$u7b$$u7b$constant$u7d$$u7d$28_$u7b$$u7b$closure$u7d$$u7d$23__RUST_STD_INTERNAL_VAL17h4988cf960aba192aE";
        assert_eq!(path_of(cup), ["tea", "pot", "CUP"]);
        let count = "_RNvNCNKNvNtNtCsjrHSEGnQ3l9_3std9panicking11panic_count17LOCAL_PANIC_COUNT0s_023___RUST_STD_INTERNAL_VAL";
        assert_eq!(path_of(count), ["std", "panicking", "panic_count", "LOCAL_PANIC_COUNT"]);
        assert_eq!(path_of("errno"), ["errno"]);
        assert_eq!(path_of("_ZN99short"), [""; 0]);
        assert_eq!(path_of("_R9"), [""; 0]);
    }

    #[test]
    fn crates() {
        for (symbol, name) in [
            ("_ZN3tea3pot4pour17h4988cf960aba192aE", Some("tea")),
            (
                "_ZN50_$LT$tea..Pot$u20$as$u20$core..ops..drop..Drop$GT$4drop17h4988cf960aba192aE",
                Some("tea"),
            ),
            ("_ZN28_$LT$T$u20$as$u20$tea..Tea$GT$4brew17h4988cf960aba192aE", Some("tea")),
            ("_ZN4core3ptr33drop_in_place$LT$tea..pot..Pot$GT$17h4988cf960aba192aE", Some("core")),
            ("_RNvMNtCsjrHSEGnQ3l9_12bine_runtime6workerNtB2_4Core4park", Some("bine_runtime")),
            ("qsort", None),
        ] {
            assert_eq!(crate_of(symbol).as_deref(), name, "{symbol}");
        }
    }
}
