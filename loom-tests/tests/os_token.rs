//! Models of how a plain OS thread waits: no wake-up is lost, and none is used twice.
#![cfg(bine_loom)]

use std::time::Instant;

use bine_loom_tests::model;
use bine_runtime::primitive::Arc;
use bine_runtime::primitive::cell::UnsafeCell;
use bine_runtime::protocol::OsToken;
use loom::thread;

struct Scene {
    token: OsToken,
    /// Of each unparker, written before its unpark.
    messages: [UnsafeCell<u32>; 2],
}

// SAFETY: the cells are the model's claim: the token hands them over. loom checks it.
unsafe impl Sync for Scene {}
// SAFETY: as above.
unsafe impl Send for Scene {}

impl Scene {
    fn new() -> Arc<Self> {
        Arc::new(Self { token: OsToken::new(), messages: [0; 2].map(UnsafeCell::new) })
    }

    fn unpark(&self, unparker: usize) {
        // SAFETY: written by this unparker, before its unpark.
        self.messages[unparker].with_mut(|message| unsafe { *message = 7 });
        self.token.make_available();
    }

    fn read_message(&self, unparker: usize) {
        // SAFETY: a wait has taken this unparker's token.
        self.messages[unparker].with(|message| assert_eq!(unsafe { *message }, 7));
    }
}

fn unparker(scene: &Arc<Scene>, unparker: usize) -> thread::JoinHandle<()> {
    let scene = scene.clone();
    thread::spawn(move || scene.unpark(unparker))
}

/// Before, during and after: the wait returns once.
#[test]
fn an_unpark_against_a_wait() {
    model("os_token::an_unpark_against_a_wait", || {
        let scene = Scene::new();
        let unparker = unparker(&scene, 0);
        scene.token.wait();
        scene.read_message(0);
        assert!(!scene.token.take(), "used up");
        unparker.join().unwrap();
    });
}

/// The time runs out: the token ends this wait, or it is there for the next one.
#[test]
fn a_timeout_against_an_unpark() {
    model("os_token::a_timeout_against_an_unpark", || {
        let scene = Scene::new();
        let unparker = unparker(&scene, 0);
        if !scene.token.wait_until(Instant::now()) {
            scene.token.wait();
        }
        scene.read_message(0);
        assert!(!scene.token.take(), "used up");
        unparker.join().unwrap();
    });
}

/// The one thread waits in turn for both, who may leave one token between them.
#[test]
fn two_unparkers_against_two_waits() {
    model("os_token::two_unparkers_against_two_waits", || {
        let scene = Scene::new();
        let waits = {
            let scene = scene.clone();
            thread::spawn(move || {
                scene.token.wait();
                scene.token.wait_until(Instant::now())
            })
        };
        let unparkers = [unparker(&scene, 0), unparker(&scene, 1)];
        unparkers.into_iter().for_each(|unparker| unparker.join().unwrap());
        let second = waits.join().unwrap();
        assert!(!(second && scene.token.take()), "a token too many");
        [0, 1].into_iter().for_each(|unparker| scene.read_message(unparker));
    });
}
