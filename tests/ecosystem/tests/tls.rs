//! rustls on bine's streams: with OpenSSL and curl at the other end, and with itself.

mod everywhere;

use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bine::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use bine::process::{Command, Stdio};
use bine::thread;
use bine_ecosystem::peers::{Server, find};
use bine_ecosystem::tls::{Identity, finish};
use bine_ecosystem::{http, scratch::Scratch};
use everywhere::harness::{receive, seed, send};
use everywhere::{bytes, everywhere, listen, output_of, serve};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

const PROTOCOLS: [&str; 2] = ["-tls1_2", "-tls1_3"];

type Accepted = StreamOwned<ServerConnection, TcpStream>;
type Connected = StreamOwned<ClientConnection, TcpStream>;

fn accept(config: &Arc<ServerConfig>, stream: TcpStream) -> Accepted {
    let connection = ServerConnection::new(Arc::clone(config)).expect("a configuration that fits");
    StreamOwned::new(connection, stream)
}

fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<Connected> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a configuration");
    Ok(StreamOwned::new(connection, TcpStream::connect(address)?))
}

/// Sends back what comes, until the peer says that this is all; says the same then.
fn echo(mut stream: Accepted) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return finish(&mut stream.conn, &mut stream.sock);
        }
        stream.write_all(&buffer[..count])?;
        stream.flush()?;
    }
}

fn openssl() -> Option<String> {
    find("openssl", &["openssl"], &["version"])
}

/// A client of OpenSSL's that sends `message`, and gets it back.
fn talk_with_openssl(
    openssl: &str,
    protocol: &str,
    server: SocketAddr,
    authority: &Path,
    message: &[u8],
) {
    let mut child = Command::new(openssl)
        .args(["s_client", "-quiet", "-no_ign_eof", "-verify_return_error", protocol])
        .args(["-servername", "localhost", "-verify_hostname", "localhost", "-CAfile"])
        .arg(authority)
        .args(["-connect", &server.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl runs");
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = child.stdout.take().expect("a pipe");
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            send(&mut input, message).expect("openssl takes the message");
            input
        });
        receive(&mut output, message).expect("every byte comes back");
        // Only now: at the end of its input openssl ends the connection.
        drop(sender.join().expect("the sender does not panic"));
    });
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("a pipe");
    assert!(rest.is_empty(), "{} bytes too many", rest.len());
    assert!(child.wait().expect("openssl ends").success(), "{protocol}");
}

#[test]
fn a_server_serves_openssl() {
    let Some(openssl) = openssl() else { return };
    let seed = seed();
    let (scratch, identity) = (Scratch::new(), Identity::new());
    let authority = identity.write(&scratch).authority;
    let config = identity.server();
    everywhere("a server serves openssl", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            for (number, protocol) in (0..).zip(PROTOCOLS.repeat(3)) {
                let (openssl, authority) = (&openssl, &authority);
                // No letters: openssl takes some for commands where they come first in what it reads.
                let mut message = bytes(seed + number, 100_000);
                message.iter_mut().for_each(|byte| *byte |= 0x80);
                scope.spawn(move || {
                    talk_with_openssl(openssl, protocol, address, authority, &message);
                });
            }
            serve(&listener, 6, |stream| echo(accept(&config, stream)));
        });
    });
}

