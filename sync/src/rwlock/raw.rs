//! The lock word of an `RwLock`, and its protocol.
//!
//! # The word
//!
//! | bits | name | meaning |
//! |---|---|---|
//! | 0-29 | `HOLDERS` | how many hold the lock for reading; all ones: one holds it for writing |
//! | 30 | `PARKED` | threads may be in the wait queue |
//! | 31 | `WOKEN` | one writer was taken from the queue and has not tried for the lock yet |
//!
//! | from | to | who |
//! |---|---|---|
//! | neither flag, or free and `WOKEN` | + 1 | a reader |
//! | free, and not `PARKED` alone | `WRITER` | a writer; the woken one clears `WOKEN` with the same write |
//! | held, or free and `PARKED` alone | + `PARKED` | one who is about to enter the queue; the woken writer clears `WOKEN` |
//! | held | less what it held | the holder, who then looks after the queue if that left `PARKED` alone |
//! | `PARKED` and not `WOKEN` | by the queue | who looks after it, under the bucket's lock: `look_after_queue` |
//!
//! So a reader comes in beside other readers only if nobody waits, and a lock that is free with
//! `PARKED` alone is nobody's to take: whoever left it so is on the way to the queue, and decides
//! whose it is. Such a word changes under the bucket's lock alone. One who has announced itself and
//! comes to the queue only afterwards finds that the word is not what it saw, and starts again.
//!
//! # Looking after the queue
//!
//! Readers at the front of the queue are handed the lock, as many as stand there in a row, as soon
//! as no writer has it. A writer at the front is woken when the lock is free, and may then lose it
//! to one that comes just then; `WOKEN` keeps others from being woken meanwhile. It goes back to the
//! *front*, and is handed the lock after [`MAX_LOSSES`] such losses.
//!
//! # Unwinding
//!
//! A thread that leaves the queue without the lock may have been all that kept those behind it
//! waiting: a writer among readers. So it looks after the queue then, as does one that goes from
//! writing to reading.
//!
//! # Orderings
//!
//! Whoever takes the lock does so with Acquire and whoever gives it back with Release, each by a
//! read-modify-write; the other changes of the word are such too, so each continues the release
//! sequences of all that gave the lock back before. One who is handed the lock gets the order from
//! its token, whose writer has read the word with Acquire.

use bine_runtime::primitive::hint::spin_loop;
use bine_runtime::primitive::lock_word::{AtomicU32, Ordering};

use crate::parking::checkpoint;
use crate::wait_queue::{self, Entrance, Front, Parked};

const HOLDERS: u32 = (1 << 30) - 1;
/// In `HOLDERS`: one thread holds the lock for writing.
const WRITER: u32 = HOLDERS;
/// As many may hold the lock for reading at a time.
const MAX_READERS: u32 = WRITER - 1;
const PARKED: u32 = 1 << 30;
const WOKEN: u32 = 1 << 31;

/// Token of a writer that has to try again. `WOKEN` is set on its account.
const RETRY: u32 = wait_queue::WOKEN;
/// Token of a waiter that holds the lock.
const HANDED: u32 = 2;

/// The demand of one who waits to read.
const READ: usize = 0;
/// The demand of one who waits to write.
const WRITE: usize = 1;

/// How many races a woken writer may lose before it is handed the lock.
const MAX_LOSSES: u32 = if cfg!(bine_loom) { 1 } else { 4 };

/// As the mutex's: rounds of 1, 2, 4 and so on pauses, below this, before parking.
const PAUSES: u32 = if cfg!(bine_loom) { 1 } else { 32 };

/// The lock without data or poisoning.
pub(super) struct RawRwLock {
    word: AtomicU32,
}

impl RawRwLock {
    pub(super) const fn new() -> Self {
        Self { word: AtomicU32::new(0) }
    }

    #[inline]
    pub(super) fn read(&self) {
        // Relaxed: a guess for the exchange.
        let word = self.word.load(Ordering::Relaxed);
        // Neither flag is set, there is no writer, and room for one more.
        if word >= MAX_READERS || self.acquire(word, word + 1).is_err() {
            self.read_contended();
        }
    }

