//! `Select`, `select!` and the receivers without senders: what crossbeam-channel promises.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bine_sync::channel::{
    Receiver, RecvError, RecvTimeoutError, Select, SendError, Sender, TryRecvError, after, at,
    bounded, never, select, select_biased, tick, unbounded,
};

const MS: Duration = Duration::from_millis(1);

#[test]
fn receivers_without_senders() {
    let far = after(Duration::from_secs(1000));
    assert_eq!((far.len(), far.capacity(), far.is_full()), (0, Some(1), false));
    assert_eq!(far.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(far.recv_timeout(MS), Err(RecvTimeoutError::Timeout));

    let when = Instant::now() + 20 * MS;
    let once = at(when);
    let other = once.clone();
    assert!(once.same_channel(&other) && !once.same_channel(&at(when)));
    assert_eq!(other.recv(), Ok(when));
    assert!(Instant::now() >= when);
    assert_eq!(once.recv_timeout(MS), Err(RecvTimeoutError::Timeout), "the message was shared");
    assert!(once.is_empty());

    let past = at(when);
    assert_eq!((past.len(), past.is_empty(), past.is_full()), (1, false, true));
    assert_eq!(past.try_iter().collect::<Vec<_>>(), [when]);

    let nothing = never::<u8>();
    assert_eq!((nothing.len(), nothing.capacity(), nothing.is_full()), (0, Some(0), true));
    assert_eq!(nothing.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(nothing.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
    assert!(nothing.same_channel(&never()) && !nothing.same_channel(&unbounded().1));

    assert_eq!(after(Duration::MAX).recv_timeout(MS), Err(RecvTimeoutError::Timeout));
    assert_eq!(tick(Duration::MAX).recv_timeout(MS), Err(RecvTimeoutError::Timeout));
    static EMPTY: Receiver<u8> = never();
    assert!(EMPTY.is_empty());
}

#[test]
fn ticks_do_not_pile_up() {
    let far = tick(Duration::from_secs(1000));
    assert_eq!((far.len(), far.capacity(), far.is_full()), (0, Some(1), false));
    assert_eq!(far.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(far.recv_timeout(MS), Err(RecvTimeoutError::Timeout));

    let period = 5 * MS;
    let start = Instant::now();
    let ticks = tick(period);
    let first = ticks.recv().unwrap();
    assert!(first >= start + period && first <= Instant::now());
    assert!(ticks.recv().unwrap() >= first + period);
    thread::sleep(4 * period);
    assert_eq!((ticks.len(), ticks.is_full()), (1, true));
    let taken = Instant::now();
    assert!(ticks.try_recv().unwrap() < taken, "when it was due");
    let missed = ticks.try_recv();
    assert!(missed.is_err() || taken.elapsed() >= period, "those that were missed do not come");
    assert!(ticks.recv().unwrap() >= taken + period);
}

#[test]
fn a_cancelled_receiver_gives_its_tick_back() {
    let ticks = tick(200 * MS);
    let sleeper = {
        let ticks = ticks.clone();
        bine_runtime::spawn(move || ticks.recv())
    };
    bine_runtime::run(bine_runtime::thread::yield_now);
    sleeper.cancel().unwrap();
    let start = Instant::now();
    let cancelled = sleeper.join().is_err();
    let due = ticks.recv().unwrap();
    assert!(!cancelled || due <= start + 200 * MS);
}

#[test]
fn what_is_ready_is_chosen_and_completed() {
    let (s1, r1) = unbounded();
    let (s2, r2) = bounded(1);
    let (s3, r3) = bounded::<i32>(0);
    let mut select = Select::new();
    assert_eq!((select.recv(&r1), select.send(&s2), select.recv(&r3)), (0, 1, 2));
    let operation = select.try_select().unwrap();
    assert_eq!(operation.index(), 1, "there is room");
    assert_eq!(operation.send(&s2, 5), Ok(()));
    assert!(select.try_select().is_err() && select.try_ready().is_err());
    assert!(select.select_timeout(MS).is_err() && select.ready_timeout(MS).is_err());
    assert!(select.select_deadline(Instant::now()).is_err());
    s1.send(7).unwrap();
    assert_eq!((select.ready(), select.try_ready()), (0, Ok(0)));
    assert_eq!(select.select().recv(&r1), Ok(7));
    drop(s1);
    assert_eq!(select.select().recv(&r1), Err(RecvError));
    select.remove(0);
    drop(s3);
    assert_eq!(select.ready(), 2, "an end is to be seen");
    select.remove(2);
    assert!(select.clone().try_select().is_err());
    assert_eq!(r2.recv(), Ok(5));
    drop(r2);
    let operation = select.select();
    assert_eq!(operation.send(&s2, 9), Err(SendError(9)));
    assert_eq!(format!("{select:?}"), "Select { .. }");
}

/// Which panics, with which message.
fn panics_with<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(f()))).expect_err("it panics");
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn what_is_wrong_panics() {
    let (s, r) = bounded(1);
    let other = (s.clone(), r.clone());
    let empty = "no operations have been added to `Select`";
    assert_eq!(panics_with(|| Select::new().select().index()), empty);
    assert_eq!(panics_with(|| Select::new().ready()), empty);
    assert_eq!(panics_with(|| Select::new().remove(0)), "index out of bounds; 0 >= 0");
    let mut select = Select::new();
    let index = select.send(&s);
    select.remove(index);
    assert_eq!(panics_with(|| select.remove(index)), "no operation with this index");
    select.send(&s);
    let wrong = panics_with(|| select.select().send(&other.0, 1));
    assert_eq!(wrong, "passed a sender that wasn't selected");
    let dropped = panics_with(|| drop(select.select()));
    assert_eq!(dropped, "dropped `SelectedOperation` without completing the operation");
    assert_eq!(s.try_send(1), Ok(()), "the place was given back both times");
    let mut select = Select::new();
    select.recv(&r);
    let wrong = panics_with(|| select.select().recv(&other.1));
    assert_eq!(wrong, "passed a receiver that wasn't selected");
    assert_eq!(r.try_recv(), Ok(1), "the message was given back");
}

/// What was reserved cannot be had by others, and can be had again when it is given back.
#[test]
fn a_claim_is_a_claim() {
    for (s, r) in [bounded(2), unbounded()] {
        s.send(1).unwrap();
        s.send(2).unwrap();
        let mut select = Select::new();
        select.recv(&r);
        let first = select.select();
        assert_eq!(r.try_recv(), Ok(1), "one is left for others");
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        assert!(select.try_select().is_err());
        assert_eq!(r.recv_timeout(MS), Err(RecvTimeoutError::Timeout));
        assert_eq!(first.recv(&r), Ok(2));

        s.send(3).unwrap();
        let second = select.select();
        let waits = thread::spawn({
            let r = r.clone();
            move || r.recv()
        });
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _second = second;
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(unwound.is_err());
        assert_eq!(waits.join().unwrap(), Ok(3));
    }
    let (s, r) = bounded(2);
    let mut select = Select::new();
    select.send(&s);
    let (first, second) = (select.select(), select.select());
    assert!(s.try_send(0).unwrap_err().is_full() && select.try_select().is_err());
    assert_eq!((second.send(&s, 1), first.send(&s, 2)), (Ok(()), Ok(())));
    assert_eq!((r.try_recv(), r.try_recv()), (Ok(1), Ok(2)));
    std::mem::forget(select.select());
    assert_eq!((s.try_send(1), s.try_send(2).is_err()), (Ok(()), true), "forgotten, and so taken");
}

#[test]
fn a_forgotten_claim_does_not_keep_messages() {
    let alive = Arc::new(());
    for (s, r) in [bounded(200), unbounded()] {
        (0..100).for_each(|_| s.send(alive.clone()).unwrap());
        for _ in 0..50 {
            let mut select = Select::new();
            select.recv(&r);
            std::mem::forget(select.select());
        }
        drop(r);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn a_select_does_not_meet_itself() {
    let (s, r) = bounded::<i32>(0);
    let met = select! {
        send(s, 1) -> _ => true,
        recv(r) -> _ => true,
        default(10 * MS) => false,
    };
    assert!(!met);
    let mut select = Select::new();
    select.send(&s);
    select.recv(&r);
    assert!(select.ready_timeout(MS).is_err());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut select = Select::new();
            let send = select.send(&s);
            select.recv(&r);
            let operation = select.select();
            match operation.index() == send {
                true => operation.send(&s, 1).unwrap(),
                false => assert_eq!(operation.recv(&r), Ok(2)),
            }
        });
        select! {
            send(s, 2) -> sent => assert_eq!(sent, Ok(())),
            recv(r) -> message => assert_eq!(message, Ok(1)),
        }
    });
}

