//! A thread whose operations never have to wait lets others run all the same. One worker, a thread
//! that does the same operation again and again, and a neighbour that has to get its turns before it
//! has been done very often. No time is involved.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bine::channel::{Receiver, Sender, bounded, unbounded};
use bine::net::{TcpListener, TcpStream};
use bine::sync::{Condvar, Mutex};
use bine::thread;
use harness::{Mode, bound};

/// How often the operation may be done until the neighbour has had its turns. The budget is smaller by
/// far.
const OPERATIONS: usize = 100_000;
/// The first turn of a thread, and later ones, are found in different queues.
const TURNS: usize = 3;

/// On the one worker of a runtime: makes an operation and does it until a neighbour has had its turns.
fn lets_others_run<O: FnMut()>(what: &str, make: impl Fn() -> O + Send + Sync + 'static) {
    let make = Arc::new(make);
    for mode in Mode::BOTH {
        let make = Arc::clone(&make);
        let _bound = bound(format_args!("{what} in {mode} mode"));
        let done = mode.runtime(1).run(move || {
            let mut operation = make();
            let turns = Arc::new(AtomicUsize::new(0));
            let had = Arc::clone(&turns);
            let neighbour = bine::spawn(move || {
                for _ in 0..TURNS {
                    had.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                }
            });
            let mut done = 0;
            while turns.load(Ordering::Relaxed) < TURNS && done < OPERATIONS {
                operation();
                done += 1;
            }
            neighbour.join().expect("no panic");
            done
        });
        println!("{mode}: {TURNS} turns of a neighbour during {done} times {what}");
        assert!(done < OPERATIONS, "{what} keeps the worker in {mode} mode");
    }
}

fn filled() -> (Sender<usize>, Receiver<usize>) {
    let (sender, receiver) = unbounded();
    (0..OPERATIONS).for_each(|number| sender.send(number).expect("there is a receiver"));
    (sender, receiver)
}

#[test]
fn sending_where_there_is_always_room() {
    lets_others_run("send, unbounded", || {
        let (sender, receiver) = unbounded();
        move || {
            sender.send(receiver.len()).expect("there is a receiver");
        }
    });
    lets_others_run("send, bounded", || {
        let (sender, receiver) = bounded(OPERATIONS);
        move || {
            sender.send(receiver.len()).expect("there is room");
        }
    });
    lets_others_run("try_send into a full channel", || {
        let (sender, receiver) = bounded(1);
        sender.send(0).expect("there is room");
        move || {
            sender.try_send(receiver.len()).expect_err("it is full");
        }
    });
    lets_others_run("send_timeout of nothing", || {
        let (sender, receiver) = bounded(1);
        sender.send(0).expect("there is room");
        move || {
            sender.send_timeout(receiver.len(), Duration::ZERO).expect_err("it is full");
        }
    });
    lets_others_run("send to nobody", || {
        let (sender, _) = bounded(1);
        move || {
            sender.send(0).expect_err("there is nobody");
        }
    });
    lets_others_run("try_send, rendezvous", || {
        let (sender, receiver) = bounded(0);
        move || {
            sender.try_send(receiver.len()).expect_err("there is nobody");
        }
    });
}

#[test]
fn receiving_what_is_always_there() {
    lets_others_run("recv, unbounded", || {
        let (_sender, receiver) = filled();
        move || {
            receiver.recv().expect("there are messages");
        }
    });
    lets_others_run("recv, bounded", || {
        let (sender, receiver) = bounded(OPERATIONS);
        (0..OPERATIONS).for_each(|number| sender.send(number).expect("there is room"));
        move || {
            receiver.recv().expect("there are messages");
        }
    });
    lets_others_run("iteration", || {
        let (_sender, receiver) = filled();
        move || {
            receiver.iter().next().expect("there are messages");
        }
    });
    lets_others_run("try_recv", || {
        let (sender, receiver) = unbounded::<()>();
        move || {
            receiver.try_recv().expect_err("nobody has sent anything");
            let _ = sender.len();
        }
    });
    lets_others_run("try_recv, rendezvous", || {
        let (sender, receiver) = bounded::<()>(0);
        move || {
            receiver.try_recv().expect_err("nobody has sent anything");
            let _ = sender.len();
        }
    });
    lets_others_run("recv_timeout of nothing", || {
        let (sender, receiver) = bounded::<()>(1);
        move || {
            receiver.recv_timeout(Duration::ZERO).expect_err("nobody has sent anything");
            let _ = sender.len();
        }
    });
    lets_others_run("recv from nobody", || {
        let (_, receiver) = bounded::<()>(1);
        move || {
            receiver.recv().expect_err("there is nobody");
        }
    });
}

