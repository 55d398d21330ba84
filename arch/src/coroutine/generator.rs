//! Coroutines as iterators.

use std::fmt;
use std::iter::FusedIterator;

use super::{Builder, Coroutine, Yielder};

/// An iterator that is written as a function: each suspension is an item.
///
/// ```
/// use bine_arch::coroutine::{Generator, Yielder};
///
/// enum Tree { Leaf(u32), Fork(Box<Tree>, Box<Tree>) }
///
/// fn walk(tree: &Tree, yielder: &Yielder<Option<()>, u32>) {
///     match tree {
///         Tree::Leaf(n) => { yielder.suspend(*n); }
///         Tree::Fork(left, right) => {
///             walk(left, yielder);
///             walk(right, yielder);
///         }
///     }
/// }
///
/// let leaf = |n| Box::new(Tree::Leaf(n));
/// let tree = Tree::Fork(leaf(1), Box::new(Tree::Fork(leaf(2), leaf(3))));
/// let leaves = Generator::new(move |yielder| walk(&tree, yielder));
/// assert!(leaves.eq([1, 2, 3]));
/// ```
///
/// The body returns nothing: where its last expression is a suspension, end it with a semicolon.
///
/// `Sent` is what [`send`](Self::send) brings to the suspended body: the suspension returns
/// `Some(value)` then, and `None` after a `next`.
///
/// It is fused: after the end, and after a panic of its body, there are no more items.
#[must_use = "a generator does nothing until it is asked for an item"]
pub struct Generator<Item, Sent = ()>(Coroutine<Option<Sent>, Item, ()>);

impl<Item> Generator<Item> {
    /// A generator that will run `f`, on a stack of
    /// [`DEFAULT_STACK_SIZE`](crate::stack::DEFAULT_STACK_SIZE).
    ///
    /// # Panics
    ///
    /// If no stack can be had; [`Builder::generator`] returns an error then.
    #[track_caller]
    pub fn new<F>(f: F) -> Self
    where
        F: FnOnce(&Yielder<Option<()>, Item>) + 'static,
        Item: 'static,
    {
        Self::receiving(f)
    }
}

impl<Item, Sent> Generator<Item, Sent> {
    /// As [`new`](Generator::new), for a generator that values are [sent](Self::send) to.
    ///
    /// # Panics
    ///
    /// As [`new`](Generator::new).
    #[track_caller]
    pub fn receiving<F>(f: F) -> Self
    where
        F: FnOnce(&Yielder<Option<Sent>, Item>) + 'static,
        Item: 'static,
        Sent: 'static,
    {
        match Builder::new().receiving_generator(f) {
            Ok(generator) => generator,
            Err(error) => panic!("failed to make a generator: {error}"),
        }
    }

    /// Goes on with `value`: the suspension that it is in returns `Some(value)`. Returns the next
    /// item, or `None` if there is none; the value is dropped if the generator had ended before.
    ///
    /// ```
    /// use bine_arch::coroutine::Generator;
    /// let mut echo = Generator::receiving(|yielder| {
    ///     let mut word = Some("nothing yet");
    ///     while let Some(last) = word {
    ///         word = yielder.suspend(last);
    ///     }
    /// });
    /// assert_eq!(echo.next(), Some("nothing yet"));
    /// assert_eq!(echo.send("hello"), Some("hello"));
    /// assert_eq!(echo.next(), None);
    /// ```
    ///
    /// # Panics
    ///
    /// If it has not been started by a `next`: no suspension waits for the value yet. (Python
    /// raises a `TypeError` there.) And with what the body panics with.
    pub fn send(&mut self, value: Sent) -> Option<Item> {
        send(&mut self.0, value)
    }

    /// Whether it has ended: `next` will return `None`. (False also while nobody knows: it may end
    /// without a further item.)
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }
}

/// The body of a generator, with whatever lifetime.
type Body<Item, Sent> = Coroutine<Option<Sent>, Item, ()>;

pub(super) fn send<Item, Sent>(body: &mut Body<Item, Sent>, value: Sent) -> Option<Item> {
    assert!(body.has_started(), "a value was sent to a generator that has not been started");
    go_on(body, Some(value))
}

#[inline]
pub(super) fn go_on<Item, Sent>(body: &mut Body<Item, Sent>, sent: Option<Sent>) -> Option<Item> {
    if body.is_done() {
        return None;
    }
    body.resume(sent).yielded()
}

impl<Item, Sent> From<Coroutine<Option<Sent>, Item, ()>> for Generator<Item, Sent> {
    fn from(coroutine: Coroutine<Option<Sent>, Item, ()>) -> Self {
        Self(coroutine)
    }
}

impl<Item, Sent> Iterator for Generator<Item, Sent> {
    type Item = Item;

    #[inline]
    fn next(&mut self) -> Option<Item> {
        go_on(&mut self.0, None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.is_done().then_some(0))
    }
}

impl<Item, Sent> FusedIterator for Generator<Item, Sent> {}

impl<Item, Sent> fmt::Debug for Generator<Item, Sent> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Generator").field(&self.0).finish()
    }
}
