//! The load client: a raw epoll loop on one thread, one message under way on each connection.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::figures::Figures;
use crate::statistics::percentile;
use crate::workload::Size;

/// Bytes of a message.
const MESSAGE: usize = 64;

/// Milliseconds to wait for any answer before the server is taken to be stuck.
const PATIENCE: u16 = 5_000;

/// Loads the server on `port`, whose process is `server`, with `size.tasks` connections.
///
/// # Errors
///
/// If a connection fails or is closed, or if a byte differs from what was sent.
pub(crate) fn run(port: u16, server: u32, size: Size) -> io::Result<Figures> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(server.cast_signed()))?;
    let mut client = Client::connect(port, size.tasks)?;
    let measured = Duration::from_millis(size.millis);
    client.run_for(measured / 4)?;
    client.latencies.clear();
    let (cpu_before, start) = (clock.now()?, Instant::now());
    client.run_for(measured)?;
    let (cpu, elapsed) = (Duration::from(clock.now()? - cpu_before), start.elapsed());
    let latencies = &mut client.latencies;
    if latencies.is_empty() {
        return Err(io::Error::other("no message came back"));
    }
    latencies.sort_unstable();
    let messages = latencies.len() as f64;
    Ok(Figures::one("cpu_us", cpu.as_secs_f64() * 1e6 / messages)
        .and("rate", messages / elapsed.as_secs_f64())
        .and("p50_us", f64::from(percentile(latencies, 0.5)))
        .and("p99_us", f64::from(percentile(latencies, 0.99))))
}

/// All connections, and what they have measured.
struct Client {
    epoll: Epoll,
    connections: Vec<Connection>,
    /// Microseconds from sending a message to having all of it back.
    latencies: Vec<u32>,
}

impl Client {
    /// Opens the connections and sends the first message on each.
    fn connect(port: u16, connections: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let connections: Vec<_> = (0..connections)
            .map(|n| {
                let connection = Connection::open(port, n)?;
                epoll.add(&connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, n as u64))?;
                Ok(connection)
            })
            .collect::<io::Result<_>>()?;
        let mut client = Self { epoll, connections, latencies: Vec::new() };
        client.connections.iter_mut().try_for_each(Connection::send)?;
        Ok(client)
    }

    /// Answers every echo with the next message until `length` has passed.
    fn run_for(&mut self, length: Duration) -> io::Result<()> {
        let end = Instant::now() + length;
        let mut events = [EpollEvent::empty(); 256];
        while Instant::now() < end {
            let ready = self.epoll.wait(&mut events, PATIENCE)?;
            if ready == 0 {
                return Err(io::Error::other("the server does not answer"));
            }
            for event in &events[..ready] {
                let connection = &mut self.connections[event.data() as usize];
                if connection.receive()? {
                    self.latencies.push(connection.sent.elapsed().as_micros() as u32);
                    connection.send()?;
                }
            }
        }
        Ok(())
    }
}

/// One connection and the message that is under way on it.
struct Connection {
    stream: TcpStream,
    /// What was sent last: the number of the message in its first bytes, then the connection's.
    message: [u8; MESSAGE],
    /// What has come back of it.
    echo: [u8; MESSAGE],
    /// How much has come back.
    received: usize,
    /// The number of the message.
    number: u64,
    /// When it was sent.
    sent: Instant,
}

impl Connection {
    fn open(port: u16, index: usize) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (message, echo) = ([index as u8; MESSAGE], [0; MESSAGE]);
        Ok(Self { stream, message, echo, received: 0, number: 0, sent: Instant::now() })
    }

    /// Sends the next message; one of this length always fits into an empty socket buffer.
    fn send(&mut self) -> io::Result<()> {
        self.number += 1;
        self.message[..8].copy_from_slice(&self.number.to_le_bytes());
        self.received = 0;
        self.sent = Instant::now();
        self.stream.write_all(&self.message)
    }

    /// Takes what has come back; true if that completes the message.
    fn receive(&mut self) -> io::Result<bool> {
        match self.stream.read(&mut self.echo[self.received..]) {
            Ok(0) => Err(io::Error::other("the server closed a connection")),
            Ok(length) => {
                self.received += length;
                if self.received < MESSAGE {
                    return Ok(false);
                }
                if self.echo != self.message {
                    return Err(io::Error::other("a message came back changed"));
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}
