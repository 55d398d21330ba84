//! How much memory there is, for tests that want a lot of it.

use std::fs;
use std::time::Duration;

/// A million of anything with a page of stack: with page tables and more, 5 GB. Other tests run at
/// the same time.
const MILLION: usize = 1_000_000;
const NEEDED_FOR_A_MILLION: usize = 8 << 30;
/// Where there is less than that.
const FEWER: usize = 100_000;

/// The number behind `key` in a file of /proc that counts kilobytes, in bytes.
fn bytes_of(file: &str, key: &str) -> Option<usize> {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}

/// The number behind `key` in this process's status, in bytes.
pub(crate) fn status(key: &str) -> usize {
    bytes_of("/proc/self/status", key).unwrap()
}

/// What a container lets its processes have, if this is one that says so.
fn allowed() -> Option<usize> {
    let number = |file| fs::read_to_string(file).ok()?.trim().parse::<usize>().ok();
    let limit = number("/sys/fs/cgroup/memory.max")?;
    Some(limit.saturating_sub(number("/sys/fs/cgroup/memory.current")?))
}

/// A million, or as many as there is memory for. `sanitized` under a sanitizer.
pub(crate) fn a_million_or(sanitized: usize) -> usize {
    if cfg!(any(bine_sanitize = "address", bine_sanitize = "thread")) {
        println!("{sanitized} only, as a sanitizer needs several times the memory, and mappings");
        return sanitized;
    }
    let available = bytes_of("/proc/meminfo", "MemAvailable:").unwrap_or(0);
    let available = available.min(allowed().unwrap_or(available));
    if available >= NEEDED_FOR_A_MILLION {
        return MILLION;
    }
    println!("{FEWER} only, as the memory available is {} MiB", available >> 20);
    FEWER
}

/// Nanoseconds, of which each of `count` took its share.
pub(crate) fn each(time: Duration, count: usize) -> u128 {
    time.as_nanos() / count as u128
}
