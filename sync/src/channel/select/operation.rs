//! What a select asks of a channel.
#![allow(unsafe_code)]

use std::time::Instant;

use super::parcel::Parcel;
use super::wait::Selection;
use crate::channel::error::{RecvError, SendError, TryRecvError};
use crate::channel::rendezvous::{self, Seat, Side};
use crate::channel::ring::NoSlot;
use crate::channel::{Flavor, Receiver, Sender, Source};
use crate::wait_list::{AnyPlace, WaitList};
use crate::waiter::Waiter;

/// What a select has settled on, so that its operation will not wait. It is used up by completing the
/// operation or by [`Operation::give_back`]. Dropped, it does neither.
pub(crate) enum Claim {
    /// Nothing: the operation never waits.
    Free,
    /// The other side is gone.
    Disconnected,
    /// A place, or a message, is reserved in the channel.
    Reserved,
    /// The message.
    Parcel(Parcel),
    /// A receiver that waits for what this select will send it.
    Receiver(*const Waiter<Seat>),
}

/// A waiter of a select, which stands in the list of one channel.
pub(super) enum Node {
    Listed(Waiter<AnyPlace>),
    Seated(Waiter<Seat>),
}

impl Node {
    /// Whether somebody has taken it out of its list.
    pub(super) fn was_taken(&self) -> bool {
        match self {
            Self::Listed(waiter) => waiter.token().is_some(),
            Self::Seated(waiter) => waiter.token().is_some(),
        }
    }
}

/// One side of one channel, for a select.
pub(super) trait Operation {
    /// Settles on this operation, unless it would wait now. Nothing of the select is in a list.
    fn claim(&self) -> Option<Claim>;

    /// Whether `claim` would succeed, for the select `me`: it does not meet itself.
    fn is_ready(&self, me: *const Selection) -> bool;

    /// Takes a claim back, which was this operation's.
    fn give_back(&self, claim: Claim);

    /// A waiter to enter with, if there is anything to wait for. `number` is the operation's in
    /// `selection`, which outlives the waiter.
    fn node(&self, selection: &Selection, number: usize, watches: bool) -> Option<Node>;

    /// Enters the list of this operation.
    ///
    /// # Safety
    /// - `node` is from [`node`](Self::node) of this operation, and new. It is not moved, nor freed,
    ///   nor its selection, before it has left.
    unsafe fn enter(&self, node: &Node, first: bool, watches: bool);

    /// Leaves the list. True if the waiter was notified, so that the select owes a look at the
    /// channel, and then a `pass_on`. Not to be called for a node that was claimed.
    fn leave(&self, node: &Node) -> bool;

    /// Notifies the next one who waits, if there is something to notify of.
    fn pass_on(&self);

    /// A number that has changed if the operation has become ready meanwhile.
    fn version(&self) -> usize {
        0
    }

    /// When the operation becomes ready by itself.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Stands where there is no operation.
pub(super) struct Nobody;

impl Operation for Nobody {
    fn claim(&self) -> Option<Claim> {
        None
    }

    fn is_ready(&self, _: *const Selection) -> bool {
        false
    }

    fn give_back(&self, _: Claim) {}

    fn node(&self, _: &Selection, _: usize, _: bool) -> Option<Node> {
        None
    }

    unsafe fn enter(&self, _: &Node, _: bool, _: bool) {}

    fn leave(&self, _: &Node) -> bool {
        false
    }

    fn pass_on(&self) {}
}

impl<T> Operation for Sender<T> {
    fn claim(&self) -> Option<Claim> {
        match &self.flavor {
            Flavor::Unbounded(_) => Some(Claim::Free),
            Flavor::Bounded(shared) => match shared.channel.reserve_place() {
                Ok(()) => Some(Claim::Reserved),
                Err(NoSlot::Blocked) => None,
                Err(NoSlot::Disconnected) => Some(Claim::Disconnected),
            },
            Flavor::Rendezvous(shared) => shared.channel.claim_receiver(),
        }
    }

    fn is_ready(&self, me: *const Selection) -> bool {
        match &self.flavor {
            Flavor::Unbounded(_) => true,
            Flavor::Bounded(shared) => shared.channel.may_send(),
            Flavor::Rendezvous(shared) => shared.channel.is_ready(Side::Senders, me),
        }
    }

