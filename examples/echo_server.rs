//! A TCP server that sends back what it receives, with a green thread for each connection.
//!
//! Try it: `cargo run --release --example echo_server`, and `nc localhost 12345` beside it.

use std::io::{self, Read, Write};

use bine::net::{SocketAddr, TcpListener, TcpStream};
use clap::Parser;

/// Echo server on green threads
#[derive(Parser, Clone)]
struct Options {
    /// Name or address to listen on
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 12345)]
    port: u16,
    /// Print nothing for each connection and message
    #[arg(long)]
    quiet: bool,
    /// Let green threads that have run move to other workers
    #[arg(long)]
    migrate: bool,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut builder = bine::runtime::Builder::new();
    if options.migrate {
        // SAFETY: nothing below keeps a thread-local borrow across a blocking call.
        builder = unsafe { builder.migrate() };
    }
    builder.build()?.run(|| serve(options))
}

fn serve(options: Options) -> io::Result<()> {
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = TcpListener::bind((&*options.host, options.port))?;
    println!("listening on {}, with up to {files} open files", listener.local_addr()?);

    bine::spawn(move || {
        loop {
            let quiet = options.quiet;
            match listener.accept() {
                Ok((stream, peer)) => drop(bine::spawn(move || handle(stream, peer, quiet))),
                Err(error) => {
                    // No descriptor is free, say: those who leave make room.
                    eprintln!("cannot accept: {error}");
                    bine::thread::sleep(std::time::Duration::from_millis(50));
                }
            }
        }
    });

    bine::signal::ctrl_c()?;
    println!("stopping");
    Ok(())
}

fn handle(stream: TcpStream, peer: SocketAddr, quiet: bool) {
    if !quiet {
        println!("{peer} connected");
    }
    match echo(stream, peer, quiet) {
        Ok(bytes) if !quiet => println!("{peer} disconnected after {bytes} bytes"),
        Ok(_) => {}
        Err(error) => eprintln!("{peer} failed: {error}"),
    }
}

fn echo(mut stream: TcpStream, peer: SocketAddr, quiet: bool) -> io::Result<usize> {
    let (mut buffer, mut total) = ([0; 4096], 0);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        if !quiet {
            println!("{peer} sent {count} bytes: {}", buffer[..count].escape_ascii());
        }
        stream.write_all(&buffer[..count])?;
        total += count;
    }
}
