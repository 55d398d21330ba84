//! An HTTP server: a green thread for each connection, and blocking code in it.
//!
//! What there is to learn: how a server that lives long treats its clients. Keep-alive and pipelining
//! cost one read and one write for all requests that have come together; all sizes and times have
//! limits; a handler that panics hurts nobody else; where no descriptor is free, accepting waits; and
//! SIGTERM or Ctrl-C let the requests that are there end, while idle connections are closed.
//!
//! Try it: `cargo run --release --example http_server`, and open <http://localhost:8080> beside it, or
//!
//! ```sh
//! curl -i localhost:8080/healthz
//! curl --data-binary @Cargo.toml localhost:8080/echo
//! wrk -c 100 http://localhost:8080/plaintext
//! ```

mod body;
mod connection;
mod date;
mod input;
mod pages;
mod request;
mod response;
#[path = "../serve/mod.rs"]
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bine::net::TcpListener;
use bine::thread::JoinHandle;
use clap::Parser;

use crate::connection::Connection;
use crate::serve::{Connections, RuntimeOptions, Stop};

/// HTTP server on green threads
#[derive(Parser, Clone)]
struct Options {
    /// Name or address to listen on
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Connections at once; further ones wait until one of them ends
    #[arg(long, default_value = "10000")]
    max_connections: NonZeroUsize,
    /// Bytes of a request's head: 431 or 414 beyond
    #[arg(long, default_value_t = 16 << 10, value_parser = clap::value_parser!(u32).range(4 << 10..))]
    max_head: u32,
    /// Header fields of a request: 431 beyond
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=128))]
    max_headers: u8,
    /// Bytes of a request's body: 413 beyond
    #[arg(long, default_value_t = 1 << 20)]
    max_body: u32,
    /// Seconds that a request may take to come: 408 beyond
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    request_timeout: u64,
    /// Seconds that a connection may be idle; 0 is without end
    #[arg(long, default_value_t = 60)]
    idle_timeout: u64,
    /// Seconds that requests have to end when the server stops
    #[arg(long, default_value_t = 10)]
    grace: u64,
    #[command(flatten)]
    runtime: RuntimeOptions,
}

/// What clients may do.
struct Limits {
    head: usize,
    headers: usize,
    body: usize,
    request: Duration,
    idle: Option<Duration>,
}

impl Limits {
    const MOST_HEADERS: usize = 128;

    fn of(options: &Options) -> Self {
        let idle = Duration::from_secs(options.idle_timeout);
        Self {
            head: options.max_head as usize,
            headers: options.max_headers.into(),
            body: options.max_body as usize,
            request: Duration::from_secs(options.request_timeout),
            idle: (!idle.is_zero()).then_some(idle),
        }
    }
}

/// What all connections share.
struct Server {
    limits: Limits,
    connections: Arc<Connections<Connection>>,
    /// Answered by connections that have ended. (The others count for themselves: one counter for all
    /// would travel from CPU to CPU.)
    past_requests: AtomicU64,
    is_stopping: AtomicBool,
    started: Instant,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let served = options.runtime.build().and_then(|runtime| runtime.run(move || serve(&options)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> io::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let stop = Stop::new()?;
    let listener = TcpListener::bind((&*options.host, options.port))?;
    println!("listening on http://{}", listener.local_addr()?);
    let server = Server::new(Limits::of(options), options.max_connections);
    let accepting = server.start(listener);

    stop.wait()?;
    println!("stopping");
    let cut_off = server.stop(accepting, Duration::from_secs(options.grace))?;
    match cut_off {
        0 => println!("stopped after {} requests", server.requests()),
        _ => println!("stopped; {cut_off} connections did not end in time, and were cut off"),
    }
    Ok(())
}

impl Server {
    fn new(limits: Limits, max_connections: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            limits,
            connections: Connections::new(max_connections),
            past_requests: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            started: Instant::now(),
        })
    }

    /// Starts to accept connections.
    fn start(self: &Arc<Self>, listener: TcpListener) -> JoinHandle<()> {
        let server = Arc::clone(self);
        self.connections.accept_on(
            listener,
            move |stream, _peer| Connection::new(stream, &server),
            |connection| connection.serve(),
        )
    }

    /// Ends all connections, within this time, after the requests that are there are answered. How many
    /// had to be cut off.
    fn stop(&self, accepting: JoinHandle<()>, grace: Duration) -> io::Result<usize> {
        accepting.cancel()?;
        // With it goes the listener. It has been cancelled, and so is no success.
        let _ = accepting.join();
        // SeqCst: `Connection::end_if_idle` tells why.
        self.is_stopping.store(true, Ordering::SeqCst);
        self.connections.for_each(|connection| connection.end_if_idle());
        let left = self.connections.wait_until_closed(grace);
        self.connections.for_each(|connection| connection.cut_off());
        Ok(left)
    }

    /// How many requests were answered. A moment's view: connections come and go.
    fn requests(&self) -> u64 {
        let mut requests = self.past_requests.load(Ordering::Relaxed);
        self.connections.for_each(|connection| requests += connection.requests());
        requests
    }
}
