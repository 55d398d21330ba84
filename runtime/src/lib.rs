//! Scheduler, green threads, parking and timers of the bine runtime.
//!
//! Most programs use the facade, `bine`. This crate is its core: what moves green threads between
//! run queues and OS threads. It knows nothing of descriptors (bine-io) or locks (bine-sync); both
//! wait through [`wait`], and a poller offers itself through [`driver`].
//!
//! Under `--cfg bine_loom` the crate consists of its protocols, on loom's atomics, and of `modelled`, which
//! offers the same interface on loom's threads.

#![deny(unsafe_code)]

mod awake;
mod berth;
#[allow(unsafe_code)]
mod blocking;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod check_tls;
#[cfg(not(bine_loom))]
mod clock;
#[allow(unsafe_code)]
mod completion;
#[cfg(not(bine_loom))]
mod contained;
#[allow(unsafe_code)]
mod countdown;
#[cfg(not(bine_loom))]
mod deadlines;
#[cfg(not(bine_loom))]
pub mod driver;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod fork;
mod idle;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod interrupt;
mod keeping;
pub mod model;
#[cfg(bine_loom)]
#[allow(unsafe_code)]
mod modelled;
#[allow(unsafe_code)]
mod monitor;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod os_parker;
mod os_token;
mod outsiders;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod panic_report;
mod presence;
pub mod primitive;
#[allow(unsafe_code)]
mod queue;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod reap;
mod request;
#[allow(unsafe_code)]
mod roll;
mod run_next;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod runtime;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod search;
#[allow(unsafe_code)]
mod settling;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod shared;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod task;
#[allow(unsafe_code)]
pub mod thread;
#[cfg(not(bine_loom))]
pub mod time;
#[allow(unsafe_code)]
mod timer;
mod token;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod unwinding;
mod user_token;
#[allow(unsafe_code)]
pub mod wait;
#[cfg(not(bine_loom))]
#[allow(unsafe_code)]
mod worker;

#[cfg(not(bine_loom))]
pub use self::{
    blocking::{BlockingPool, blocking},
    monitor::Hold,
    runtime::{AsRuntime, Builder, Handle, Metrics, Runtime, Shutdown, default_runtime, run},
    task::Abandoned,
    thread::{block_on, spawn},
};

#[cfg(bine_loom)]
pub use self::{
    modelled::{
        Abandoned, AsRuntime, BlockingPool, Builder, Handle, Runtime, block_on, blocking, run, time,
    },
    thread::spawn,
};

pub use self::model::model;

/// The protocols, for the models in `loom-tests/`. No part of the interface.
#[doc(hidden)]
pub mod protocol {
    pub use crate::awake::Awake;
    pub use crate::berth::Berth;
    pub use crate::blocking::{Crew, Done, Means};
    pub use crate::completion::{Completed, Completion};
    pub use crate::countdown::Countdown;
    pub use crate::idle::{Idle, Rest, Rested, Woken};
    pub use crate::keeping::Keeping;
    pub use crate::monitor::{Doze, Inspection};
    pub use crate::os_token::OsToken;
    pub use crate::outsiders::Outsiders;
    pub use crate::presence::Presence;
    pub use crate::queue::{Inbox, LocalQueue, Node};
    pub use crate::request::Requests;
    pub use crate::roll::{Links, Member, Roll};
    pub use crate::run_next::RunNext;
    pub use crate::settling::Settling;
    pub use crate::timer::{NEVER, Timers, Wake};
    pub use crate::token::{Commit, Token, Unpark};
    pub use crate::user_token::UserToken;
}
