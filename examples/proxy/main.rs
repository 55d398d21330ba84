//! A TCP proxy: passes on what comes, in both directions, to one target or to several in turn.
//!
//! What there is to learn: each direction of a connection is a loop of its own, on a green thread of its
//! own, and the two end together when one fails. The end of one direction is passed on while the other
//! goes on (`nc -N` relies on that); a reset is passed on as a reset, so that nobody takes a part for the
//! whole; and a connection on which nothing moves ends.
//!
//! Try it: `cargo run --release --example proxy -- localhost:9000 example.org:80`, and
//! `curl -H 'Host: example.org' localhost:9000` beside it. SIGUSR1 and Ctrl-C print statistics.

mod pump;
#[path = "../serve/mod.rs"]
mod serve;
mod targets;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

use bine::net::{SocketAddr, TcpListener, TcpStream};
use bine::signal::{SIGUSR1, Signals};
use bine::thread::{self, JoinHandle};
use clap::Parser;

use crate::pump::{Activity, Direction};
use crate::serve::{Connections, RuntimeOptions, Stop};
use crate::targets::Targets;

/// TCP proxy on green threads
#[derive(Parser, Clone)]
struct Options {
    /// Name or address, and port, to listen on; port 0 picks a free one
    listen: String,
    /// Where connections go, in turns
    #[arg(required = true)]
    targets: Vec<String>,
    /// Seconds for which nothing may move on a connection, in either direction; 0 is without end
    #[arg(long, default_value_t = 300)]
    idle_timeout: u64,
    /// Seconds to wait for a target to take a connection
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    connect_timeout: u64,
    /// Connections at once; further ones wait until one of them ends
    #[arg(long, default_value = "10000")]
    max_connections: NonZeroUsize,
    /// Bytes of the buffer that each direction of a connection has
    #[arg(long, default_value_t = 16 << 10, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    buffer: u32,
    /// Seconds that connections have to end when the proxy stops
    #[arg(long, default_value_t = 5)]
    grace: u64,
    /// Print nothing for each connection
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

/// What has happened so far.
#[derive(Default)]
struct Counters {
    /// Bytes on their way to the targets, and back.
    upward: AtomicU64,
    downward: AtomicU64,
    /// Connections that ended with the end of both directions.
    ended: AtomicU64,
    /// Those that a side has reset, or that failed otherwise.
    failed: AtomicU64,
    /// Those on which nothing moved.
    idle: AtomicU64,
    /// Those for which no target could be had.
    unserved: AtomicU64,
}

struct Proxy {
    targets: Targets,
    idle_timeout: Option<Duration>,
    buffer: usize,
    quiet: bool,
    counters: Counters,
    connections: Arc<Connections<Client>>,
}

/// A client's connection.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
}

