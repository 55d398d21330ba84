//! The floor: a server that is nothing but an epoll loop on one thread.
//!
//! Level-triggered, one read and one write for each event, no timers, no tasks. It serves the load of
//! this program, whose messages always fit into a socket buffer; a connection that it cannot write to
//! at once is dropped.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::http::Conversation;

/// What an event of the listening socket carries; no connection has this index.
const LISTENER: u64 = u64::MAX;

/// Serves for ever. A connection has what `open` returns; when something can be read from it, it is
/// given to `turn`, which returns false if the connection is at its end.
pub(crate) fn serve<C>(
    started: fn(u16) -> io::Result<()>,
    open: impl Fn() -> C,
    mut turn: impl FnMut(&TcpStream, &mut C) -> bool,
) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    started(listener.local_addr()?.port())?;
    let mut connections: Vec<Option<(TcpStream, C)>> = Vec::new();
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        for event in &events[..ready] {
            if event.data() == LISTENER {
                // Indices are not used again: a run opens its connections once.
                while let Ok((stream, _)) = listener.accept() {
                    let event = EpollEvent::new(EpollFlags::EPOLLIN, connections.len() as u64);
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    epoll.add(&stream, event)?;
                    connections.push(Some((stream, open())));
                }
            } else {
                let slot = &mut connections[event.data() as usize];
                if !slot.as_mut().is_some_and(|(stream, connection)| turn(stream, connection)) {
                    // Closing the socket also takes it out of the epoll instance.
                    *slot = None;
                }
            }
        }
    }
}

/// Sends back what is there; false if the connection is at its end.
pub(crate) fn echo(mut stream: &TcpStream, buffer: &mut [u8]) -> bool {
    match stream.read(buffer) {
        Ok(0) => false,
        Ok(length) => stream.write_all(&buffer[..length]).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Answers the requests that are there; false if the connection is at its end.
pub(crate) fn http(mut stream: &TcpStream, conversation: &mut Conversation) -> bool {
    match stream.read(conversation.space()) {
        Ok(0) => false,
        Ok(length) => {
            let answers = conversation.answer(length);
            answers.is_some_and(|answers| stream.write_all(answers).is_ok())
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}
