//! Two thousand connections to an echo server at once, which talk, pause, half-close and reset:
//! every byte is accounted for, every green thread ends, and no descriptor is left open.

mod harness;

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bine::net::{SocketAddr, TcpListener, TcpStream};
use bine::thread;
use harness::{Mode, alone, bound, echo, open_descriptors, receive, seed, send};
use socket2::SockRef;

const CONNECTIONS: usize = 2_000;
/// Green threads that connect, so that the listener's queue never overflows.
const CONNECTORS: usize = 16;
const LARGEST: usize = 1 << 20;
/// Bytes of all messages of a run together; where they are used up, messages are small.
const BUDGET: usize = 512 << 20;
/// Messages of at most this size fit into the sockets' buffers, whatever the server does.
const INLINE: usize = 4 << 10;

/// Every message is a piece of this.
struct Pool(Vec<u8>);

impl Pool {
    fn new(random: &mut fastrand::Rng) -> Arc<Self> {
        let mut bytes = vec![0; 2 * LARGEST];
        random.fill(&mut bytes);
        Arc::new(Self(bytes))
    }

    fn piece(&self, message: &Message) -> &[u8] {
        &self.0[message.at..][..message.len]
    }
}

#[derive(Clone)]
struct Message {
    at: usize,
    len: usize,
    /// Before it is sent.
    pause: Pause,
}

#[derive(Clone, Copy)]
enum Pause {
    None,
    Yield,
    Sleep(Duration),
}

impl Pause {
    fn take(self) {
        match self {
            Self::None => {}
            Self::Yield => thread::yield_now(),
            Self::Sleep(span) => thread::sleep(span),
        }
    }
}

#[derive(Clone, Copy)]
enum Ending {
    /// Each message is answered before the next; then the client closes.
    Close,
    /// All messages are sent without waiting, then one direction is shut down, and the client reads
    /// to the end.
    HalfClose,
    /// Of the last message `cut` bytes are sent at most, of which at most `read` are read; then the
    /// client resets the connection.
    Reset { cut: usize, read: usize },
}

/// What one client does.
#[derive(Clone)]
struct Plan {
    messages: Vec<Message>,
    ending: Ending,
    /// The server reads with a buffer of this size.
    buffer: usize,
}

fn plans(random: &mut fastrand::Rng) -> Vec<Plan> {
    let mut left = BUDGET;
    (0..CONNECTIONS)
        .map(|_| {
            let count = random.usize(1..=4);
            let messages: Vec<_> = (0..count).map(|_| message(random, &mut left)).collect();
            let last = messages[count - 1].len;
            let ending = match random.u8(0..4) {
                0 => Ending::Close,
                1 => {
                    let cut = random.usize(1..=last);
                    Ending::Reset { cut, read: random.usize(0..=cut) }
                }
                _ => Ending::HalfClose,
            };
            Plan { messages, ending, buffer: random.usize(512..32 << 10) }
        })
        .collect()
}

fn message(random: &mut fastrand::Rng, left: &mut usize) -> Message {
    let most = LARGEST.min(*left).max(256);
    // Log-uniform: as many of 1 to 2 bytes as of 512 KiB to 1 MiB.
    let len = (most as f64).powf(random.f64()).round() as usize;
    *left = left.saturating_sub(len);
    let pause = match random.u8(0..4) {
        0 => Pause::Sleep(Duration::from_micros(random.u64(0..20_000))),
        1 => Pause::Yield,
        _ => Pause::None,
    };
    Message { at: random.usize(0..=LARGEST), len, pause }
}

/// What the server saw of one connection.
struct Served {
    peer: SocketAddr,
    received: u64,
    sent: u64,
    result: io::Result<()>,
}

/// What the client did with it. Of the bytes that it sent, `verified` came back, and were right.
struct Done {
    local: SocketAddr,
    sent: u64,
    verified: u64,
    reset: bool,
}