#[test]
fn a_server_serves_curl() {
    let Some(curl) = find("curl", &["curl"], &["--version"]) else { return };
    let (scratch, identity) = (Scratch::new(), Identity::new());
    let authority = identity.write(&scratch).authority;
    let config = identity.server();
    everywhere("a server serves curl", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            for number in 0..4 {
                let (curl, authority) = (&curl, &authority);
                scope.spawn(move || {
                    let url = |path: &str| format!("https://localhost:{}/{path}", address.port());
                    let mut command = Command::new(curl);
                    command
                        .args(["--silent", "--show-error", "--fail", "--max-time", "120"])
                        .args(["--noproxy", "*", "--cacert"])
                        .arg(authority)
                        .args(["--resolve", &format!("localhost:{}:127.0.0.1", address.port())])
                        .args([url(&format!("one-{number}")), url("two"), url("three")]);
                    let expected = format!("GET /one-{number}\nGET /two\nGET /three\n");
                    assert_eq!(output_of(&mut command), expected.as_bytes());
                });
            }
            // curl keeps its connection for all three, and does not say that it ends it.
            serve(&listener, 4, |stream| {
                let mut requests = 0;
                let ended = http::serve(accept(&config, stream), |request| {
                    requests += 1;
                    (200, format!("{} {}\n", request.method, request.path).into_bytes())
                });
                assert_eq!(requests, 3);
                match ended {
                    Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
                    _ => Ok(()),
                }
            });
        });
    });
}

#[test]
fn clients_talk_to_openssl() {
    const CLIENTS: usize = 8;
    let Some(openssl) = openssl() else { return };
    let (scratch, identity) = (Scratch::new(), Identity::new());
    let files = identity.write(&scratch);
    for protocol in PROTOCOLS {
        // It sends back each line reversed, to one client after the other.
        let mut command = std::process::Command::new(&openssl);
        command.args(["s_server", "-rev", "-accept", "127.0.0.1:0", protocol, "-cert"]);
        command.arg(&files.certificate).arg("-key").arg(&files.key);
        let server = Server::start(command, "ACCEPT");
        let (address, config) = (server.address(), identity.client());
        everywhere(&format!("clients talk to openssl, {protocol}"), move || {
            thread::scope(|scope| {
                for number in 0..CLIENTS {
                    let config = &config;
                    scope.spawn(move || {
                        let mut stream = connect(config, address).expect("connect");
                        for line in 0..10 {
                            let words = format!("client {number}, line {line}");
                            let expected: String = words.chars().rev().chain(['\n']).collect();
                            let line = words + "\n";
                            stream.write_all(line.as_bytes()).expect("openssl listens");
                            receive(&mut stream, expected.as_bytes()).expect("the line reversed");
                        }
                        finish(&mut stream.conn, &mut stream.sock).expect("openssl listens");
                    });
                }
            });
        });
    }
}

/// Messages of random sizes, the last of them a large one, and the end.
fn converse(config: &Arc<ClientConfig>, address: SocketAddr, seed: u64) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stream = connect(config, address)?;
    for longest in [1 << 8, 1 << 12, 1 << 16] {
        let message = bytes(random.u64(..), random.usize(1..=longest));
        stream.write_all(&message)?;
        stream.flush()?;
        receive(&mut stream, &message)?;
    }
    finish(&mut stream.conn, &mut stream.sock)?;
    assert_eq!(stream.read(&mut [0; 8])?, 0, "the server ends its side, too");
    Ok(())
}

#[test]
fn hundreds_of_clients_talk_to_a_server() {
    const CLIENTS: usize = 200;
    let seed = seed();
    let identity = Identity::new();
    let (server, client) = (identity.server(), identity.client());
    everywhere("hundreds of clients talk to a server", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            for number in 0..CLIENTS as u64 {
                let client = &client;
                scope.spawn(move || {
                    converse(client, address, seed + number).expect("all comes back")
                });
            }
            serve(&listener, CLIENTS, |stream| echo(accept(&server, stream)));
        });
    });
    for usage in bine::stack::usage().expect("the kernel tells") {
        println!("stacks of {} KiB: {} KiB used", usage.stack_size >> 10, usage.deepest >> 10);
    }
}

