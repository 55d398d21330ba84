//! What must not compile: more of it than the documentation of the items needs for the reader.
//!
//! # Closures and results of threads
//!
//! A result that must stay on its thread:
//!
//! ```compile_fail,E0277
//! bine_runtime::spawn(|| std::rc::Rc::new(1));
//! ```
//!
//! a guard of a lock, which must be unlocked where it was locked:
//!
//! ```compile_fail,E0277
//! let lock = Box::leak(Box::new(std::sync::Mutex::new(1)));
//! let guard = lock.lock().unwrap();
//! bine_runtime::spawn(move || drop(guard));
//! ```
//!
//! a shared reference to what is not made for sharing:
//!
//! ```compile_fail,E0277
//! let cell: &'static std::cell::Cell<u32> = Box::leak(Box::default());
//! bine_runtime::spawn(move || cell.set(1));
//! ```
//!
//! the same through a builder, and on a runtime:
//!
//! ```compile_fail,E0277
//! let here = std::rc::Rc::new(1);
//! let _ = bine_runtime::thread::Builder::new().spawn(move || drop(here));
//! ```
//!
//! ```compile_fail,E0277
//! let runtime = bine_runtime::Runtime::new().unwrap();
//! let _ = bine_runtime::thread::Builder::new().spawn_on(&runtime, || std::rc::Rc::new(1));
//! ```
//!
//! ```compile_fail,E0277
//! // SAFETY: joined at once.
//! let thread = unsafe {
//!     let here = std::rc::Rc::new(1);
//!     bine_runtime::thread::Builder::new().spawn_unchecked(move || drop(here))
//! };
//! thread.unwrap().join().unwrap();
//! ```
//!
//! A borrow, by reference or in a value that was moved in:
//!
//! ```compile_fail,E0597
//! let text = String::from("mine");
//! let borrowed = &text;
//! bine_runtime::spawn(move || println!("{borrowed}"));
//! ```
//!
//! ```compile_fail,E0597
//! let text = String::from("mine");
//! let words = text.split(' ');
//! bine_runtime::run(move || words.count());
//! ```
//!
//! A value that has moved into a thread:
//!
//! ```compile_fail,E0382
//! let text = String::from("mine");
//! bine_runtime::spawn(move || println!("{text}"));
//! println!("{text}");
//! ```
//!
//! A handle twice:
//!
//! ```compile_fail,E0382
//! let thread = bine_runtime::spawn(|| 1);
//! thread.join().unwrap();
//! thread.join().unwrap();
//! ```
//!
//! Without `unsafe`, or the other way round what `spawn_unchecked` asks for:
//!
//! ```compile_fail,E0133
//! let _ = bine_runtime::thread::Builder::new().spawn_unchecked(|| 1);
//! ```
//!
//! # Scopes
//!
//! What a child has borrowed stays borrowed until the end of the scope, also after its join:
//!
//! ```compile_fail,E0506
//! let mut number = 1;
//! bine_runtime::thread::scope(|scope| {
//!     scope.spawn(|| println!("{number}")).join().unwrap();
//!     number = 2;
//! });
//! ```
//!
//! ```compile_fail,E0502
//! let mut words = vec![1];
//! bine_runtime::thread::scope(|scope| {
//!     scope.spawn(|| words.push(2));
//!     println!("{}", words.len());
//! });
//! ```
//!
//! ```compile_fail,E0505
//! let text = String::from("mine");
//! bine_runtime::thread::scope(|scope| {
//!     scope.spawn(|| println!("{text}"));
//!     drop(text);
//! });
//! ```
//!
//! What a child has on its stack is not borrowed by a sibling that it spawns, who may outlive it:
//!
//! ```compile_fail,E0373
//! bine_runtime::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let inside = 1;
//!         scope.spawn(|| println!("{inside}"));
//!     });
//! });
//! ```
//!
//! ```compile_fail,E0597
//! bine_runtime::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let inside = 1;
//!         let borrowed = &inside;
//!         scope.spawn(move || println!("{borrowed}"));
//!     });
//! });
//! ```
//!
//! Nor does a result borrow from there:
//!
//! ```compile_fail,E0515
//! bine_runtime::thread::scope(|scope| {
//!     scope.spawn(|| {
//!         let inside = String::new();
//!         inside.as_str()
//!     });
//! });
//! ```
//!
//! A handle does not leave its scope, nor does a result that borrows what ends with it:
//!
//! ```compile_fail,E0521
//! let mut outside = None;
//! bine_runtime::thread::scope(|scope| outside = Some(scope.spawn(|| 1)));
//! ```
//!
//! ```compile_fail,E0521
//! static KEPT: std::sync::Mutex<Vec<bine_runtime::thread::ScopedJoinHandle<'static, ()>>> =
//!     std::sync::Mutex::new(Vec::new());
//! bine_runtime::thread::scope(|scope| KEPT.lock().unwrap().push(scope.spawn(|| ())));
//! ```
//!
//! ```compile_fail,E0597
//! let text = bine_runtime::thread::scope(|scope| {
//!     let text = String::from("inside");
//!     let borrowed = &text;
//!     scope.spawn(move || borrowed.as_str()).join().unwrap()
//! });
//! ```
//!
//! ```compile_fail,E0597
//! let kept;
//! {
//!     let text = String::from("too short");
//!     kept = bine_runtime::thread::scope(|scope| scope.spawn(|| &text).join().unwrap());
//! }
//! println!("{kept}");
//! ```
//!
//! A thread that outlives the scope does not get it:
//!
//! ```compile_fail,E0521
//! bine_runtime::thread::scope(|scope| {
//!     bine_runtime::spawn(|| {
//!         scope.spawn(|| 1);
//!     });
//! });
//! ```
//!
//! nor does another scope around it spawn into it what lives in it alone:
//!
//! ```compile_fail,E0373
//! bine_runtime::thread::scope(|outer| {
//!     bine_runtime::thread::scope(|inner| {
//!         let inside = 1;
//!         outer.spawn(|| println!("{inside}"));
//!         inner.spawn(|| ());
//!     });
//! });
//! ```
//!
//! What must stay on its thread: captured, as a result, or in a handle that goes to a sibling.
//!
//! ```compile_fail,E0277
//! bine_runtime::thread::scope(|scope| {
//!     scope.spawn(|| std::rc::Rc::new(1));
//! });
//! ```
//!
//! ```compile_fail,E0277
//! let number = std::cell::Cell::new(1);
//! bine_runtime::thread::scope(|scope| {
//!     scope.spawn(|| number.set(2));
//! });
//! ```
//!
//! ```compile_fail,E0277
//! let number = std::cell::Cell::new(1);
//! bine_runtime::thread::scope(|scope| {
//!     let _ = bine_runtime::thread::Builder::new().spawn_scoped(scope, || number.set(2));
//! });
//! ```
//!
//! ```compile_fail,E0277
//! fn passes<'a>(handle: bine_runtime::thread::ScopedJoinHandle<'a, std::rc::Rc<u8>>) {
//!     fn sends<T: Send>(_: T) {}
//!     sends(handle);
//! }
//! ```
//!
//! Scopes and handles of different lifetimes are different: neither grows nor shrinks.
//!
//! ```compile_fail
//! use bine_runtime::thread::Scope;
//! fn shorter<'a, 'b: 'a>(scope: &'a Scope<'b, 'b>) -> &'a Scope<'a, 'b> {
//!     scope
//! }
//! ```
//!
//! # Scopes that may fail
//!
//! ```compile_fail,E0277
//! let result: Result<(), std::rc::Rc<u8>> = bine_runtime::thread::try_scope(|scope| {
//!     scope.spawn(|| Err::<(), _>(std::rc::Rc::new(1)));
//!     Ok(())
//! });
//! ```
//!
//! ```compile_fail,E0373
//! let result: Result<(), u8> = bine_runtime::thread::try_scope(|scope| {
//!     let inside = 1;
//!     scope.spawn(|| Err::<(), u8>(inside));
//!     Ok(())
//! });
//! ```
//!
//! ```compile_fail,E0597
//! let result: Result<(), &str> = {
//!     let text = String::from("too short");
//!     bine_runtime::thread::try_scope(|scope| {
//!         scope.spawn(|| Err::<(), _>(text.as_str()));
//!         Ok(())
//!     })
//! };
//! println!("{result:?}");
//! ```
//!
//! # Local values
//!
//! A reference does not leave the closure, by any of the ways in:
//!
//! ```compile_fail
//! bine_runtime::thread_local!(static TEXT: String = String::new());
//! let kept: &String = TEXT.with(|text| text);
//! ```
//!
//! ```compile_fail
//! bine_runtime::thread_local!(static TEXT: String = String::new());
//! let kept = TEXT.try_with(|text| text.as_str()).unwrap();
//! ```
//!
//! ```compile_fail
//! use std::cell::RefCell;
//! bine_runtime::thread_local!(static TEXT: RefCell<String> = RefCell::default());
//! let kept = TEXT.with_borrow(|text| text.as_str());
//! ```
//!
//! ```compile_fail
//! use std::cell::RefCell;
//! bine_runtime::thread_local!(static TEXT: RefCell<String> = RefCell::default());
//! let kept = TEXT.with_borrow_mut(|text| text.as_mut_str());
//! ```
//!
//! nor for another thread, green or not:
//!
//! ```compile_fail,E0521
//! bine_runtime::thread_local!(static TEXT: String = String::new());
//! TEXT.with(|text| {
//!     bine_runtime::spawn(move || println!("{text}"));
//! });
//! ```
//!
//! ```compile_fail,E0277
//! use std::cell::RefCell;
//! bine_runtime::thread_local!(static TEXT: RefCell<String> = RefCell::default());
//! TEXT.with(|text| {
//!     bine_runtime::thread::scope(|scope| {
//!         scope.spawn(|| text.replace(String::new()));
//!     });
//! });
//! ```
//!
//! A value cannot borrow from a frame, and a constant one is a constant:
//!
//! ```compile_fail,E0435
//! let local = 1;
//! bine_runtime::thread_local!(static NUMBER: u32 = local);
//! ```
//!
//! ```compile_fail,E0015
//! bine_runtime::thread_local!(static TEXT: String = const { String::from("made") });
//! ```
//!
//! The methods for cells want `Copy` and `Default` where std's do:
//!
//! ```compile_fail,E0277
//! use std::cell::Cell;
//! bine_runtime::thread_local!(static TEXT: Cell<String> = Cell::default());
//! TEXT.get();
//! ```
//!
//! ```compile_fail,E0277
//! use std::cell::Cell;
//! struct Plain;
//! bine_runtime::thread_local!(static PLAIN: Cell<Plain> = const { Cell::new(Plain) });
//! PLAIN.take();
//! ```
//!
//! # Types that only the crate makes
//!
//! ```compile_fail,E0603
//! let cancelled = bine_runtime::thread::Cancelled;
//! ```
//!
//! ```compile_fail,E0639
//! let error = bine_runtime::thread::AccessError {};
//! ```
//!
//! ```compile_fail,E0423
//! let id = bine_runtime::thread::ThreadId(std::num::NonZero::new(1).unwrap());
//! ```
