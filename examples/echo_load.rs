//! A load for an echo server: many connections at once, each of which sends a message, waits for
//! it to come back, compares every byte and starts again.
//!
//! Try it: `cargo run --release --example echo_load -- --connections 1000 --seconds 5`, with
//! `echo_server` beside it.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bine::net::{SocketAddr, TcpStream, ToSocketAddrs};
use bine::thread;
use clap::Parser;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

/// Load for an echo server, on green threads
#[derive(Parser)]
struct Options {
    /// Name or address of the server
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Port of the server
    #[arg(long, default_value_t = 12345)]
    port: u16,
    /// Connections at once
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// How long to send, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Bytes in a message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    size: u32,
}

/// What all connections share.
#[derive(Default)]
struct Progress {
    connected: AtomicUsize,
    messages: AtomicU64,
    /// Set when all are connected.
    start: AtomicBool,
    stop: AtomicBool,
}

/// What one connection saw: latencies in microseconds.
type Outcome = io::Result<Vec<u32>>;

#[bine::main]
fn main() -> ExitCode {
    match load(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(options: &Options) -> io::Result<()> {
    raise_file_limit(u64::from(options.connections) + 64)?;
    let server = (&*options.host, options.port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other(format!("{} has no address", options.host)))?;
    let progress = Arc::new(Progress::default());
    let connections: Vec<_> = (0..options.connections)
        .map(|number| {
            let (progress, size) = (Arc::clone(&progress), options.size as usize);
            bine::spawn(move || converse(server, number, size, &progress))
        })
        .collect();

    let elapsed = show_progress(options, &progress);
    let mut latencies =
        Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).map_err(io::Error::other)?;
    let (mut failed, mut first_error) = (0, None);
    for connection in connections {
        match connection.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))) {
            Ok(spans) => {
                spans.into_iter().for_each(|span| latencies.saturating_record(span.into()))
            }
            Err(error) => {
                failed += 1;
                first_error.get_or_insert(error);
            }
        }
    }
    report(options, &latencies, elapsed);
    match first_error {
        None => Ok(()),
        Some(error) => Err(io::Error::new(
            error.kind(),
            format!(
                "{failed} of {} connections failed, the first with: {error}",
                options.connections
            ),
        )),
    }
}

fn raise_file_limit(needed: u64) -> io::Result<()> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    if limit >= needed {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the system allows {limit} open files and {needed} are needed: raise the hard limit \
         (ulimit -Hn) or use fewer connections"
    )))
}

/// One connection, from the first byte to the last.
fn converse(server: SocketAddr, number: u32, size: usize, progress: &Progress) -> Outcome {
    let stream = TcpStream::connect(server).inspect_err(|_| {
        // The others do not wait for this one.
        progress.connected.fetch_add(1, Ordering::Relaxed);
    })?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    progress.connected.fetch_add(1, Ordering::Relaxed);
    while !progress.start.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(10));
    }
    let mut random = fastrand::Rng::with_seed(number.into());
    let mut message = vec![0; size];
    let mut answer = vec![0; size];
    let mut latencies = Vec::new();
    while !progress.stop.load(Ordering::Relaxed) {
        random.fill(&mut message);
        let sent = Instant::now();
        exchange(&stream, &message, &mut answer)?;
        latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        if let Some(at) = (0..size).find(|&at| message[at] != answer[at]) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "connection {number}: byte {at} of {size} came back as {}, not {}",
                    answer[at], message[at]
                ),
            ));
        }
        progress.messages.fetch_add(1, Ordering::Relaxed);
    }
    Ok(latencies)
}

/// Sends the message and receives as many bytes. What is larger than the sockets' buffers is sent
/// by a green thread of its own, or both sides would wait for each other.
fn exchange(mut stream: &TcpStream, message: &[u8], answer: &mut [u8]) -> io::Result<()> {
    if message.len() <= 16 << 10 {
        stream.write_all(message)?;
        return stream.read_exact(answer);
    }
    let (mut sender, copy) = (stream.try_clone()?, message.to_vec());
    let sending = bine::spawn(move || sender.write_all(&copy));
    stream.read_exact(answer)?;
    sending.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked")))
}

/// Starts and stops the connections, with a progress bar on stderr. How long they sent.
fn show_progress(options: &Options, progress: &Progress) -> Duration {
    let tick = Duration::from_millis(100);
    let all = options.connections as usize;
    let style = |template| ProgressStyle::with_template(template).expect("a valid template");
    let bar = ProgressBar::new(all as u64).with_style(style("connecting [{bar:30}] {pos}/{len}"));
    while progress.connected.load(Ordering::Relaxed) < all {
        bar.set_position(progress.connected.load(Ordering::Relaxed) as u64);
        thread::sleep(tick);
    }
    bar.finish_and_clear();
    progress.start.store(true, Ordering::Release);

    let (started, span) = (Instant::now(), Duration::from_secs(options.seconds));
    let bar = ProgressBar::new(options.seconds * 10)
        .with_style(style("sending    [{bar:30}] {elapsed}/{msg}"));
    while started.elapsed() < span {
        bar.set_position((started.elapsed().as_millis() / 100) as u64);
        bar.set_message(format!(
            "{}s, {} messages",
            options.seconds,
            progress.messages.load(Ordering::Relaxed)
        ));
        thread::sleep(tick.min(span.saturating_sub(started.elapsed())));
    }
    bar.finish_and_clear();
    progress.stop.store(true, Ordering::Relaxed);
    started.elapsed()
}

fn report(options: &Options, latencies: &Histogram<u64>, elapsed: Duration) {
    let at = |quantile| latencies.value_at_quantile(quantile);
    println!(
        "{} connections, {} bytes a message, {:.1} s: {} messages, {:.0} messages/s",
        options.connections,
        options.size,
        elapsed.as_secs_f64(),
        latencies.len(),
        latencies.len() as f64 / elapsed.as_secs_f64(),
    );
    println!(
        "latency: p50 {} us, p99 {} us, p99.9 {} us, max {} us",
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.max()
    );
}
