//! A lock for the standard streams, which waits in bine's way. (Those of `bine-sync` are in a crate
//! that this one does not know.) Handed over in the order of arrival: streams are slow, and speed
//! matters little.

use std::collections::VecDeque;

use bine_runtime::primitive::Mutex;
use bine_runtime::thread::{self, ThreadId};
use bine_runtime::wait::{self, Unparker};

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    holder: Option<Holder>,
    next_ticket: u64,
    /// Those who wait, the first one in front. While there is anybody, there is a holder.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Holder {
    ticket: u64,
    thread: ThreadId,
    /// How often it has entered and not left.
    depth: u32,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    thread: ThreadId,
    unparker: Unparker,
}

impl Turns {
    pub(super) const fn new() -> Self {
        let state = State { holder: None, next_ticket: 0, waiting: VecDeque::new() };
        Self { state: Mutex::new(state) }
    }

    /// Waits for the caller's turn. A thread that has it already waits for ever.
    pub(super) fn enter(&self) {
        self.enter_as(false);
    }

    /// Waits for the caller's turn. A thread that has it already has it once more.
    pub(super) fn enter_again(&self) {
        self.enter_as(true);
    }

    fn enter_as(&self, again: bool) {
        let thread = thread::current().id();
        let ticket = {
            let mut state = self.state.lock();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            match &mut state.holder {
                None => {
                    state.holder = Some(Holder { ticket, thread, depth: 1 });
                    return;
                }
                Some(holder) if again && holder.thread == thread => {
                    holder.depth += 1;
                    return;
                }
                Some(_) => {}
            }
            state.waiting.push_back(Waiting { ticket, thread, unparker: Unparker::current() });
            ticket
        };
        let place = Place { turns: self, ticket };
        while !self.is_turn_of(ticket) {
            wait::park();
        }
        std::mem::forget(place);
    }

    fn is_turn_of(&self, ticket: u64) -> bool {
        self.state.lock().holder.as_ref().is_some_and(|holder| holder.ticket == ticket)
    }

    /// The caller, whose turn it is, leaves as often as it has entered.
    pub(super) fn leave(&self) {
        let next = {
            let mut state = self.state.lock();
            let holder = state.holder.as_mut().expect("whoever leaves has entered");
            holder.depth -= 1;
            if holder.depth > 0 {
                return;
            }
            let next = state.waiting.pop_front();
            state.holder = next.as_ref().map(|next| Holder {
                ticket: next.ticket,
                thread: next.thread,
                depth: 1,
            });
            next
        };
        // Outside the lock.
        if let Some(next) = next {
            next.unparker.unpark();
        }
    }
}

/// A place among those who wait. Left by whoever unwinds, and the turn passed on if it has come.
struct Place<'a> {
    turns: &'a Turns,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.turns.state.lock();
            let place = state.waiting.iter().position(|one| one.ticket == self.ticket);
            place.and_then(|place| state.waiting.remove(place))
        };
        if waiting.is_none() {
            self.turns.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use bine_runtime::Builder;
    use bine_runtime::thread::Cancelled;

    use super::*;

    #[test]
    fn one_at_a_time_and_the_same_again() {
        static TURNS: Turns = Turns::new();
        static INSIDE: AtomicU32 = AtomicU32::new(0);
        for workers in [1, 2, 8] {
            let runtime = Builder::new().workers(workers).build().unwrap();
            let threads = (0..40).map(|_| {
                runtime.spawn(|| {
                    for _ in 0..50 {
                        TURNS.enter_again();
                        assert_eq!(INSIDE.fetch_add(1, Ordering::Relaxed), 0);
                        TURNS.enter_again();
                        thread::yield_now();
                        TURNS.leave();
                        thread::yield_now();
                        assert_eq!(INSIDE.fetch_sub(1, Ordering::Relaxed), 1);
                        TURNS.leave();
                    }
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }

    #[test]
    fn who_is_cancelled_leaves_the_queue_or_passes_its_turn_on() {
        static TURNS: Turns = Turns::new();
        let runtime = Builder::new().workers(2).build().unwrap();
        for _ in 0..200 {
            TURNS.enter();
            let waits = |_| {
                runtime.spawn(|| {
                    TURNS.enter();
                    TURNS.leave();
                })
            };
            let threads: Vec<_> = (0..3).map(waits).collect();
            while TURNS.state.lock().waiting.len() < 3 {
                std::thread::yield_now();
            }
            std::thread::scope(|scope| {
                scope.spawn(|| threads[0].cancel().unwrap());
                TURNS.leave();
            });
            for thread in threads {
                if let Err(payload) = thread.join() {
                    assert!(payload.is::<Cancelled>());
                }
            }
            assert!(TURNS.state.lock().holder.is_none());
        }
    }
}
