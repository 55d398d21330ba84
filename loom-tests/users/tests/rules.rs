//! What `docs/model-checking.md` says of threads, panics, time and statics.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bine::channel::{self, RecvTimeoutError};
use bine::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use bine::sync::{Arc, LazyLock, Mutex, OnceLock, RwLock};
use bine::{model, thread};

bine::thread_local! {
    static NAME: RefCell<String> = RefCell::new("nobody".to_owned());
    static COUNT: Cell<u32> = const { Cell::new(1) };
}

#[test]
fn thread_locals_are_each_threads_own() {
    model(|| {
        NAME.with_borrow_mut(|name| name.push('!'));
        COUNT.set(7);
        let other = thread::spawn(|| (NAME.take(), COUNT.replace(2)));
        assert_eq!(other.join().unwrap(), ("nobody".to_owned(), 1));
        assert_eq!((NAME.take(), COUNT.get()), ("nobody!".to_owned(), 7));
    });
}

#[test]
fn statics_are_new_in_each_execution() {
    static LIST: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static LIMIT: RwLock<(u8, &str)> = RwLock::new((3, "three"));
    static ONCE: OnceLock<String> = OnceLock::new();
    static LAZY: LazyLock<Mutex<Vec<u32>>> = LazyLock::new(|| Mutex::new(vec![1]));
    static FLAG: AtomicBool = AtomicBool::new(true);
    static LEVEL: AtomicI32 = AtomicI32::new(-5);

    model(|| {
        let other = thread::spawn(|| {
            LIST.lock().unwrap().push("other".to_owned());
            ONCE.get_or_init(|| "other".to_owned());
            LAZY.lock().unwrap().push(2);
            LEVEL.fetch_max(-2, Ordering::Relaxed);
        });
        LIST.lock().unwrap().push("main".to_owned());
        let first = ONCE.get_or_init(|| "main".to_owned());
        assert!(first == "main" || first == "other");
        LEVEL.fetch_sub(1, Ordering::Relaxed);
        assert!(FLAG.swap(false, Ordering::Relaxed));
        other.join().unwrap();
        LIST.lock().unwrap().sort();
        assert_eq!(*LIST.lock().unwrap(), ["main", "other"]);
        assert_eq!(*LAZY.lock().unwrap(), [1, 2]);
        assert!([-3, -2].contains(&LEVEL.load(Ordering::Relaxed)));
        let mut limit = LIMIT.write().unwrap();
        assert_eq!(*limit, (3, "three"));
        *limit = (0, "none");
    });
}

#[test]
fn a_panic_comes_out_of_the_join_and_poisons() {
    model(|| {
        let lock = Arc::new(Mutex::new(0));
        let panics = {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                let _guard = lock.lock().unwrap();
                panic!("on purpose");
            })
        };
        // Poisoned or not yet.
        let _ = lock.lock();
        let payload = panics.join().unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
        assert!(lock.is_poisoned());
        assert!(!thread::panicking());
    });
}

#[cfg(bine_loom)]
#[test]
#[should_panic(expected = "nobody joined it: on purpose")]
fn a_panic_that_nobody_takes_fails_the_model() {
    model(|| drop(thread::spawn(|| panic!("on purpose"))));
}

#[test]
#[should_panic(expected = "a scoped thread panicked")]
fn a_scope_panics_for_its_threads() {
    model(|| {
        thread::scope(|scope| {
            scope.spawn(|| panic!("on purpose"));
        });
    });
}

#[cfg(bine_loom)]
#[test]
#[should_panic(expected = "is one too many")]
fn six_threads_are_too_many() {
    model(|| (0..5).map(|_| thread::spawn(|| ())).for_each(|thread| thread.join().unwrap()));
}

/// Collected over all executions, with std's own types.
fn outcomes<T: Ord + Send + Copy + 'static>(f: impl Fn() -> T + Send + Sync + 'static) -> Vec<T> {
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let sees = Arc::clone(&seen);
    model(move || {
        let outcome = f();
        sees.lock().unwrap().insert(outcome);
    });
    let seen = seen.lock().unwrap();
    seen.iter().copied().collect()
}

