//! Runs a model: one OS thread, loom on it, and what belongs to one execution.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::time::Instant;

use super::slot::{Pools, Sizes};
use super::statics;
use super::thread::{self, ThreadRef};
use crate::model::Settings;

/// How the OS thread of a model has ended.
enum Ended {
    /// loom has seen all there is within the bounds, in so many executions.
    Done(usize),
    /// A pool was too small. The search begins anew with these.
    Anew(Sizes),
    Failed(Failure),
}

/// What to panic with, and what to say.
struct Failure {
    payload: Box<dyn Any + Send>,
    executions: usize,
}

/// A panic of a thread that nobody has taken the result of.
struct Unclaimed {
    thread: u64,
    message: String,
}

/// What the OS thread of a model keeps.
struct Model {
    tell: mpsc::Sender<Ended>,
    pools: Pools,
    /// Whether it is a user's, or one of bine's own protocols, which has no panics to catch.
    users: bool,
    executions: Cell<usize>,
    /// Threads of this execution, the main thread included.
    threads: Cell<usize>,
    /// The closure has returned in this execution.
    is_over: Cell<bool>,
    /// Threads that unwind now. Meanwhile nothing is explored.
    unwinding: Cell<usize>,
    unclaimed: RefCell<Vec<Unclaimed>>,
    /// Where panics were seen that have been printed.
    printed: RefCell<Vec<(&'static str, u32, u32)>>,
    /// The message of the last panic of a user's.
    last: RefCell<String>,
    now: Cell<Instant>,
}

std::thread_local! {
    /// loom has panicked on this OS thread, and its failure was told.
    static DEAD: Cell<bool> = const { Cell::new(false) };
    /// The number of the execution that runs on this OS thread, 0 without one.
    static EXECUTION: Cell<u64> = const { Cell::new(0) };
    static MODEL: RefCell<Option<std::rc::Rc<Model>>> = const { RefCell::new(None) };
}

/// Models run one at a time: the statics are the process's.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn execution() -> u64 {
    EXECUTION.get()
}

fn model() -> Option<std::rc::Rc<Model>> {
    MODEL.with_borrow(Clone::clone)
}

/// Whether a user's model runs here.
pub(crate) fn is_users() -> bool {
    model().is_some_and(|model| model.users)
}

/// Explores `f` and returns the number of executions.
///
/// # Panics
///
/// With what an execution has panicked with.
pub(crate) fn check(settings: &Settings, users: bool, f: Arc<dyn Fn() + Send + Sync>) -> usize {
    assert!(execution() == 0, "a model cannot run in another one");
    install_hook();
    let _turn = users.then(|| TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let mut sizes = Sizes::new();
    let start = Instant::now();
    loop {
        match check_once(settings, users, sizes, Arc::clone(&f)) {
            Ended::Done(executions) => {
                if users {
                    println!("{executions} executions, {:.1} s", start.elapsed().as_secs_f64());
                }
                return executions;
            }
            Ended::Anew(larger) => sizes = larger,
            Ended::Failed(Failure { payload, executions }) => {
                eprintln!("the model failed in execution {executions}");
                panic::resume_unwind(payload);
            }
        }
    }
}

/// On an OS thread of its own, which goes to sleep for ever if the model fails.
fn check_once(
    settings: &Settings,
    users: bool,
    sizes: Sizes,
    f: Arc<dyn Fn() + Send + Sync>,
) -> Ended {
    let (tell, told) = mpsc::channel();
    let builder = settings.to_loom();
    let name = std::thread::current().name().unwrap_or("model").to_owned();
    let explores = move || {
        let model = std::rc::Rc::new(Model {
            tell,
            pools: Pools::new(sizes),
            users,
            executions: Cell::new(0),
            threads: Cell::new(0),
            is_over: Cell::new(false),
            unwinding: Cell::new(0),
            unclaimed: RefCell::default(),
            printed: RefCell::default(),
            last: RefCell::default(),
            now: Cell::new(Instant::now()),
        });
        MODEL.set(Some(std::rc::Rc::clone(&model)));
        let _log = crate::model::log();
        // A panic of a model of ours comes through here. The sender of it may live on in a stack
        // that loom has given up, so that the other side must be told.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            builder.check(move || run_execution(&*f));
        }));
        EXECUTION.set(0);
        MODEL.set(None);
        let executions = model.executions.get();
        let _ = model.tell.send(match ended {
            Ok(()) => Ended::Done(executions),
            Err(payload) => Ended::Failed(Failure { payload, executions }),
        });
    };
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(explores)
        .expect("cannot start the OS thread of a model");
    match told.recv() {
        Ok(ended @ Ended::Done(_)) => {
            let _ = thread.join();
            ended
        }
        Ok(ended) => ended,
        Err(_) => unreachable!("a model tells how it ends"),
    }
}