#[test]
fn trying_to_lock_what_somebody_holds() {
    lets_others_run("try_lock", || {
        let mutex = Arc::new(Mutex::new(0));
        let held = Arc::clone(&mutex);
        let holder = bine::spawn(move || {
            let _guard = held.lock().expect("not poisoned");
            thread::park();
        });
        while mutex.try_lock().is_ok() {
            thread::yield_now();
        }
        let release = Releases(Some(holder));
        move || {
            mutex.try_lock().map(drop).expect_err("it is held");
            let _ = &release;
        }
    });
}

/// Ends a thread that is parked.
struct Releases(Option<thread::JoinHandle<()>>);

impl Drop for Releases {
    fn drop(&mut self) {
        let parked = self.0.take().expect("dropped once");
        parked.thread().unpark();
        parked.join().expect("no panic");
    }
}

#[test]
fn waiting_for_a_condition_for_no_time() {
    for timeout in [Duration::ZERO, Duration::from_nanos(1)] {
        lets_others_run("wait_timeout", move || {
            let (mutex, condvar) = (Mutex::new(()), Condvar::new());
            move || {
                let guard = mutex.lock().expect("not poisoned");
                drop(condvar.wait_timeout(guard, timeout).expect("not poisoned"));
            }
        });
    }
}

#[test]
fn parking_with_the_token_there() {
    lets_others_run("unpark and park", || {
        || {
            thread::current().unpark();
            thread::park();
        }
    });
    lets_others_run("unpark and park_timeout", || {
        || {
            thread::current().unpark();
            thread::park_timeout(Duration::MAX);
        }
    });
}

#[test]
fn waiting_for_no_time() {
    lets_others_run("park_timeout", || || thread::park_timeout(Duration::ZERO));
    lets_others_run("sleep", || || thread::sleep(Duration::ZERO));
    lets_others_run("sleep_until", || {
        let past = Instant::now();
        move || thread::sleep_until(past)
    });
}

#[test]
fn joining_what_has_ended() {
    lets_others_run("join", || {
        let mut ended: Vec<_> = (0..OPERATIONS).map(|_| bine::spawn(|| ())).collect();
        while !ended.iter().all(thread::JoinHandle::is_finished) {
            thread::yield_now();
        }
        move || ended.pop().expect("as many as operations").join().expect("no panic")
    });
}

#[test]
fn spawning_and_joining() {
    lets_others_run("spawn and join", || || bine::spawn(|| ()).join().expect("no panic"));
}

#[test]
fn waiting_for_futures_that_are_ready() {
    lets_others_run("block_on", || || bine::block_on(async {}));
}

#[test]
fn blocking_calls() {
    lets_others_run("blocking", || || bine::blocking(|| ()));
}

/// A connection; what one side writes the other one reads.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    (client, server)
}

#[test]
fn reading_and_writing_what_is_ready() {
    lets_others_run("write and read", || {
        let (mut client, mut server) = connection();
        move || {
            client.write_all(b"x").expect("written");
            let mut buffer = [0];
            server.read_exact(&mut buffer).expect("read");
            assert_eq!(&buffer, b"x");
        }
    });
    lets_others_run("peek", || {
        let (mut client, server) = connection();
        client.write_all(b"x").expect("written");
        move || {
            assert_eq!(server.peek(&mut [0]).expect("read"), 1);
            let _ = &client;
        }
    });
    lets_others_run("read at the end", || {
        let (_, mut server) = connection();
        move || assert_eq!(server.read(&mut [0]).expect("the end"), 0)
    });
    lets_others_run("read without waiting", || {
        let (client, mut server) = connection();
        server.set_nonblocking(true).expect("an option");
        move || {
            let error = server.read(&mut [0]).expect_err("there is nothing");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let _ = &client;
        }
    });
}

#[test]
fn accepting_without_waiting() {
    lets_others_run("accept", || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("an option");
        move || {
            let error = listener.accept().expect_err("there is nobody");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn accepting_those_who_are_there() {
    /// As many as fit into a listener's queue everywhere, and many more than the budget.
    const CLIENTS: usize = 400;
    lets_others_run("connect and accept", || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("an address");
        let mut clients = Vec::new();
        move || {
            while clients.len() > CLIENTS {
                clients.pop();
            }
            clients.push(TcpStream::connect(address).expect("connect"));
            clients.push(listener.accept().expect("there is one").0);
        }
    });
}
