//! What a program has called on the OS threads of its workers.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::{fmt, io};

use crate::contained;

type Callback = Arc<dyn Fn(usize) + Send + Sync>;

/// At most one for each event.
#[derive(Clone, Default)]
pub(super) struct Callbacks {
    pub(super) start: Option<Callback>,
    pub(super) stop: Option<Callback>,
}

// A panic in one is caught where it is called.
impl panic::RefUnwindSafe for Callbacks {}
impl panic::UnwindSafe for Callbacks {}

impl Callbacks {
    /// A worker is about to run. A panic is an error.
    pub(super) fn call_start(&self, worker: usize) -> io::Result<()> {
        call(self.start.as_ref(), worker).map_err(|payload| {
            let text =
                format!("`on_worker_start` panicked on worker {worker}: {}", text_of(&*payload));
            contained::discard(payload);
            io::Error::other(text)
        })
    }

    /// A worker has left. The panic hook has reported a panic.
    pub(super) fn call_stop(&self, worker: usize) {
        call(self.stop.as_ref(), worker).unwrap_or_else(contained::discard);
    }
}

fn call(callback: Option<&Callback>, worker: usize) -> Result<(), Box<dyn Any + Send>> {
    let Some(callback) = callback else { return Ok(()) };
    panic::catch_unwind(AssertUnwindSafe(|| callback(worker)))
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("start", &self.start.is_some())
            .field("stop", &self.stop.is_some())
            .finish()
    }
}
