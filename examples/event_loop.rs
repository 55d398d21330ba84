//! An event loop by hand: coroutines on one thread, each resumed when its socket is ready.
//!
//! What there is to learn: what a runtime for blocking code does at heart. A coroutine tries a system
//! call; when that would block, the coroutine suspends itself and says what it waits for. The loop
//! asks epoll which of these waits are over, and resumes those coroutines. So `read` below looks like
//! a blocking call to whoever calls it, and the thread is never blocked by it. No other part of bine
//! is in this program: it is all here. (`bine::net` has the same with many threads, time-outs and
//! fewer system calls; and there a task whose calls never have to wait does not keep the others from
//! running.)
//!
//! An echo server and its clients run here, on the loopback.
//!
//! Run it: `cargo run --example event_loop`.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use bine::coroutine::{Coroutine, CoroutineState, Yielder};

/// How many bytes each client sends. Ten million are more than a socket takes at once, so that this
/// client must also wait until it can write on.
const CLIENTS: [usize; 3] = [10, 10_000, 10_000_000];

/// When nothing at all becomes ready for so long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

fn run(out: &mut impl Write) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let echoed = Rc::new(Cell::new(0));
    let returned: Vec<_> = CLIENTS.iter().map(|_| Rc::new(Cell::new(0))).collect();

    let mut events = EventLoop::new()?;
    let total = Rc::clone(&echoed);
    events.spawn(task(move |waiter| serve(&listener, CLIENTS.len(), &total, waiter)));
    for (bytes, returned) in CLIENTS.into_iter().zip(&returned) {
        let returned = Rc::clone(returned);
        events.spawn(task(move |waiter| client(address, bytes, returned, waiter)));
    }
    events.run()?;

    for (bytes, returned) in CLIENTS.iter().zip(&returned) {
        writeln!(out, "a client sent {bytes} bytes, and {} came back", returned.get())?;
    }
    writeln!(out, "the server sent back {} bytes to {} clients", echoed.get(), CLIENTS.len())
}

// The event loop.

/// What a coroutine asks of the loop when it suspends itself.
enum Request {
    /// To be resumed when this is ready.
    Wait(RawFd, Direction),
    /// That this runs, too.
    Spawn(Task),
}

#[derive(Clone, Copy)]
enum Direction {
    Readable,
    Writable,
}

type Task = Coroutine<(), Request, io::Result<()>>;
type Waiter = Yielder<(), Request>;

fn task(body: impl FnOnce(&Waiter) -> io::Result<()> + 'static) -> Task {
    Task::new(|waiter, ()| body(waiter))
}

struct EventLoop {
    epoll: Epoll,
    ready: VecDeque<Task>,
    /// By the descriptor that they wait for.
    waiting: HashMap<RawFd, Task>,
}

impl EventLoop {
    fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new()?, ready: VecDeque::new(), waiting: HashMap::new() })
    }

    fn spawn(&mut self, task: Task) {
        self.ready.push_back(task);
    }

    /// Runs until all tasks have ended, or one has failed.
    fn run(&mut self) -> io::Result<()> {
        loop {
            while let Some(task) = self.ready.pop_front() {
                self.go_on(task)?;
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            for fd in self.epoll.wait(PATIENCE)? {
                self.epoll.remove(fd)?;
                self.ready.extend(self.waiting.remove(&fd));
            }
        }
    }

    /// Runs a task until it waits or ends.
    fn go_on(&mut self, mut task: Task) -> io::Result<()> {
        loop {
            match task.resume(()) {
                CoroutineState::Yielded(Request::Spawn(other)) => self.spawn(other),
                CoroutineState::Yielded(Request::Wait(fd, direction)) => {
                    self.epoll.add(fd, direction)?;
                    self.waiting.insert(fd, task);
                    return Ok(());
                }
                CoroutineState::Complete(result) => return result,
            }
        }
    }
}

// What looks like blocking calls.

