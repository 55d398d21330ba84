//! The workloads as programs of blocking calls, written once for every runtime that has them.
//!
//! A runtime says in an implementation of [`Blocking`] what its threads, channels, locks and
//! sockets are; the work itself is the same code for all of them, monomorphised for each. Tokio's
//! version of the same work is in `tokio_peer.rs`, Go's in `go/main.go`.
//!
//! Every workload runs inside a task of the runtime, checks its result, and times from the first
//! spawn to the last join, unless its function says otherwise.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::echo;
use crate::figures::{Figures, cpu_time, memory, ns_each};
use crate::http::Conversation;
use crate::lateness::{Distribution, Lateness, SHORT_SLEEP, before_a_hold, hold, sleep_length};
use crate::workload::{Size, Workload};

pub(crate) mod bine;
pub(crate) mod may;
pub(crate) mod threads;
mod trees;

/// A runtime whose tasks block.
pub(crate) trait Blocking: Sized + 'static {
    /// A spawned task.
    type Handle<T: Send + 'static>: Send + 'static;
    /// The sending end of an unbounded channel with one receiver.
    type Sender: Send + 'static;
    /// The receiving end of it.
    type Receiver: Send + 'static;
    /// The sending end of a bounded channel with many receivers.
    type ManySender: Clone + Send + 'static;
    /// A receiving end of it.
    type ManyReceiver: Clone + Send + 'static;
    /// A number under a lock.
    type Lock: Send + Sync + 'static;
    /// A listening TCP socket.
    type Listener: Send + 'static;
    /// A TCP connection.
    type Stream: Read + Write + Send + 'static;

    /// Starts the runtime with that many workers and runs `main` in a task of it.
    fn run<T: Send + 'static>(workers: usize, main: impl FnOnce() -> T + Send + 'static) -> T;
    /// Spawns a task.
    fn spawn<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T>;
    /// Waits for a task; panics if the task did.
    fn join<T: Send + 'static>(handle: Self::Handle<T>) -> T;
    /// Lets others run.
    fn yield_now();
    /// Waits for [`unpark`](Self::unpark), perhaps returning early.
    fn park();
    /// Wakes a task from [`park`](Self::park).
    fn unpark<T: Send + 'static>(handle: &Self::Handle<T>);
    /// Waits that long.
    fn sleep(length: Duration);
    /// An unbounded channel.
    fn unbounded() -> (Self::Sender, Self::Receiver);
    /// Sends to the only receiver.
    fn send(sender: &Self::Sender, message: u64);
    /// Waits for a message.
    fn receive(receiver: &Self::Receiver) -> u64;
    /// A channel of so many places, from many to many.
    fn bounded(places: usize) -> (Self::ManySender, Self::ManyReceiver);
    /// Sends to any receiver.
    fn send_any(sender: &Self::ManySender, message: u64);
    /// Waits for a message; `None` once every sender is gone.
    fn receive_any(receiver: &Self::ManyReceiver) -> Option<u64>;
    /// Receives `messages` messages from eight channels by `select!`, and returns their sum. Nobody else
    /// receives from them, and no more are sent.
    fn select_sum(receivers: [Self::ManyReceiver; 8], messages: usize) -> u64;
    /// A lock around 0.
    fn lock() -> Self::Lock;
    /// Adds one under the lock and returns the sum.
    fn add_one(lock: &Self::Lock) -> u64;
    /// Listens on a free port of the loopback interface.
    fn listen() -> io::Result<(Self::Listener, u16)>;
    /// Accepts a connection, with Nagle's algorithm off.
    fn accept(listener: &Self::Listener) -> io::Result<Self::Stream>;
}

/// Runs a workload, which must not be a server, at that size.
pub(crate) fn measure<B: Blocking>(workload: Workload, size: Size, workers: usize) -> Figures {
    B::run(workers, move || match workload {
        Workload::Yield => yields::<B>(size),
        Workload::SpawnJoin => spawn_join::<B>(size),
        Workload::SpawnBatch => spawn_batch::<B>(size),
        Workload::PingPong => ping_pong::<B>(size),
        Workload::Pairs => pairs::<B>(size),
        Workload::Mutex => mutex::<B>(size),
        Workload::Mpmc => mpmc::<B>(size),
        Workload::Select => select::<B>(size, 128),
        Workload::Select1 => select::<B>(size, 1),
        Workload::Skynet => skynet::<B>(size),
        Workload::ForkJoin => trees::fork_join::<B>(size),
        Workload::ChannelTree => trees::channel_tree::<B>(size),
        Workload::Park => park::<B>(size),
        Workload::Timers => timers::<B>(size),
        Workload::Hogs => hogs::<B>(size, workers),
        Workload::Echo100
        | Workload::Echo1000
        | Workload::Echo10000
        | Workload::Idle10000
        | Workload::Http64
        | Workload::Http512
        | Workload::HttpPipelined => unreachable!("servers are not measured inside"),
        Workload::Switch | Workload::Create => unreachable!("coroutines are not scheduled"),
    })
}