    #[inline]
    pub(super) fn try_read(&self) -> bool {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while may_read(word) {
            match self.acquire(word, word + 1) {
                Ok(()) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline]
    pub(super) fn write(&self) {
        if self.acquire(0, WRITER).is_err() {
            self.write_contended();
        }
    }

    /// As [`write`](Self::write), but false if the thread of the model was cancelled.
    #[cfg(bine_loom)]
    pub(super) fn write_unless_cancelled(&self) -> bool {
        self.acquire(0, WRITER).is_ok() || self.write_contended()
    }

    #[inline]
    pub(super) fn try_write(&self) -> bool {
        // Relaxed: a guess for the exchange.
        let mut word = self.word.load(Ordering::Relaxed);
        while may_write(word) {
            match self.acquire(word, word | WRITER) {
                Ok(()) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// To be called by one who holds the lock for reading.
    #[inline]
    pub(super) fn unlock_read(&self) {
        self.leave(1);
    }

    /// To be called by the one who holds the lock for writing.
    #[inline]
    pub(super) fn unlock_write(&self) {
        self.leave(WRITER);
    }

    /// Makes the one who holds the lock for writing one who holds it for reading.
    pub(super) fn downgrade(&self) {
        // Release: what was written is there for those who come to read.
        let word = self.word.fetch_sub(WRITER - 1, Ordering::Release);
        if word & (PARKED | WOKEN) == PARKED {
            self.look_after_queue();
        }
    }

    #[inline]
    fn leave(&self, held: u32) {
        // Release: pairs with the Acquire of whoever takes the lock next.
        let word = self.word.fetch_sub(held, Ordering::Release) - held;
        if word == PARKED {
            self.look_after_queue();
        }
    }

    #[inline]
    fn acquire(&self, from: u32, to: u32) -> Result<(), u32> {
        // Acquire: pairs with the Release of those who gave the lock back.
        self.word.compare_exchange_weak(from, to, Ordering::Acquire, Ordering::Relaxed).map(drop)
    }

    #[cold]
    fn read_contended(&self) {
        checkpoint();
        let mut word = self.spin(PARKED, may_read);
        loop {
            if may_read(word) {
                match self.acquire(word, word + 1) {
                    Ok(()) => return,
                    Err(now) => word = now,
                }
                continue;
            }
            assert!(word & HOLDERS != MAX_READERS, "too many threads hold the lock for reading");
            let announced = word | PARKED;
            if let Err(now) = self.announce(word, announced) {
                word = now;
                continue;
            }
            match self.park(announced, READ, 0) {
                Parked::Token(HANDED) => return,
                Parked::Refused => {}
                outcome => unreachable!("{outcome:?} for a reader"),
            }
            word = self.spin(PARKED, may_read);
        }
    }

    /// False in a model alone, if the thread was cancelled: instead of an unwinding.
    #[cold]
    fn write_contended(&self) -> bool {
        checkpoint();
        let mut losses = 0;
        // WOKEN while this thread is the woken writer.
        let mut woken = 0;
        let mut word = self.spin(PARKED, may_write);
        loop {
            if may_write(word) {
                match self.acquire(word, (word | WRITER) & !woken) {
                    Ok(()) => return true,
                    Err(now) => word = now,
                }
                continue;
            }
            let announced = (word | PARKED) & !woken;
            if let Err(now) = self.announce(word, announced) {
                word = now;
                continue;
            }
            woken = 0;
            match self.park(announced, WRITE, losses) {
                Parked::Token(HANDED) => return true,
                Parked::Token(RETRY) => {
                    losses += 1;
                    woken = WOKEN;
                }
                Parked::Refused => {}
                #[cfg(bine_loom)]
                Parked::TimedOut => return false,
                outcome => unreachable!("{outcome:?} for a writer"),
            }
            // The queue is no reason for the woken writer not to try: nobody in it comes before.
            word = self.spin(0, may_write);
        }
    }

    fn announce(&self, word: u32, announced: u32) -> Result<(), u32> {
        if word == announced {
            return Ok(());
        }
        // Relaxed, also where it clears WOKEN: the bucket's lock orders it before the look at the
        // queue of the one who sees PARKED.
        self.word
            .compare_exchange_weak(word, announced, Ordering::Relaxed, Ordering::Relaxed)
            .map(drop)
    }

    fn park(&self, announced: u32, demand: usize, losses: u32) -> Parked {
        let entrance = Entrance { first: losses > 0, urgent: losses >= MAX_LOSSES, demand };
        // Relaxed: the bucket's lock orders it against whoever looks after the queue.
        let admit = || self.word.load(Ordering::Relaxed) == announced;
        let unwound = |token| self.unwound(demand, token);
        wait_queue::park_told(self.key(), entrance, None, admit, || (), unwound)
    }

    /// Waits a moment until the lock `may` be taken, but no longer when one of `unless` is set, and
    /// returns the word as it is then.
    fn spin(&self, unless: u32, may: impl Fn(u32) -> bool) -> u32 {
        // Relaxed, both: guesses for the exchanges.
        let mut word = self.word.load(Ordering::Relaxed);
        let mut pauses = 1;
        while pauses < PAUSES && !may(word) && word & unless == 0 {
            (0..pauses).for_each(|_| spin_loop());
            pauses *= 2;
            word = self.word.load(Ordering::Relaxed);
        }
        word
    }

    /// A waiter unwinds: it gives back what it was given, and lets those go on that waited behind it.
    #[cold]
    fn unwound(&self, demand: usize, token: Option<u32>) {
        match (token, demand) {
            (Some(HANDED), READ) => self.unlock_read(),
            (Some(HANDED), _) => self.unlock_write(),
            (Some(_), _) => {
                // Relaxed: only the look at the queue needs an order, and has it from its lock.
                self.word.fetch_and(!WOKEN, Ordering::Relaxed);
                self.look_after_queue();
            }
            (None, _) => self.look_after_queue(),
        }
    }

    /// Gives the lock to those at the front of the queue, as the module's documentation says.
    #[cold]
    fn look_after_queue(&self) {
        wait_queue::unpark_while(self.key(), |front| {
            // Acquire, both: pairs with the Release of those who gave the lock back, on behalf of
            // whom it is handed to.
            let mut word = self.word.load(Ordering::Acquire);
            loop {
                let (next, token) = after_look(word, front)?;
                match self.word.compare_exchange_weak(
                    word,
                    next,
                    Ordering::Acquire,
                    Ordering::Acquire,
                ) {
                    Ok(_) => return token,
                    Err(now) => word = now,
                }
            }
        });
    }

    fn key(&self) -> usize {
        wait_queue::address(&raw const self.word)
    }
}

/// Whether a reader may take the lock.
#[inline]
const fn may_read(word: u32) -> bool {
    word < MAX_READERS || word & !PARKED == WOKEN
}

/// Whether a writer may take the lock.
#[inline]
const fn may_write(word: u32) -> bool {
    word & HOLDERS == 0 && word != PARKED
}

/// What is to become of `word`, and the token of the `front` of the queue if its wait is over;
/// `None` if nothing can be done for it now.
fn after_look(word: u32, front: Option<Front>) -> Option<(u32, Option<u32>)> {
    let holders = word & HOLDERS;
    if word & (PARKED | WOKEN) != PARKED || holders == WRITER {
        return None;
    }
    let Some(Front { urgent, demand, more }) = front else {
        return Some((holders, None));
    };
    let parked = if more { PARKED } else { 0 };
    match demand {
        READ if holders < MAX_READERS => Some(((holders + 1) | parked, Some(HANDED))),
        WRITE if holders == 0 && urgent => Some((WRITER | parked, Some(HANDED))),
        WRITE if holders == 0 => Some((WOKEN | parked, Some(RETRY))),
        _ => None,
    }
}

#[cfg(not(bine_loom))]
const _: () = assert!(std::mem::size_of::<RawRwLock>() == 4);
