//! What wakes the futures of a random program, and what their wakers do.

use std::future::{self, Future};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bine_runtime::thread::{self, JoinHandle};
use bine_runtime::{blocking, wait};

use super::{Kind, Life, Program};

/// Something to wait for, which happens once.
pub(super) struct Bell {
    rung: AtomicBool,
    /// The one who waited last. Not taken by a bell that rings twice, so it may outlive its thread.
    waker: Mutex<Option<Waker>>,
}

impl Bell {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { rung: AtomicBool::new(false), waker: Mutex::default() })
    }

    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap().clone();
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn rung(&self) -> impl Future<Output = ()> {
        future::poll_fn(|context| {
            *self.waker.lock().unwrap() = Some(context.waker().clone());
            // Acquire pairs with the Release in `ring`. Who comes second to the waker's lock sees what the
            // first has stored.
            match self.rung.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
    }
}

/// Rings when it is dropped.
pub(super) struct Rings(pub(super) Arc<Bell>);

impl Drop for Rings {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// A waker that does more than to wake somebody: it is called where a green thread ends.
pub(super) struct Alarm {
    program: Program,
    manner: u64,
    /// Detached when it is woken or dropped.
    child: Mutex<Option<JoinHandle<Life>>>,
}

impl Alarm {
    pub(super) fn new(program: &Program, manner: u64, child: Option<JoinHandle<Life>>) -> Self {
        Self { program: program.clone(), manner, child: Mutex::new(child) }
    }

    /// Is registered with `thread`, unless that has ended.
    pub(super) fn poll(self, thread: &mut JoinHandle<Life>) -> Option<std::thread::Result<Life>> {
        let waker = Waker::from(Arc::new(self));
        match Pin::new(thread).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let child = self.child.lock().unwrap().take();
        drop(child);
        let life = self.program.life(Kind::Value, self.manner / 8);
        match self.manner % 8 {
            0 if wait::is_green() => super::LOCAL.with_borrow_mut(|lives| lives.push(life)),
            1 => thread::yield_now(),
            2 => resume_unwind(Box::new(life)),
            3 if wait::is_green() => blocking(|| drop(life)),
            _ => {}
        }
    }
}
