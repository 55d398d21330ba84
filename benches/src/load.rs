//! The load: raw epoll loops, with one exchange under way on each active connection.
//!
//! It runs on as many threads as there are CPUs that the server has no worker for, but on at least
//! half of the CPUs, each with its share of the connections. A connection sends again as soon as all
//! that it has sent is answered (a closed loop): throughput is what the server and the load can do
//! together, and latency is what it is at that throughput.
//!
//! In the end every answer that is still due is waited for, so that one that never comes is a failure,
//! however fast the others were.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::figures::Figures;
use crate::statistics::percentile;
use crate::workload::{Size, Workload};

/// Milliseconds to wait for any answer before the server is taken to be stuck.
const PATIENCE: u16 = 5_000;

/// How many connections are opened before the server must have accepted them. The shortest backlog of
/// those who listen is 128 (std's), and whoever finds it full tries again after a second.
const BATCH: usize = 100;

/// What is said on a connection.
pub(crate) trait Exchange: Send {
    /// The next messages to send, all at once; they fit into an empty socket buffer.
    fn send(&mut self) -> &[u8];
    /// Takes what has come, and returns how many answers that completes.
    ///
    /// # Errors
    ///
    /// If it is not what had to come.
    fn receive(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// What a server is to be asked.
#[derive(Debug)]
pub(crate) struct Load {
    port: u16,
    /// The CPU time of the server's process.
    clock: ClockId,
    connections: usize,
    /// Every how many-th connection is active; with 0, none.
    stride: usize,
    /// Messages that are sent at once.
    depth: usize,
    /// How long it is measured.
    length: Duration,
    threads: usize,
}

impl Load {
    /// The load of `workload` at `size` for the process `server`, which listens on `port` and has
    /// `workers` workers.
    ///
    /// # Errors
    ///
    /// If there is no such process any more.
    pub(crate) fn new(
        port: u16,
        server: u32,
        workload: Workload,
        size: Size,
        workers: usize,
    ) -> io::Result<Self> {
        let cpus = thread::available_parallelism()?.get();
        Ok(Self {
            port,
            clock: ClockId::pid_cpu_clock_id(Pid::from_raw(server.cast_signed()))?,
            connections: size.tasks,
            stride: size.tasks.checked_div(workload.active(size)).unwrap_or(0),
            depth: size.rounds.max(1),
            length: Duration::from_millis(size.millis),
            threads: threads(cpus, workers),
        })
    }

    fn is_active(&self, connection: usize) -> bool {
        self.stride > 0 && connection.is_multiple_of(self.stride)
    }
}

/// On how many threads the load runs.
fn threads(cpus: usize, workers: usize) -> usize {
    cpus.saturating_sub(workers).max(cpus / 2).max(1)
}

/// Loads a server; `open` is told the number of a connection, and how many messages it sends at once.
///
/// # Errors
///
/// If a connection fails or is closed, if an answer is wrong, or if none comes.
pub(crate) fn run<E: Exchange>(
    load: &Load,
    open: impl Fn(usize, usize) -> E + Sync,
) -> io::Result<Figures> {
    let mut clients = (0..load.threads).map(|_| Client::new()).collect::<io::Result<Vec<_>>>()?;
    on_all(&mut clients, |index, client| client.connect(load, index, &open))?;
    let warm = Instant::now() + load.length / 4;
    on_all(&mut clients, |_, client| client.warm_up(warm))?;
    let (cpu_before, start) = (load.clock.now()?, Instant::now());
    let end = start + load.length;
    on_all(&mut clients, |_, client| client.run_until(end))?;
    let (cpu, elapsed) = (Duration::from(load.clock.now()? - cpu_before), start.elapsed());
    let latencies = clients.iter().flat_map(|client| client.latencies.iter().copied()).collect();
    on_all(&mut clients, |_, client| client.finish())?;
    figures(load, cpu, elapsed, latencies)
}

/// What was measured: the CPU time a message, or a second where nothing was asked.
fn figures(
    load: &Load,
    cpu: Duration,
    elapsed: Duration,
    mut latencies: Vec<u32>,
) -> io::Result<Figures> {
    let (cpu_us, seconds) = (cpu.as_secs_f64() * 1e6, elapsed.as_secs_f64());
    if load.stride == 0 {
        return Ok(Figures::one("cpu_us", cpu_us / seconds));
    }
    if latencies.is_empty() {
        return Err(io::Error::other("no message came back"));
    }
    latencies.sort_unstable();
    let messages = latencies.len() as f64;
    Ok(Figures::one("cpu_us", cpu_us / messages)
        .and("rate", messages / seconds)
        .and("p50_us", f64::from(percentile(&latencies, 0.5)))
        .and("p99_us", f64::from(percentile(&latencies, 0.99)))
        .and("p999_us", f64::from(percentile(&latencies, 0.999))))
}

/// Has every client do something on a thread of its own, or on this one if there is only one.
fn on_all<E: Exchange>(
    clients: &mut [Client<E>],
    act: impl Fn(usize, &mut Client<E>) -> io::Result<()> + Sync,
) -> io::Result<()> {
    if let [client] = clients {
        return act(0, client);
    }
    thread::scope(|scope| {
        let act = &act;
        let acting = |(index, client)| scope.spawn(move || act(index, client));
        let threads: Vec<_> = clients.iter_mut().enumerate().map(acting).collect();
        let ended = threads.into_iter().map(|thread| thread.join().expect("a client panicked"));
        // All are joined, whichever fails.
        ended.fold(Ok(()), io::Result::and)
    })
}

/// The connections of one thread, and what they have measured.
struct Client<E> {
    epoll: Epoll,
    connections: Vec<Connection<E>>,
    /// On how many of them an answer is due.
    waiting: usize,
    /// Microseconds from sending a message to having all of its answer.
    latencies: Vec<u32>,
    /// Where to everything is read.
    buffer: Box<[u8]>,
}

impl<E: Exchange> Client<E> {
    fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (connections, latencies) = (Vec::new(), Vec::new());
        let buffer = vec![0; 16 << 10].into_boxed_slice();
        Ok(Self { epoll, connections, waiting: 0, latencies, buffer })
    }

    /// Opens this client's share of the connections, and uses each of them once.
    fn connect(
        &mut self,
        load: &Load,
        index: usize,
        open: impl Fn(usize, usize) -> E,
    ) -> io::Result<()> {
        let share = load.connections.div_ceil(load.threads);
        let (end, batch) =
            (load.connections.min((index + 1) * share), BATCH.div_ceil(load.threads));
        let mut first = index * share;
        while first < end {
            let last = end.min(first + batch);
            for number in first..last {
                let connection = Connection::open(load, number, open(number, load.depth));
                let mut connection = connection.map_err(|error| {
                    let all = load.connections;
                    io::Error::other(format!("connection {} of {all}: {error}", number + 1))
                })?;
                let event = EpollEvent::new(EpollFlags::EPOLLIN, self.connections.len() as u64);
                self.epoll.add(&connection.stream, event)?;
                connection.send(Instant::now())?;
                self.waiting += 1;
                self.connections.push(connection);
            }
            // Who answers has accepted.
            self.finish()?;
            first = last;
        }
        Ok(())
    }

    /// Sends on every active connection, goes on until then, and forgets how long it took.
    fn warm_up(&mut self, end: Instant) -> io::Result<()> {
        for connection in self.connections.iter_mut().filter(|connection| connection.is_active) {
            connection.send(Instant::now())?;
            self.waiting += 1;
        }
        self.run_until(end)?;
        self.latencies.clear();
        Ok(())
    }

    /// Follows every answer with the next message until then, and for one batch of events at least.
    fn run_until(&mut self, end: Instant) -> io::Result<()> {
        if self.waiting == 0 {
            thread::sleep(end.saturating_duration_since(Instant::now()));
            return Ok(());
        }
        loop {
            self.take_events(true)?;
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// Waits for all answers that are due.
    fn finish(&mut self) -> io::Result<()> {
        while self.waiting > 0 {
            self.take_events(false)?;
        }
        Ok(())
    }

    /// Takes what has come, and sends more to those who have answered if it is to go on.
    fn take_events(&mut self, go_on: bool) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let ready = match self.epoll.wait(&mut events, PATIENCE) {
            Err(Errno::EINTR) => return Ok(()),
            Ok(0) => {
                let (silent, seconds) = (self.waiting, PATIENCE / 1_000);
                let error = format!("{silent} connections were not answered for {seconds} s");
                return Err(io::Error::other(error));
            }
            result => result?,
        };
        for event in &events[..ready] {
            let connection = &mut self.connections[event.data() as usize];
            let answers = connection.receive(&mut self.buffer)?;
            if answers == 0 {
                continue;
            }
            let now = Instant::now();
            let latency = now.duration_since(connection.sent).as_micros() as u32;
            self.latencies.extend(std::iter::repeat_n(latency, answers));
            if connection.due > 0 {
                continue;
            }
            if go_on {
                connection.send(now)?;
            } else {
                self.waiting -= 1;
            }
        }
        Ok(())
    }
}

/// One connection and what is under way on it.
struct Connection<E> {
    stream: TcpStream,
    exchange: E,
    /// Whether it goes on after its first messages.
    is_active: bool,
    /// How many messages it sends at once.
    depth: usize,
    /// How many of them are not answered.
    due: usize,
    /// When they were sent.
    sent: Instant,
}

impl<E: Exchange> Connection<E> {
    fn open(load: &Load, number: usize, exchange: E) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, load.port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (is_active, depth) = (load.is_active(number), load.depth);
        Ok(Self { stream, exchange, is_active, depth, due: 0, sent: Instant::now() })
    }

    /// Sends the next messages.
    fn send(&mut self, now: Instant) -> io::Result<()> {
        (self.due, self.sent) = (self.depth, now);
        self.stream.write_all(self.exchange.send())
    }

    /// Takes what has come, and returns how many answers that completes.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let answers = match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(length) => self.exchange.receive(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let due = self.due.checked_sub(answers);
        self.due = due.ok_or_else(|| io::Error::other("an answer to nothing"))?;
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// One byte a message; the answer is the byte.
    struct Byte(usize);

    impl Exchange for Byte {
        fn send(&mut self) -> &[u8] {
            &b"xxxx"[..self.0]
        }

        fn receive(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.contains(&b'!') {
                return Err(io::Error::other("a wrong byte"));
            }
            Ok(bytes.len())
        }
    }

    /// What becomes of a load of 4 messages on each of 4 connections, each served by `serve`.
    fn outcome(active: usize, serve: fn(TcpStream)) -> io::Result<Figures> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let load = Load {
            port: listener.local_addr()?.port(),
            clock: ClockId::pid_cpu_clock_id(Pid::this())?,
            connections: 4,
            stride: 4_usize.checked_div(active).unwrap_or(0),
            depth: 4,
            length: Duration::from_millis(20),
            threads: 2,
        };
        let server = thread::spawn(move || {
            for stream in listener.incoming().take(4) {
                thread::spawn(move || serve(stream.unwrap()));
            }
        });
        let outcome = run(&load, |_, depth| Byte(depth));
        server.join().unwrap();
        outcome
    }

