//! What takes the place of sockets, signals and polled descriptors under `--cfg bine_loom`: names that can be imported and
//! written in signatures, and cannot be used.
//!
//! A model runs its closure many times, in every order; a socket would see each of them, and the kernel's
//! answers are none of the model's choices. So whatever would make one does not compile, with a message
//! that says why. The bound holds for nothing; that it is asked for each lifetime keeps the compiler from
//! looking at it before the function is used.

/// Says that a model has no sockets. Implemented by nothing.
#[diagnostic::on_unimplemented(
    message = "there are no sockets and no signals under `--cfg bine_loom`",
    label = "not in a build that is for model checking",
    note = "have what is to be model-checked take its input and output through a channel or a trait, \
            and put the code that opens sockets behind `#[cfg(not(bine_loom))]`"
)]
pub trait ExistsInModels<'a> {}

/// What a function returns that cannot be called.
enum Nothing {}

macro_rules! absent {
    ($($(#[$about:meta])* $name:ident {
        $($make:ident $(<$generic:ident>)? ($($argument:ty),*) -> $made:ty;)*
    })*) => { $(
        $(#[$about])*
        pub struct $name(Nothing);

        impl $name {
            $(
                /// Does not compile.
                ///
                /// # Errors
                ///
                /// None.
                pub fn $make $(<$generic>)? ($(_: $argument),*) -> io::Result<$made>
                where
                    for<'a> (): ExistsInModels<'a>,
                {
                    unreachable!("the bound above holds for nothing")
                }
            )*
        }

        impl fmt::Debug for $name {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {}
            }
        }
    )* };
}

/// TCP, in name.
pub mod net {
    use std::fmt;
    use std::io::{self, Read, Write};
    use std::time::Duration;

    use super::{ExistsInModels, Nothing};

    pub use std::net::{
        AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4,
        SocketAddrV6, ToSocketAddrs,
    };

    absent! {
        /// A TCP stream. There are none.
        TcpStream {
            connect<A>(A) -> Self;
            connect_timeout(&SocketAddr, Duration) -> Self;
        }
        /// A TCP listener. There are none.
        TcpListener {
            bind<A>(A) -> Self;
        }
        /// A UDP socket. There are none.
        UdpSocket {
            bind<A>(A) -> Self;
        }
    }

    impl TcpListener {
        /// Never called.
        ///
        /// # Errors
        ///
        /// None.
        pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            match self.0 {}
        }

        /// Never called.
        pub fn incoming(&self) -> Incoming<'_> {
            match self.0 {}
        }

        /// Never called.
        ///
        /// # Errors
        ///
        /// None.
        pub fn local_addr(&self) -> io::Result<SocketAddr> {
            match self.0 {}
        }
    }

    /// The connections of a listener. There are none.
    #[derive(Debug)]
    pub struct Incoming<'a>(&'a TcpListener);

    impl Iterator for Incoming<'_> {
        type Item = io::Result<TcpStream>;

        fn next(&mut self) -> Option<Self::Item> {
            match self.0.0 {}
        }
    }

    impl TcpStream {
        /// Never called.
        ///
        /// # Errors
        ///
        /// None.
        pub fn try_clone(&self) -> io::Result<Self> {
            match self.0 {}
        }

        /// Never called.
        ///
        /// # Errors
        ///
        /// None.
        pub fn shutdown(&self, _: Shutdown) -> io::Result<()> {
            match self.0 {}
        }
    }

    macro_rules! streams {
        ($($stream:ty),*) => { $(
            impl Read for $stream {
                fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                    match self.0 {}
                }
            }

            impl Write for $stream {
                fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                    match self.0 {}
                }

                fn flush(&mut self) -> io::Result<()> {
                    match self.0 {}
                }
            }
        )* };
    }

    pub(super) use streams;

    streams!(TcpStream, &TcpStream);
}

/// Sockets of the Unix domain, in name.
pub mod unix {
    use std::fmt;
    use std::io::{self, Read, Write};
    use std::os::unix::net::SocketAddr;

    use super::{ExistsInModels, Nothing, net::streams};

    absent! {
        /// A Unix stream socket. There are none.
        UnixStream {
            connect<P>(P) -> Self;
            pair() -> (Self, Self);
        }
        /// A listener. There are none.
        UnixListener {
            bind<P>(P) -> Self;
        }
        /// A Unix datagram socket. There are none.
        UnixDatagram {
            bind<P>(P) -> Self;
            pair() -> (Self, Self);
            unbound() -> Self;
        }
    }

    impl UnixListener {
        /// Never called.
        ///
        /// # Errors
        ///
        /// None.
        pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
            match self.0 {}
        }
    }

    impl UnixStream {
        /// Never called.
        ///
        /// # Errors
        ///
        /// None.
        pub fn try_clone(&self) -> io::Result<Self> {
            match self.0 {}
        }
    }

    streams!(UnixStream, &UnixStream);
}

/// A descriptor of any kind, in name. There are none.
pub struct Async<T>(Nothing, std::marker::PhantomData<T>);

impl<T> Async<T> {
    /// Does not compile.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new(_: T) -> std::io::Result<Self>
    where
        for<'a> (): ExistsInModels<'a>,
    {
        unreachable!("the bound above holds for nothing")
    }
}

impl<T> std::fmt::Debug for Async<T> {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {}
    }
}

/// Signals, in name.
pub mod signal {
    use std::io;

    use super::ExistsInModels;

    /// Does not compile.
    ///
    /// # Errors
    ///
    /// None.
    pub fn ctrl_c() -> io::Result<()>
    where
        for<'a> (): ExistsInModels<'a>,
    {
        unreachable!("the bound above holds for nothing")
    }
}
