//! As much of HTTP/1.1 as a client like curl needs, on `httparse` and any stream.

use std::io::{self, Read, Write};

use httparse::{EMPTY_HEADER, Status};

/// The most headers that a request may have.
const HEADERS: usize = 64;
/// How long the head of a request may be, and its body.
const LONGEST_HEAD: usize = 16 << 10;
const LONGEST_BODY: usize = 64 << 20;

/// What a client has asked for.
#[derive(Debug)]
pub struct Request {
    /// `GET` and the like.
    pub method: String,
    /// The path, as it came.
    pub path: String,
    /// As long as the client has said.
    pub body: Vec<u8>,
    keeps_alive: bool,
}

/// The head of a request.
struct Head {
    method: String,
    path: String,
    /// How many bytes it has, and its body.
    len: usize,
    body: usize,
    keeps_alive: bool,
    /// The client waits for a word before it sends the body.
    hesitates: bool,
}

/// Answers the requests on one connection, one after the other, until the client closes it or wants
/// it closed. Returns how many there were.
///
/// # Errors
///
/// Those of the stream. `InvalidData` if a request is none, or is too long; the client was told.
pub fn serve<S: Read + Write>(
    mut stream: S,
    mut answer: impl FnMut(&Request) -> (u16, Vec<u8>),
) -> io::Result<usize> {
    let mut input = Vec::new();
    let mut answered = 0;
    loop {
        let request = match receive(&mut stream, &mut input) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(answered),
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    respond(&mut stream, (400, Vec::new()), false, true)?;
                }
                return Err(error);
            }
        };
        let response = answer(&request);
        respond(&mut stream, response, request.keeps_alive, request.method != "HEAD")?;
        answered += 1;
        if !request.keeps_alive {
            return Ok(answered);
        }
    }
}

/// The next request, of which `input` may have some already; what follows it stays there. `None` if
/// the client has closed the connection instead.
fn receive(stream: &mut (impl Read + Write), input: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let head = loop {
        if let Some(head) = parse(input)? {
            break head;
        }
        if input.len() > LONGEST_HEAD {
            return Err(invalid("the head is too long"));
        }
        if !read_more(stream, input)? {
            let whole = input.is_empty();
            return if whole { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    if head.hesitates && input.len() == head.len {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.flush()?;
    }
    while input.len() < head.len + head.body {
        if !read_more(stream, input)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = input[head.len..head.len + head.body].to_vec();
    input.drain(..head.len + head.body);
    let Head { method, path, keeps_alive, .. } = head;
    Ok(Some(Request { method, path, body, keeps_alive }))
}

fn read_more(stream: &mut impl Read, input: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(count) => {
                input.extend_from_slice(&buffer[..count]);
                return Ok(count > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `None` while more of it is to come.
fn parse(input: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let Status::Complete(len) = request.parse(input).map_err(invalid)? else { return Ok(None) };
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        len,
        body: 0,
        keeps_alive: request.version == Some(1),
        hesitates: false,
    };
    for header in request.headers {
        let value = str::from_utf8(header.value).map_err(invalid)?;
        match &*header.name.to_ascii_lowercase() {
            "content-length" => head.body = value.parse().map_err(invalid)?,
            "transfer-encoding" => return Err(invalid("a body of unknown length")),
            "connection" if value.eq_ignore_ascii_case("close") => head.keeps_alive = false,
            "connection" if value.eq_ignore_ascii_case("keep-alive") => head.keeps_alive = true,
            "expect" => head.hesitates = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    if head.body > LONGEST_BODY {
        return Err(invalid("the body is too long"));
    }
    Ok(Some(head))
}

fn respond(
    stream: &mut impl Write,
    (status, body): (u16, Vec<u8>),
    keeps_alive: bool,
    with_body: bool,
) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        _ => "Other",
    };
    let connection = if keeps_alive { "keep-alive" } else { "close" };
    let length = body.len();
    let mut response = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
    )
    .into_bytes();
    if with_body {
        response.extend_from_slice(&body);
    }
    stream.write_all(&response)?;
    stream.flush()
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
