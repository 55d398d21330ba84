//! What may be sent to another thread, and what may be shared, is exactly what std and crossbeam allow.
//!
//! The documentation of each type has the `compile_fail` examples. Here the same is asked of all types for all
//! kinds of contents, so that a bound that is too strict is found, too.

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;

use bine_sync::{broadcast, channel, mpsc, oneshot, watch};

/// Neither `Send` nor `Sync`.
type Neither = Rc<()>;
/// `Send` and not `Sync`.
type SendOnly = Cell<u8>;
/// `Sync` and not `Send`.
type SyncOnly = std::sync::MutexGuard<'static, u8>;
type Both = u8;

/// Asks the compiler for the auto traits of a type: where the inherent constant exists, it hides that of
/// the trait.
struct Of<T: ?Sized>(PhantomData<T>);

trait Otherwise {
    const SEND: bool = false;
    const SYNC: bool = false;
}

impl<T: ?Sized> Otherwise for Of<T> {}

impl<T: ?Sized + Send> Of<T> {
    const SEND: bool = true;
}

impl<T: ?Sized + Sync> Of<T> {
    const SYNC: bool = true;
}

/// Whether each type is `Send`, and whether it is `Sync`.
macro_rules! traits {
    ($($type:ty),* $(,)?) => { [$((Of::<$type>::SEND, Of::<$type>::SYNC)),*] };
}

/// [`traits`] of a type with contents that are both, `Send`, `Sync`, or neither, in this order.
macro_rules! for_all {
    ($($type:tt)::+ <$($lifetime:lifetime,)? _>) => {
        traits![
            $($type)::+<$($lifetime,)? Both>,
            $($type)::+<$($lifetime,)? SendOnly>,
            $($type)::+<$($lifetime,)? SyncOnly>,
            $($type)::+<$($lifetime,)? Neither>,
        ]
    };
}

const YES: (bool, bool) = (true, true);
const SENT: (bool, bool) = (true, false);
const SHARED: (bool, bool) = (false, true);
const NO: (bool, bool) = (false, false);

#[test]
fn the_question_is_answered() {
    assert_eq!(traits![Both, SendOnly, SyncOnly, Neither], [YES, SENT, SHARED, NO]);
}

