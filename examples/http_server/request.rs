//! The head of a request: what is asked for, and how its body is framed.

use std::mem::MaybeUninit;
use std::time::Duration;

use httparse::{Error, Header};

use crate::Limits;
use crate::response::Status;

/// All that the server needs of a head, in a form that does not borrow from the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) route: Route,
    /// HEAD: the response has no body.
    pub(crate) head_only: bool,
    /// The client speaks HTTP/1.0, and has to be told that the connection stays open.
    pub(crate) old: bool,
    pub(crate) keep_alive: bool,
    pub(crate) body: Framing,
    /// The client waits for "100 Continue" before it sends the body.
    pub(crate) expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Home,
    Stats,
    Plaintext,
    Health,
    Echo,
    Sleep(Duration),
    Panic,
    BadQuery,
    NotFound,
    /// With the methods that the resource has.
    NotAllowed(&'static str),
}

/// How the length of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Empty,
    Length(usize),
    Chunked,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// With the length of the head.
    Complete(Request, usize),
    /// There is more to come.
    Partial,
    /// An error after which nobody knows where the next request begins.
    Refused(Status),
}

pub(crate) fn parse(bytes: &[u8], limits: &Limits) -> Parsed {
    let mut headers = [const { MaybeUninit::uninit() }; Limits::MOST_HEADERS];
    let headers = &mut headers[..limits.headers];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, headers) {
        Ok(httparse::Status::Complete(length)) => match understand(&request, limits) {
            Ok(request) => Parsed::Complete(request, length),
            Err(status) => Parsed::Refused(status),
        },
        Ok(httparse::Status::Partial) if bytes.len() < limits.head => Parsed::Partial,
        // As much as a head may have, and no end.
        Ok(httparse::Status::Partial) if bytes.contains(&b'\n') => {
            Parsed::Refused(Status::HEADERS_TOO_LARGE)
        }
        Ok(httparse::Status::Partial) => Parsed::Refused(Status::URI_TOO_LONG),
        Err(Error::TooManyHeaders) => Parsed::Refused(Status::HEADERS_TOO_LARGE),
        Err(Error::Version) if names_a_version(bytes) => {
            Parsed::Refused(Status::VERSION_NOT_SUPPORTED)
        }
        Err(_) => Parsed::Refused(Status::BAD_REQUEST),
    }
}

/// Whether the request line ends with a version of HTTP, if not with one of ours.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start().split(|&byte| byte == b'\n').next().unwrap_or_default();
    let version = line.trim_ascii_end().rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    version.strip_prefix(b"HTTP/").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

fn understand(request: &httparse::Request<'_, '_>, limits: &Limits) -> Result<Request, Status> {
    let old = request.version == Some(0);
    let fields = Fields::read(request.headers)?;
    if fields.hosts > 1 || (fields.hosts == 0 && !old) {
        return Err(Status::BAD_REQUEST);
    }
    let body = match (fields.chunked, fields.length) {
        // Whoever sends both may want a proxy and us to disagree about where the body ends.
        (true, Some(_)) => return Err(Status::BAD_REQUEST),
        (true, None) if old => return Err(Status::BAD_REQUEST),
        (true, None) => Framing::Chunked,
        (false, Some(length)) if length > limits.body as u64 => {
            return Err(Status::CONTENT_TOO_LARGE);
        }
        (false, None | Some(0)) => Framing::Empty,
        (false, Some(length)) => Framing::Length(length as usize),
    };
    let method = request.method.unwrap_or_default();
    Ok(Request {
        route: route(method, request.path.unwrap_or_default())?,
        head_only: method == "HEAD",
        old,
        keep_alive: !fields.close && (!old || fields.keep_alive),
        body,
        expects_continue: fields.expects_continue && !old && body != Framing::Empty,
    })
}

/// What the header fields say that matter here.
#[derive(Default)]
struct Fields {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn read(headers: &[Header<'_>]) -> Result<Self, Status> {
        let mut fields = Self::default();
        for header in headers {
            let (name, value) = (header.name, header.value);
            // The length decides for most headers that they are none of these.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => fields.hosts += 1,
                6 if name.eq_ignore_ascii_case("expect") => fields.expect(value)?,
                10 if name.eq_ignore_ascii_case("connection") => fields.connection(value),
                14 if name.eq_ignore_ascii_case("content-length") => fields.length(value)?,
                17 if name.eq_ignore_ascii_case("transfer-encoding") => fields.encoding(value)?,
                _ => {}
            }
        }
        Ok(fields)
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Status> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Status::EXPECTATION_FAILED);
        }
        self.expects_continue = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Status> {
        let length = decimal(value).ok_or(Status::BAD_REQUEST)?;
        match self.length.replace(length) {
            Some(other) if other != length => Err(Status::BAD_REQUEST),
            _ => Ok(()),
        }
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), Status> {
        if self.chunked {
            return Err(Status::BAD_REQUEST);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Status::NOT_IMPLEMENTED);
        }
        self.chunked = true;
        Ok(())
    }
}

/// A number of digits alone: `str::parse` would take a plus sign, too.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // One that is too large for the type is too large for the limit as well.
    Some(digits.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    }))
}

fn route(method: &str, target: &str) -> Result<Route, Status> {
    let (path, query) = match path_of(target).split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_of(target), None),
    };
    let route = match path {
        "/plaintext" => Route::Plaintext,
        "/" => Route::Home,
        "/healthz" => Route::Health,
        "/stats" => Route::Stats,
        "/echo" => Route::Echo,
        "/sleep" => sleep(query.unwrap_or_default()),
        "/panic" => Route::Panic,
        _ => Route::NotFound,
    };
    let allowed = match route {
        Route::Echo => "POST",
        _ => "GET, HEAD",
    };
    match method {
        "GET" | "HEAD" if route != Route::Echo => Ok(route),
        "POST" if route == Route::Echo => Ok(route),
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" => {
            Ok(if route == Route::NotFound { route } else { Route::NotAllowed(allowed) })
        }
        _ => Err(Status::NOT_IMPLEMENTED),
    }
}

/// The path and query of a target, which may also be a whole URL.
fn path_of(target: &str) -> &str {
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return target;
    };
    rest.find('/').map_or("/", |at| &rest[at..])
}

fn sleep(query: &str) -> Route {
    let milliseconds = query.strip_prefix("ms=").and_then(|text| decimal(text.as_bytes()));
    match milliseconds {
        Some(milliseconds @ 0..=60_000) => Route::Sleep(Duration::from_millis(milliseconds)),
        _ => Route::BadQuery,
    }
}
