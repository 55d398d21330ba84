//! Lists without end, and walks out of a recursion.
//!
//! What there is to learn: a generator may stand for more items than could ever be stored, because
//! only those that are asked for are made. Generators nest: the sieve below is a chain of them, one
//! for each prime. And a body may suspend from any depth of calls, so that a recursive walk of a
//! tree becomes an iterator without being turned inside out.
//!
//! Run it: `cargo run --example infinite_list`.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, Write};

use bine::coroutine::{self, Generator, Yielder};

fn main() -> io::Result<()> {
    run(&mut io::stdout().lock())
}

fn run(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "Fibonacci: {}", join(fibonacci().take(12)))?;
    let first_even_ones = fibonacci().filter(|n| n % 2 == 0).take(5);
    writeln!(out, "the even ones: {}", join(first_even_ones))?;
    writeln!(out, "primes: {}", join(sieve(from(2)).take(12)))?;
    writeln!(out, "primes from 200 on: {}", join(sieve(from(2)).skip_while(|&n| n < 200).take(3)))?;
    compare_trees(out)
}

fn join(items: impl Iterator<Item = impl Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// Each is the sum of the two before it.
fn fibonacci() -> Generator<u128> {
    Generator::new(|yielder| {
        let (mut this, mut next) = (0, 1);
        loop {
            yielder.suspend(this);
            (this, next) = (next, this + next);
        }
    })
}

fn from(first: u32) -> Generator<u32> {
    Generator::new(move |yielder| yielder.suspend_all(first..))
}

/// The sieve of Eratosthenes: the first of `numbers` is a prime; the others are among those which it
/// does not divide, and are sieved in the same way.
///
/// Each prime that is asked for adds two generators to the chain. (A real sieve is a table: this one
/// tries every number with every prime before it.)
fn sieve(mut numbers: Generator<u32>) -> Generator<u32> {
    Generator::new(move |yielder| {
        let Some(prime) = numbers.next() else { return };
        yielder.suspend(prime);
        let others = Generator::new(move |yielder| {
            yielder.suspend_all(numbers.filter(|number| number % prime != 0));
        });
        yielder.suspend_all(sieve(others));
    })
}

/// A binary tree.
enum Tree {
    Leaf(u32),
    Fork(Box<Tree>, u32, Box<Tree>),
}

impl Tree {
    /// A tree of an odd number of items, which keep their order. `root` says which of so many is to
    /// be the root: an odd index, so that an odd number is left on both sides.
    fn new(items: &[u32], root: fn(usize) -> usize) -> Self {
        if let [item] = items {
            return Self::Leaf(*item);
        }
        let root_at = root(items.len());
        let (left, right) = (&items[..root_at], &items[root_at + 1..]);
        Self::Fork(
            Box::new(Self::new(left, root)),
            items[root_at],
            Box::new(Self::new(right, root)),
        )
    }

    fn balanced(items: &[u32]) -> Self {
        Self::new(items, |length| (length / 2) | 1)
    }

    /// As deep as can be: each left side is a leaf.
    fn leaning(items: &[u32]) -> Self {
        Self::new(items, |_| 1)
    }
}

/// What the walks suspend themselves with.
type Visitor = Yielder<Option<()>, u32>;

/// Yields all items of the tree, in order.
fn walk(tree: &Tree, yielder: &Visitor) {
    match tree {
        Tree::Leaf(item) => {
            yielder.suspend(*item);
        }
        Tree::Fork(left, item, right) => {
            walk(left, yielder);
            yielder.suspend(*item);
            walk(right, yielder);
        }
    }
}

/// Yields the leaves of the tree, in order, and counts the nodes that it has to visit.
fn walk_leaves(tree: &Tree, visited: &Cell<usize>, yielder: &Visitor) {
    visited.set(visited.get() + 1);
    match tree {
        Tree::Leaf(item) => {
            yielder.suspend(*item);
        }
        Tree::Fork(left, _, right) => {
            walk_leaves(left, visited, yielder);
            walk_leaves(right, visited, yielder);
        }
    }
}

/// Whether two trees have the same leaves in the same order, whatever their shapes; and how many
/// nodes were visited to find out.
///
/// Two recursions run side by side here, and both stop at the first difference. The generators of a
/// scope may borrow: the trees, and the counter.
fn same_fringe(one: &Tree, other: &Tree) -> (bool, usize) {
    let visited = Cell::new(0);
    let same = coroutine::scope(|scope| {
        let leaves = scope.generator(|yielder| walk_leaves(one, &visited, yielder));
        leaves.eq(scope.generator(|yielder| walk_leaves(other, &visited, yielder)))
    });
    (same, visited.get())
}

fn compare_trees(out: &mut impl Write) -> io::Result<()> {
    let items: Vec<u32> = (1..=15).collect();
    let (balanced, leaning) = (Tree::balanced(&items), Tree::leaning(&items));
    let in_order =
        coroutine::scope(|scope| join(scope.generator(|yielder| walk(&balanced, yielder))));
    writeln!(out, "the tree in order: {in_order}")?;

    let (same, visited) = same_fringe(&balanced, &leaning);
    writeln!(out, "another shape: same fringe: {same}, nodes visited: {visited}")?;

    let mut changed = items;
    changed[2] = 33;
    let (same, visited) = same_fringe(&balanced, &Tree::leaning(&changed));
    writeln!(out, "another second leaf: same fringe: {same}, nodes visited: {visited}")
}

#[cfg(test)]
mod tests {
    // Both trees of 15 nodes are visited to the end: 30. With another second leaf, the balanced tree
    // is visited down its left edge to the leaf 1 (4 nodes) and at the leaf 3 (1 node), the leaning
    // one at its root, the leaf 1, the next fork and the leaf 33 (4 nodes): 9.
    const EXPECTED: &str = "\
Fibonacci: 0 1 1 2 3 5 8 13 21 34 55 89
the even ones: 0 2 8 34 144
primes: 2 3 5 7 11 13 17 19 23 29 31 37
primes from 200 on: 211 223 227
the tree in order: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
another shape: same fringe: true, nodes visited: 30
another second leaf: same fringe: false, nodes visited: 9
";

    #[test]
    fn prints_what_is_expected() {
        let mut out = Vec::new();
        super::run(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), EXPECTED);
    }
}
