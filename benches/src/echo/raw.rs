//! The floor: an echo server that is nothing but an epoll loop on one thread.
//!
//! Level-triggered, one read and one write for each event, one buffer for all connections. It
//! serves the load client of this program, whose messages always fit into a socket buffer; a
//! connection that it cannot write to at once is dropped.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What an event of the listening socket carries; no connection has this index.
const LISTENER: u64 = u64::MAX;

/// Serves for ever.
pub(crate) fn serve(started: fn(u16) -> io::Result<()>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    started(listener.local_addr()?.port())?;
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut events = [EpollEvent::empty(); 256];
    let mut buffer = vec![0; 16 << 10];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        for event in &events[..ready] {
            if event.data() == LISTENER {
                accept(&listener, &epoll, &mut connections)?;
            } else {
                let slot = &mut connections[event.data() as usize];
                if !slot.as_ref().is_some_and(|stream| echo(stream, &mut buffer)) {
                    // Closing the socket also takes it out of the epoll instance.
                    *slot = None;
                }
            }
        }
    }
}

/// Accepts what waits. Indices are not used again: a run opens its connections once.
fn accept(
    listener: &TcpListener,
    epoll: &Epoll,
    connections: &mut Vec<Option<TcpStream>>,
) -> io::Result<()> {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, connections.len() as u64))?;
        connections.push(Some(stream));
    }
    Ok(())
}

/// Sends back what is there; false if the connection is at its end.
fn echo(mut stream: &TcpStream, buffer: &mut [u8]) -> bool {
    match stream.read(buffer) {
        Ok(0) => false,
        Ok(length) => stream.write_all(&buffer[..length]).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}
