//! Where something goes wrong, the crates see on bine's streams what they see on std's: the same
//! scenario runs on both, and what it has seen is compared, word for word.

mod everywhere;

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bine_ecosystem::redis::Connection;
use bine_ecosystem::tls::{Identity, finish};
use everywhere::everywhere;
use redis::{Commands, Value};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;
use tungstenite::{Message, WebSocket};

/// What the two kinds of streams have in common, and what is not in `Read` and `Write`.
trait Stream: Read + Write + Sized {
    /// A connection: the end that connected, and the end that accepted.
    fn pair() -> (Self, Self);
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    /// Ends the connection so that the peer sees it reset.
    fn reset(self);
}

macro_rules! stream {
    ($listener:ty, $stream:ty) => {
        impl Stream for $stream {
            fn pair() -> (Self, Self) {
                let any = SocketAddr::from(([127, 0, 0, 1], 0));
                let listener = <$listener>::bind(any).expect("bind");
                let address = listener.local_addr().expect("an address");
                let client = <$stream>::connect(address).expect("connect");
                let (server, _) = listener.accept().expect("accept");
                (client, server)
            }

            fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.set_read_timeout(timeout)
            }

            fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.set_write_timeout(timeout)
            }

            fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                self.set_nonblocking(nonblocking)
            }

            fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.shutdown(how)
            }

            fn reset(self) {
                SockRef::from(&self).set_linger(Some(Duration::ZERO)).expect("an option");
            }
        }
    };
}

stream!(std::net::TcpListener, std::net::TcpStream);
stream!(bine::net::TcpListener, bine::net::TcpStream);

const SHORT: Option<Duration> = Some(Duration::from_millis(2));

/// What a scenario has seen.
#[derive(Default, PartialEq, Eq, Debug)]
struct Seen(Vec<String>);

impl Seen {
    fn note(&mut self, what: &str, outcome: impl Debug) {
        self.0.push(format!("{what}: {outcome:?}"));
    }
}

/// Runs a scenario on std's streams, on an OS thread, and on bine's.
fn compare(what: &str, on_std: fn() -> Seen, on_bine: fn() -> Seen) {
    let expected = Arc::new(std::thread::spawn(on_std).join().expect("it runs on std's streams"));
    println!("{expected:#?}");
    everywhere(what, move || assert_eq!(*expected, on_bine()));
}

/// What has happened until there is no more: data, or an error.
fn rest(mut stream: impl Read) -> Result<Vec<u8>, (io::ErrorKind, String)> {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => Ok(rest),
        Err(error) => Err((error.kind(), error.to_string())),
    }
}

type Ends<S> = (StreamOwned<ClientConnection, S>, StreamOwned<ServerConnection, S>);

