//! tungstenite on bine's streams: with itself, and with Python's websockets at the other end, plain
//! and on top of rustls.

mod everywhere;

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bine::net::{SocketAddr, TcpStream};
use bine::process::Command;
use bine::thread;
use bine_ecosystem::peers::{Server, find};
use bine_ecosystem::scratch::Scratch;
use bine_ecosystem::tls::{Identity, finish};
use everywhere::harness::seed;
use everywhere::{bytes, everywhere, listen, output_of, serve};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// Small buffers: these are there for each connection.
fn config() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().read_buffer_size(4 << 10))
}

fn io_error(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Sends each message back, until the client closes the connection.
fn echo(stream: impl Read + Write) -> io::Result<()> {
    let mut socket = tungstenite::accept_with_config(stream, config())
        .map_err(|error| io::Error::other(error.to_string()))?;
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                socket.send(message).map_err(io_error)?;
            }
            // tungstenite answers these by itself.
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(io_error(error)),
        }
    }
}

fn echo_on_tls(config: &Arc<ServerConfig>, stream: TcpStream) -> io::Result<()> {
    let tls = ServerConnection::new(Arc::clone(config)).map_err(io_error)?;
    let mut stream = StreamOwned::new(tls, stream);
    echo(&mut stream)?;
    finish(&mut stream.conn, &mut stream.sock)
}

fn connect<S: Read + Write>(stream: S) -> WebSocket<S> {
    let connected = tungstenite::client::client_with_config("ws://localhost/", stream, config());
    connected.unwrap_or_else(|error| panic!("no handshake: {error}")).0
}

/// Messages of random sizes, some pings, and a close.
fn converse(stream: impl Read + Write, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut socket = connect(stream);
    for longest in [16, 1 << 10, 1 << 16] {
        let ping = Message::Ping(bytes(random.u64(..), random.usize(..=125)).into());
        socket.send(ping.clone()).expect("the server listens");
        let Message::Ping(payload) = ping else { unreachable!("it is a ping") };
        assert_eq!(socket.read().expect("an answer"), Message::Pong(payload));

        let text: String = (0..random.usize(..=longest)).map(|_| random.char(..)).collect();
        let message = bytes(random.u64(..), random.usize(..=longest));
        // Both on their way before either answer is taken.
        let messages = [Message::text(text), Message::binary(message)];
        for message in &messages {
            socket.send(message.clone()).expect("the server listens");
        }
        for message in messages {
            assert_eq!(socket.read().expect("an answer"), message);
        }
    }
    let goodbye = CloseFrame { code: CloseCode::Away, reason: "that is all".into() };
    socket.close(Some(goodbye.clone())).expect("the server listens");
    assert_eq!(socket.read().expect("an answer"), Message::Close(Some(goodbye)));
    let ended = socket.read().expect_err("nothing comes after a close");
    assert!(matches!(ended, Error::ConnectionClosed), "{ended}");
}

#[test]
fn hundreds_of_clients_talk_to_a_server() {
    const CLIENTS: usize = 300;
    let seed = seed();
    everywhere("hundreds of clients talk to a server", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            for number in 0..CLIENTS as u64 {
                scope.spawn(move || {
                    converse(TcpStream::connect(address).expect("connect"), seed + number);
                });
            }
            serve(&listener, CLIENTS, echo);
        });
    });
}

#[test]
fn websockets_on_top_of_tls() {
    const CLIENTS: usize = 30;
    let seed = seed();
    let identity = Identity::new();
    let (server, client) = (identity.server(), identity.client());
    everywhere("websockets on top of TLS", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            for number in 0..CLIENTS as u64 {
                let client = client.clone();
                scope.spawn(move || {
                    let name = ServerName::try_from("localhost").expect("a name");
                    let tls = ClientConnection::new(client, name).expect("a configuration");
                    let stream = TcpStream::connect(address).expect("connect");
                    converse(StreamOwned::new(tls, stream), seed + number);
                });
            }
            serve(&listener, CLIENTS, |stream| echo_on_tls(&server, stream));
        });
    });
}

/// Neither end can send it without waiting for the other one.
#[test]
fn a_large_message_there_and_back() {
    let seed = seed();
    everywhere("a large message", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            scope.spawn(|| serve(&listener, 1, echo));
            let mut socket = connect(TcpStream::connect(address).expect("connect"));
            let message = Message::binary(bytes(seed, 12 << 20));
            socket.send(message.clone()).expect("the server listens");
            // Not with assert_eq, which would print it.
            assert!(socket.read().expect("an answer") == message, "another message has come back");
            socket.close(None).expect("the server listens");
            assert_eq!(socket.read().expect("an answer"), Message::Close(None));
        });
    });
}

/// A server that sends its one message in two pieces: the second one when it is told to.
fn hesitate(stream: TcpStream, go: &bine::channel::Receiver<()>) -> io::Result<()> {
    let socket =
        tungstenite::accept(stream).map_err(|error| io::Error::other(error.to_string()))?;
    let mut stream = socket.into_inner();
    // A text of eleven bytes, as RFC 6455 frames it.
    go.recv().expect("the client tells");
    stream.write_all(b"\x81\x0bhello")?;
    go.recv().expect("the client tells");
    stream.write_all(b" world")?;
    assert_eq!(stream.read(&mut [0])?, 0, "the client only leaves");
    Ok(())
}

