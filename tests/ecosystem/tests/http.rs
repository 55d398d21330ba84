//! httparse on bine's streams, with curl at the other end.

mod everywhere;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};

use bine::net::TcpStream;
use bine::os::unix::net::UnixListener;
use bine::process::Command;
use bine::thread;
use bine_ecosystem::http::{self, Request};
use bine_ecosystem::peers::find;
use bine_ecosystem::scratch::Scratch;
use everywhere::harness::{receive, seed, send};
use everywhere::{bytes, everywhere, listen, output_of, serve};

/// Sends bodies back, and tells what else was asked for.
fn answer(request: &Request) -> (u16, Vec<u8>) {
    match (&*request.method, &*request.path) {
        ("GET" | "HEAD", "/missing") => (404, b"there is no such thing\n".to_vec()),
        ("GET" | "HEAD", path) => (200, format!("you asked for {path}\n").into_bytes()),
        _ => (200, request.body.clone()),
    }
}

fn curl() -> Option<String> {
    find("curl", &["curl"], &["--version"])
}

fn command(curl: &str) -> Command {
    let mut command = Command::new(curl);
    command.args(["--silent", "--show-error", "--max-time", "120", "--noproxy", "*"]);
    command
}

#[test]
fn a_server_keeps_curls_connection() {
    let Some(curl) = curl() else { return };
    everywhere("a server keeps curl's connection", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            for number in 0..4 {
                let curl = &curl;
                scope.spawn(move || {
                    let url = |path: &str| format!("http://{address}/{path}");
                    let mut command = command(curl);
                    command.args(["--write-out", "%{http_code} %{num_connects}\n"]).args([
                        url(&number.to_string()),
                        url("missing"),
                        url("last"),
                    ]);
                    let expected = format!(
                        "you asked for /{number}\n200 1\nthere is no such thing\n404 0\n\
                         you asked for /last\n200 0\n"
                    );
                    assert_eq!(String::from_utf8_lossy(&output_of(&mut command)), expected);
                });
            }
            serve(&listener, 4, |stream| {
                assert_eq!(http::serve(stream, answer)?, 3);
                Ok(())
            });
        });
    });
}

#[test]
fn a_server_takes_what_curl_sends() {
    let Some(curl) = curl() else { return };
    let scratch = Scratch::new();
    let message = bytes(seed(), 4 << 20);
    let file = scratch.path("message");
    fs::write(&file, &message).expect("the scratch directory takes files");
    let upload = format!("@{}", file.display());
    everywhere("a server takes what curl sends", move || {
        let (listener, address) = listen();
        let url = format!("http://{address}/");
        thread::scope(|scope| {
            scope.spawn(|| serve(&listener, 2, |stream| http::serve(stream, answer).map(drop)));
            // For a body of this size curl waits for "100 Continue".
            let mut posting = command(&curl);
            posting.args(["--expect100-timeout", "100", "--data-binary", &upload, &url]);
            // Not with assert_eq, which would print it.
            assert!(output_of(&mut posting) == message, "another body has come back");
            // A client of HTTP/1.0 has its connection closed.
            let mut old = command(&curl);
            assert_eq!(output_of(old.args(["--http1.0", &url])), b"you asked for /\n");
        });
    });
}

#[test]
fn a_server_serves_curl_on_a_unix_socket() {
    let Some(curl) = curl() else { return };
    everywhere("a server serves curl on a Unix socket", move || {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let listener = UnixListener::bind(&path).expect("bind");
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut command = command(&curl);
                command.arg("--unix-socket").arg(&path).arg("http://localhost/here");
                assert_eq!(output_of(&mut command), b"you asked for /here\n");
            });
            let (stream, _) = listener.accept().expect("accept");
            assert_eq!(http::serve(stream, answer).expect("curl ends as it should"), 1);
        });
    });
}

/// Requests may come in one piece, or in pieces of a byte.
#[test]
fn requests_may_be_cut_anywhere() {
    const REQUESTS: &[u8] = b"GET /one HTTP/1.1\r\nHost: here\r\n\r\n\
        POST /two HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyHEAD /three HTTP/1.1\r\n\r\n\
        GET /four HTTP/1.1\r\nConnection: close\r\n\r\n";
    const ANSWERS: &[u8] = b"\
        HTTP/1.1 200 OK\r\nContent-Length: 19\r\nConnection: keep-alive\r\n\r\nyou asked for /one\n\
        HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbody\
        HTTP/1.1 200 OK\r\nContent-Length: 21\r\nConnection: keep-alive\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\nyou asked for /four\n";
    everywhere("requests in pieces", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            scope.spawn(|| {
                serve(&listener, 2, |stream| {
                    assert_eq!(http::serve(stream, answer)?, 4);
                    Ok(())
                });
            });
            for size in [REQUESTS.len(), 1] {
                let mut stream = TcpStream::connect(address).expect("connect");
                stream.set_nodelay(true).expect("an option");
                for piece in REQUESTS.chunks(size) {
                    send(&stream, piece).expect("the server listens");
                    thread::yield_now();
                }
                receive(&stream, ANSWERS).expect("the answers in order");
                assert_eq!(stream.read(&mut [0]).expect("the server is there"), 0);
            }
        });
    });
}

#[test]
fn what_is_no_request_is_refused() {
    everywhere("what is no request", move || {
        let (listener, address) = listen();
        thread::scope(|scope| {
            for nonsense in ["\x16\x03\x01 hello", "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
            {
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(address).expect("connect");
                    stream.write_all(nonsense.as_bytes()).expect("the server listens");
                    let mut told = String::new();
                    stream.read_to_string(&mut told).expect("an answer, and the end");
                    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
                });
            }
            serve(&listener, 2, |stream| match http::serve(stream, answer) {
                Err(error) if error.kind() == ErrorKind::InvalidData => Ok(()),
                other => Err(io::Error::other(format!("{other:?}"))),
            });
        });
    });
}