/// Two ends after their handshake. One thread is both, so each must leave off where it would wait.
fn tls<S: Stream>(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Ends<S> {
    let name = ServerName::try_from("localhost").expect("a name");
    let (one, two) = S::pair();
    let client = ClientConnection::new(Arc::clone(client), name).expect("a configuration");
    let server = ServerConnection::new(Arc::clone(server)).expect("a configuration");
    let (mut client, mut server) = (StreamOwned::new(client, one), StreamOwned::new(server, two));
    for end in [&client.sock, &server.sock] {
        end.set_read_timeout(SHORT).expect("a timeout");
    }
    while client.conn.is_handshaking() || server.conn.is_handshaking() {
        // Fails with `WouldBlock` where it is the other one's turn.
        let _ = client.conn.complete_io(&mut client.sock);
        let _ = server.conn.complete_io(&mut server.sock);
    }
    for end in [&client.sock, &server.sock] {
        end.set_read_timeout(None).expect("a timeout");
    }
    (client, server)
}

fn tls_failures<S: Stream>() -> Seen {
    let identity = Identity::new();
    let (trusting, config) = (identity.client(), identity.server());
    let ends = || tls::<S>(&trusting, &config);
    let mut seen = Seen::default();

    let (mut client, mut server) = ends();
    client.sock.set_read_timeout(SHORT).expect("a timeout");
    seen.note("out of time", client.read(&mut [0; 8]));
    client.sock.set_nonblocking(true).expect("a mode");
    seen.note("non-blocking", client.read(&mut [0; 8]));
    client.sock.set_nonblocking(false).expect("a mode");
    client.sock.set_read_timeout(None).expect("a timeout");
    server.write_all(b"hello").expect("there is room");
    finish(&mut server.conn, &mut server.sock).expect("there is room");
    seen.note("the end", rest(&mut client));
    drop(server);
    seen.note("the end again", client.read(&mut [0; 8]));

    let (mut client, mut server) = ends();
    server.write_all(b"hello").expect("there is room");
    server.sock.shutdown(Shutdown::Write).expect("connected");
    seen.note("no proper end", rest(&mut client));

    let (mut client, server) = ends();
    server.sock.reset();
    seen.note("a reset", rest(&mut client));
    seen.note("a write after it", client.write_all(b"hello").map_err(|error| error.kind()));

    let (mut client, _server) = ends();
    client.sock.shutdown(Shutdown::Write).expect("connected");
    seen.note("a write after a shutdown", client.write_all(b"hello").map_err(|error| error.kind()));

    // Until what the kernel takes is full.
    let (mut client, _server) = ends();
    client.sock.set_write_timeout(SHORT).expect("a timeout");
    client.conn.set_buffer_limit(None);
    let chunk = vec![7; 1 << 20];
    let error = loop {
        if !client.conn.wants_write() {
            client.conn.writer().write_all(&chunk).expect("there is no limit");
        }
        if let Err(error) = client.conn.write_tls(&mut client.sock) {
            break error;
        }
    };
    seen.note("no room", error);
    seen
}

#[test]
fn tls_fails_as_on_stds_streams() {
    compare("TLS", tls_failures::<std::net::TcpStream>, tls_failures::<bine::net::TcpStream>);
}

/// The two ends of a WebSocket, without a handshake.
fn websocket<S: Stream>() -> (WebSocket<S>, WebSocket<S>) {
    let (client, server) = S::pair();
    (
        WebSocket::from_raw_socket(client, tungstenite::protocol::Role::Client, None),
        WebSocket::from_raw_socket(server, tungstenite::protocol::Role::Server, None),
    )
}

fn websocket_failures<S: Stream>() -> Seen {
    let mut seen = Seen::default();

    let (mut client, mut server) = websocket::<S>();
    client.get_ref().set_read_timeout(SHORT).expect("a timeout");
    seen.note("out of time", client.read());
    client.get_ref().set_nonblocking(true).expect("a mode");
    seen.note("non-blocking", client.read());
    client.get_ref().set_nonblocking(false).expect("a mode");
    client.get_ref().set_read_timeout(None).expect("a timeout");
    // A text of five bytes, as RFC 6455 frames it, in two pieces.
    server.get_mut().write_all(b"\x81\x05he").expect("there is room");
    client.get_ref().set_read_timeout(SHORT).expect("a timeout");
    seen.note("half a message", client.read());
    client.get_ref().set_read_timeout(None).expect("a timeout");
    server.get_mut().write_all(b"llo").expect("there is room");
    seen.note("all of it", client.read());
    client.close(None).expect("there is room");
    seen.note("the server hears", server.read());
    // This is when it answers.
    seen.note("the server has ended", server.read());
    seen.note("a close", client.read());
    drop(server);
    seen.note("the end", client.read());
    seen.note("after the end", client.read());

    let (mut client, server) = websocket::<S>();
    server.get_ref().shutdown(Shutdown::Write).expect("connected");
    seen.note("no proper end", client.read());

    let (mut client, mut server) = websocket::<S>();
    client.send(Message::text("unread")).expect("there is room");
    server.get_mut().read_exact(&mut [0; 4]).expect("some of it has come");
    // With something unread, closing resets.
    drop(server);
    seen.note("a reset", client.read());
    seen.note("a message after it", client.send(Message::text("hello")));

    let (mut client, _server) = websocket::<S>();
    client.get_ref().set_write_timeout(SHORT).expect("a timeout");
    let message = Message::binary(vec![7; 1 << 20]);
    let error = loop {
        if let Err(error) = client.send(message.clone()) {
            break error;
        }
    };
    seen.note("no room", error);
    seen
}

#[test]
fn websockets_fail_as_on_stds_streams() {
    compare(
        "websockets",
        websocket_failures::<std::net::TcpStream>,
        websocket_failures::<bine::net::TcpStream>,
    );
}

fn redis_failures<S: Stream>() -> Seen {
    let mut seen = Seen::default();
    let mut get = |what: &str, stream: S, prepare: fn(&S)| {
        prepare(&stream);
        let mut connection = Connection::new(stream);
        let outcome: redis::RedisResult<Value> = connection.get("word");
        let outcome = outcome.map_err(|error| {
            let (kind, io) = (error.kind(), error.is_io_error());
            (kind, io, error.is_timeout(), error.is_connection_dropped(), error.to_string())
        });
        seen.note(what, outcome);
    };

    let (client, mut server) = S::pair();
    server.write_all(b"$5\r\nhello\r\n").expect("there is room");
    get("an answer", client, |_| {});

    let (client, mut server) = S::pair();
    server.write_all(b"$5\r\nhel").expect("there is room");
    get("half an answer", client, |stream| stream.set_read_timeout(SHORT).expect("a timeout"));

    let (client, server) = S::pair();
    get("non-blocking", client, |stream| stream.set_nonblocking(true).expect("a mode"));
    drop(server);

    let (client, mut server) = S::pair();
    server.write_all(b"$5\r\nhel").expect("there is room");
    server.shutdown(Shutdown::Write).expect("connected");
    get("the end in the midst of it", client, |_| {});

    let (client, server) = S::pair();
    server.reset();
    // Whether the write meets it or the read.
    get("a reset", client, |_| {});
    seen
}

#[test]
fn redis_fails_as_on_stds_streams() {
    compare("redis", redis_failures::<std::net::TcpStream>, redis_failures::<bine::net::TcpStream>);
}
