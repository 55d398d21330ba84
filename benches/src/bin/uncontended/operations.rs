//! Operations that find nobody in their way.
//!
//! Every contender of the locks adds one to the number that it locks, and so does "no lock", whose cost
//! is in all of the others. parking_lot's locks know no poisoning: std's and bine's look twice whether
//! the thread is panicking, and once whether the lock is poisoned.

use std::hint::black_box;

use bine::channel::{self, select};
use bine::coroutine::{Coroutine, Yielder};
use bine::sync::{
    Barrier, Condvar, Event, LazyLock, Mutex, Notify, Once, OnceLock, RwLock, Semaphore, WaitGroup,
    broadcast, mpsc, oneshot, watch,
};

use crate::{Groups, Operation};

/// Evaluates `$do` again and again, with `$it` bound to a mutable reference to `$made`.
macro_rules! operation {
    ($name:literal, $made:expr, |$it:ident| $do:expr) => {{
        #[inline(never)]
        #[allow(
            clippy::mut_mutex_lock,
            reason = "the compiler is not to know that nobody else has it"
        )]
        fn run(count: usize) {
            let mut made = $made;
            for _ in 0..count {
                let $it = black_box(&mut made);
                $do;
            }
            black_box(&made);
        }
        Operation { name: $name, run }
    }};
}

/// The same for what is done to nothing but a thing of its own.
macro_rules! alone {
    ($name:literal, $do:expr) => {
        operation!($name, (), |it| {
            let () = *it;
            black_box($do);
        })
    };
}

/// Locking, adding one and unlocking.
pub(crate) static LOCKS: &Groups = &[
    &[
        operation!("no lock", 0_u64, |number| *number += 1),
        operation!("bine::sync::Mutex", Mutex::new(0_u64), |lock| *lock.lock().unwrap() += 1),
        operation!("parking_lot::Mutex", parking_lot::Mutex::new(0_u64), |lock| *lock.lock() += 1),
        operation!("std::sync::Mutex", std::sync::Mutex::new(0_u64), |lock| {
            *lock.lock().unwrap() += 1
        }),
    ],
    &[
        operation!("no lock, write", 0_u64, |number| *number += 1),
        operation!("bine::sync::RwLock, write", RwLock::new(0_u64), |lock| {
            *lock.write().unwrap() += 1
        }),
        operation!("parking_lot::RwLock, write", parking_lot::RwLock::new(0_u64), |lock| {
            *lock.write() += 1
        }),
        operation!("std::sync::RwLock, write", std::sync::RwLock::new(0_u64), |lock| {
            *lock.write().unwrap() += 1
        }),
    ],
    &[
        operation!("no lock, read", 0_u64, |number| black_box(*number)),
        operation!("bine::sync::RwLock, read", RwLock::new(0_u64), |lock| {
            black_box(*lock.read().unwrap())
        }),
        operation!("parking_lot::RwLock, read", parking_lot::RwLock::new(0_u64), |lock| {
            black_box(*lock.read())
        }),
        operation!("std::sync::RwLock, read", std::sync::RwLock::new(0_u64), |lock| {
            black_box(*lock.read().unwrap())
        }),
    ],
];