#[test]
fn locks_are_as_stds() {
    assert_eq!(for_all!(bine_sync::Mutex<_>), for_all!(std::sync::Mutex<_>));
    assert_eq!(
        for_all!(bine_sync::MutexGuard<'static, _>),
        for_all!(std::sync::MutexGuard<'static, _>)
    );
    assert_eq!(for_all!(bine_sync::RwLock<_>), for_all!(std::sync::RwLock<_>));
    assert_eq!(
        for_all!(bine_sync::RwLockReadGuard<'static, _>),
        for_all!(std::sync::RwLockReadGuard<'static, _>)
    );
    assert_eq!(
        for_all!(bine_sync::RwLockWriteGuard<'static, _>),
        for_all!(std::sync::RwLockWriteGuard<'static, _>)
    );
    assert_eq!(for_all!(bine_sync::OnceLock<_>), for_all!(std::sync::OnceLock<_>));
    assert_eq!(for_all!(bine_sync::LazyLock<_>), for_all!(std::sync::LazyLock<_>));
    // What the initialiser holds: `LazyLock<_, F>`.
    assert_eq!(
        traits![
            bine_sync::LazyLock<Both, Both>,
            bine_sync::LazyLock<Both, SendOnly>,
            bine_sync::LazyLock<Both, SyncOnly>,
            bine_sync::LazyLock<Both, Neither>,
        ],
        traits![
            std::sync::LazyLock<Both, Both>,
            std::sync::LazyLock<Both, SendOnly>,
            std::sync::LazyLock<Both, SyncOnly>,
            std::sync::LazyLock<Both, Neither>,
        ],
    );
    assert_eq!(
        traits![
            bine_sync::Condvar,
            bine_sync::WaitTimeoutResult,
            bine_sync::Barrier,
            bine_sync::BarrierWaitResult,
            bine_sync::Once,
            bine_sync::OnceState,
        ],
        traits![
            std::sync::Condvar,
            std::sync::WaitTimeoutResult,
            std::sync::Barrier,
            std::sync::BarrierWaitResult,
            std::sync::Once,
            std::sync::OnceState,
        ],
    );
}

#[test]
fn a_guard_stays_on_its_thread() {
    assert_eq!(for_all!(bine_sync::MutexGuard<'static, _>), [SHARED, NO, SHARED, NO]);
    assert_eq!(for_all!(bine_sync::RwLockReadGuard<'static, _>), [SHARED, NO, SHARED, NO]);
    assert_eq!(for_all!(bine_sync::RwLockWriteGuard<'static, _>), [SHARED, NO, SHARED, NO]);
    assert_eq!(for_all!(watch::Ref<'static, _>), [SHARED, NO, SHARED, NO]);
}

#[test]
fn channels_with_one_receiver_are_as_stds() {
    assert_eq!(for_all!(mpsc::Sender<_>), for_all!(std::sync::mpsc::Sender<_>));
    assert_eq!(for_all!(mpsc::SyncSender<_>), for_all!(std::sync::mpsc::SyncSender<_>));
    assert_eq!(for_all!(mpsc::Receiver<_>), for_all!(std::sync::mpsc::Receiver<_>));
    assert_eq!(for_all!(mpsc::Iter<'static, _>), for_all!(std::sync::mpsc::Iter<'static, _>));
    assert_eq!(for_all!(mpsc::TryIter<'static, _>), for_all!(std::sync::mpsc::TryIter<'static, _>));
    assert_eq!(for_all!(mpsc::IntoIter<_>), for_all!(std::sync::mpsc::IntoIter<_>));
}

/// As of `crossbeam_channel` 0.5.
#[test]
fn channels_go_where_their_messages_may_go() {
    assert_eq!(for_all!(channel::Sender<_>), [YES, YES, NO, NO]);
    assert_eq!(for_all!(channel::Receiver<_>), [YES, YES, NO, NO]);
    assert_eq!(for_all!(channel::Iter<'static, _>), [YES, YES, NO, NO]);
    assert_eq!(for_all!(channel::TryIter<'static, _>), [YES, YES, NO, NO]);
    assert_eq!(for_all!(channel::IntoIter<_>), [YES, YES, NO, NO]);
    assert_eq!(traits![channel::Select<'static>, channel::SelectedOperation<'static>], [YES, NO]);
    assert_eq!(for_all!(channel::SendError<_>), [YES, SENT, SHARED, NO]);
    assert_eq!(for_all!(channel::TrySendError<_>), [YES, SENT, SHARED, NO]);
    assert_eq!(for_all!(channel::SendTimeoutError<_>), [YES, SENT, SHARED, NO]);
}

#[test]
fn values_for_one_or_for_all_go_where_they_may_be_had() {
    // One receiver has the message.
    assert_eq!(for_all!(oneshot::Sender<_>), [YES, YES, NO, NO]);
    assert_eq!(for_all!(oneshot::Receiver<_>), [YES, YES, NO, NO]);
    // All look at the value, or clone the message, at the same time.
    assert_eq!(for_all!(watch::Sender<_>), [YES, NO, NO, NO]);
    assert_eq!(for_all!(watch::Receiver<_>), [YES, NO, NO, NO]);
    assert_eq!(for_all!(broadcast::Sender<_>), [YES, NO, NO, NO]);
    assert_eq!(for_all!(broadcast::Receiver<_>), [YES, NO, NO, NO]);
}

#[test]
fn what_has_no_contents_goes_everywhere() {
    assert_eq!(
        traits![
            bine_sync::Semaphore,
            bine_sync::SemaphorePermit<'static>,
            bine_sync::OwnedSemaphorePermit,
            bine_sync::WaitGroup,
            bine_sync::Event,
            bine_sync::Notify,
            bine_sync::Condvar,
            bine_sync::Barrier,
            bine_sync::Once,
        ],
        [YES; 9],
    );
}
