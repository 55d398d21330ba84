//! The server as its clients see it: what they send, byte by byte, and what comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;

use bine::runtime::Runtime;

use super::*;
use crate::request::{Framing, Parsed, Route, parse};
use crate::response::Status;

/// A server in a runtime of its own, to which the test talks from outside.
struct Fixture {
    runtime: Runtime,
    server: Arc<Server>,
    accepting: Option<JoinHandle<()>>,
    address: std::net::SocketAddr,
}

/// The options that the command line gives.
fn options(arguments: &[&str]) -> Options {
    Options::parse_from(["http_server"].iter().chain(arguments))
}

impl Fixture {
    fn new(workers: usize, migrate: bool, arguments: &[&str]) -> Self {
        let options = options(arguments);
        let runtime = RuntimeOptions { workers: NonZeroUsize::new(workers), migrate };
        let runtime = runtime.build().unwrap();
        let (server, accepting, address) = runtime.run(move || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = Server::new(Limits::of(&options), options.max_connections);
            let accepting = server.start(listener);
            (server, accepting, address)
        });
        Self { runtime, server, accepting: Some(accepting), address }
    }

    /// For what is the same however many workers there are.
    fn plain(arguments: &[&str]) -> Self {
        Self::new(2, false, arguments)
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// All that comes back for `bytes` and the end after them.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        rest(stream)
    }

    /// As `exchange`, but the client sends no end: the server must close.
    fn exchange_open(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        rest(stream)
    }

    /// Stops the server. How many connections it had to cut off.
    fn stop(&mut self) -> usize {
        let (server, accepting) = (Arc::clone(&self.server), self.accepting.take().unwrap());
        self.runtime.run(move || server.stop(accepting, Duration::from_secs(120)).unwrap())
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Reads one response with a body whose length is told.
fn response(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    head + str::from_utf8(&body).unwrap()
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").expect("the head has an end").1
}

fn assert_status(response: &str, status: &str) {
    assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "no {status}: {response}");
}

const GET: &str = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn pages() {
    let fixture = Fixture::plain(&[]);
    let get = |target: &str| {
        fixture.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
    };
    let plaintext = get("/plaintext");
    assert_status(&plaintext, "200 OK");
    for field in
        ["Server: bine\r\n", "Content-Length: 13\r\n", "Content-Type: text/plain\r\n", "Date: "]
    {
        assert!(plaintext.contains(field), "{field} is missing in {plaintext}");
    }
    assert_eq!(body(&plaintext), "Hello, World!");
    assert_eq!(get("http://a/plaintext").len(), plaintext.len());
    assert_eq!(body(&get("/healthz?now")), "ok\n");
    assert_eq!(body(&get("/sleep?ms=1")), "good morning\n");
    assert_status(&get("/sleep?ms=soon"), "400");
    assert_status(&get("/nowhere"), "404");
    let home = get("/");
    assert!(home.contains("text/html") && body(&home).ends_with("</html>\n"), "{home}");
    assert!(body(&home).contains("\"workers\":2"), "{home}");
    assert!(body(&get("/stats")).contains("\"requests\":"));
}

