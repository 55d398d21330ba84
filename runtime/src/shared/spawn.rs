//! Making a green thread, by a worker of its runtime and by others.

use std::io;
use std::panic::Location;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use bine_arch::stack::Permit;

use super::{Shared, count};
use crate::task::{Attributes, Task, TaskRef};
use crate::worker::{self, Core, Runnable};

/// How a green thread is to be made.
#[derive(Debug, Default)]
pub(crate) struct SpawnOptions {
    pub(crate) name: Option<String>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) pinned: bool,
}

impl SpawnOptions {
    #[inline]
    fn attributes(
        self,
        shared: NonNull<Shared>,
        permit: Permit,
        id: u64,
        spawned_at: &'static Location<'static>,
    ) -> Attributes {
        let name = self.name.map(String::into_boxed_str);
        Attributes { shared, permit, id, name, pinned: self.pinned, spawned_at }
    }
}

/// Where to spawn.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub(crate) shared: NonNull<Shared>,
    /// Nothing keeps the runtime from being shut down meanwhile.
    pub(crate) may_close: bool,
}

/// Somebody who is present, from outside, while a thread is spawned.
struct Visit(NonNull<Shared>);

impl Visit {
    /// # Safety
    ///
    /// `shared` is kept for the length of the visit.
    unsafe fn begin(shared: NonNull<Shared>) -> io::Result<Self> {
        // SAFETY: the caller's promise.
        if unsafe { shared.as_ref() }.present.try_enter() {
            return Ok(Self(shared));
        }
        Err(io::Error::new(
            io::ErrorKind::NotConnected,
            "a green thread was to be spawned through a handle of a runtime that was shut down",
        ))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // SAFETY: entered when this was made. A handle still keeps the pointer, but we do not use it.
        unsafe { Shared::leave(self.0) };
    }
}

/// Spawns on the runtime of `place`.
///
/// # Safety
///
/// As [`Task::create`]; the shared state is kept for the length of the call.
pub(crate) unsafe fn spawn_on<F, T>(
    place: Place,
    options: SpawnOptions,
    spawned_at: &'static Location<'static>,
    closure: F,
) -> io::Result<TaskRef>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let shared = place.shared;
    if let Some(core) = worker::core().filter(|core| core.shared == shared) {
        // SAFETY: the caller's promise.
        return unsafe { spawn_inside(core, options, spawned_at, closure) };
    }
    // SAFETY: the caller's promise.
    let this = unsafe { shared.as_ref() };
    this.check_process()?;
    let _visit = match place.may_close {
        // SAFETY: as above.
        true => Some(unsafe { Visit::begin(shared)? }),
        false => None,
    };
    let permit = Permit::reserve(options.stack_size.unwrap_or(this.stack_size))?;
    let id = crate::thread::allocate_ids(1);
    let attributes = options.attributes(shared, permit, id, spawned_at);
    // SAFETY: as above.
    let task = unsafe { Task::create(attributes, closure)? };
    // Relaxed: ordered by the queue, and for the settling by the visit.
    this.foreign_spawned.fetch_add(1, Ordering::Relaxed);
    this.injector.push(Runnable(task.as_ptr()));
    this.wake_for_work();
    Ok(task)
}

/// As [`spawn_on`], by a worker of the runtime.
///
/// # Safety
///
/// As [`Task::create`].
#[inline]
unsafe fn spawn_inside<F, T>(
    core: &Core,
    options: SpawnOptions,
    spawned_at: &'static Location<'static>,
    closure: F,
) -> io::Result<TaskRef>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let shared = core.shared();
    let stack_size = options.stack_size.unwrap_or(shared.stack_size);
    // First of all: a worker in a forked child gets none.
    let id = core.next_id()?;
    // SAFETY: the worker's OS thread alone touches its cache, and this is it.
    let permit = unsafe { (*core.stacks.get()).reserve(stack_size)? };
    let attributes = options.attributes(core.shared, permit, id, spawned_at);
    // SAFETY: the caller's promise.
    let task = unsafe { Task::create(attributes, closure)? };
    count(&core.remote().counters.spawned);
    core.push_fresh(task.as_ptr());
    Ok(task)
}