#[test]
fn all_arms_get_their_turn_unless_biased() {
    let channels: Vec<(Sender<()>, Receiver<()>)> = (0..3).map(|_| unbounded()).collect();
    const ROUNDS: usize = 3_000;
    for (sender, _) in &channels {
        (0..ROUNDS).for_each(|_| sender.send(()).unwrap());
    }
    let hits: [Cell<usize>; 3] = Default::default();
    for _ in 0..ROUNDS {
        select! {
            recv(channels[0].1) -> _ => hits[0].set(hits[0].get() + 1),
            recv(channels[1].1) -> _ => hits[1].set(hits[1].get() + 1),
            recv(channels[2].1) -> _ => hits[2].set(hits[2].get() + 1),
        }
    }
    // A third each; for less than a fourth the odds are below 1e-20.
    assert!(hits.iter().all(|hits| hits.get() > ROUNDS / 4), "{hits:?}");
    for _ in 0..100 {
        select_biased! {
            recv(never::<()>()) -> _ => unreachable!(),
            recv(channels[1].1) -> _ => {}
            recv(channels[0].1) -> _ => unreachable!(),
        }
    }
}

#[test]
fn a_select_in_all_its_forms() {
    let (s, r) = unbounded::<i32>();
    let waits = || select! { recv(r) -> message => message.unwrap(), default => -1 };
    assert_eq!(waits(), -1);
    s.send(1).unwrap();
    assert_eq!(waits(), 1);
    assert_eq!(select! { default => 3 }, 3);
    assert_eq!(select! { default(MS) => 3, }, 3);
    assert_eq!(select! { default() => { 3 } }, 3);

    // References, temporaries, what dereferences, and nested ones.
    let shared = Arc::new(r.clone());
    let none: [&Receiver<i32>; 0] = [];
    s.send(2).unwrap();
    select! {
        recv(none.first().unwrap_or(&&never())) -> _ => unreachable!(),
        recv(&never::<String>(),) -> _text => unreachable!(),
        recv(shared) -> message => select! {
            recv(r) -> _ => unreachable!(),
            send({ &s }, message.unwrap() + 1) -> sent => sent.unwrap(),
        },
        default(Duration::from_secs(100)) => unreachable!()
    }
    assert_eq!(r.recv(), Ok(3));

    // Bodies that leave, and that take the channels with them.
    let mut rounds = 0;
    let kept = 'outer: loop {
        select! {
            send(s, rounds) -> _ => { rounds += 1; if rounds < 3 { continue } }
            default => return,
        }
        loop {
            select! {
                recv(r) -> message => match message {
                    Ok(2) => break 'outer (s, r),
                    Ok(_) => {}
                    Err(_) => break,
                },
            }
        }
    };
    let (s, r) = kept;
    select! {
        recv(r) -> _ => drop(r),
        default => drop((s, r)),
    }
}