/// Why a connection did not end as it should.
#[derive(Debug)]
enum Failure {
    NoTarget(io::Error),
    Idle,
    Broken(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTarget(error) => write!(f, "cannot connect to {error}"),
            Self::Idle => f.write_str("nothing has moved for too long"),
            Self::Broken(error) => write!(f, "failed: {error}"),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let served = options.runtime.build().and_then(|runtime| runtime.run(move || serve(&options)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> io::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let stop = Stop::new()?;
    let listener = TcpListener::bind(&*options.listen)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", options.listen)))?;
    let address = listener.local_addr()?;
    let proxy = Proxy::new(options)?;
    let accepting = proxy.start(listener);

    let (requests, asked) = (Signals::new([SIGUSR1])?, Arc::clone(&proxy));
    bine::spawn(move || {
        while requests.wait().is_ok() {
            asked.print_statistics();
        }
    });
    // Last, when all signals are taken care of.
    println!("listening on {address}");
    stop.wait()?;
    println!("stopping");
    let cut_off = proxy.stop(accepting, Duration::from_secs(options.grace))?;
    if cut_off > 0 {
        println!("{cut_off} connections did not end in time, and were cut off");
    }
    proxy.print_statistics();
    Ok(())
}

impl Proxy {
    fn new(options: &Options) -> io::Result<Arc<Self>> {
        let idle = Duration::from_secs(options.idle_timeout);
        Ok(Arc::new(Self {
            targets: Targets::new(&options.targets, Duration::from_secs(options.connect_timeout))?,
            idle_timeout: (!idle.is_zero()).then_some(idle),
            buffer: options.buffer as usize,
            quiet: options.quiet,
            counters: Counters::default(),
            connections: Connections::new(options.max_connections),
        }))
    }

    fn start(self: &Arc<Self>, listener: TcpListener) -> JoinHandle<()> {
        let proxy = Arc::clone(self);
        self.connections.accept_on(
            listener,
            |stream, peer| Client { stream, peer },
            move |client| proxy.serve(client),
        )
    }

    /// Ends accepting now, and waits for so long until all connections have ended. How many have not: the
    /// end of the runtime will cut them off.
    fn stop(&self, accepting: JoinHandle<()>, grace: Duration) -> io::Result<usize> {
        accepting.cancel()?;
        // With it goes the listener. It has been cancelled, and so is no success.
        let _ = accepting.join();
        Ok(self.connections.wait_until_closed(grace))
    }

    fn serve(&self, client: &Client) {
        let counters = &self.counters;
        match self.connect_and_relay(client) {
            Ok(()) => {
                counters.ended.fetch_add(1, Ordering::Relaxed);
                self.log(client, format_args!("ended"));
            }
            Err(failure) => {
                let counter = match failure {
                    Failure::NoTarget(_) => &counters.unserved,
                    Failure::Idle => &counters.idle,
                    Failure::Broken(_) => &counters.failed,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                self.log(client, format_args!("{failure}"));
            }
        }
    }

    fn connect_and_relay(&self, client: &Client) -> Result<(), Failure> {
        let client_side = Side::new(&client.stream);
        let (target, stream) = self.targets.connect().map_err(Failure::NoTarget)?;
        self.log(client, format_args!("connected to {}", self.targets.name(target)));
        let target_side = Side::new(&stream);
        self.relay(&client.stream, &stream)?;
        client_side.has_ended();
        target_side.has_ended();
        Ok(())
    }

    /// Passes on everything in both directions, until both have ended.
    fn relay(&self, client: &TcpStream, target: &TcpStream) -> Result<(), Failure> {
        for stream in [client, target] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(self.idle_timeout)?;
            stream.set_write_timeout(self.idle_timeout)?;
        }
        let activity = Activity::new(self.idle_timeout);
        let [upward, downward] = [Direction::new(client, target), Direction::new(target, client)];
        let (up, down, counters) = (&upward, &downward, &self.counters);
        // The first that fails has the other one cancelled, wherever it waits.
        thread::try_scope(|scope| {
            let pumps = [(up, down, &counters.upward), (down, up, &counters.downward)].map(
                |(direction, opposite, count)| {
                    scope.spawn(|| direction.pump(opposite, self.buffer, &activity, count))
                },
            );
            // One that was cancelled has no error, and has not ended all the same.
            let have_ended = pumps.into_iter().all(|pump| matches!(pump.join(), Ok(Some(()))));
            have_ended.then_some(()).ok_or_else(|| io::Error::from(ErrorKind::Interrupted).into())
        })
    }

    fn log(&self, client: &Client, what: fmt::Arguments<'_>) {
        if !self.quiet {
            println!("{}: {what}", client.peer);
        }
    }

    fn print_statistics(&self) {
        print!("{}", self.statistics());
    }

    fn statistics(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (all, open) = (self.connections.accepted(), self.connections.open());
        let Counters { upward, downward, ended, failed, idle, unserved } = &self.counters;
        format!(
            "{all} connections: {open} open, {} ended, {} failed, {} idle for too long, {} without a \
             target\n{} bytes to the targets, {} bytes back\n{}",
            count(ended),
            count(failed),
            count(idle),
            count(unserved),
            count(upward),
            count(downward),
            self.targets.statistics(),
        )
    }
}

/// One side of a connection. Unless both directions have ended it is reset when it is closed, also if the
/// thread unwinds: whoever reads there gets an error then, and no end of file.
struct Side<'a>(&'a TcpStream);

impl<'a> Side<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        Self(stream)
    }

    fn has_ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for Side<'_> {
    fn drop(&mut self) {
        // Where this fails, the connection is gone already.
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}
