//! The monitor: one OS thread of the process that looks at all workers every millisecond, and acts
//! where a green thread holds one: it computes, or calls the system, and does not come back to the
//! scheduler.
//!
//! | file | |
//! |---|---|
//! | `watch` | what it does for one runtime at each look |
//! | `hold` | what it tells about a hold |
//! | `inspect`, `inspection` | which green thread it is |
//! | `doze` | how it stops while all workers sleep |
//!
//! It is for worker threads what Go's `sysmon` is for its processors (`runtime/proc.go`), but it
//! takes nothing away from a running green thread: others do what waits behind it.

mod doze;
#[cfg(not(bine_loom))]
mod hold;
#[cfg(not(bine_loom))]
mod inspect;
mod inspection;
#[cfg(not(bine_loom))]
mod watch;

pub use self::doze::Doze;
pub use self::inspection::Inspection;

#[cfg(not(bine_loom))]
pub use self::hold::Hold;
#[cfg(not(bine_loom))]
pub(crate) use self::{
    hold::{OnHold, log_by_default},
    process::{forget, watch, worker_wakes},
    watch::Settings,
};

/// The monitor of this process.
#[cfg(not(bine_loom))]
mod process {
    use std::ptr::{self, NonNull};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicPtr, Ordering};
    use std::time::Duration;
    use std::{io, thread};

    use parking_lot::Mutex;

    use super::doze::Doze;
    use super::hold::Told;
    use super::watch::{Settings, Watch};
    use crate::runtime::release_thread;
    use crate::shared::Shared;
    use crate::{clock, contained, driver, fork};

    /// The time between two looks.
    const INTERVAL: Duration = Duration::from_millis(1);
    /// The time between two looks while nothing changes but that workers are held.
    const LONG_INTERVAL: Duration = Duration::from_millis(5);
    /// Looks without a change before the longer interval applies.
    const UNCHANGED: u32 = 100;
    /// Looks at sleeping workers alone before the monitor sleeps as well.
    const IDLE: u32 = 10;

    struct Monitor {
        /// The process that has the thread: a fork has this, but not the thread.
        process: fork::Process,
        watches: Mutex<Vec<Watch>>,
        thread: OnceLock<thread::Thread>,
        doze: Doze,
    }

    /// Never freed. Another one after a fork.
    static MONITOR: AtomicPtr<Monitor> = AtomicPtr::new(ptr::null_mut());

    fn current() -> Option<&'static Monitor> {
        // Acquire pairs with the Release in `of_this_process`.
        // SAFETY: never freed.
        unsafe { MONITOR.load(Ordering::Acquire).as_ref() }
    }

    fn of_this_process() -> &'static Monitor {
        let mut found = MONITOR.load(Ordering::Acquire);
        loop {
            // SAFETY: never freed.
            match unsafe { found.as_ref() } {
                Some(monitor) if monitor.process.is_here() => return monitor,
                _ => {}
            }
            let monitor = Box::into_raw(Box::new(Monitor {
                process: fork::Process::current(),
                watches: Mutex::default(),
                thread: OnceLock::new(),
                doze: Doze::new(),
            }));
            // Release pairs with the Acquire in `current`.
            match MONITOR.compare_exchange(found, monitor, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => found = monitor,
                Err(now) => {
                    // SAFETY: made above, and seen by nobody.
                    drop(unsafe { Box::from_raw(monitor) });
                    found = now;
                }
            }
        }
    }

    /// Has a runtime watched, whose workers have been started, until it is forgotten.
    ///
    /// # Errors
    ///
    /// If the system refuses the monitor's OS thread.
    ///
    /// # Safety
    ///
    /// `shared` is valid until [`forget`] returns.
    pub(crate) unsafe fn watch(shared: NonNull<Shared>, settings: Settings) -> io::Result<()> {
        let monitor = of_this_process();
        {
            let mut watches = monitor.watches.lock();
            if monitor.thread.get().is_none() {
                let builder = thread::Builder::new().name("bine-monitor".to_owned());
                let body = || {
                    release_thread();
                    monitor.run()
                };
                let started = fork::start_thread(builder, (), body).map_err(|error| {
                    let text = format!("cannot start the OS thread of the monitor: {error}");
                    io::Error::new(error.kind(), text)
                })?;
                // The first time: under the lock.
                let _ = monitor.thread.set(started.thread().clone());
            }
            // SAFETY: the caller's promise.
            watches.push(unsafe { Watch::new(shared, settings) });
        }
        if monitor.doze.disturb() {
            monitor.unpark();
        }
        Ok(())
    }

    /// Has a runtime watched no longer. When this returns the monitor uses `shared` no more.
    pub(crate) fn forget(shared: NonNull<Shared>) {
        if let Some(monitor) = current() {
            let mut watches = monitor.watches.lock();
            let place = watches.iter().position(|watch| watch.is_of(shared));
            let watch = place.map(|place| watches.swap_remove(place));
            drop(watches);
            // Its callbacks go without the lock: what they have captured may be another runtime. If
            // that panics, it is the hook's to report, and the shutdown goes on.
            contained::call(|| drop(watch));
        }
    }

    /// A worker has woken up: the monitor must watch it.
    #[inline]
    pub(crate) fn worker_wakes() {
        if let Some(monitor) = current()
            && monitor.doze.disturb_if_dozing()
        {
            monitor.unpark();
        }
    }

    impl Monitor {
        fn unpark(&self) {
            if let Some(thread) = self.thread.get() {
                thread.unpark();
            }
        }

        fn run(&self) -> ! {
            let (mut idle, mut unchanged) = (0, 0);
            let mut told = Vec::new();
            loop {
                let seen = self.look(&mut told);
                for told in told.drain(..) {
                    told.tell();
                    if !self.process.is_here() {
                        fork::abort_child();
                    }
                }
                idle = if seen.awake { 0 } else { idle + 1 };
                unchanged = if seen.changed { 0 } else { unchanged + 1 };
                if idle > IDLE {
                    self.doze();
                    idle = 0;
                } else if unchanged > UNCHANGED && seen.awake {
                    thread::sleep(LONG_INTERVAL);
                } else {
                    thread::sleep(INTERVAL);
                }
            }
        }

        /// One look at every runtime.
        fn look(&self, told: &mut Vec<Told>) -> Seen {
            let now = clock::now();
            let mut all = Seen::default();
            for watch in &mut *self.watches.lock() {
                let seen = watch.look(now, told);
                all = Seen { awake: all.awake | seen.awake, changed: all.changed | seen.changed };
            }
            if all.awake {
                driver::look_after(now);
            }
            all
        }

        fn doze(&self) {
            self.doze.begin();
            if self.watches.lock().iter().any(Watch::is_any_awake) {
                self.doze.disturb();
            }
            while self.doze.lasts() {
                thread::park();
            }
        }
    }

    /// What a look has seen.
    #[derive(Default, Clone, Copy)]
    pub(in crate::monitor) struct Seen {
        /// Some worker is not asleep.
        pub(in crate::monitor) awake: bool,
        /// Some worker has gone on, or work waits.
        pub(in crate::monitor) changed: bool,
    }
}
