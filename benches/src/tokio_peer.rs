//! Tokio's multi-thread runtime: the workloads of `blocking`, each the same work as `async` code.
//!
//! Every workload runs in a spawned task, so that spawning is a worker's and not an outsider's.
//! Parked tasks wait on one [`Notify`] that all of them share, which is the cheapest
//! thing that can wake a million. The bounded channel from many to many is async-channel's, since
//! Tokio has none; those of the selects are Tokio's.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinHandle;

use crate::blocking::sum_below;
use crate::echo;
use crate::figures::{Figures, cpu_time, memory, ns_each};
use crate::http::Conversation;
use crate::lateness::{Distribution, Lateness, SHORT_SLEEP, before_a_hold, hold, sleep_length};
use crate::workload::{Size, Workload, burn};

/// Runs `main` in a task of a new runtime.
fn run<T: Send + 'static>(workers: usize, main: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("the runtime starts");
    runtime.block_on(async { tokio::spawn(main).await.expect("a task panicked") })
}

/// Runs a workload, which must not be a server, at that size.
pub(crate) fn measure(workload: Workload, size: Size, workers: usize) -> Figures {
    match workload {
        Workload::Yield => run(workers, yields(size)),
        Workload::SpawnJoin => run(workers, spawn_join(size)),
        Workload::SpawnBatch => run(workers, spawn_batch(size)),
        Workload::PingPong => run(workers, ping_pong(size)),
        Workload::Pairs => run(workers, pairs(size)),
        Workload::Mutex => run(workers, mutex(size)),
        Workload::Mpmc => run(workers, mpmc(size)),
        Workload::Select => run(workers, select(size, 128)),
        Workload::Select1 => run(workers, select(size, 1)),
        Workload::Skynet => run(workers, skynet(size)),
        Workload::ForkJoin => run(workers, fork_join(size)),
        Workload::ChannelTree => run(workers, channel_tree(size)),
        Workload::Park => run(workers, park(size)),
        Workload::Timers => run(workers, timers(size)),
        Workload::Hogs => run(workers, hogs(size, workers)),
        Workload::Echo100
        | Workload::Echo1000
        | Workload::Echo10000
        | Workload::Idle10000
        | Workload::Http64
        | Workload::Http512
        | Workload::HttpPipelined => unreachable!("servers are not measured inside"),
        Workload::Switch | Workload::Create => unreachable!("coroutines are not scheduled"),
    }
}

/// Serves for ever, as `blocking::serve` does.
pub(crate) fn serve<F: Future<Output = ()> + Send + 'static>(
    workers: usize,
    started: fn(u16) -> io::Result<()>,
    serve_one: fn(TcpStream) -> F,
) -> io::Result<()> {
    run(workers, async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        started(listener.local_addr()?.port())?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve_one(stream));
        }
    })
}

/// Sends back what it reads. A broken connection ends as a closed one does.
pub(crate) async fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; echo::BUFFER];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}

/// Answers requests until the end of the stream, or until one is wrong.
pub(crate) async fn http(mut stream: TcpStream) {
    let mut conversation = Conversation::new();
    while let Ok(length @ 1..) = stream.read(conversation.space()).await {
        let Some(answers) = conversation.answer(length) else { break };
        if stream.write_all(answers).await.is_err() {
            break;
        }
    }
}

/// Joins every task and returns the sum of their results.
async fn join_all(handles: impl IntoIterator<Item = JoinHandle<u64>>) -> u64 {
    let mut sum = 0;
    for handle in handles {
        sum += handle.await.expect("a task panicked");
    }
    sum
}