/// Neither end can send it without waiting for the other one.
#[test]
fn a_large_message_there_and_back() {
    const LENGTH: usize = 8 << 20;
    let seed = seed();
    let identity = Identity::new();
    let (server, client) = (identity.server(), identity.client());
    everywhere("a large message", move || {
        let (listener, address) = listen();
        let message = bytes(seed, LENGTH);
        thread::scope(|scope| {
            scope.spawn(|| {
                serve(&listener, 1, |stream| {
                    let mut stream = accept(&server, stream);
                    // All of it first: the client does not read before it has written.
                    let mut message = vec![0; LENGTH];
                    stream.read_exact(&mut message)?;
                    stream.write_all(&message)?;
                    echo(stream)
                });
            });
            let mut stream = connect(&client, address).expect("connect");
            stream.write_all(&message).expect("the server listens");
            stream.flush().expect("the server listens");
            receive(&mut stream, &message).expect("every byte comes back");
            finish(&mut stream.conn, &mut stream.sock).expect("the server listens");
        });
    });
}

/// A read that runs out of time leaves the connection as it was.
#[test]
fn timeouts_are_would_block_and_lose_nothing() {
    let identity = Identity::new();
    let (server, client) = (identity.server(), identity.client());
    everywhere("timeouts", move || {
        let (listener, address) = listen();
        let (go_on, go) = bine::channel::bounded(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                serve(&listener, 1, |stream| {
                    let mut stream = accept(&server, stream);
                    stream.read_exact(&mut [0; 5])?;
                    go.recv().expect("the client tells");
                    stream.write_all(b"world")?;
                    finish(&mut stream.conn, &mut stream.sock)
                });
            });
            let mut stream = connect(&client, address).expect("connect");
            stream.write_all(b"hello").expect("the server listens");
            stream.sock.set_read_timeout(Some(Duration::from_millis(2))).expect("a timeout");
            // The server is silent, but for the tickets of TLS 1.3.
            for _ in 0..3 {
                let error = stream.read(&mut [0; 5]).expect_err("nothing was sent");
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            go_on.send(()).expect("the server waits");
            let mut word = Vec::new();
            while word.len() < 5 {
                let mut buffer = [0; 5];
                match stream.read(&mut buffer) {
                    Ok(count) => word.extend_from_slice(&buffer[..count]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            assert_eq!(word, b"world");
            stream.sock.set_read_timeout(None).expect("a timeout");
            assert_eq!(stream.read(&mut [0; 5]).expect("the server has ended its side"), 0);
        });
    });
}

/// What has gone wrong on the server's side, where the client does as `client` does.
fn failure(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    client: impl FnOnce() + Send,
) -> io::Error {
    thread::scope(|scope| {
        scope.spawn(client);
        let (stream, _) = listener.accept().expect("accept");
        let mut stream = accept(config, stream);
        stream.read_to_end(&mut Vec::new()).expect_err("no client of ours")
    })
}

#[test]
fn failures_are_errors_at_both_ends() {
    let (identity, stranger) = (Identity::new(), Identity::new());
    let (server, trusting, strange) = (identity.server(), identity.client(), stranger.client());
    everywhere("failures", move || {
        let (listener, address) = listen();
        // A client that does not trust the server's authority says so.
        let error = failure(&listener, &server, || {
            let mut stream = connect(&strange, address).expect("connect");
            let error = stream.write_all(b"hello").expect_err("the server is not trusted");
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
            assert!(error.to_string().contains("invalid peer certificate"), "{error}");
        });
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        assert!(error.to_string().contains("alert"), "{error}");

        // One that speaks something else.
        let error = failure(&listener, &server, || {
            let mut stream = TcpStream::connect(address).expect("connect");
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("there is room");
            // An alert, and the end: or the server has gone already, with something unread.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");

        // One that leaves in the midst of a conversation, without a word.
        let error = failure(&listener, &server, || {
            let mut stream = connect(&trusting, address).expect("connect");
            stream.write_all(b"hello").expect("the server listens");
            stream.sock.shutdown(Shutdown::Write).expect("connected");
            // Until the server has gone, so that what it sends is not refused.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    });
}
