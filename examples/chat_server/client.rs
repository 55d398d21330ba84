//! One client: a green thread that reads what it says, and one that writes what it hears.

use std::io::{self, ErrorKind, Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bine::channel::{self, Receiver, SendTimeoutError, Sender};
use bine::net::{Shutdown, SocketAddr, TcpStream};
use bine::sync::{Mutex, OnceLock, PoisonError};
use bine::{thread, time};

use crate::commands::{self, Next};
use crate::lines::{Lines, Sent};
use crate::{Limits, Server};

/// What is written at once, about.
const BATCH: usize = 16 << 10;
/// What a client that leaves may still send before it is closed on.
const MOST_UNREAD: u64 = 1 << 20;

pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    stream: TcpStream,
    /// Gone when the client is to leave: the writer ends when it has written what is there.
    queue: Mutex<Option<Sender<Arc<str>>>>,
    messages: Receiver<Arc<str>>,
    /// The last line that the client is told.
    farewell: OnceLock<String>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, limits: &Limits) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (queue, messages) = channel::bounded(limits.queue);
        let queue = Mutex::new(Some(queue));
        Self { id, peer, stream, queue, messages, farewell: OnceLock::new() }
    }

    /// Has the client hear something that others say, or drops it if its queue has no room until the
    /// deadline.
    pub(crate) fn hear(&self, message: &Arc<str>, deadline: Instant) {
        let Some(queue) = self.queue() else { return };
        if let Err(SendTimeoutError::Timeout(_)) =
            queue.send_deadline(Arc::clone(message), deadline)
        {
            let _ = self.farewell.set("too slow".to_owned());
            self.close_queue();
            // Also ends the write that waits for the client.
            self.cut_off();
        }
    }

    /// Answers the client itself. It waits for room as long as need be: the client's next line is not read
    /// before.
    pub(crate) fn answer(&self, text: &str) {
        if let Some(queue) = self.queue() {
            // Fails when the client has gone.
            let _ = queue.send(format!("* {text}\n").into());
        }
    }

    /// Has the client leave when it has read what it was told, and this.
    pub(crate) fn dismiss(&self, farewell: &str) {
        self.say_farewell(farewell);
        // Ends the wait for its next line.
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    pub(crate) fn cut_off(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The first farewell counts.
    fn say_farewell(&self, farewell: &str) {
        let _ = self.farewell.set(farewell.to_owned());
        self.close_queue();
    }

    fn queue(&self) -> Option<Sender<Arc<str>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close_queue(&self) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        // After the lock: it may be the last one, and wakes the writer.
        drop(queue);
    }

    /// Writes what the client is told, until it leaves.
    fn write(&self) -> io::Result<()> {
        let (mut stream, mut batch) = (&self.stream, Vec::new());
        while let Ok(message) = self.messages.recv() {
            batch.extend_from_slice(message.as_bytes());
            while batch.len() < BATCH
                && let Ok(message) = self.messages.try_recv()
            {
                batch.extend_from_slice(message.as_bytes());
            }
            stream.write_all(&batch)?;
            batch.clear();
        }
        if let Some(farewell) = self.farewell.get() {
            writeln!(stream, "* {farewell}")?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads what the client says until it leaves. Why it does.
    fn converse(&self, server: &Server) -> String {
        let mut lines = Lines::new(&self.stream, server.limits.line);
        loop {
            let sent = match server.limits.idle {
                None => lines.next(),
                Some(idle) => match time::timeout(idle, || lines.next()) {
                    Ok(sent) => sent,
                    Err(time::Elapsed) => return "silent for too long".to_owned(),
                },
            };
            match sent {
                Ok(Sent::Line(line)) => match commands::obey(self, server, &line) {
                    Next::Stay => {}
                    Next::Quit => return "good-bye".to_owned(),
                },
                Ok(Sent::TooLong) => return "a line was too long".to_owned(),
                Ok(Sent::End) => return "good-bye".to_owned(),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return "connection lost".to_owned();
                }
                Err(error) => return error.to_string(),
            }
        }
    }
}

/// Serves a client, from its first line to its last.
pub(crate) fn serve(client: &Arc<Client>, server: &Server) {
    let log = |what: &str| {
        if !server.limits.quiet {
            println!("{}: {what}", client.peer);
        }
    };
    log("came");
    let _ = client.stream.set_nodelay(true);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = client.write();
            if written.is_err() {
                // It hears nothing any more: nobody shall wait for it.
                client.close_queue();
                client.cut_off();
            }
            // Those who have found the queue open may still be about to send, and must not wait for room.
            client.messages.iter().for_each(drop);
        });
        // A panic ends this visit alone.
        let visit = panic::catch_unwind(AssertUnwindSafe(|| {
            server.rooms.enter(client, server.limits.patience);
            client.converse(server)
        }));
        let reason = match visit {
            Ok(reason) => reason,
            Err(payload) if payload.is::<thread::Cancelled>() => panic::resume_unwind(payload),
            Err(_) => "an error in the server".to_owned(),
        };
        client.say_farewell(&reason);
        let reason = client.farewell.get().unwrap_or(&reason);
        server.rooms.leave(client.id, reason, server.limits.patience);
        log(reason);
        let read = time::timeout(server.limits.grace, || {
            let _ = writer.join();
            // What comes and is not read would have the connection reset, and the last lines lost.
            let _ = io::copy(&mut (&client.stream).take(MOST_UNREAD), &mut io::sink());
        });
        if read.is_err() {
            client.cut_off();
        }
    });
}