async fn yields(size: Size) -> Figures {
    let start = Instant::now();
    let yielding = |_| {
        tokio::spawn(async move {
            for _ in 0..size.rounds {
                tokio::task::yield_now().await;
            }
            1
        })
    };
    let handles: Vec<_> = (0..size.tasks).map(yielding).collect();
    assert_eq!(join_all(handles).await, size.tasks as u64);
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

async fn spawn_join(size: Size) -> Figures {
    let start = Instant::now();
    let mut sum = 0;
    for n in 0..size.tasks as u64 {
        sum += tokio::spawn(async move { n }).await.expect("a task panicked");
    }
    assert_eq!(sum, sum_below(size.tasks));
    Figures::one("ns", ns_each(start, size.tasks))
}

async fn spawn_batch(size: Size) -> Figures {
    let start = Instant::now();
    for _ in 0..size.rounds {
        let spawning = |n| tokio::spawn(async move { n });
        let handles: Vec<_> = (0..size.tasks as u64).map(spawning).collect();
        assert_eq!(join_all(handles).await, sum_below(size.tasks));
    }
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

/// Two tasks that send a number to and fro, each on an unbounded channel of its own.
fn pair(rounds: usize) -> [JoinHandle<u64>; 2] {
    let (to_second, mut at_second) = mpsc::unbounded_channel::<u64>();
    let (to_first, mut at_first) = mpsc::unbounded_channel::<u64>();
    let second = tokio::spawn(async move {
        for _ in 0..rounds {
            let number = at_second.recv().await.expect("the sender is gone");
            to_first.send(number + 1).expect("the receiver is gone");
        }
        0
    });
    let first = tokio::spawn(async move {
        let mut number = 0;
        for _ in 0..rounds {
            to_second.send(number).expect("the receiver is gone");
            number = at_first.recv().await.expect("the sender is gone");
        }
        number
    });
    [first, second]
}

async fn ping_pong(size: Size) -> Figures {
    let start = Instant::now();
    assert_eq!(join_all(pair(size.rounds)).await, size.rounds as u64);
    Figures::one("ns", ns_each(start, size.rounds))
}

async fn pairs(size: Size) -> Figures {
    let start = Instant::now();
    let handles: Vec<_> = (0..size.tasks).flat_map(|_| pair(size.rounds)).collect();
    assert_eq!(join_all(handles).await, (size.tasks * size.rounds) as u64);
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

async fn mutex(size: Size) -> Figures {
    let start = Instant::now();
    let lock = Arc::new(Mutex::new(0_u64));
    let adding = |_| {
        let lock = Arc::clone(&lock);
        tokio::spawn(async move {
            for _ in 0..size.rounds {
                *lock.lock().await += 1;
            }
            0
        })
    };
    let handles: Vec<_> = (0..size.tasks).map(adding).collect();
    join_all(handles).await;
    assert_eq!(*lock.lock().await, (size.tasks * size.rounds) as u64);
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

async fn mpmc(size: Size) -> Figures {
    let start = Instant::now();
    let (sender, receiver) = async_channel::bounded::<u64>(128);
    let consuming = |_| {
        let receiver = receiver.clone();
        tokio::spawn(async move {
            let mut sum = 0;
            while let Ok(number) = receiver.recv().await {
                sum += number;
            }
            sum
        })
    };
    let consumers: Vec<_> = (0..size.tasks).map(consuming).collect();
    let producing = |_| {
        let sender = sender.clone();
        tokio::spawn(async move {
            for number in 0..size.rounds as u64 {
                sender.send(number).await.expect("the receivers are gone");
            }
            0
        })
    };
    let producers: Vec<_> = (0..size.tasks).map(producing).collect();
    drop(sender);
    join_all(producers).await;
    assert_eq!(join_all(consumers).await, size.tasks as u64 * sum_below(size.rounds));
    Figures::one("ns", ns_each(start, size.tasks * size.rounds))
}

async fn select(size: Size, places: usize) -> Figures {
    let start = Instant::now();
    let (mut producers, mut senders) = (Vec::with_capacity(8), Vec::with_capacity(8));
    let receivers = std::array::from_fn(|_| {
        let (sender, receiver) = mpsc::channel::<u64>(places);
        senders.push(sender.clone());
        producers.push(tokio::spawn(async move {
            for number in 0..size.rounds as u64 {
                sender.send(number).await.expect("the receiver is gone");
            }
            0
        }));
        receiver
    });
    let messages = producers.len() * size.rounds;
    let consumer = tokio::spawn(select_sum(receivers, messages));
    assert_eq!(
        consumer.await.expect("a task panicked"),
        producers.len() as u64 * sum_below(size.rounds)
    );
    join_all(producers).await;
    Figures::one("ns", ns_each(start, messages))
}

/// Receives `messages` messages and returns their sum.
async fn select_sum(mut receivers: [mpsc::Receiver<u64>; 8], messages: usize) -> u64 {
    let [a, b, c, d, e, f, g, h] = &mut receivers;
    let mut sum = 0;
    for _ in 0..messages {
        sum += tokio::select! {
            Some(number) = a.recv() => number,
            Some(number) = b.recv() => number,
            Some(number) = c.recv() => number,
            Some(number) = d.recv() => number,
            Some(number) = e.recv() => number,
            Some(number) = f.recv() => number,
            Some(number) = g.recv() => number,
            Some(number) = h.recv() => number,
            else => panic!("the senders are gone"),
        };
    }
    sum
}

async fn skynet(size: Size) -> Figures {
    let start = Instant::now();
    assert_eq!(subtree(0, size.tasks as u64).await, sum_below(size.tasks));
    Figures::one("ms", start.elapsed().as_secs_f64() * 1e3)
}

/// The sum of the leaves `first..first + leaves`, of which there is more than one. Only the inner
/// tasks need a box; a leaf is spawned as the small future that it is.
fn subtree(first: u64, leaves: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        let leaves = leaves / 10;
        let child = |n| {
            let first = first + n as u64 * leaves;
            if leaves == 1 {
                tokio::spawn(async move { first })
            } else {
                tokio::spawn(subtree(first, leaves))
            }
        };
        join_all(std::array::from_fn::<_, 10, _>(child)).await
    })
}

async fn fork_join(size: Size) -> Figures {
    let start = Instant::now();
    assert_eq!(halves(0, size.tasks as u64, size.rounds).await, size.tasks as u64);
    Figures::one("ms", start.elapsed().as_secs_f64() * 1e3)
}

/// As `subtree` of `blocking/trees.rs`.
fn halves(first: u64, leaves: u64, steps: usize) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if leaves == 1 {
            return burn(first, steps);
        }
        let half = leaves / 2;
        let left = tokio::spawn(halves(first, half, steps));
        halves(first + half, leaves - half, steps).await + left.await.expect("a task panicked")
    })
}

