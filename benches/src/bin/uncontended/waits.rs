//! Two green threads that wait for one another, in turns, on one worker: all of what they do is waits, the
//! wake-ups that end them, and changes from one thread to the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bine::channel;
use bine::sync::{
    Barrier, Condvar, Event, Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, watch,
};
use bine::thread;

use crate::Wait;
use crate::operations::{eight, select_of_eight};

/// Two threads that do `$first` and `$second` in each round, which have `$it` in common.
macro_rules! wait {
    ($name:literal, $each:literal, $made:expr, |$it:ident| $first:expr, $second:expr) => {{
        fn run(count: usize) {
            let made = Arc::new($made);
            let other = Arc::clone(&made);
            let second = bine::spawn(move || {
                let $it = &*other;
                (0..count).for_each(|_| $second);
            });
            let $it = &*made;
            (0..count).for_each(|_| $first);
            second.join().unwrap();
        }
        Wait { name: $name, each: $each, run }
    }};
}

/// The same for two ends of one kind: each side gives to the other and takes from it.
macro_rules! in_turns {
    ($name:literal, $make:expr, |$sender:ident, $receiver:ident| $send:expr, $receive:expr) => {{
        fn run(count: usize) {
            #[allow(unused_mut, reason = "some need it")]
            let [(there, mut at_second), (back, mut at_first)] = [$make, $make];
            let second = bine::spawn(move || {
                let ($sender, $receiver) = (&back, &mut at_second);
                for _ in 0..count {
                    $receive;
                    $send;
                }
            });
            let ($sender, $receiver) = (&there, &mut at_first);
            for _ in 0..count {
                $send;
                $receive;
            }
            second.join().unwrap();
        }
        Wait { name: $name, each: 2, run }
    }};
}

fn pair<T>(make: impl Fn() -> T) -> (Arc<T>, Arc<T>) {
    let made = Arc::new(make());
    (Arc::clone(&made), made)
}

pub(crate) static WAITS: &[Wait] = &[
    // Not a wait: the change of threads alone.
    wait!("yield_now", 2, (), |_it| thread::yield_now(), thread::yield_now()),
    Wait { name: "spawn, join", each: 1, run: |count| (0..count).for_each(|_| spawn_and_join(1)) },
    Wait {
        name: "spawn 100, join 100",
        each: 1,
        run: |count| (0..count / 100).for_each(|_| spawn_and_join(100)),
    },
    Wait { name: "park, unpark", each: 2, run: |count| parks(count, thread::park) },
    Wait {
        name: "park_timeout, unpark: with a timer set and cancelled",
        each: 2,
        run: |count| parks(count, || thread::park_timeout(Duration::from_secs(3600))),
    },
    wait!("Mutex", 2, Mutex::new(()), |it| hold(it.lock().unwrap()), hold(it.lock().unwrap())),
    wait!(
        "RwLock, write",
        2,
        RwLock::new(()),
        |it| hold(it.write().unwrap()),
        hold(it.write().unwrap())
    ),
    wait!(
        "Semaphore",
        2,
        Semaphore::new(1),
        |it| hold(it.acquire().unwrap()),
        hold(it.acquire().unwrap())
    ),
    wait!(
        "Condvar",
        2,
        (Mutex::new(false), Condvar::new()),
        |it| change(it, true),
        change(it, false)
    ),
    wait!("Barrier", 1, Barrier::new(2), |it| _ = it.wait(), _ = it.wait()),
    in_turns!("Event", pair(Event::new), |s, r| s.set(), {
        r.wait();
        r.reset();
    }),
    in_turns!("Notify", pair(Notify::new), |s, r| s.notify_one(), r.wait()),
    in_turns!("watch", watch::channel(()), |s, r| s.send(()).unwrap(), r.changed().unwrap()),
    in_turns!(
        "broadcast",
        broadcast::channel(1),
        |s, r| assert_eq!(s.send(()).unwrap(), 1),
        r.recv().unwrap()
    ),
    in_turns!("mpsc::channel", mpsc::channel(), |s, r| s.send(()).unwrap(), r.recv().unwrap()),
    in_turns!("unbounded", channel::unbounded(), |s, r| s.send(()).unwrap(), r.recv().unwrap()),
    in_turns!("bounded(1)", channel::bounded(1), |s, r| s.send(()).unwrap(), r.recv().unwrap()),
    in_turns!("bounded(0)", channel::bounded(0), |s, r| s.send(()).unwrap(), r.recv().unwrap()),
    in_turns!(
        "select! of 1, bounded(1)",
        channel::bounded(1),
        |s, r| s.send(()).unwrap(),
        channel::select! { recv(r) -> message => message.unwrap() }
    ),
    in_turns!(
        "select! of 8, bounded(16)",
        pair(eight),
        |s, r| s[3].0.send(1).unwrap(),
        select_of_eight(r)
    ),
];

/// Spawns so many at once, and joins them all.
fn spawn_and_join(count: u64) {
    let handles: Vec<_> = (0..count).map(|number| bine::spawn(move || number)).collect();
    let sum: u64 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
    assert_eq!(sum, count * (count - 1) / 2);
}

/// Two threads that wake each other in turns, `count` times each.
fn parks(count: usize, park: fn()) {
    let mine = Arc::new(AtomicBool::new(true));
    let (others, first) = (Arc::clone(&mine), thread::current());
    let wait_for = move |turn: &AtomicBool, mine| {
        while turn.load(Ordering::Acquire) != mine {
            park();
        }
    };
    let second = bine::spawn(move || {
        for _ in 0..count {
            wait_for(&others, false);
            others.store(true, Ordering::Release);
            first.unpark();
        }
    });
    for _ in 0..count {
        wait_for(&mine, true);
        mine.store(false, Ordering::Release);
        second.thread().unpark();
    }
    second.join().unwrap();
}

/// Holds the lock while the other comes to wait for it.
fn hold<T>(lock: T) {
    thread::yield_now();
    drop(lock);
}

/// Waits until it is not `to`, and changes that.
fn change((value, changed): &(Mutex<bool>, Condvar), to: bool) {
    let guard = value.lock().unwrap();
    let mut guard = changed.wait_while(guard, |now| *now == to).unwrap();
    *guard = to;
    drop(guard);
    changed.notify_one();
}
