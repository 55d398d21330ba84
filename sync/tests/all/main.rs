//! The tests of the crate, in one program: many would all be linked with the same.

mod abandoned;
mod barrier;
mod bounds;
mod broadcast;
mod cancel;
mod channel;
mod condvar;
mod crowd;
mod crowds;
mod event;
mod mpsc;
mod mutex;
mod once;
mod oneshot;
mod random;
mod rwlock;
mod select;
mod select_stress;
mod semaphore;
mod wait_queue;
mod watch;