/// Serves for ever, with a task for each connection that does `serve_one`; `started` is told the port.
pub(crate) fn serve<B: Blocking>(
    workers: usize,
    started: fn(u16) -> io::Result<()>,
    serve_one: fn(B::Stream),
) -> io::Result<()> {
    B::run(workers, move || {
        let (listener, port) = B::listen()?;
        started(port)?;
        loop {
            let stream = B::accept(&listener)?;
            B::spawn(move || serve_one(stream));
        }
    })
}

/// Sends back what it reads. A broken connection ends as a closed one does.
pub(crate) fn echo(mut stream: impl Read + Write) {
    let mut buffer = vec![0; echo::BUFFER];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
}

/// Answers requests until the end of the stream, or until one is wrong.
pub(crate) fn http(mut stream: impl Read + Write) {
    let mut conversation = Conversation::new();
    while let Ok(length @ 1..) = stream.read(conversation.space()) {
        let Some(answers) = conversation.answer(length) else { break };
        if stream.write_all(answers).is_err() {
            break;
        }
    }
}

/// Joins every task and returns the sum of their results.
fn join_all<B: Blocking>(handles: impl IntoIterator<Item = B::Handle<u64>>) -> u64 {
    handles.into_iter().map(B::join).sum()
}

/// `tasks` tasks yield `rounds` times each.
fn yields<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    let yielding = |_| {
        B::spawn(move || {
            (0..size.rounds).for_each(|_| B::yield_now());
            1
        })
    };
    let handles: Vec<_> = (0..size.tasks).map(yielding).collect();
    assert_eq!(join_all::<B>(handles), size.tasks as u64);
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

/// Spawns `tasks` tasks and joins each before the next.
fn spawn_join<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    let sum: u64 = (0..size.tasks as u64).map(|n| B::join(B::spawn(move || n))).sum();
    assert_eq!(sum, sum_below(size.tasks));
    Figures::one("ns", ns_each(start, size.tasks))
}

/// Spawns `tasks` tasks, then joins them, `rounds` times.
fn spawn_batch<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    for _ in 0..size.rounds {
        let handles: Vec<_> = (0..size.tasks as u64).map(|n| B::spawn(move || n)).collect();
        assert_eq!(join_all::<B>(handles), sum_below(size.tasks));
    }
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

/// Two tasks that send a number to and fro, each on an unbounded channel of its own.
fn pair<B: Blocking>(rounds: usize) -> [B::Handle<u64>; 2] {
    let (to_second, at_second) = B::unbounded();
    let (to_first, at_first) = B::unbounded();
    let second = B::spawn(move || {
        (0..rounds).for_each(|_| B::send(&to_first, B::receive(&at_second) + 1));
        0
    });
    let first = B::spawn(move || {
        (0..rounds).fold(0, |number, _| {
            B::send(&to_second, number);
            B::receive(&at_first)
        })
    });
    [first, second]
}

/// One pair, `rounds` round trips.
fn ping_pong<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    assert_eq!(join_all::<B>(pair::<B>(size.rounds)), size.rounds as u64);
    Figures::one("ns", ns_each(start, size.rounds))
}

/// `tasks` pairs at once, `rounds` round trips each.
fn pairs<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    let handles: Vec<_> = (0..size.tasks).flat_map(|_| pair::<B>(size.rounds)).collect();
    assert_eq!(join_all::<B>(handles), (size.tasks * size.rounds) as u64);
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

/// `tasks` tasks lock, add 1 and unlock `rounds` times each.
fn mutex<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    let lock = Arc::new(B::lock());
    let adding = |_| {
        let lock = Arc::clone(&lock);
        B::spawn(move || (0..size.rounds).fold(0, |_, _| B::add_one(&lock)))
    };
    let handles: Vec<_> = (0..size.tasks).map(adding).collect();
    join_all::<B>(handles);
    let result = ns_each(start, size.tasks * size.rounds);
    assert_eq!(B::add_one(&lock), (size.tasks * size.rounds) as u64 + 1);
    Figures::one("ns", result)
}

/// `tasks` producers and as many consumers on one channel of 128 places; each producer sends
/// `rounds` numbers, and the consumers go on until the channel is closed.
fn mpmc<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    let (sender, receiver) = B::bounded(128);
    let consuming = |_| {
        let receiver = receiver.clone();
        B::spawn(move || std::iter::from_fn(|| B::receive_any(&receiver)).sum::<u64>())
    };
    let consumers: Vec<_> = (0..size.tasks).map(consuming).collect();
    let producing = |_| {
        let sender = sender.clone();
        B::spawn(move || (0..size.rounds as u64).for_each(|n| B::send_any(&sender, n)))
    };
    let producers: Vec<_> = (0..size.tasks).map(producing).collect();
    drop(sender);
    producers.into_iter().for_each(B::join);
    let sum = join_all::<B>(consumers);
    assert_eq!(sum, size.tasks as u64 * sum_below(size.rounds));
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

