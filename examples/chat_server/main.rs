//! A chat server with rooms, for telnet and nc.
//!
//! What there is to learn: what to do about clients that are too slow, too fast, silent or broken, where
//! each is served by two green threads, one that reads and one that writes, with a bounded queue between
//! the room and the writer.
//!
//! - *Back-pressure*: whoever says something waits until each member's queue has room, and reads no
//!   further line meanwhile. So nobody can talk faster than the room can listen.
//! - *Slow clients are dropped*: a member whose queue has no room for as long as `--patience` says is
//!   disconnected, and the others go on.
//! - A line has a longest length, and whoever sends a longer one is disconnected. So is, with
//!   `--idle-timeout`, whoever says nothing for too long.
//! - A panic in the thread of one client ends that client's visit, and nobody else's.
//! - On Ctrl-C and SIGTERM everybody is told, and has `--grace` seconds to read it.
//!
//! Try it: `cargo run --release --example chat_server`, and `nc localhost 12346` beside it, twice.

mod client;
mod commands;
mod lines;
mod rooms;
#[path = "../serve/mod.rs"]
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bine::net::TcpListener;
use bine::thread::JoinHandle;
use clap::Parser;

use crate::client::Client;
use crate::rooms::Rooms;
use crate::serve::{Connections, RuntimeOptions, Stop};

/// Chat server on green threads
#[derive(Parser, Clone)]
struct Options {
    /// Name or address to listen on
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 12346)]
    port: u16,
    /// Clients at once; further ones wait until one of them leaves
    #[arg(long, default_value = "10000")]
    max_clients: NonZeroUsize,
    /// Messages that wait for a client to read them
    #[arg(long, default_value = "64")]
    queue: NonZeroUsize,
    /// Milliseconds that others wait for a client whose queue is full, before it is dropped
    #[arg(long, default_value_t = 1_000)]
    patience: u64,
    /// Bytes of a line
    #[arg(long, default_value_t = 1 << 10, value_parser = clap::value_parser!(u32).range(16..))]
    max_line: u32,
    /// Seconds that a client may be silent; 0 is without end
    #[arg(long, default_value_t = 0)]
    idle_timeout: u64,
    /// Seconds that clients have to read the last messages when they leave, or the server stops
    #[arg(long, default_value_t = 5)]
    grace: u64,
    /// Take the command /panic, to see that it hurts nobody else
    #[arg(long)]
    allow_panic: bool,
    /// Print nothing for each client
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

/// What clients may do.
struct Limits {
    queue: usize,
    patience: Duration,
    line: usize,
    idle: Option<Duration>,
    grace: Duration,
    allow_panic: bool,
    quiet: bool,
}

impl Limits {
    fn of(options: &Options) -> Self {
        let idle = Duration::from_secs(options.idle_timeout);
        Self {
            queue: options.queue.get(),
            patience: Duration::from_millis(options.patience),
            line: options.max_line as usize,
            idle: (!idle.is_zero()).then_some(idle),
            grace: Duration::from_secs(options.grace),
            allow_panic: options.allow_panic,
            quiet: options.quiet,
        }
    }
}

struct Server {
    limits: Limits,
    rooms: Rooms,
    connections: Arc<Connections<Client>>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let served = options.runtime.build().and_then(|runtime| runtime.run(move || serve(&options)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> io::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let stop = Stop::new()?;
    let listener = TcpListener::bind((&*options.host, options.port))?;
    println!("listening on {}", listener.local_addr()?);
    let server = Server::new(Limits::of(options), options.max_clients);
    let accepting = server.start(listener);

    stop.wait()?;
    println!("stopping");
    let cut_off = server.stop(accepting)?;
    if cut_off > 0 {
        println!("{cut_off} clients did not read their last messages in time");
    }
    Ok(())
}

impl Server {
    fn new(limits: Limits, max_clients: NonZeroUsize) -> Arc<Self> {
        let connections = Connections::new(max_clients);
        Arc::new(Self { limits, rooms: Rooms::default(), connections })
    }

    /// Starts to let clients in.
    fn start(self: &Arc<Self>, listener: TcpListener) -> JoinHandle<()> {
        let (guests, host) = (Arc::clone(self), Arc::clone(self));
        self.connections.accept_on(
            listener,
            move |stream, peer| Client::new(stream, peer, &guests.limits),
            move |client| client::serve(client, &host),
        )
    }

    /// Tells everybody, and waits until they have read it, or the grace is over. How many have not.
    fn stop(&self, accepting: JoinHandle<()>) -> io::Result<usize> {
        accepting.cancel()?;
        // With it goes the listener. It has been cancelled, and so is no success.
        let _ = accepting.join();
        self.connections.for_each(|client| client.dismiss("the server stops, good-bye"));
        // Each client has as much time for its last messages.
        let left = self.connections.wait_until_closed(self.limits.grace * 2);
        self.connections.for_each(|client| client.cut_off());
        Ok(left)
    }
}