/// A read that runs out of time, or would wait, leaves the connection as it was, also in the midst
/// of a message.
#[test]
fn reads_that_would_block_lose_nothing() {
    everywhere("reads that would block", move || {
        for patience in [Some(Duration::from_millis(2)), None] {
            let (listener, address) = listen();
            let (go_on, go) = bine::channel::bounded(0);
            thread::scope(|scope| {
                scope.spawn(|| serve(&listener, 1, |stream| hesitate(stream, &go)));
                let mut socket = connect(TcpStream::connect(address).expect("connect"));
                let stream = socket.get_ref();
                match patience {
                    Some(_) => stream.set_read_timeout(patience).expect("a timeout"),
                    None => stream.set_nonblocking(true).expect("a mode"),
                }
                let mut would_block = || match socket.read() {
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => None,
                    other => Some(other.expect("the server is there")),
                };
                assert_eq!(would_block(), None);
                go_on.send(()).expect("the server waits");
                for _ in 0..3 {
                    assert_eq!(would_block(), None, "half of it is no message");
                }
                go_on.send(()).expect("the server waits");
                let message = loop {
                    match would_block() {
                        Some(message) => break message,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(message, Message::text("hello world"));
            });
        }
    });
}

/// With `set_nonblocking`, the handshake stops where it would wait, and can be taken up again.
#[test]
fn a_handshake_may_be_interrupted() {
    everywhere("an interrupted handshake", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            scope.spawn(|| serve(&listener, 1, echo));
            let stream = TcpStream::connect(address).expect("connect");
            stream.set_nonblocking(true).expect("a mode");
            let mut interruptions = 0;
            let mut attempt = tungstenite::client("ws://localhost/", stream);
            let mut socket = loop {
                match attempt {
                    Ok((socket, _)) => break socket,
                    Err(HandshakeError::Interrupted(handshake)) => {
                        interruptions += 1;
                        thread::yield_now();
                        attempt = handshake.handshake();
                    }
                    Err(HandshakeError::Failure(error)) => panic!("no handshake: {error}"),
                }
            };
            println!("interrupted {interruptions} times");
            socket.get_ref().set_nonblocking(false).expect("a mode");
            socket.send(Message::text("hello")).expect("the server listens");
            assert_eq!(socket.read().expect("an answer"), Message::text("hello"));
            socket.close(None).expect("the server listens");
            assert_eq!(socket.read().expect("an answer"), Message::Close(None));
        });
    });
}

/// A Python with the package websockets.
fn python() -> Option<String> {
    let candidates = ["python3", "/usr/bin/python3"];
    find("python3 with websockets", &candidates, &["-c", "import websockets"])
}

const CLIENT: &str = r#"
import asyncio, ssl, sys, websockets

async def main(url, authority):
    tls = ssl.create_default_context(cafile=authority) if url.startswith("wss:") else None
    async with websockets.connect(url, ssl=tls, max_size=None) as socket:
        for message in ["hello", "\N{SNOWMAN}" * 1000, b"", bytes(range(256)) * 4096]:
            await socket.send(message)
            assert await socket.recv() == message
        await asyncio.wait_for(await socket.ping(b"are you there"), 60)
        # In fragments, each a frame.
        await socket.send(["one ", "two ", "three"])
        assert await socket.recv() == "one two three"
    assert socket.close_code == 1000, socket.close_code
    print("done")

asyncio.run(main(*sys.argv[1:]))
"#;

#[test]
fn a_server_serves_python() {
    let Some(python) = python() else { return };
    let (scratch, identity) = (Scratch::new(), Identity::new());
    let authority = identity.write(&scratch).authority;
    let config = identity.server();
    everywhere("a server serves Python", move || {
        let (listener, address) = listen();
        let client = |scheme: &str| {
            let mut command = Command::new(&python);
            // Newer versions would ask a proxy, if the environment names one.
            command.env("no_proxy", "*").args(["-c", CLIENT, &format!("{scheme}://{address}/")]);
            assert_eq!(output_of(command.arg(&authority)), b"done\n");
        };
        thread::scope(|scope| {
            scope.spawn(|| client("ws"));
            serve(&listener, 1, echo);
        });
        thread::scope(|scope| {
            scope.spawn(|| client("wss"));
            serve(&listener, 1, |stream| echo_on_tls(&config, stream));
        });
    });
}

const SERVER: &str = r#"
import asyncio, websockets

async def echo(socket, path=None):
    async for message in socket:
        await socket.send(message)

async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"listening on 127.0.0.1:{port}", flush=True)
        await asyncio.Future()

asyncio.run(main())
"#;

#[test]
fn clients_talk_to_python() {
    const CLIENTS: u64 = 20;
    let Some(python) = python() else { return };
    let seed = seed();
    let mut command = std::process::Command::new(python);
    command.args(["-c", SERVER]);
    let server = Server::start(command, "listening on");
    let address: SocketAddr = server.address();
    everywhere("clients talk to Python", move || {
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                scope.spawn(move || {
                    converse(TcpStream::connect(address).expect("connect"), seed + number);
                });
            }
        });
    });
}
