//! The alternate signal stack of an OS thread: set up once, and taken down at the end of the thread
//! without harm to what others have declared. Each test has a process to itself: it looks at what is
//! mapped where.

mod child;

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::sync::Mutex;
use std::thread;

use bine_arch::overflow::protect_thread;

/// What the handler of an overflow and those that it forwards to can count on.
const LEAST: usize = 32 << 10;

fn in_force() -> libc::stack_t {
    // SAFETY: reads the declaration of the calling thread into a value for which zeros are fine.
    unsafe {
        let mut stack = mem::zeroed();
        assert_eq!(libc::sigaltstack(ptr::null(), &raw mut stack), 0);
        stack
    }
}

fn declare(stack: &libc::stack_t) {
    // SAFETY: the callers declare memory that lives as long as it is in force.
    assert_eq!(unsafe { libc::sigaltstack(stack, ptr::null_mut()) }, 0);
}

fn is_mapped(address: *mut c_void) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(start)..number(end)).contains(&address.addr())
    })
}

fn memory(size: usize) -> libc::stack_t {
    let memory: &'static mut [u8] = Vec::leak(vec![0; size]);
    libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: size }
}

#[test]
fn a_thread_gets_one_with_room() {
    if !child::is_child() {
        return child::run_to_success("a_thread_gets_one_with_room", &[]);
    }
    thread::spawn(|| {
        let before = in_force();
        protect_thread();
        let ours = in_force();
        assert_eq!(ours.ss_flags, 0);
        assert!(ours.ss_size >= LEAST, "{} bytes", ours.ss_size);
        assert_ne!(ours.ss_sp, before.ss_sp);
        // Its guard.
        assert!(is_mapped(ours.ss_sp.wrapping_byte_sub(1)));
        protect_thread();
        assert_eq!(in_force().ss_sp, ours.ss_sp);
    })
    .join()
    .unwrap();
}

#[test]
fn one_with_room_is_left_in_force() {
    if !child::is_child() {
        return child::run_to_success("one_with_room_is_left_in_force", &[]);
    }
    thread::spawn(|| {
        let (std, theirs) = (in_force(), memory(256 << 10));
        declare(&theirs);
        protect_thread();
        assert_eq!(in_force().ss_sp, theirs.ss_sp);
        declare(&std);
    })
    .join()
    .unwrap();
}

/// Runs `body` on an OS thread that std knows nothing of, and so has no alternate stack.
fn on_a_foreign_thread(body: fn()) {
    extern "C" fn start(body: *mut c_void) -> *mut c_void {
        // SAFETY: made from such a function below.
        let body: fn() = unsafe { mem::transmute(body) };
        body();
        ptr::null_mut()
    }
    // SAFETY: `start` is what the function wants, and the thread is joined.
    unsafe {
        let mut thread = mem::zeroed();
        let body = body as *mut c_void;
        assert_eq!(libc::pthread_create(&raw mut thread, ptr::null(), start, body), 0);
        assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
    }
}

/// Looks at what is in force when the thread-locals are dropped, after ours was: those that were
/// initialised first are dropped last.
struct AtTheEnd(fn());

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        (self.0)();
    }
}

thread_local! {
    static AT_THE_END: std::cell::RefCell<Option<AtTheEnd>> = const { std::cell::RefCell::new(None) };
}

fn at_the_end(check: fn()) {
    AT_THE_END.with_borrow_mut(|slot| *slot = Some(AtTheEnd(check)));
}

/// What the checks below compare with: a panic cannot leave them.
static SEEN: Mutex<Option<(usize, usize, i32)>> = Mutex::new(None);

fn note_what_is_in_force() {
    let stack = in_force();
    *SEEN.lock().unwrap() = Some((stack.ss_sp.addr(), stack.ss_size, stack.ss_flags));
}

static OURS: Mutex<usize> = Mutex::new(0);

fn assert_ours_is_unmapped() {
    let ours = *OURS.lock().unwrap();
    assert!(!is_mapped(ptr::without_provenance_mut(ours)), "{ours:#x}");
}

#[test]
fn what_was_there_before_is_restored() {
    if !child::is_child() {
        return child::run_to_success("what_was_there_before_is_restored", &[]);
    }
    static SMALL: Mutex<usize> = Mutex::new(0);
    on_a_foreign_thread(|| {
        at_the_end(note_what_is_in_force);
        let small = memory(16 << 10);
        *SMALL.lock().unwrap() = small.ss_sp.addr();
        declare(&small);
        protect_thread();
        *OURS.lock().unwrap() = in_force().ss_sp.addr();
    });
    let seen = SEEN.lock().unwrap().take().expect("thread-locals were dropped");
    assert_eq!(seen, (*SMALL.lock().unwrap(), 16 << 10, 0));
    assert_ours_is_unmapped();
}

#[test]
fn none_is_restored_where_there_was_none() {
    if !child::is_child() {
        return child::run_to_success("none_is_restored_where_there_was_none", &[]);
    }
    on_a_foreign_thread(|| {
        at_the_end(note_what_is_in_force);
        assert_eq!(in_force().ss_flags, libc::SS_DISABLE);
        protect_thread();
        assert_eq!(in_force().ss_flags, 0);
        *OURS.lock().unwrap() = in_force().ss_sp.addr();
    });
    let seen = SEEN.lock().unwrap().take().expect("thread-locals were dropped");
    assert_eq!(seen.2, libc::SS_DISABLE);
    assert_ours_is_unmapped();
}

/// std has unmapped its own by then: it must not come back.
#[test]
fn std_s_is_not_restored_on_its_threads() {
    if !child::is_child() {
        return child::run_to_success("std_s_is_not_restored_on_its_threads", &[]);
    }
    thread::spawn(|| {
        at_the_end(note_what_is_in_force);
        assert_eq!(in_force().ss_flags, 0);
        protect_thread();
        *OURS.lock().unwrap() = in_force().ss_sp.addr();
    })
    .join()
    .unwrap();
    // The join of std waits for the end of the OS thread, its thread-locals included.
    let seen = SEEN.lock().unwrap().take().expect("thread-locals were dropped");
    assert_eq!(seen.2, libc::SS_DISABLE);
    assert_ours_is_unmapped();
}

#[test]
fn one_that_was_declared_later_stays() {
    if !child::is_child() {
        return child::run_to_success("one_that_was_declared_later_stays", &[]);
    }
    static LATER: Mutex<usize> = Mutex::new(0);
    on_a_foreign_thread(|| {
        at_the_end(note_what_is_in_force);
        protect_thread();
        *OURS.lock().unwrap() = in_force().ss_sp.addr();
        let later = memory(16 << 10);
        *LATER.lock().unwrap() = later.ss_sp.addr();
        declare(&later);
    });
    let seen = SEEN.lock().unwrap().take().expect("thread-locals were dropped");
    assert_eq!(seen, (*LATER.lock().unwrap(), 16 << 10, 0));
    // Whoever declared the later one may put ours back: it must still be there.
    assert!(is_mapped(ptr::without_provenance_mut(*OURS.lock().unwrap())));
}
