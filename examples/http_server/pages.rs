//! What the server has to say.

use std::fmt::Write;
use std::time::Duration;

use bine::runtime::Handle;
use bine::thread;

use crate::Server;
use crate::request::{Request, Route};
use crate::response::{Reply, Status};

/// The page, with a place for each figure, which its script keeps up to date.
const HOME: &str = include_str!("home.html");

/// Makes the response to a request, and has `respond` send it.
pub(crate) fn reply(
    server: &Server,
    request: &Request,
    body: &[u8],
    respond: impl FnOnce(Reply<'_>),
) {
    let json = "application/json";
    match request.route {
        Route::Plaintext => respond(Reply::text(Status::OK, b"Hello, World!")),
        Route::Home => respond(Reply {
            content_type: "text/html; charset=utf-8",
            headers: &["Cache-Control: no-store\r\n"],
            ..Reply::text(Status::OK, HOME.replace("{stats}", &stats(server)).as_bytes())
        }),
        Route::Stats => respond(Reply {
            content_type: json,
            headers: &["Cache-Control: no-store\r\n"],
            ..Reply::text(Status::OK, stats(server).as_bytes())
        }),
        Route::Health => respond(Reply::text(Status::OK, b"ok\n")),
        Route::Echo => respond(Reply {
            content_type: "application/octet-stream",
            ..Reply::text(Status::OK, body)
        }),
        Route::Sleep(duration) => {
            thread::sleep(duration);
            respond(Reply::text(Status::OK, b"good morning\n"));
        }
        Route::Panic => panic!("a client has asked for it"),
        Route::BadQuery => respond(Reply::text(
            Status::BAD_REQUEST,
            b"400 Bad Request: use ?ms= and a number of milliseconds up to 60000\n",
        )),
        Route::NotFound => respond(Reply::text(Status::NOT_FOUND, b"404 Not Found\n")),
        Route::NotAllowed(methods) => respond(Reply {
            headers: &["Allow: ", methods, "\r\n"],
            ..Reply::text(Status::NOT_ALLOWED, b"405 Method Not Allowed\n")
        }),
    }
}

/// The figures, as JSON.
fn stats(server: &Server) -> String {
    let metrics = Handle::current().metrics();
    let figures = [
        ("uptime", server.started.elapsed().as_secs()),
        ("requests", server.requests()),
        ("connections", server.connections.open() as u64),
        ("accepted", server.connections.accepted()),
        ("most_connections", server.connections.limit() as u64),
        ("workers", metrics.workers as u64),
        ("sleeping_workers", metrics.sleeping_workers as u64),
        ("green_threads", metrics.alive),
        ("spawned", metrics.spawned),
        ("steals", metrics.steals),
        ("sleeps", metrics.sleeps),
        ("holds", metrics.holds),
        ("spare_workers", metrics.spare_workers as u64),
        ("idle_seconds", server.limits.idle.unwrap_or(Duration::ZERO).as_secs()),
    ];
    let mut text = String::from("{");
    for (name, value) in figures {
        let comma = if text.len() > 1 { "," } else { "" };
        write!(text, "{comma}\"{name}\":{value}").expect("a String takes everything");
    }
    text + "}\n"
}