/// One execution, on its main thread.
fn run_execution(f: &(dyn Fn() + Send + Sync)) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let model = model().expect("set by the OS thread of the model");
    model.executions.set(model.executions.get() + 1);
    model.threads.set(1);
    model.is_over.set(false);
    model.unwinding.set(0);
    model.unclaimed.borrow_mut().clear();
    // SAFETY: all threads of the execution before have ended, and models run one at a time.
    unsafe { statics::restore() };
    // Relaxed: only uniqueness matters.
    EXECUTION.set(NEXT.fetch_add(1, Relaxed));
    model.pools.begin();
    thread::begin_main();
    if !model.users {
        return f();
    }
    let main = thread::this();
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(f)) {
        sleep_if_dead();
        fail(payload);
    }
    thread::end(&main);
    model.is_over.set(true);
    if let Some(unclaimed) = model.unclaimed.borrow().first() {
        fail(Box::new(unclaimed.message.clone()));
    }
}

/// Ends the model: its OS thread sleeps for ever, and whoever runs it panics with `payload`.
fn fail(payload: Box<dyn Any + Send>) -> ! {
    let model = model().expect("in a model");
    let executions = model.executions.get();
    end_with(&model, Ended::Failed(Failure { payload, executions }))
}

/// Gives the search up, since a pool has run out.
pub(super) fn begin_anew() -> ! {
    let model = model().expect("in a model");
    let sizes = model.pools.larger();
    end_with(&model, Ended::Anew(sizes))
}

fn tell_failure(model: &Model, payload: Box<dyn Any + Send>) {
    let executions = model.executions.get();
    let _ = model.tell.send(Ended::Failed(Failure { payload, executions }));
}

/// Ends the OS thread of a model in which loom has panicked, before a user's destructor runs. Where threads
/// wait.
pub(super) struct EndsHere;

impl Drop for EndsHere {
    fn drop(&mut self) {
        sleep_if_dead();
    }
}

/// Sleeps for ever if loom has panicked.
pub(super) fn sleep_if_dead() {
    while DEAD.get() {
        std::thread::park();
    }
}

fn end_with(model: &Model, ended: Ended) -> ! {
    let _ = model.tell.send(ended);
    loop {
        std::thread::park();
    }
}

/// Calls `f` with the pools, and whether the main thread is the only one so far.
pub(super) fn with_pools<R>(f: impl FnOnce(&Pools, bool) -> R) -> R {
    let model = model().expect("in a model");
    f(&model.pools, model.users && model.threads.get() == 1)
}

/// Counts a thread that is about to be spawned.
///
/// # Panics
///
/// If loom has no room for it.
#[track_caller]
pub(super) fn count_thread() {
    let Some(model) = model() else { return };
    let threads = model.threads.get() + 1;
    model.threads.set(threads);
    if threads > loom::MAX_THREADS {
        let place = Location::caller();
        let most = loom::MAX_THREADS;
        let message = format!(
            "a model has at most {most} threads in an execution, its main thread and those that have \
             ended included: the spawn at {place} is one too many"
        );
        eprintln!("{message}");
        fail(Box::new(message));
    }
}