#[test]
fn a_message_comes_in_time_or_does_not() {
    let seen = outcomes(|| {
        let (sender, receiver) = channel::unbounded();
        let sends = thread::spawn(move || _ = sender.send(1));
        let result = receiver.recv_timeout(Duration::from_millis(5));
        sends.join().unwrap();
        assert_ne!(result, Err(RecvTimeoutError::Disconnected));
        result.is_ok()
    });
    assert!(!cfg!(bine_loom) || seen == [false, true]);
}

#[test]
fn a_park_ends_by_its_timeout_or_by_a_token() {
    let seen = outcomes(|| {
        let flag = Arc::new(AtomicBool::new(false));
        let (main, sets) = (thread::current(), Arc::clone(&flag));
        let other = thread::spawn(move || {
            sets.store(true, Ordering::Release);
            main.unpark();
        });
        thread::park_timeout(Duration::from_millis(5));
        let seen = flag.load(Ordering::Acquire);
        other.join().unwrap();
        seen
    });
    assert!(!cfg!(bine_loom) || seen == [false, true]);
}

#[test]
fn a_loop_around_a_timeout_ends() {
    model(|| {
        let (sender, receiver) = channel::bounded(1);
        let sends = thread::spawn(move || sender.send(1).unwrap());
        while receiver.recv_timeout(Duration::from_millis(1)).is_err() {}
        sends.join().unwrap();
    });
}

#[test]
fn a_select_takes_a_message_or_the_timeout() {
    let seen = outcomes(|| {
        let (sender, receiver) = channel::bounded(1);
        let sends = thread::spawn(move || _ = sender.send(1));
        let seen = bine::select! {
            recv(receiver) -> message => message == Ok(1),
            recv(channel::after(Duration::from_millis(5))) -> _ => false,
        };
        sends.join().unwrap();
        seen
    });
    assert!(!cfg!(bine_loom) || seen == [false, true]);
}

/// A release store and an acquire load hand the value on; a relaxed pair would not.
fn hand_on(store: Ordering) {
    model(move || {
        let (data, ready) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let sets = {
            let (data, ready) = (Arc::clone(&data), Arc::clone(&ready));
            thread::spawn(move || {
                data.store(7, Ordering::Relaxed);
                ready.store(true, store);
            })
        };
        if ready.load(Ordering::Acquire) {
            assert_eq!(data.load(Ordering::Relaxed), 7, "handed on");
        }
        sets.join().unwrap();
    });
}

#[test]
fn release_and_acquire_hand_a_value_on() {
    hand_on(Ordering::Release);
}

#[cfg(bine_loom)]
#[test]
#[should_panic(expected = "handed on")]
fn relaxed_does_not() {
    hand_on(Ordering::Relaxed);
}

#[test]
fn a_value_that_one_thread_owns_again() {
    model(|| {
        let mut number = AtomicUsize::new(3);
        let mut place = 5;
        let mut pointer = AtomicPtr::new(std::ptr::null_mut());
        thread::scope(|scope| {
            scope.spawn(|| number.fetch_or(4, Ordering::Relaxed));
            scope.spawn(|| pointer.store(&raw mut place, Ordering::Relaxed));
            number.fetch_add(8, Ordering::Relaxed);
        });
        *number.get_mut() += 1;
        assert_eq!(number.into_inner(), 16);
        assert_eq!(*pointer.get_mut(), &raw mut place);
    });
}

#[test]
fn a_runtime_of_ones_own_and_a_future() {
    model(|| {
        let runtime = bine::runtime::Builder::new().workers(2).build().unwrap();
        let sum = runtime.run(|| bine::spawn(|| 1).join().unwrap() + bine::blocking(|| 2));
        assert_eq!(sum, 3);
        assert_eq!(bine::block_on(async { 4 }), 4);
    });
}

#[test]
fn a_whole_program_with_its_main_function() {
    #[bine::main(workers = 3)]
    fn main() -> bine::io::Result<()> {
        use bine::io::Write;

        let this = bine::blocking(|| bine::fs::read("Cargo.toml"))?;
        let (sender, receiver) = channel::bounded(1);
        let other = thread::spawn(move || sender.send(this.len()));
        writeln!(bine::io::sink(), "{} bytes", receiver.recv().unwrap())?;
        bine::io::stdout().flush()?;
        other.join().unwrap().unwrap();
        Ok(())
    }

    model(|| assert_eq!(main(), bine::process::ExitCode::SUCCESS));
}
