//! The `redis` crate on bine's streams, with a real Redis at the other end; and the other way round, a
//! server on its parser for `redis-cli`.

mod everywhere;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bine::net::{SocketAddr, TcpStream};
use bine::os::unix::net::UnixStream;
use bine::sync::Mutex;
use bine::thread;
use bine_ecosystem::peers::{Server, find};
use bine_ecosystem::redis::Connection;
use bine_ecosystem::scratch::Scratch;
use everywhere::harness::seed;
use everywhere::{bytes, everywhere, listen, on_green_threads, output_of, serve};
use redis::{Commands, ConnectionLike, ErrorKind as RedisErrorKind, Parser, Value};

/// The name of its Unix socket.
const SOCKET: &str = "redis";

fn start(redis: &str, scratch: &Scratch) -> Server {
    let command = |port: u16| {
        let mut command = Command::new(redis);
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--maxclients", "2000"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--unixsocket")
            .arg(scratch.path(SOCKET))
            .arg("--dir")
            .arg(scratch.path("."));
        command
    };
    Server::start_on_free_port(command, "eady to accept connections")
}

fn redis() -> Option<String> {
    find("redis-server", &["redis-server", "/usr/bin/redis-server"], &["--version"])
}

fn connect(address: SocketAddr) -> Connection<TcpStream> {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_nodelay(true).expect("an option");
    Connection::new(stream)
}

/// The crate's own ways to speak with a server: commands, types, a pipeline, a transaction.
fn converse(connection: &mut impl ConnectionLike, name: &str, seed: u64) -> redis::RedisResult<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    for longest in [16, 1 << 10, 1 << 16] {
        let value = bytes(random.u64(..), random.usize(0..=longest));
        () = connection.set(name, &value)?;
        let back: Vec<u8> = connection.get(name)?;
        assert!(back == value, "{name}: another value has come back");
    }
    let mut pipeline = redis::pipe();
    pipeline.del(name).ignore();
    for field in 0..50 {
        pipeline.hset(name, field, field * field).ignore();
    }
    let (fields,): (HashMap<u32, u32>,) = pipeline.hgetall(name).query(connection)?;
    assert_eq!(fields, (0..50).map(|field| (field, field * field)).collect());

    let moved: (u32, Option<String>) =
        redis::pipe().atomic().incr("transactions", 1).hget(name, "none").query(connection)?;
    assert!(moved.0 > 0 && moved.1.is_none());
    connection.del(name)
}

#[test]
fn hundreds_of_clients_talk_to_redis() {
    const CLIENTS: u32 = 200;
    let Some(redis) = redis() else { return };
    let seed = seed();
    let scratch = Scratch::new();
    let server = start(&redis, &scratch);
    let address = server.address();
    everywhere("hundreds of clients talk to redis", move || {
        () = connect(address).del("transactions").expect("redis listens");
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                scope.spawn(move || {
                    let mut connection = connect(address);
                    converse(
                        &mut connection,
                        &format!("client {number}"),
                        seed + u64::from(number),
                    )
                    .unwrap_or_else(|error| panic!("client {number}: {error}"));
                });
            }
        });
        let transactions: u32 = connect(address).get("transactions").expect("redis listens");
        assert_eq!(transactions, CLIENTS);
    });
}

#[test]
fn clients_talk_to_redis_on_a_unix_socket() {
    let Some(redis) = redis() else { return };
    let seed = seed();
    let scratch = Scratch::new();
    let _server = start(&redis, &scratch);
    let path = scratch.path(SOCKET);
    everywhere("clients talk to redis on a Unix socket", move || {
        let path: &Path = &path;
        thread::scope(|scope| {
            for number in 0..50 {
                scope.spawn(move || {
                    let stream = UnixStream::connect(path).expect("connect");
                    let name = format!("client {number}");
                    converse(&mut Connection::new(stream), &name, seed + number)
                        .unwrap_or_else(|error| panic!("{name}: {error}"));
                });
            }
        });
    });
}

/// Neither end can send it without waiting for the other one.
#[test]
fn a_large_value_there_and_back() {
    let Some(redis) = redis() else { return };
    let seed = seed();
    let scratch = Scratch::new();
    let server = start(&redis, &scratch);
    let address = server.address();
    everywhere("a large value", move || {
        let mut connection = connect(address);
        let value = bytes(seed, 16 << 20);
        () = connection.set("large", &value).expect("redis listens");
        let back: Vec<u8> = connection.get("large").expect("redis listens");
        assert!(back == value, "another value has come back");
    });
}

/// Hundreds wait for redis, and not one of them holds a worker: else the one that ends their wait
/// would never run.
#[test]
fn many_wait_for_an_element() {
    const WAITERS: usize = 200;
    let Some(redis) = redis() else { return };
    let scratch = Scratch::new();
    let server = start(&redis, &scratch);
    let address = server.address();
    on_green_threads("many wait for an element", move || {
        let got = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..WAITERS {
                scope.spawn(|| {
                    let element: (String, usize) =
                        connect(address).blpop("queue", 0.0).expect("redis listens");
                    got.lock().unwrap().push(element.1);
                });
            }
            let mut connection = connect(address);
            let blocked = |connection: &mut Connection<TcpStream>| {
                let info: String =
                    redis::cmd("INFO").arg("clients").query(connection).expect("redis listens");
                let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
                line.expect("redis tells").parse::<usize>().expect("a number")
            };
            while blocked(&mut connection) < WAITERS {
                thread::yield_now();
            }
            let elements: Vec<usize> = (0..WAITERS).collect();
            () = connection.rpush("queue", elements).expect("redis listens");
        });
        let mut got = got.into_inner().unwrap();
        got.sort_unstable();
        assert_eq!(got, (0..WAITERS).collect::<Vec<_>>());
    });
}

