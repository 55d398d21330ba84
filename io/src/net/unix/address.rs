//! Between std's addresses and the kernel's.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use socket2::SockAddr;

/// As the kernel takes it.
pub(super) fn to_kernel(address: &SocketAddr) -> io::Result<SockAddr> {
    if let Some(path) = address.as_pathname() {
        return SockAddr::unix(path);
    }
    match address.as_abstract_name() {
        // Abstract names begin with a zero byte, which std leaves out.
        Some(name) => SockAddr::unix(OsStr::from_bytes(&[b"\0", name].concat())),
        None => SockAddr::unix(""),
    }
}

/// As std has it. A socket without a name has an address of no length at all with some calls.
pub(super) fn from_kernel(address: &SockAddr) -> io::Result<SocketAddr> {
    if let Some(path) = address.as_pathname() {
        return SocketAddr::from_pathname(path);
    }
    match address.as_abstract_namespace() {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if address.len() == 0 || address.is_unnamed() => SocketAddr::from_pathname(""),
        None => {
            let message = "the address is not one of a Unix socket";
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        let there_and_back = |address: &SocketAddr| {
            from_kernel(&to_kernel(address).expect("there")).expect("and back")
        };
        let long = "p".repeat(107);
        for path in ["/a/path", "x", &long] {
            let address = there_and_back(&SocketAddr::from_pathname(path).unwrap());
            assert_eq!(address.as_pathname(), Some(Path::new(path)));
        }
        for name in [&b"name"[..], b"", b"with\0zeroes\0", &[7; 107]] {
            let address = there_and_back(&SocketAddr::from_abstract_name(name).unwrap());
            assert_eq!(address.as_abstract_name(), Some(name));
        }
        assert!(there_and_back(&SocketAddr::from_pathname("").unwrap()).is_unnamed());
    }
}