/// Its channels have one sender and one receiver each, so they are Tokio's own.
async fn channel_tree(size: Size) -> Figures {
    let start = Instant::now();
    let mut handles = Vec::with_capacity(2 * size.tasks);
    let leaf = |_| {
        let (sender, receiver) = mpsc::channel::<u64>(16);
        handles.push(tokio::spawn(async move {
            for number in 0..size.rounds as u64 {
                sender.send(number).await.expect("the receiver is gone");
            }
            0
        }));
        receiver
    };
    let mut level: Vec<_> = (0..size.tasks).map(leaf).collect();
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len() / 2);
        let mut children = level.into_iter();
        while let (Some(mut left), Some(mut right)) = (children.next(), children.next()) {
            let (sender, receiver) = mpsc::channel::<u64>(16);
            handles.push(tokio::spawn(async move {
                for _ in 0..size.rounds {
                    let sum = receive(&mut left).await + receive(&mut right).await;
                    sender.send(sum).await.expect("the receiver is gone");
                }
                0
            }));
            above.push(receiver);
        }
        level = above;
    }
    for number in 0..size.rounds as u64 {
        assert_eq!(receive(&mut level[0]).await, number * size.tasks as u64);
    }
    join_all(handles).await;
    Figures::one("ns", ns_each(start, (2 * size.tasks - 1) * size.rounds))
}

async fn receive(receiver: &mut mpsc::Receiver<u64>) -> u64 {
    receiver.recv().await.expect("the sender sends all")
}

async fn park(size: Size) -> Figures {
    let before = memory();
    let start = Instant::now();
    let arrived = Arc::new(AtomicUsize::new(0));
    let released = Arc::new(Notify::new());
    let parking = |_| {
        let (arrived, released) = (Arc::clone(&arrived), Arc::clone(&released));
        tokio::spawn(async move {
            let waiting = released.notified();
            arrived.fetch_add(1, Ordering::Relaxed);
            waiting.await;
            1
        })
    };
    let handles: Vec<_> = (0..size.tasks).map(parking).collect();
    while arrived.load(Ordering::Relaxed) < size.tasks {
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let each = ns_each(start, size.tasks);
    let bytes = memory().saturating_sub(before) as f64 / size.tasks as f64;
    released.notify_waiters();
    assert_eq!(join_all(handles).await, size.tasks as u64);
    Figures::one("ns", each).and("bytes", bytes)
}

async fn timers(size: Size) -> Figures {
    let before = cpu_time();
    let lateness = Arc::new(Lateness::default());
    let sleeping = |n| {
        let lateness = Arc::clone(&lateness);
        let length = sleep_length(n, size);
        tokio::spawn(async move {
            let due = Instant::now() + length;
            tokio::time::sleep(length).await;
            lateness.record(due);
            1
        })
    };
    let handles: Vec<_> = (0..size.tasks).map(sleeping).collect();
    assert_eq!(join_all(handles).await, size.tasks as u64);
    lateness.figures(cpu_time() - before, size.tasks)
}

async fn hogs(size: Size, workers: usize) -> Figures {
    let distribution = Arc::new(Distribution::default());
    let sleeping = |_| {
        let distribution = Arc::clone(&distribution);
        tokio::spawn(async move {
            let mut late = Vec::with_capacity(size.rounds);
            for _ in 0..size.rounds {
                let due = Instant::now() + SHORT_SLEEP;
                tokio::time::sleep(SHORT_SLEEP).await;
                late.push(Distribution::micros_late(due));
            }
            distribution.add(&late);
            1
        })
    };
    let holding = |hog| {
        tokio::spawn(async move {
            tokio::time::sleep(before_a_hold(size.millis)).await;
            hold(hog, size.millis);
            1
        })
    };
    let handles: Vec<_> = (0..workers).map(holding).collect();
    let sleepers: Vec<_> = (0..size.tasks).map(sleeping).collect();
    let done = join_all(handles.into_iter().chain(sleepers)).await;
    assert_eq!(done, (workers + size.tasks) as u64);
    distribution.figures()
}