#[test]
fn the_message_is_made_when_it_is_sent_and_only_then() {
    let (s, r) = bounded(1);
    let made = Cell::new(0);
    let make = || {
        made.set(made.get() + 1);
        made.get()
    };
    for _ in 0..3 {
        select! { send(s, make()) -> sent => sent.unwrap(), default => {} }
    }
    assert_eq!((made.get(), r.try_recv()), (1, Ok(1)));

    let fails = || -> Option<()> {
        select! { send(s, None?) -> sent => sent.ok() }
    };
    assert_eq!(fails(), None);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let unwinds = || std::panic::resume_unwind(Box::new(()));
        select! { send(s, unwinds()) -> _ => {} }
    }));
    assert!(panics.is_err());
    assert_eq!((s.try_send(4), s.len()), (Ok(()), 1), "the place was not lost");
}

/// A sender that selects, is met, and then does not send: the receiver waits on.
#[test]
fn a_receiver_survives_a_sender_that_thinks_better_of_it() {
    let (s, r) = bounded::<i32>(0);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| r.recv());
        let fails = || -> Option<()> {
            select! { send(s, None?) -> sent => sent.ok() }
        };
        assert_eq!(fails(), None);
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(s.send(5), Ok(()));
        assert_eq!(receiver.join().unwrap(), Ok(5));
    });
    thread::scope(|scope| {
        let selects = scope.spawn(|| select! { recv(r) -> message => message });
        let fails = || -> Option<()> {
            select! { send(s, None?) -> sent => sent.ok() }
        };
        assert_eq!(fails(), None);
        // Nobody but the select waits.
        while s.try_send(6).is_err() {
            thread::yield_now();
        }
        assert_eq!(selects.join().unwrap(), Ok(6));
    });
}