#[test]
fn messages_reach_their_subscribers() {
    const SUBSCRIBERS: usize = 50;
    const MESSAGES: usize = 20;
    let Some(redis) = redis() else { return };
    let scratch = Scratch::new();
    let server = start(&redis, &scratch);
    let address = server.address();
    everywhere("messages", move || {
        let ready = bine::sync::Barrier::new(SUBSCRIBERS + 1);
        thread::scope(|scope| {
            for _ in 0..SUBSCRIBERS {
                scope.spawn(|| {
                    let mut connection = connect(address);
                    let subscribe = redis::cmd("SUBSCRIBE").arg("news").get_packed_command();
                    connection.send(&subscribe).expect("redis listens");
                    connection.receive().expect("redis listens");
                    ready.wait();
                    for number in 0..MESSAGES {
                        let message = connection.receive().expect("a message");
                        let message: (String, String, usize) =
                            redis::from_redis_value(message).expect("a message");
                        assert_eq!(message, ("message".into(), "news".into(), number));
                    }
                });
            }
            ready.wait();
            let mut connection = connect(address);
            for number in 0..MESSAGES {
                let heard: usize = connection.publish("news", number).expect("redis listens");
                assert_eq!(heard, SUBSCRIBERS);
            }
        });
    });
}

#[test]
fn failures_are_errors() {
    let Some(redis) = redis() else { return };
    let scratch = Scratch::new();
    let server = start(&redis, &scratch);
    let address = server.address();
    everywhere("failures", move || {
        let mut connection = connect(address);
        // What the server refuses leaves the connection as it was.
        () = connection.set("word", "hello").expect("redis listens");
        let error = connection.incr::<_, _, i64>("word", 1).expect_err("it is no number");
        assert!(error.to_string().contains("not an integer"), "{error}");
        let mut transaction = redis::pipe();
        transaction.atomic().set("word", "hi").cmd("NOSUCHCOMMAND");
        let error = transaction.query::<Value>(&mut connection).expect_err("there is none");
        assert!(error.to_string().contains("unknown command"), "{error}");
        assert_eq!(connection.get::<_, String>("word").expect("redis listens"), "hello");
        assert!(connection.check_connection() && connection.is_open());

        // A timeout is one, and is the end of the connection: the answer may still come.
        connection.get_ref().set_read_timeout(Some(Duration::from_millis(2))).expect("a timeout");
        let error = connection.blpop::<_, Value>("nobody pushes", 0.0).expect_err("nobody pushes");
        assert_eq!(error.kind(), RedisErrorKind::Io, "{error}");
        assert!(error.is_timeout(), "{error}");
        assert!(!connection.is_open());

        // The server ends this one.
        let mut connection = connect(address);
        let number: u64 = redis::cmd("CLIENT").arg("ID").query(&mut connection).expect("a number");
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(number);
        assert_eq!(kill.query::<u32>(&mut connect(address)).expect("redis listens"), 1);
        assert!(connection.get::<_, Value>("word").is_err());
        assert!(!connection.is_open());
    });
}

/// A Redis of three commands.
fn answer_commands(
    mut stream: TcpStream,
    values: &Mutex<HashMap<Vec<u8>, Vec<u8>>>,
) -> io::Result<()> {
    let mut parser = Parser::new();
    loop {
        let command = match parser.parse_value(&mut stream) {
            Ok(command) => command,
            Err(error) if error.is_io_error() => return Ok(()),
            Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
        };
        let words: Vec<Vec<u8>> =
            redis::from_redis_value(command).map_err(|_| ErrorKind::InvalidData)?;
        let name = words[0].to_ascii_uppercase();
        let words: Vec<&[u8]> = words[1..].iter().map(Vec::as_slice).collect();
        match (&*name, &*words) {
            (b"PING", []) => stream.write_all(b"+PONG\r\n")?,
            (b"SET", [key, value]) => {
                values.lock().unwrap().insert(key.to_vec(), value.to_vec());
                stream.write_all(b"+OK\r\n")?;
            }
            (b"GET", [key]) => match values.lock().unwrap().get(*key) {
                None => stream.write_all(b"$-1\r\n")?,
                Some(value) => {
                    write!(stream, "${}\r\n", value.len())?;
                    stream.write_all(value)?;
                    stream.write_all(b"\r\n")?;
                }
            },
            _ => stream.write_all(b"-ERR unknown command\r\n")?,
        }
    }
}

#[test]
fn a_server_serves_redis_cli() {
    let cli = ["redis-cli", "/usr/bin/redis-cli"];
    let Some(cli) = find("redis-cli", &cli, &["--version"]) else { return };
    everywhere("a server serves redis-cli", move || {
        let (listener, address) = listen();
        let values = Mutex::default();
        let ask = |words: &[&str]| {
            let mut command = bine::process::Command::new(&cli);
            command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]).args(words);
            String::from_utf8(output_of(&mut command)).expect("text")
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(ask(&["PING"]), "PONG\n");
                assert_eq!(ask(&["GET", "word"]), "\n");
                assert_eq!(ask(&["SET", "word", "hello"]), "OK\n");
                assert_eq!(ask(&["GET", "word"]), "hello\n");
            });
            serve(&listener, 4, |stream| answer_commands(stream, &values));
        });
    });
}