    fn give_back(&self, claim: Claim) {
        match (claim, &self.flavor) {
            (Claim::Reserved, Flavor::Bounded(shared)) => shared.channel.give_back_place(),
            // SAFETY: given back once.
            (Claim::Receiver(receiver), _) => unsafe { rendezvous::part(receiver) },
            _ => {}
        }
    }

    fn node(&self, selection: &Selection, number: usize, watches: bool) -> Option<Node> {
        match &self.flavor {
            Flavor::Unbounded(_) => None,
            Flavor::Bounded(_) => Some(Node::Listed(Waiter::new(AnyPlace::NONE))),
            Flavor::Rendezvous(_) => {
                Some(Node::Seated(Waiter::new(Seat::of(selection, number, watches))))
            }
        }
    }

    unsafe fn enter(&self, node: &Node, first: bool, watches: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            match (&self.flavor, node) {
                (Flavor::Bounded(shared), Node::Listed(waiter)) => {
                    shared.channel.senders().enter(waiter, first);
                }
                (Flavor::Rendezvous(shared), Node::Seated(waiter)) => {
                    shared.channel.enter(Side::Senders, waiter, watches);
                }
                _ => unreachable!("{ALIEN}"),
            }
        }
    }

    fn leave(&self, node: &Node) -> bool {
        match (&self.flavor, node) {
            (Flavor::Bounded(shared), Node::Listed(waiter)) => {
                shared.channel.senders().leave(waiter)
            }
            (Flavor::Rendezvous(shared), Node::Seated(waiter)) => {
                shared.channel.leave(Side::Senders, waiter);
                false
            }
            _ => unreachable!("{ALIEN}"),
        }
    }

    fn pass_on(&self) {
        if let Flavor::Bounded(shared) = &self.flavor {
            pass_on(shared.channel.senders(), || shared.channel.room());
        }
    }

    fn version(&self) -> usize {
        self.flavor.version()
    }
}

impl<T> Sender<T> {
    /// Does what was claimed.
    pub(super) fn complete(&self, claim: Claim, message: T) -> Result<(), SendError<T>> {
        let sent = match (claim, &self.flavor) {
            (Claim::Free, Flavor::Unbounded(shared)) => shared.channel.send(message),
            (Claim::Reserved, Flavor::Bounded(shared)) => shared.channel.send_reserved(message),
            (Claim::Receiver(receiver), Flavor::Rendezvous(_)) => {
                // SAFETY: a receiver of this channel, and the claim is used up.
                unsafe { rendezvous::fulfil(receiver, message) };
                Ok(())
            }
            _ => Err(message),
        };
        sent.map_err(SendError)
    }
}

impl<T> Operation for Receiver<T> {
    fn claim(&self) -> Option<Claim> {
        let refused = match &self.source {
            Source::Channel(Flavor::Unbounded(shared)) => match shared.channel.reserve() {
                Ok(()) => return Some(Claim::Reserved),
                Err(refused) => refused,
            },
            Source::Channel(Flavor::Bounded(shared)) => match shared.channel.reserve_message() {
                Ok(()) => return Some(Claim::Reserved),
                Err(NoSlot::Blocked) => TryRecvError::Empty,
                Err(NoSlot::Disconnected) => TryRecvError::Disconnected,
            },
            Source::Channel(Flavor::Rendezvous(shared)) => match shared.channel.try_recv() {
                Ok(message) => return Some(Claim::Parcel(Parcel::new(message))),
                Err(refused) => refused,
            },
            Source::Timer(timer) => match timer.try_recv() {
                Ok(message) => return Some(Claim::Parcel(Parcel::new(message))),
                Err(refused) => refused,
            },
            Source::Never => TryRecvError::Empty,
        };
        refused.is_disconnected().then_some(Claim::Disconnected)
    }

    fn is_ready(&self, me: *const Selection) -> bool {
        match &self.source {
            Source::Channel(Flavor::Unbounded(shared)) => shared.channel.may_recv(),
            Source::Channel(Flavor::Bounded(shared)) => shared.channel.may_recv(),
            Source::Channel(Flavor::Rendezvous(shared)) => {
                shared.channel.is_ready(Side::Receivers, me)
            }
            Source::Timer(timer) => timer.is_due(),
            Source::Never => false,
        }
    }