/// Eight producers, each with a channel of so many places of its own, send `rounds` numbers each; one
/// consumer receives them all, each by a `select!` over the eight channels. One consumer, since Tokio's
/// channels have one receiver. The channels stay open to the end, or those that are closed would be
/// selected again and again.
fn select<B: Blocking>(size: Size, places: usize) -> Figures {
    let start = Instant::now();
    let (mut producers, mut senders) = (Vec::with_capacity(8), Vec::with_capacity(8));
    let receivers = std::array::from_fn(|_| {
        let (sender, receiver) = B::bounded(places);
        senders.push(sender.clone());
        let sending = move || (0..size.rounds as u64).for_each(|n| B::send_any(&sender, n));
        producers.push(B::spawn(sending));
        receiver
    });
    let messages = producers.len() * size.rounds;
    let sum = B::join(B::spawn(move || B::select_sum(receivers, messages)));
    assert_eq!(sum, producers.len() as u64 * sum_below(size.rounds));
    producers.into_iter().for_each(B::join);
    Figures::one("ns", ns_each(start, messages))
}

/// A tree in which each task but the leaves spawns and joins ten; `tasks` leaves.
fn skynet<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    assert_eq!(subtree::<B>(0, size.tasks as u64), sum_below(size.tasks));
    Figures::one("ms", start.elapsed().as_secs_f64() * 1e3)
}

/// The sum of the leaves `first..first + leaves`, each of which is its own number.
fn subtree<B: Blocking>(first: u64, leaves: u64) -> u64 {
    if leaves == 1 {
        return first;
    }
    let leaves = leaves / 10;
    let child = |n| B::spawn(move || subtree::<B>(first + n as u64 * leaves, leaves));
    join_all::<B>(std::array::from_fn::<_, 10, _>(child))
}

/// Spawns `tasks` tasks that park, and waits until the last is about to; then, untimed, wakes and
/// joins them, so that a task which is lost is not counted as a cheap one.
fn park<B: Blocking>(size: Size) -> Figures {
    let before = memory();
    let start = Instant::now();
    let arrived = Arc::new(AtomicUsize::new(0));
    let released = Arc::new(AtomicBool::new(false));
    let parking = |_| {
        let (arrived, released) = (Arc::clone(&arrived), Arc::clone(&released));
        B::spawn(move || {
            arrived.fetch_add(1, Ordering::Relaxed);
            while !released.load(Ordering::Acquire) {
                B::park();
            }
            1
        })
    };
    let handles: Vec<_> = (0..size.tasks).map(parking).collect();
    while arrived.load(Ordering::Relaxed) < size.tasks {
        B::sleep(Duration::from_micros(500));
    }
    let each = ns_each(start, size.tasks);
    let bytes = memory().saturating_sub(before) as f64 / size.tasks as f64;
    released.store(true, Ordering::Release);
    handles.iter().for_each(B::unpark);
    assert_eq!(join_all::<B>(handles), size.tasks as u64);
    Figures::one("ns", each).and("bytes", bytes)
}

/// `tasks` tasks sleep once, each a length between `millis` and 3 times that; the CPU time is
/// that of the whole process, from the first spawn to the last join.
fn timers<B: Blocking>(size: Size) -> Figures {
    let before = cpu_time();
    let lateness = Arc::new(Lateness::default());
    let sleeping = |n| {
        let lateness = Arc::clone(&lateness);
        let length = sleep_length(n, size);
        B::spawn(move || {
            let due = Instant::now() + length;
            B::sleep(length);
            lateness.record(due);
            1
        })
    };
    let handles: Vec<_> = (0..size.tasks).map(sleeping).collect();
    assert_eq!(join_all::<B>(handles), size.tasks as u64);
    lateness.figures(cpu_time() - before, size.tasks)
}

/// `tasks` tasks sleep for a millisecond `rounds` times; one task for each worker holds it meanwhile.
fn hogs<B: Blocking>(size: Size, workers: usize) -> Figures {
    let distribution = Arc::new(Distribution::default());
    let sleeping = |_| {
        let distribution = Arc::clone(&distribution);
        B::spawn(move || {
            let mut late = Vec::with_capacity(size.rounds);
            for _ in 0..size.rounds {
                let due = Instant::now() + SHORT_SLEEP;
                B::sleep(SHORT_SLEEP);
                late.push(Distribution::micros_late(due));
            }
            distribution.add(&late);
            1
        })
    };
    let holding = |hog| {
        B::spawn(move || {
            B::sleep(before_a_hold(size.millis));
            hold(hog, size.millis);
            1
        })
    };
    let handles: Vec<_> = (0..workers).map(holding).collect();
    let sleepers: Vec<_> = (0..size.tasks).map(sleeping).collect();
    let done = join_all::<B>(handles.into_iter().chain(sleepers));
    assert_eq!(done, (workers + size.tasks) as u64);
    distribution.figures()
}

/// The sum of the numbers below `count`.
pub(crate) fn sum_below(count: usize) -> u64 {
    let count = count as u64;
    count * count.saturating_sub(1) / 2
}