/// Accepts all connections, then waits until all have been served.
fn serve(listener: &TcpListener, buffers: Vec<usize>) -> Vec<Served> {
    let handlers: Vec<_> = buffers
        .into_iter()
        .map(|size| {
            let (stream, peer) = listener.accept().expect("accept");
            bine::spawn(move || {
                let (mut buffer, mut counts) = (vec![0; size], (0, 0));
                let result = echo(&stream, &mut buffer, &mut counts);
                Served { peer, received: counts.0, sent: counts.1, result }
            })
        })
        .collect();
    handlers.into_iter().map(|handler| handler.join().expect("a handler")).collect()
}

/// Connects one client after another, and has each of them greeted, so that it is served.
fn connect(server: SocketAddr, plans: Vec<(usize, Plan)>) -> Vec<(usize, Plan, TcpStream)> {
    let connect = |(number, plan): (usize, Plan)| {
        let stream = TcpStream::connect(server).expect("connect");
        send(&stream, &number.to_ne_bytes()).expect("the greeting is sent");
        receive(&stream, &number.to_ne_bytes()).expect("the greeting comes back");
        (number, plan, stream)
    };
    plans.into_iter().map(connect).collect()
}

/// One client, from the greeting to the end.
fn converse(number: usize, plan: &Plan, stream: TcpStream, pool: &Arc<Pool>) -> io::Result<Done> {
    let greeting = size_of_val(&number) as u64;
    let local = stream.local_addr()?;
    let mut done = Done { local, sent: greeting, verified: greeting, reset: false };
    let stream = Arc::new(stream);
    let mut count = |bytes: usize| {
        done.sent += bytes as u64;
        done.verified += bytes as u64;
    };
    match plan.ending {
        Ending::Close => {
            for message in &plan.messages {
                exchange(&stream, message, pool)?;
                count(message.len);
            }
        }
        Ending::HalfClose => {
            let sending = send_elsewhere(number, &stream, plan.messages.clone(), pool, true)?;
            for message in &plan.messages {
                receive(&*stream, pool.piece(message))?;
                count(message.len);
            }
            let more = (&*stream).read(&mut [0])?;
            assert_eq!(more, 0, "nothing follows what was sent");
            sending.join().expect("the sender does not panic")?;
        }
        Ending::Reset { cut, read } => {
            let (last, others) = plan.messages.split_last().expect("there is a message");
            for message in others {
                exchange(&stream, message, pool)?;
                count(message.len);
            }
            last.pause.take();
            let (sent, verified) = reset(&stream, &pool.piece(last)[..cut], read)?;
            done.sent += sent as u64;
            done.verified += verified as u64;
            done.reset = true;
        }
    }
    Ok(done)
}

/// Sends a message and receives it back. What is larger than the sockets' buffers may be is sent by
/// a green thread of its own, or both sides would wait for each other.
fn exchange(stream: &Arc<TcpStream>, message: &Message, pool: &Arc<Pool>) -> io::Result<()> {
    if message.len <= INLINE {
        message.pause.take();
        send(&**stream, pool.piece(message))?;
        return receive(&**stream, pool.piece(message));
    }
    let sending = send_elsewhere(message.len, stream, vec![message.clone()], pool, false)?;
    receive(&**stream, pool.piece(message))?;
    sending.join().expect("the sender does not panic")
}

/// Has another green thread send, through a shared stream or, for odd numbers, a clone.
fn send_elsewhere(
    number: usize,
    stream: &Arc<TcpStream>,
    messages: Vec<Message>,
    pool: &Arc<Pool>,
    half_close: bool,
) -> io::Result<thread::JoinHandle<io::Result<()>>> {
    let stream = match number % 2 {
        0 => Arc::clone(stream),
        _ => Arc::new(stream.try_clone()?),
    };
    let pool = Arc::clone(pool);
    Ok(bine::spawn(move || {
        for message in &messages {
            message.pause.take();
            send(&*stream, pool.piece(message))?;
        }
        if half_close { stream.shutdown(Shutdown::Write) } else { Ok(()) }
    }))
}

/// Sends as much of `bytes` as there is room for, receives at most `read` of them, and has the
/// stream reset when it is dropped. How many bytes were sent, and received.
fn reset(mut stream: &TcpStream, bytes: &[u8], read: usize) -> io::Result<(usize, usize)> {
    stream.set_nonblocking(true)?;
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    stream.set_nonblocking(false)?;
    let read = read.min(sent);
    receive(stream, &bytes[..read])?;
    SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    Ok((sent, read))
}