    fn give_back(&self, claim: Claim) {
        match (claim, &self.source) {
            (Claim::Reserved, Source::Channel(Flavor::Unbounded(shared))) => {
                shared.channel.give_back();
            }
            (Claim::Reserved, Source::Channel(Flavor::Bounded(shared))) => {
                shared.channel.give_back_message();
            }
            (Claim::Parcel(parcel), Source::Channel(Flavor::Rendezvous(shared))) => {
                // SAFETY: made from a message of this channel.
                shared.channel.give_back(unsafe { parcel.open() });
            }
            (Claim::Parcel(_), Source::Timer(timer)) => timer.give_back(),
            _ => {}
        }
    }

    fn node(&self, selection: &Selection, number: usize, watches: bool) -> Option<Node> {
        match &self.source {
            Source::Channel(Flavor::Rendezvous(_)) => {
                Some(Node::Seated(Waiter::new(Seat::of(selection, number, watches))))
            }
            source => source.receivers().map(|_| Node::Listed(Waiter::new(AnyPlace::NONE))),
        }
    }

    unsafe fn enter(&self, node: &Node, first: bool, watches: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            match (&self.source, node) {
                (Source::Channel(Flavor::Rendezvous(shared)), Node::Seated(waiter)) => {
                    shared.channel.enter(Side::Receivers, waiter, watches);
                }
                (source, Node::Listed(waiter)) => {
                    source.receivers().expect(ALIEN).enter(waiter, first);
                }
                _ => unreachable!("{ALIEN}"),
            }
        }
    }

    fn leave(&self, node: &Node) -> bool {
        match (&self.source, node) {
            (Source::Channel(Flavor::Rendezvous(shared)), Node::Seated(waiter)) => {
                shared.channel.leave(Side::Receivers, waiter);
                false
            }
            (source, Node::Listed(waiter)) => source.receivers().expect(ALIEN).leave(waiter),
            _ => unreachable!("{ALIEN}"),
        }
    }

    fn pass_on(&self) {
        match &self.source {
            Source::Channel(Flavor::Unbounded(shared)) => {
                pass_on(shared.channel.receivers(), || shared.channel.backlog());
            }
            Source::Channel(Flavor::Bounded(shared)) => {
                pass_on(shared.channel.receivers(), || shared.channel.backlog());
            }
            Source::Timer(timer) => timer.pass_on(),
            Source::Channel(Flavor::Rendezvous(_)) | Source::Never => {}
        }
    }

    fn version(&self) -> usize {
        match &self.source {
            Source::Channel(flavor) => flavor.version(),
            Source::Timer(_) | Source::Never => 0,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.source {
            Source::Timer(timer) => timer.deadline(),
            _ => None,
        }
    }
}

impl<T> Flavor<T> {
    fn version(&self) -> usize {
        match self {
            Self::Unbounded(shared) => shared.channel.version(),
            Self::Bounded(shared) => shared.channel.version(),
            Self::Rendezvous(shared) => shared.channel.version(),
        }
    }
}

impl<T> Source<T> {
    /// The list of those who wait to receive, for channels that have a [`WaitList`] for them.
    fn receivers(&self) -> Option<&WaitList> {
        match self {
            Self::Channel(Flavor::Unbounded(shared)) => Some(shared.channel.receivers()),
            Self::Channel(Flavor::Bounded(shared)) => Some(shared.channel.receivers()),
            Self::Timer(timer) => Some(timer.receivers()),
            Self::Channel(Flavor::Rendezvous(_)) | Self::Never => None,
        }
    }
}

impl<T> Receiver<T> {
    /// Does what was claimed.
    pub(super) fn complete(&self, claim: Claim) -> Result<T, RecvError> {
        match (claim, &self.source) {
            (Claim::Reserved, Source::Channel(Flavor::Unbounded(shared))) => {
                Ok(shared.channel.recv_reserved())
            }
            (Claim::Reserved, Source::Channel(Flavor::Bounded(shared))) => {
                Ok(shared.channel.recv_reserved())
            }
            // SAFETY: made from a message of this channel.
            (Claim::Parcel(parcel), _) => Ok(unsafe { parcel.open() }),
            _ => Err(RecvError),
        }
    }
}

const ALIEN: &str = "a node belongs to the operation that it was made for";

fn pass_on(list: &WaitList, backlog: impl Fn() -> usize) {
    if backlog() > 0 {
        list.notify_one(backlog);
    }
}