/// Does an operation, again and again, until it no longer would block; suspends itself in between.
fn until_ready<T>(
    fd: &impl AsRawFd,
    direction: Direction,
    waiter: &Waiter,
    mut operation: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                waiter.suspend(Request::Wait(fd.as_raw_fd(), direction));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn accept(listener: &TcpListener, waiter: &Waiter) -> io::Result<TcpStream> {
    let (stream, _) = until_ready(listener, Direction::Readable, waiter, || listener.accept())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn read(mut stream: &TcpStream, buffer: &mut [u8], waiter: &Waiter) -> io::Result<usize> {
    until_ready(stream, Direction::Readable, waiter, || stream.read(buffer))
}

fn write_all(mut stream: &TcpStream, mut bytes: &[u8], waiter: &Waiter) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = until_ready(stream, Direction::Writable, waiter, || stream.write(bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}

// The server: a task that accepts, and one for each connection.

fn serve(
    listener: &TcpListener,
    clients: usize,
    echoed: &Rc<Cell<usize>>,
    waiter: &Waiter,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    for _ in 0..clients {
        let stream = accept(listener, waiter)?;
        let echoed = Rc::clone(echoed);
        waiter.suspend(Request::Spawn(task(move |waiter| echo(&stream, &echoed, waiter))));
    }
    Ok(())
}

fn echo(stream: &TcpStream, echoed: &Cell<usize>, waiter: &Waiter) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match read(stream, &mut buffer, waiter)? {
            0 => return Ok(()),
            count => {
                write_all(stream, &buffer[..count], waiter)?;
                echoed.set(echoed.get() + count);
            }
        }
    }
}

// A client: one task sends, while another receives. (One task that first sent all and then received
// would wait for ever, as would the server: each for the other to make room.)

fn client(
    address: SocketAddr,
    bytes: usize,
    returned: Rc<Cell<usize>>,
    waiter: &Waiter,
) -> io::Result<()> {
    // On the loopback this does not wait for the server: the kernel accepts first.
    let sending = TcpStream::connect(address)?;
    sending.set_nonblocking(true)?;
    // A descriptor of its own: here, only one task can wait for a descriptor.
    let receiving = sending.try_clone()?;
    waiter.suspend(Request::Spawn(task(move |waiter| receive(&receiving, &returned, waiter))));

    let message: Vec<u8> = (0..bytes).map(byte_at).collect();
    write_all(&sending, &message, waiter)?;
    // Tells the server that this was all.
    sending.shutdown(Shutdown::Write)
}

fn receive(stream: &TcpStream, returned: &Cell<usize>, waiter: &Waiter) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = read(stream, &mut buffer, waiter)?;
        if count == 0 {
            return Ok(());
        }
        let start = returned.get();
        if !buffer[..count].iter().copied().eq((start..start + count).map(byte_at)) {
            return Err(io::Error::other("a byte has come back changed"));
        }
        returned.set(start + count);
    }
}

/// What the clients send: each byte tells its place, by a period that no buffer has.
fn byte_at(place: usize) -> u8 {
    (place % 251) as u8
}

// epoll, as far as it is needed: an entry is there only while a task waits.

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a new descriptor, which nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn add(&self, fd: RawFd, direction: Direction) -> io::Result<()> {
        let events = match direction {
            Direction::Readable => libc::EPOLLIN,
            Direction::Writable => libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        // SAFETY: the event is valid during the call, and the kernel copies it.
        checked(unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        })?;
        Ok(())
    }

    fn remove(&self, fd: RawFd) -> io::Result<()> {
        let no_event = std::ptr::null_mut();
        // SAFETY: to remove takes no event.
        checked(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, no_event) })?;
        Ok(())
    }

    /// Waits until something is ready, and returns the descriptors; an error after `patience`.
    fn wait(&self, patience: Duration) -> io::Result<Vec<RawFd>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let (most, milliseconds) = (events.len() as i32, patience.as_millis() as i32);
        loop {
            // SAFETY: there is room for so many events.
            let count = checked(unsafe {
                libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), most, milliseconds)
            });
            match count {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(count) => {
                    return Ok(events[..count as usize].iter().map(|e| e.u64 as RawFd).collect());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The result of a system call that returns -1 for an error.
fn checked(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    const EXPECTED: &str = "\
a client sent 10 bytes, and 10 came back
a client sent 10000 bytes, and 10000 came back
a client sent 10000000 bytes, and 10000000 came back
the server sent back 10010010 bytes to 3 clients
";

    #[test]
    fn prints_what_is_expected() {
        let mut out = Vec::new();
        super::run(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), EXPECTED);
    }
}