pub(crate) static OTHERS: &Groups = &[
    &[
        operation!("nothing", (), |it| black_box(it)),
        operation!("Mutex: try_lock, unlock", Mutex::new(0_u64), |lock| {
            black_box(*lock.try_lock().unwrap())
        }),
        operation!("Condvar: notify_one, nobody waits", Condvar::new(), |it| it.notify_one()),
        operation!("Condvar: notify_all, nobody waits", Condvar::new(), |it| it.notify_all()),
        operation!("Barrier: wait, for nobody", Barrier::new(1), |it| black_box(it.wait())),
        operation!("Once: call_once, done", done(), |it| it.call_once(|| unreachable!())),
        operation!("OnceLock: get_or_init, there", OnceLock::from(1_u64), |it| {
            black_box(*it.get_or_init(|| unreachable!()))
        }),
        operation!("LazyLock: deref, there", made(), |it| black_box(**it)),
        operation!("Semaphore: acquire, give back", Semaphore::new(1), |it| {
            drop(it.acquire().unwrap())
        }),
        operation!("WaitGroup: clone, drop", WaitGroup::new(), |it| drop(it.clone())),
        operation!("Event: is_set", Event::new(), |it| black_box(it.is_set())),
        operation!("Event: set, wait, reset", Event::new(), |it| {
            it.set();
            it.wait();
            it.reset();
        }),
        operation!("Notify: notify_one, wait", Notify::new(), |it| {
            it.notify_one();
            it.wait();
        }),
        alone!("oneshot: channel, send, recv, drop", {
            let (sender, receiver) = oneshot::channel();
            sender.send(1_u64).unwrap();
            receiver.recv().unwrap()
        }),
        operation!("watch: send", watch::channel(0_u64), |it| it.0.send(1).unwrap()),
        operation!("watch: borrow", watch::channel(0_u64), |it| black_box(*it.1.borrow())),
        operation!("watch: has_changed", watch::channel(0_u64), |it| {
            black_box(it.1.has_changed().unwrap())
        }),
        operation!("broadcast: send, recv", broadcast::channel(16), |it| {
            it.0.send(1_u64).unwrap();
            black_box(it.1.recv().unwrap());
        }),
    ],
    &[
        operation!("nothing resumed", (), |it| black_box(it)),
        operation!("Coroutine: resume, suspend", doubling(), |it| black_box(it.resume(1))),
        alone!("Coroutine: new, resume, drop", {
            Coroutine::<u64, (), u64>::new(|_: &_, number| 2 * number).resume(1)
        }),
    ],
    &[
        operation!("nothing sent", (), |it| black_box(it)),
        operation!("mpsc::channel: send, recv", mpsc::channel(), |it| {
            it.0.send(1_u64).unwrap();
            black_box(it.1.recv().unwrap());
        }),
        operation!("mpsc::sync_channel: send, recv", mpsc::sync_channel(16), |it| {
            it.0.send(1_u64).unwrap();
            black_box(it.1.recv().unwrap());
        }),
        operation!("unbounded: send, recv", channel::unbounded(), |it| {
            it.0.send(1_u64).unwrap();
            black_box(it.1.recv().unwrap());
        }),
        operation!("bounded: send, recv", channel::bounded(16), |it| {
            it.0.send(1_u64).unwrap();
            black_box(it.1.recv().unwrap());
        }),
        operation!("bounded: try_recv, empty", channel::bounded::<u64>(16), |it| {
            black_box(it.1.try_recv().is_err())
        }),
        operation!("bounded(0): try_send, nobody waits", channel::bounded(0), |it| {
            black_box(it.0.try_send(1_u64).is_err())
        }),
        operation!("never: try_recv", channel::never::<u64>(), |it| {
            black_box(it.try_recv().is_err())
        }),
        operation!("bounded: clone and drop a sender", channel::bounded::<u64>(16), |it| {
            drop(it.0.clone())
        }),
        operation!("bounded: send, recv by select! of 1", channel::bounded(16), |it| {
            it.0.send(1_u64).unwrap();
            select! { recv(it.1) -> message => black_box(message.unwrap()) };
        }),
        operation!("bounded: send, recv by select! of 8", eight(), |it| {
            it[3].0.send(1_u64).unwrap();
            select_of_eight(it);
        }),
        operation!("bounded: select! of 8 with default, all empty", eight(), |it| {
            select! {
                recv(it[0].1) -> _ => unreachable!(),
                recv(it[1].1) -> _ => unreachable!(),
                recv(it[2].1) -> _ => unreachable!(),
                recv(it[3].1) -> _ => unreachable!(),
                recv(it[4].1) -> _ => unreachable!(),
                recv(it[5].1) -> _ => unreachable!(),
                recv(it[6].1) -> _ => unreachable!(),
                recv(it[7].1) -> _ => unreachable!(),
                default => {}
            }
        }),
    ],
];

fn doubling() -> Coroutine<u64, u64, ()> {
    Coroutine::new(|yielder: &Yielder<u64, u64>, mut number| {
        loop {
            number = yielder.suspend(2 * number);
        }
    })
}

fn done() -> Once {
    let once = Once::new();
    once.call_once(|| ());
    once
}

fn made() -> LazyLock<u64> {
    let lazy: LazyLock<u64> = LazyLock::new(|| 1);
    LazyLock::force(&lazy);
    lazy
}

type Eight = [(channel::Sender<u64>, channel::Receiver<u64>); 8];

pub(crate) fn eight() -> Eight {
    std::array::from_fn(|_| channel::bounded(16))
}

/// Receives from whichever of eight has a message.
pub(crate) fn select_of_eight(it: &Eight) {
    select! {
        recv(it[0].1) -> message => black_box(message.unwrap()),
        recv(it[1].1) -> message => black_box(message.unwrap()),
        recv(it[2].1) -> message => black_box(message.unwrap()),
        recv(it[3].1) -> message => black_box(message.unwrap()),
        recv(it[4].1) -> message => black_box(message.unwrap()),
        recv(it[5].1) -> message => black_box(message.unwrap()),
        recv(it[6].1) -> message => black_box(message.unwrap()),
        recv(it[7].1) -> message => black_box(message.unwrap()),
    };
}