/// Whether a thread other than `thread` unwinds.
pub(super) fn others_unwind(thread: &ThreadRef) -> bool {
    let own = usize::from(thread.panicking.get());
    model().is_some_and(|model| model.unwinding.get() > own)
}

/// The panic of `thread` was caught, and its destructors have run.
pub(super) fn stops_unwinding(thread: &ThreadRef) {
    let model = model().expect("in a model");
    if thread.panicking.replace(false) {
        model.unwinding.set(model.unwinding.get() - 1);
        if model.unwinding.get() == 0 {
            loom::explore();
        }
    }
}

/// A thread has ended with a panic. Nobody has taken it yet.
pub(super) fn panicked(thread: &ThreadRef) {
    stops_unwinding(thread);
    let model = model().expect("in a model");
    let name = thread.name.as_deref().unwrap_or("<unnamed>");
    let last = model.last.borrow();
    let message = format!("thread '{name}' of the model panicked, and nobody joined it: {last}");
    if model.is_over.get() {
        eprintln!("{message}");
        drop(last);
        fail(Box::new(message));
    }
    model.unclaimed.borrow_mut().push(Unclaimed { thread: thread.id, message });
}

/// Somebody has taken the panic of this thread.
pub(super) fn claim(thread: &ThreadRef) {
    if let Some(model) = model() {
        model.unclaimed.borrow_mut().retain(|unclaimed| unclaimed.thread != thread.id);
    }
}

pub(super) fn now() -> Instant {
    model().map_or_else(Instant::now, |model| model.now.get())
}

/// Time has passed up to `instant`.
pub(super) fn advance(instant: Instant) {
    if let Some(model) = model() {
        model.now.set(model.now.get().max(instant));
    }
}

/// Puts a hook before the one that is set.
///
/// loom's own panics - a deadlock, a race, too many branches - come from the middle of some operation.
/// They end the model on the spot, see the module above. A user's panic unwinds.
fn install_hook() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            match model().filter(|model| model.users && execution() != 0) {
                None => before(info),
                Some(model) => on_panic(&model, info, &*before),
            }
        }));
    });
}

fn on_panic(model: &Model, info: &PanicHookInfo<'_>, before: &dyn Fn(&PanicHookInfo<'_>)) {
    let place = info.location().expect("panics have a location");
    let message = info.payload_as_str().unwrap_or("Box<dyn Any>").to_owned();
    if is_looms(place) {
        before(info);
        // An assertion that fails in one thread may leave the others waiting, which is the less telling
        // of the two.
        match model.unwinding.get() {
            0 => tell_failure(model, Box::new(message)),
            _ => {
                let message = format!("{} (and then: {message})", model.last.borrow());
                tell_failure(model, Box::new(message));
            }
        }
        // Not here: std keeps its hook locked meanwhile.
        return DEAD.set(true);
    }
    let site = (place.file(), place.line(), place.column());
    let is_new = !model.printed.borrow().contains(&site);
    if is_new {
        model.printed.borrow_mut().push((leaked(place.file()), place.line(), place.column()));
        before(info);
    }
    *model.last.borrow_mut() = format!("{message} ({place})");
    let this = thread::this();
    if !this.panicking.replace(true) {
        // Interleavings with the destructors are not explored. What they wait for still runs.
        if model.unwinding.replace(model.unwinding.get() + 1) == 0 {
            loom::stop_exploring();
        }
    }
}

/// A panic's place outlives the program's run, but its type does not say so.
fn leaked(file: &str) -> &'static str {
    Box::leak(file.into())
}

fn is_looms(place: &Location<'_>) -> bool {
    let file = place.file();
    ["/loom-", "/loom/src/", "/generator-"].iter().any(|part| file.contains(part))
        && !file.contains("/loom-tests/")
}