    fn echo(mut stream: TcpStream) {
        let mut buffer = [0; 16];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    }

    #[test]
    fn every_server_metric_has_its_figure() {
        let figures = outcome(4, echo).unwrap();
        for metric in Workload::HttpPipelined.metrics() {
            assert!(figures.get(metric.name).is_some_and(|value| value >= 0.0), "{}", metric.name);
        }
        assert!(figures.get("rate").unwrap() > 0.0);
        assert!(outcome(0, echo).unwrap().get("cpu_us").is_some());
        assert!(outcome(1, echo).unwrap().get("rate").is_some());
    }

    #[test]
    fn what_goes_wrong_on_any_connection_is_an_error() {
        let error = |serve| outcome(4, serve).unwrap_err().to_string();
        let wrong = error(|mut stream| {
            let _ = stream.write_all(b"!");
            echo(stream);
        });
        assert_eq!(wrong, "a wrong byte");
        let too_much = error(|mut stream| {
            let _ = stream.write_all(b"xxxxx");
            echo(stream);
        });
        assert_eq!(too_much, "an answer to nothing");
        let closed = error(|stream| {
            let mut line = Vec::new();
            let _ = BufReader::new(stream.take(4)).read_until(b'\n', &mut line);
        });
        assert_eq!(closed, "the server closed a connection");
    }

    #[test]
    fn the_load_leaves_the_server_its_cpus_but_for_half() {
        assert_eq!([threads(1, 1), threads(2, 2), threads(2, 1), threads(4, 1)], [1, 1, 1, 3]);
        assert_eq!([threads(16, 2), threads(16, 16)], [14, 8]);
    }
}
