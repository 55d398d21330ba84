//! Names to addresses: the one place where the resolver is called.
//!
//! A numeric address never blocks, and is parsed in place. A host name goes to `getaddrinfo`, which
//! blocks its OS thread: for a green thread that is one of the blocking pool.
//!
//! The mirrored functions take whatever implements std's [`ToSocketAddrs`], which says neither what
//! blocks nor what may go to another OS thread. So those of its types that hold a name are told by
//! their identity ([`HostName::of`]); what else implements the trait is asked in place.
#![allow(unsafe_code)]

use std::any::TypeId;
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::vec;

use crate::sys;

/// What may have to be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostName<'a> {
    /// `host:port`.
    WithPort(&'a str),
    And(&'a str, u16),
}

/// The identity of a type, lifetimes aside.
fn identity<T: ?Sized>() -> TypeId {
    trait Identity {
        fn identity(&self) -> TypeId
        where
            Self: 'static;
    }

    impl<T: ?Sized> Identity for PhantomData<T> {
        fn identity(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }

    let of: PhantomData<T> = PhantomData;
    let of: &dyn Identity = &of;
    // SAFETY: the two types differ in a lifetime only, of which the trait's one function makes
    // nothing: a `TypeId` is the same for all lifetimes, and a `PhantomData` has no content.
    let of = unsafe { std::mem::transmute::<&dyn Identity, &(dyn Identity + 'static)>(of) };
    of.identity()
}

/// `value` as a `T`, if it is one; `T` and `V` may differ in lifetimes.
///
/// # Safety
///
/// The lifetimes in `T` are at most that of `value`, and `T` is covariant in them.
unsafe fn same<T, V>(value: &V) -> Option<&T>
where
    V: ?Sized,
{
    // SAFETY: the types are the same but for lifetimes, which the caller answers for; a `V` of the
    // same identity as a sized type is that type, so the pointer is a thin one.
    (identity::<T>() == identity::<V>()).then(|| unsafe { &*std::ptr::from_ref(value).cast::<T>() })
}

impl<'a> HostName<'a> {
    /// The name that `address` holds, if it is of one of std's types that hold one.
    fn of<A>(address: &'a A) -> Option<Self> {
        // SAFETY: shared references, which are covariant and live as long as `address` is borrowed
        // at least: the lifetimes in `A` outlive the borrow.
        unsafe {
            let text = same::<&'a str, A>(address)
                .or_else(|| same::<&'a &'a str, A>(address).copied())
                .copied()
                .or_else(|| same::<String, A>(address).map(String::as_str))
                .or_else(|| same::<&'a String, A>(address).map(|text| text.as_str()));
            let pair = || {
                same::<(&'a str, u16), A>(address)
                    .or_else(|| same::<&'a (&'a str, u16), A>(address).copied())
                    .copied()
            };
            let owned = || {
                same::<(String, u16), A>(address)
                    .or_else(|| same::<&'a (String, u16), A>(address).copied())
                    .map(|(host, port)| (host.as_str(), *port))
            };
            match text {
                Some(text) => Some(Self::WithPort(text)),
                None => pair().or_else(owned).map(|(host, port)| Self::And(host, port)),
            }
        }
    }

    fn is_numeric(self) -> bool {
        match self {
            Self::WithPort(text) => text.parse::<SocketAddr>().is_ok(),
            Self::And(host, _) => host.parse::<IpAddr>().is_ok(),
        }
    }

    /// Asks the resolver, which may block.
    fn resolve(self) -> io::Result<vec::IntoIter<SocketAddr>> {
        sys::out_of_line(|| match self {
            Self::WithPort(text) => text.to_socket_addrs(),
            Self::And(host, port) => (host, port).to_socket_addrs(),
        })
    }
}

/// The addresses that something stands for.
pub(super) enum Addresses<I> {
    InPlace(I),
    Resolved(vec::IntoIter<SocketAddr>),
}

impl<I: Iterator<Item = SocketAddr>> Iterator for Addresses<I> {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        match self {
            // Anybody's code.
            Self::InPlace(addresses) => sys::out_of_line(|| addresses.next()),
            Self::Resolved(addresses) => addresses.next(),
        }
    }
}

/// All addresses that `address` stands for, possibly none.
pub(super) fn resolve<A: ToSocketAddrs>(address: &A) -> io::Result<Addresses<A::Iter>> {
    match HostName::of(address) {
        Some(name) if !name.is_numeric() => {
            bine_runtime::blocking(|| name.resolve()).map(Addresses::Resolved)
        }
        _ => sys::out_of_line(|| address.to_socket_addrs()).map(Addresses::InPlace),
    }
}

/// Tries `f` with each address in turn until one succeeds, and returns its result or the last
/// error. As std does it.
pub(super) fn each<A: ToSocketAddrs, T>(
    address: &A,
    mut f: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in resolve(address)? {
        match f(&address) {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")
    }))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    #[test]
    fn names_are_told_by_their_type() {
        let text = String::from("host:1");
        let local: &str = &text;
        assert_eq!(HostName::of(&local), Some(HostName::WithPort("host:1")));
        assert_eq!(HostName::of(&&local), Some(HostName::WithPort("host:1")));
        assert_eq!(HostName::of(&text), Some(HostName::WithPort("host:1")));
        assert_eq!(HostName::of(&&text), Some(HostName::WithPort("host:1")));
        assert_eq!(HostName::of(&(local, 2_u16)), Some(HostName::And("host:1", 2)));
        assert_eq!(HostName::of(&&(local, 2_u16)), Some(HostName::And("host:1", 2)));
        assert_eq!(HostName::of(&(text.clone(), 3_u16)), Some(HostName::And("host:1", 3)));
        assert_eq!(HostName::of(&&(text.clone(), 3_u16)), Some(HostName::And("host:1", 3)));
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        assert_eq!(HostName::of(&address), None);
        assert_eq!(HostName::of(&(Ipv4Addr::LOCALHOST, 1_u16)), None);
        assert_eq!(HostName::of(&&[SocketAddr::V4(address)][..]), None);
    }

    #[test]
    fn numbers_are_no_names() {
        for text in ["127.0.0.1:80", "[::1]:80"] {
            assert!(HostName::WithPort(text).is_numeric());
            assert!(!HostName::And(text, 80).is_numeric());
        }
        for host in ["127.0.0.1", "::1"] {
            assert!(HostName::And(host, 80).is_numeric());
            assert!(!HostName::WithPort(host).is_numeric());
        }
        assert!(!HostName::WithPort("localhost:80").is_numeric());
    }

    /// Implements the trait by itself; not to be sent anywhere.
    struct Own(std::rc::Rc<Vec<SocketAddr>>);

    impl ToSocketAddrs for Own {
        type Iter = vec::IntoIter<SocketAddr>;

        fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
            Ok(Vec::clone(&self.0).into_iter())
        }
    }

    #[test]
    fn other_types_are_asked_in_place() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let own = Own(vec![address].into());
        assert!(HostName::of(&own).is_none());
        assert_eq!(resolve(&own).unwrap().collect::<Vec<_>>(), [address]);
    }

    #[test]
    fn host_names_resolve_as_stds_do() {
        let stds: Vec<_> = "localhost:80".to_socket_addrs().unwrap().collect();
        assert_eq!(resolve(&"localhost:80").unwrap().collect::<Vec<_>>(), stds);
        let pair = (String::from("localhost"), 80);
        assert_eq!(resolve(&pair).unwrap().collect::<Vec<_>>(), stds);
        bine_runtime::run(move || {
            assert_eq!(resolve(&("localhost", 80)).unwrap().collect::<Vec<_>>(), stds);
        });
        for malformed in ["no port", "host:99999", ""] {
            let ours = resolve(&malformed).map(|_| ()).unwrap_err();
            let stds = malformed.to_socket_addrs().map(|_| ()).unwrap_err();
            assert_eq!((ours.kind(), ours.to_string()), (stds.kind(), stds.to_string()));
        }
    }
}
