//! What the servers among the examples share: they take connections up to a limit, know which ones
//! are open, and stop on a signal.
#![allow(dead_code, reason = "each server uses some of this")]

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bine::net::{SocketAddr, TcpListener, TcpStream};
use bine::runtime::{Builder, Runtime};
use bine::signal::{SIGINT, SIGTERM, Signals};
use bine::sync::{Condvar, Mutex, MutexGuard, OwnedSemaphorePermit, PoisonError, Semaphore};
use bine::thread::{self, JoinHandle};

/// How the green threads are run.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct RuntimeOptions {
    /// OS threads that run green threads [default: one for each CPU]
    #[arg(long)]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Let green threads that have run move to other workers
    #[arg(long)]
    pub(crate) migrate: bool,
}

impl RuntimeOptions {
    pub(crate) fn build(self) -> io::Result<Runtime> {
        let mut builder = Builder::new();
        if let Some(workers) = self.workers {
            builder = builder.workers(workers.get());
        }
        if self.migrate {
            // SAFETY: the servers keep no thread-local borrow across a blocking call.
            builder = unsafe { builder.migrate() };
        }
        builder.build()
    }
}

/// SIGINT, which Ctrl-C sends, and SIGTERM, from now on.
pub(crate) struct Stop(Signals);

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Signals::new([SIGINT, SIGTERM]).map(Self)
    }

    /// Waits for the first signal. A second one, while the server stops, ends the process at once.
    pub(crate) fn wait(self) -> io::Result<()> {
        self.0.wait()?;
        bine::spawn(move || {
            if let Ok(signal) = self.0.wait() {
                eprintln!("stopping at once");
                std::process::exit(128 + signal);
            }
        });
        Ok(())
    }
}

/// The connections of a server, of which each has a value `C` that describes it.
pub(crate) struct Connections<C> {
    /// The green threads own them: when one has left the map, its socket is closed.
    open: Mutex<HashMap<u64, Weak<C>>>,
    /// A connection has been closed.
    closed: Condvar,
    /// One permit for each connection that may still come.
    room: Arc<Semaphore>,
    accepted: AtomicU64,
    limit: usize,
}

/// One connection, from the moment it is accepted until its green thread has ended, however it ends.
struct Entry<C> {
    connections: Arc<Connections<C>>,
    id: u64,
    connection: Option<Arc<C>>,
    _place: OwnedSemaphorePermit,
}

impl<C: Send + Sync + 'static> Connections<C> {
    pub(crate) fn new(limit: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            closed: Condvar::new(),
            room: Arc::new(Semaphore::new(limit.get())),
            accepted: AtomicU64::new(0),
            limit: limit.get(),
        })
    }

    /// Starts to accept connections, each of which `serve` then serves on a green thread of its own.
    /// Cancelling the thread that is returned ends that.
    ///
    /// Where the limit is reached, new connections wait in the kernel's queue until others end.
    pub(crate) fn accept_on(
        self: &Arc<Self>,
        listener: TcpListener,
        admit: impl Fn(TcpStream, SocketAddr) -> C + Send + 'static,
        serve: impl Fn(&Arc<C>) + Send + Sync + 'static,
    ) -> JoinHandle<()> {
        let (this, serve) = (Arc::clone(self), Arc::new(serve));
        bine::spawn(move || {
            let mut pause = Pause::default();
            loop {
                let place = Arc::clone(&this.room).acquire_owned().expect("it is never closed");
                let started = listener.accept().and_then(|(stream, peer)| {
                    let entry = this.enter(admit(stream, peer), place);
                    let serve = Arc::clone(&serve);
                    thread::Builder::new()
                        .spawn(move || entry.connection.as_ref().map(|c| serve(c)))
                });
                match started {
                    Ok(_) => pause = Pause::default(),
                    Err(error) => pause.take(&this, &error),
                }
            }
        })
    }

    fn enter(self: &Arc<Self>, connection: C, place: OwnedSemaphorePermit) -> Entry<C> {
        let (id, connection) =
            (self.accepted.fetch_add(1, Ordering::Relaxed), Arc::new(connection));
        self.lock().insert(id, Arc::downgrade(&connection));
        Entry { connections: Arc::clone(self), id, connection: Some(connection), _place: place }
    }

    /// Calls `f` with each open connection.
    pub(crate) fn for_each(&self, f: impl FnMut(Arc<C>)) {
        // A copy: what `f` does may take its time.
        let open: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        open.into_iter().for_each(f);
    }

    /// Waits until no connection is open, for so long at most. How many are still open then.
    pub(crate) fn wait_until_closed(&self, patience: Duration) -> usize {
        let wait = self.closed.wait_timeout_while(self.lock(), patience, |open| !open.is_empty());
        wait.unwrap_or_else(PoisonError::into_inner).0.len()
    }
}

impl<C> Connections<C> {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<C>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> usize {
        self.lock().len()
    }

    /// How many were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many may be open at once.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

impl<C> Drop for Entry<C> {
    fn drop(&mut self) {
        // First, so that the socket is closed before anybody hears of it.
        self.connection = None;
        self.connections.lock().remove(&self.id);
        self.connections.closed.notify_all();
    }
}

/// How long to wait after a connection could not be accepted: no descriptor is free, say. To try again
/// at once would only burn a CPU, as the connection that could not be accepted is still there.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Self::SHORTEST)
    }
}

impl Pause {
    const SHORTEST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);

    fn take<C>(&mut self, connections: &Connections<C>, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            // The client has changed its mind. That one is gone.
            return;
        }
        if self.0 == Self::SHORTEST {
            eprintln!("cannot accept a connection for now: {error}");
        }
        // One that ends may leave what is missing.
        let open = connections.lock();
        drop(connections.closed.wait_timeout(open, self.0));
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}