#[test]
fn connections_are_kept_as_the_client_wants() {
    let fixture = Fixture::plain(&[]);
    let mut stream = fixture.connect();
    for _ in 0..3 {
        stream.write_all(GET.as_bytes()).unwrap();
        assert!(!response(&mut stream).contains("Connection:"));
    }
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n").unwrap();
    assert!(rest(stream).contains("Connection: close\r\n"));
    let old = fixture.exchange_open(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert!(old.contains("Connection: close\r\n"), "{old}");
    let mut stream = fixture.connect();
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.0\r\nConnection: x, keep-alive\r\n\r\n").unwrap();
        assert!(response(&mut stream).contains("Connection: keep-alive\r\n"));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for (workers, migrate) in [(1, false), (2, true), (8, false), (8, true)] {
        let fixture = Fixture::new(workers, migrate, &[]);
        let mut requests = String::new();
        let mut expected = Vec::new();
        // More than a buffer holds, so that requests are cut in two.
        for number in 0..500 {
            let text = format!("message {number}").repeat(number % 7);
            requests += &format!(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            requests += GET;
            expected.extend([text, "Hello, World!".to_owned()]);
        }
        let mut stream = fixture.connect();
        let mut sender = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || sender.write_all(requests.as_bytes()).unwrap());
        for expected in expected {
            assert_eq!(body(&response(&mut stream)), expected);
        }
        sending.join().unwrap();
        assert_eq!(fixture.server.requests(), 1_000);
    }
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let fixture = Fixture::plain(&[]);
    let request = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        4;x=y\r\nwiki\r\n0005\r\npedia\r\n0\r\nTrailer: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let whole = fixture.exchange(request);
    let second = request.windows(5).position(|window| window == b"GET /").unwrap();
    for cut in 1..request.len() {
        let mut stream = fixture.connect();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&request[..cut]).unwrap();
        if cut >= second {
            // The first request is there, and what is left is a part of the second one.
            assert_eq!(body(&response(&mut stream)), "wikipedia");
        }
        stream.write_all(&request[cut..]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let pieces = rest(stream);
        assert!(pieces.ends_with("ok\n"), "{pieces}");
    }
    assert!(whole.contains("\r\n\r\nwikipediaHTTP/1.1 200 OK"), "{whole}");
}

#[test]
fn head_has_no_body() {
    let fixture = Fixture::plain(&[]);
    let head = fixture.exchange(b"HEAD /plaintext HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.contains("Content-Length: 13\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn large_bodies_come_back() {
    let fixture = Fixture::plain(&["--max-body", "1000000"]);
    let text: String = ('a'..='z').cycle().take(1_000_000).collect();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\n";
    let length =
        fixture.exchange(format!("{head}Content-Length: 1000000\r\n\r\n{text}").as_bytes());
    assert!(body(&length) == text, "the body with a length has changed");
    let chunks: String = text.as_bytes().chunks(77_777).fold(String::new(), |chunks, chunk| {
        let chunk = str::from_utf8(chunk).unwrap();
        format!("{chunks}{:x}\r\n{chunk}\r\n", chunk.len())
    });
    let head = format!("{head}Transfer-Encoding: Chunked\r\n\r\n");
    let chunked = fixture.exchange(format!("{head}{chunks}0\r\n\r\n").as_bytes());
    assert!(body(&chunked) == text, "the chunked body has changed");
    let more = fixture.exchange_open(format!("{head}{chunks}1\r\nx\r\n0\r\n\r\n").as_bytes());
    assert_status(&more, "413");
}

#[test]
fn a_body_is_asked_for_where_the_client_waits() {
    let fixture = Fixture::plain(&[]);
    let mut stream = fixture.connect();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    stream.write_all(format!("{head}Content-Length: 5\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(response(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    assert_eq!(body(&response(&mut stream)), "hello");
    stream.write_all(format!("{head}Content-Length: 99999999\r\n\r\n").as_bytes()).unwrap();
    assert_status(&rest(stream), "413");
}

/// What is refused, with the status, in order of the status.
#[test]
fn what_is_wrong_is_refused() {
    let fixture = Fixture::plain(&["--max-headers", "8", "--max-head", "4096"]);
    let many = "A: b\r\n".repeat(8);
    let (long, large) = ("/a".repeat(4_096), format!("A: {}\r\n", "b".repeat(4_096)));
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n");
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nName : b\r\n\r\n", "400"),
        ("GET / FTP/2.0\r\nHost: a\r\n\r\n", "400"),
        (&format!("{post}Content-Length: +5\r\n\r\nhello"), "400"),
        (&format!("{post}Content-Length:\r\n\r\nhello"), "400"),
        (&format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), "400"),
        (&format!("{chunked}Content-Length: 5\r\n\r\n0\r\n\r\n"), "400"),
        (&format!("{chunked}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "400"),
        (&format!("{chunked}\r\nx\r\n"), "400"),
        (&format!("{chunked}\r\n3\r\nfour\r\n0\r\n\r\n"), "400"),
        (&format!("{chunked}\r\n{}\r\n", "0".repeat(2_000)), "400"),
        ("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        (&format!("{post}Content-Length: 99999999999999999999999\r\n\r\n"), "413"),
        (&format!("{chunked}\r\nffffffffffffffff\r\n"), "4"),
        (&format!("GET {long} HTTP/1.1\r\n\r\n"), "414"),
        (&format!("{post}Expect: the worst\r\n\r\n"), "417"),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
        (&format!("GET / HTTP/1.1\r\nHost: a\r\n{large}\r\n"), "431"),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
        (&format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n"), "501"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
    ] {
        // The server closes, whatever else might come.
        let response = fixture.exchange_open(request.as_bytes());
        assert_status(&response, status);
        assert!(response.contains("Connection: close\r\n"), "{response}");
    }
    let mut stream = fixture.connect();
    for (request, status, allowed) in [
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "405", "Allow: GET, HEAD\r\n"),
        ("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", "405", "Allow: POST\r\n"),
        ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", "404", ""),
    ] {
        // Nothing is wrong with these, and the connection goes on.
        stream.write_all(request.as_bytes()).unwrap();
        let response = response(&mut stream);
        assert_status(&response, status);
        assert!(response.contains(allowed), "{response}");
    }
}

#[test]
fn who_takes_too_long_is_told() {
    let fixture = Fixture::plain(&["--request-timeout", "1", "--idle-timeout", "2"]);
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell";
    assert_status(&fixture.exchange_open(b"GET / HTTP/1.1\r\n"), "408");
    assert_status(&fixture.exchange_open(post.as_bytes()), "408");
    // Who asks for nothing is told nothing.
    assert_eq!(fixture.exchange_open(b""), "");
    let twice = fixture.exchange_open(GET.as_bytes());
    assert!(twice.ends_with("Hello, World!"), "{twice}");
}

#[test]
fn a_panic_is_one_requests_alone() {
    let fixture = Fixture::plain(&[]);
    let mut other = fixture.connect();
    other.write_all(GET.as_bytes()).unwrap();
    response(&mut other);
    let both = format!("{GET}GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    let answers = fixture.exchange_open(both.as_bytes());
    assert!(answers.contains("Hello, World!HTTP/1.1 500 "), "{answers}");
    other.write_all(GET.as_bytes()).unwrap();
    assert_status(&response(&mut other), "200");
}

#[test]
fn more_connections_than_allowed_wait() {
    let fixture = Fixture::plain(&["--max-connections", "2"]);
    let mut served: Vec<_> = (0..2).map(|_| fixture.connect()).collect();
    for stream in &mut served {
        stream.write_all(GET.as_bytes()).unwrap();
        response(stream);
    }
    let mut waiting = fixture.connect();
    waiting.write_all(GET.as_bytes()).unwrap();
    // There is room for this one only when another has left.
    assert_eq!(fixture.server.connections.accepted(), 2);
    drop(served.pop());
    assert_status(&response(&mut waiting), "200");
    assert_eq!(fixture.server.connections.accepted(), 3);
}

#[test]
fn a_stop_ends_what_is_idle_and_answers_what_is_asked() {
    for (workers, migrate) in [(1, false), (2, true), (8, false), (8, true)] {
        let mut fixture = Fixture::new(workers, migrate, &["--request-timeout", "120"]);
        let mut idle: Vec<_> = (0..20).map(|_| fixture.connect()).collect();
        let mut sleeping: Vec<_> = (0..20).map(|_| fixture.connect()).collect();
        let mut uploading = fixture.connect();
        for stream in idle.iter_mut().chain(&mut sleeping) {
            stream.write_all(GET.as_bytes()).unwrap();
            response(stream);
        }
        // What follows in the same piece has come when its answer has.
        let sleep = "GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n";
        for stream in &mut sleeping {
            stream.write_all(format!("{GET}{sleep}").as_bytes()).unwrap();
            response(stream);
        }
        let post =
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        uploading.write_all(post.as_bytes()).unwrap();
        response(&mut uploading);

        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| fixture.stop());
            idle.into_iter().for_each(|stream| assert_eq!(rest(stream), ""));
            for stream in sleeping {
                assert!(rest(stream).ends_with("good morning\n"));
            }
            // All others have ended, so the server is stopping; and this one's request is in its midst.
            uploading.write_all(b"hello").unwrap();
            let rest = rest(uploading);
            assert!(rest.contains("Connection: close\r\n") && rest.ends_with("hello"), "{rest}");
            assert_eq!(stopping.join().unwrap(), 0);
        });
        assert!(std::net::TcpStream::connect(fixture.address).is_err(), "it still listens");
    }
}

#[test]
fn heads_are_understood() {
    let limits = Limits::of(&options(&[]));
    let parse = |text: &str| parse(text.as_bytes(), &limits);
    let Parsed::Complete(request, length) = parse(GET) else { panic!("it is complete") };
    assert_eq!((request.route, length), (Route::Plaintext, GET.len()));
    assert!(request.keep_alive && request.body == Framing::Empty && !request.head_only);
    for cut in 0..GET.len() {
        assert_eq!(parse(&GET[..cut]), Parsed::Partial);
    }
    assert_eq!(parse("GET / HTTP/3\r\n\r\n"), Parsed::Refused(Status::VERSION_NOT_SUPPORTED));
    let twice = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 07\r\nContent-Length: 7\r\n\r\n";
    let Parsed::Complete(request, _) = parse(twice) else { panic!("it is complete") };
    assert_eq!(request.body, Framing::Length(7));
}