/// The whole run, on a green thread: what the server saw, and what the clients did.
fn run(plans: Vec<Plan>, pool: &Arc<Pool>, before: usize) -> (Vec<Served>, Vec<Done>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("an address");
    let buffers = plans.iter().map(|plan| plan.buffer).collect();
    let server = bine::spawn(move || serve(&listener, buffers));

    let mut shares = vec![Vec::new(); CONNECTORS];
    for (number, plan) in plans.into_iter().enumerate() {
        shares[number % CONNECTORS].push((number, plan));
    }
    let connectors: Vec<_> =
        shares.into_iter().map(|share| bine::spawn(move || connect(address, share))).collect();
    let connected: Vec<_> = connectors
        .into_iter()
        .flat_map(|connector| connector.join().expect("all clients connect"))
        .collect();
    assert!(open_descriptors() >= before + 2 * CONNECTIONS, "all are connected at once");

    let clients: Vec<_> = connected
        .into_iter()
        .map(|(number, plan, stream)| {
            let pool = Arc::clone(pool);
            bine::spawn(move || converse(number, &plan, stream, &pool))
        })
        .collect();
    let done = clients
        .into_iter()
        .map(|client| client.join().expect("a client does not panic").expect("no client fails"))
        .collect();
    (server.join().expect("the server"), done)
}

/// Compares both sides of every connection.
fn settle(served: Vec<Served>, done: Vec<Done>) -> (u64, usize) {
    let (mut bytes, mut resets) = (0, 0);
    let mut done: std::collections::HashMap<_, _> =
        done.into_iter().map(|done| (done.local, done)).collect();
    assert_eq!(done.len(), CONNECTIONS);
    for Served { peer, received, sent, result } in served {
        let client = done.remove(&peer).expect("a client with this address");
        bytes += received;
        if client.reset {
            resets += 1;
            let kind = result.expect_err("the server hears of the reset").kind();
            assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
            assert!(client.verified <= sent && sent <= received && received <= client.sent);
        } else {
            result.expect("a connection that was closed is no error");
            assert_eq!([received, sent, client.verified], [client.sent; 3]);
        }
    }
    assert!(done.is_empty());
    (bytes, resets)
}

fn soak(mode: Mode, workers: usize) {
    let _alone = alone();
    let _bound = bound(format_args!("the soak in {mode} mode on {workers} workers"));
    let limit = harness::raise_file_limit();
    assert!(limit >= 3 * CONNECTIONS + 100, "the limit of {limit} open files is too low");
    harness::start_poller();

    let (descriptors, started) = (open_descriptors(), Instant::now());
    let mut random = fastrand::Rng::with_seed(seed());
    let (pool, plans) = (Pool::new(&mut random), plans(&mut random));
    let runtime = mode.runtime(workers);
    let (served, done) = runtime.run(move || run(plans, &pool, descriptors));
    // All of them have been joined: they have ended, and closed what was theirs.
    assert_eq!(runtime.metrics().alive, 0);
    assert_eq!(open_descriptors(), descriptors);
    let (bytes, resets) = settle(served, done);
    println!(
        "{mode}, {workers} workers: {CONNECTIONS} connections, {resets} of them reset, \
         {:.1} MiB echoed, {:.1} s, {:?}",
        bytes as f64 / f64::from(1 << 20),
        started.elapsed().as_secs_f64(),
        runtime.metrics()
    );
}

#[test]
fn pinned_on_one_worker() {
    soak(Mode::Pinned, 1);
}

#[test]
fn pinned_on_two_workers() {
    soak(Mode::Pinned, 2);
}

#[test]
fn pinned_on_eight_workers() {
    soak(Mode::Pinned, 8);
}

#[test]
fn migrating_on_one_worker() {
    soak(Mode::Migrating, 1);
}

#[test]
fn migrating_on_two_workers() {
    soak(Mode::Migrating, 2);
}

#[test]
fn migrating_on_eight_workers() {
    soak(Mode::Migrating, 8);
}
