//! Binary trees of tasks, which show what more workers are good for: one of tasks that compute, and one of
//! tasks that pass on messages.

use std::time::Instant;

use super::{Blocking, join_all};
use crate::figures::{Figures, ns_each};
use crate::workload::{Size, burn};

/// A tree of which each of the `tasks` leaves computes `rounds` steps. A task spawns one half and does the
/// other itself; the result is how many leaves there are.
pub(super) fn fork_join<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    assert_eq!(subtree::<B>(0, size.tasks as u64, size.rounds), size.tasks as u64);
    Figures::one("ms", start.elapsed().as_secs_f64() * 1e3)
}

fn subtree<B: Blocking>(first: u64, leaves: u64, steps: usize) -> u64 {
    if leaves == 1 {
        return burn(first, steps);
    }
    let half = leaves / 2;
    let left = B::spawn(move || subtree::<B>(first, half, steps));
    subtree::<B>(first + half, leaves - half, steps) + B::join(left)
}

/// A tree of which each of the `tasks` leaves sends the numbers below `rounds` upwards, on a channel of 16
/// places; each inner task receives one from either child and sends the sum.
pub(super) fn channel_tree<B: Blocking>(size: Size) -> Figures {
    let start = Instant::now();
    let mut handles = Vec::with_capacity(2 * size.tasks);
    let leaf = |_| {
        let (sender, receiver) = B::bounded(16);
        handles.push(B::spawn(move || {
            (0..size.rounds as u64).for_each(|number| B::send_any(&sender, number));
            0
        }));
        receiver
    };
    let mut level: Vec<B::ManyReceiver> = (0..size.tasks).map(leaf).collect();
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len() / 2);
        let mut children = level.into_iter();
        while let (Some(left), Some(right)) = (children.next(), children.next()) {
            let (sender, receiver) = B::bounded(16);
            handles.push(B::spawn(move || {
                for _ in 0..size.rounds {
                    B::send_any(&sender, receive::<B>(&left) + receive::<B>(&right));
                }
                0
            }));
            above.push(receiver);
        }
        level = above;
    }
    for number in 0..size.rounds as u64 {
        assert_eq!(receive::<B>(&level[0]), number * size.tasks as u64);
    }
    join_all::<B>(handles);
    Figures::one("ns", ns_each(start, (2 * size.tasks - 1) * size.rounds))
}

fn receive<B: Blocking>(receiver: &B::ManyReceiver) -> u64 {
    B::receive_any(receiver).expect("the sender sends all")
}