#[test]
fn a_message_that_a_select_gives_back_goes_to_the_next() {
    let (s, r) = bounded(0);
    thread::scope(|scope| {
        let sender = scope.spawn(|| s.send(String::from("kept")));
        let mut select = Select::new();
        select.recv(&r);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(select.select()))).is_err());
        sender.join().unwrap().unwrap();
        assert_eq!(select.ready(), 0);
        assert_eq!(r.recv().as_deref(), Ok("kept"));
    });
    let due = at(Instant::now());
    let mut select = Select::new();
    select.recv(&due);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(select.select()))).is_err());
    assert!(due.try_recv().is_ok());
}

#[test]
fn ready_wakes_for_a_partner() {
    let (s, r) = bounded::<i32>(0);
    thread::scope(|scope| {
        scope.spawn(|| s.send(1));
        let mut select = Select::new();
        select.recv(&r);
        while r.try_recv() != Ok(1) {
            assert_eq!(select.ready(), 0);
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(r.recv(), Ok(2)));
        let mut select = Select::new();
        select.send(&s);
        while s.try_send(2).is_err() {
            assert_eq!(select.ready(), 0);
        }
    });
}

/// A watcher that was notified takes nothing, and so must not keep the notification to itself.
#[test]
fn a_watcher_keeps_nobody_waiting() {
    for (s, r) in [bounded(1), unbounded()] {
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut select = Select::new();
                    select.recv(&r);
                    assert_eq!(select.ready_timeout(Duration::from_secs(100)), Ok(0));
                });
            }
            let receiver = scope.spawn(|| r.recv());
            s.send(1).unwrap();
            // The message may be taken before the watchers have seen it.
            assert_eq!(receiver.join().unwrap(), Ok(1));
            s.send(2).unwrap();
        });
    }
}

struct PanicsWhenDropped(Arc<AtomicUsize>);

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::panic::resume_unwind(Box::new(()));
    }
}

#[test]
fn a_message_that_panics_when_dropped_leaks_the_rest() {
    for (s, r) in [bounded(3), unbounded()] {
        let dropped = Arc::new(AtomicUsize::new(0));
        (0..3).for_each(|_| assert!(s.send(PanicsWhenDropped(dropped.clone())).is_ok()));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(r))).is_err());
        drop(s);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}

#[test]
#[should_panic(expected = "capacity overflow")]
fn an_enormous_capacity() {
    drop(bounded::<u8>(usize::MAX));
}

/// More arms than the documentation of crossbeam allows.
#[test]
fn forty_arms() {
    let (s, r) = unbounded();
    s.send(1).unwrap();
    let n = never::<i32>();
    let found = select! {
        recv(n) -> _ => 1, recv(n) -> _ => 2, recv(n) -> _ => 3, recv(n) -> _ => 4,
        recv(n) -> _ => 5, recv(n) -> _ => 6, recv(n) -> _ => 7, recv(n) -> _ => 8,
        recv(n) -> _ => 9, recv(n) -> _ => 10, recv(n) -> _ => 11, recv(n) -> _ => 12,
        recv(n) -> _ => 13, recv(n) -> _ => 14, recv(n) -> _ => 15, recv(n) -> _ => 16,
        recv(n) -> _ => 17, recv(n) -> _ => 18, recv(n) -> _ => 19, recv(n) -> _ => 20,
        recv(n) -> _ => 21, recv(n) -> _ => 22, recv(n) -> _ => 23, recv(n) -> _ => 24,
        recv(n) -> _ => 25, recv(n) -> _ => 26, recv(n) -> _ => 27, recv(n) -> _ => 28,
        recv(n) -> _ => 29, recv(n) -> _ => 30, recv(n) -> _ => 31, recv(n) -> _ => 32,
        recv(n) -> _ => 33, recv(n) -> _ => 34, recv(n) -> _ => 35, recv(n) -> _ => 36,
        recv(n) -> _ => 37, recv(n) -> _ => 38, recv(n) -> _ => 39, recv(r) -> _ => 40,
        default(Duration::from_secs(100)) => 0,
    };
    assert_eq!(found, 40);
}

/// The names in the macro are its own.
#[test]
#[deny(warnings)]
fn hygiene() {
    let (s, r) = unbounded();
    let (channel, selected, index) = (1, 2, 3);
    #[allow(dead_code)]
    struct Some;
    #[allow(dead_code)]
    fn drop() {}
    let sum = select! {
        send(s, channel + selected + index) -> sent => {
            sent.unwrap();
            channel + r.recv().unwrap() + selected + index
        }
    };
    assert_eq!(sum, 12);
}
