//! `select!` and `select_biased!`.
//!
//! Both hand their arms to one macro, which takes the first arm off its list in each step. So that
//! any expression can stand for a channel, temporaries included, a step wraps what follows into a
//! `match` of that expression:
//!
//! ```text
//! match &first { channel => {
//!     let channel: &Receiver<_> = channel;          an identifier of this step's own (hygiene)
//!     match &second { channel => {
//!         ...
//!         choose an operation; match its index { n => complete it, then the body of arm n }
//!     }}
//! }}
//! ```
//!
//! Nothing of this is a closure or a loop, so that the bodies may return, break and continue; and
//! nothing that borrows the channels has a destructor, so that they may move them.

/// Waits until one of several channel operations is ready, and does it. If several are ready, one of
/// them is chosen at random ([`select_biased!`](crate::select_biased!) takes the first).
///
/// An operation is ready if it would not wait, also if it would fail because the channel is
/// disconnected. [`Select`](crate::channel::Select) is for operations that are not known when the
/// program is written, and has more about cost and cancellation.
///
/// # Arms
///
/// | arm | meaning |
/// |---|---|
/// | `recv(receiver) -> pattern => body` | receives; the pattern gets a `Result<T, RecvError>` |
/// | `send(sender, message) -> pattern => body` | sends; the pattern gets a `Result<(), SendError<T>>` |
/// | `default => body` | no operation is ready now |
/// | `default(timeout) => body` | no operation was ready for that long (a `Duration`) |
///
/// There is at most one `default`. `receiver` and `sender` are expressions: a handle, a reference
/// to one, or what dereferences to one. They are evaluated first, in order; what temporaries they make
/// lives to the end of the body. `message` is evaluated when the operation has been chosen, and not
/// before; until then the other side may have to wait, so it had better be quick. If it unwinds, or
/// returns, nothing is sent, and nothing is lost. Patterns must be irrefutable.
///
/// Arms are separated by commas. After a body in braces, and after the last one, the comma may be left
/// out. The bodies are of one type, which is that of the whole.
///
/// # Examples
/// ```
/// use bine_sync::channel::{select, unbounded};
///
/// let (numbers, received_numbers) = unbounded();
/// let (words, received_words) = unbounded();
/// numbers.send(1).unwrap();
///
/// select! {
///     recv(received_numbers) -> number => assert_eq!(number, Ok(1)),
///     send(words, "one") -> sent => {
///         sent.unwrap();
///         assert_eq!(received_words.recv(), Ok("one"));
///     }
/// }
/// ```
///
/// ```
/// use bine_sync::channel::{select, unbounded};
/// use std::time::Duration;
///
/// let (_sender, receiver) = unbounded::<i32>();
/// let found = select! {
///     recv(receiver) -> message => message.ok(),
///     default(Duration::from_millis(1)) => None,
/// };
/// assert_eq!(found, None);
/// ```
///
/// An operation that is there only sometimes:
/// ```
/// use bine_sync::channel::{never, select, unbounded};
///
/// let (sender, receiver) = unbounded();
/// sender.send(1).unwrap();
/// let other: Option<bine_sync::channel::Receiver<i32>> = None;
/// select! {
///     recv(receiver) -> message => assert_eq!(message, Ok(1)),
///     recv(other.as_ref().unwrap_or(&never())) -> _ => unreachable!(),
/// }
/// ```
///
/// # Errors
///
/// What is wrong is named when the program is compiled. A result that is not bound:
/// ```compile_fail
/// # let (_s, r) = bine_sync::channel::unbounded::<i32>();
/// bine_sync::select! { recv(r) => {} }
/// ```
/// A result where there is none:
/// ```compile_fail
/// bine_sync::select! { default -> result => {} }
/// ```
/// Two defaults:
/// ```compile_fail
/// # let (_s, r) = bine_sync::channel::unbounded::<i32>();
/// bine_sync::select! { recv(r) -> _ => {} default => {} default => {} }
/// ```
/// Nothing to wait for:
/// ```compile_fail
/// bine_sync::select! {}
/// ```
/// A body without a comma after it:
/// ```compile_fail
/// # let (_s, r) = bine_sync::channel::unbounded::<i32>();
/// bine_sync::select! { recv(r) -> _ => 1 default => 2 }
/// ```
/// A semicolon:
/// ```compile_fail
/// # let (_s, r) = bine_sync::channel::unbounded::<i32>();
/// bine_sync::select! { recv(r) -> _ => {}; default => {} }
/// ```
/// A send without a message, or a receive with one:
/// ```compile_fail
/// # let (s, _r) = bine_sync::channel::unbounded::<i32>();
/// bine_sync::select! { send(s) -> _ => {} }
/// ```
/// ```compile_fail
/// # let (_s, r) = bine_sync::channel::unbounded::<i32>();
/// bine_sync::select! { recv(r, 1) -> _ => {} }
/// ```
/// A sender that is to receive:
/// ```compile_fail,E0308
/// # let (s, _r) = bine_sync::channel::unbounded::<i32>();
/// bine_sync::select! { recv(s) -> _ => {} }
/// ```
/// A pattern that may not match:
/// ```compile_fail,E0005
/// # let (_s, r) = bine_sync::channel::unbounded::<i32>();
/// bine_sync::select! { recv(r) -> Ok(message) => drop(message) }
/// ```
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::__bine_select!(@arms [false] [] [0] [] $($arms)*)
    };
}

/// As [`select!`](crate::select!), which has the syntax; but if several operations are ready, it is
/// the one nearest to the top that is done.
///
/// # Examples
/// ```
/// use bine_sync::channel::{select_biased, unbounded};
///
/// let (urgent, urgent_receiver) = unbounded();
/// let (normal, normal_receiver) = unbounded();
/// normal.send(1).unwrap();
/// urgent.send(2).unwrap();
/// select_biased! {
///     recv(urgent_receiver) -> message => assert_eq!(message, Ok(2)),
///     recv(normal_receiver) -> _ => unreachable!(),
/// }
/// ```
#[macro_export]
macro_rules! select_biased {
    ($($arms:tt)*) => {
        $crate::__bine_select!(@arms [true] [] [0] [] $($arms)*)
    };
}

/// The two macros: `@arms [biased] [arms so far] [how many] [default] the rest`.
#[doc(hidden)]
#[macro_export]
macro_rules! __bine_select {
    // The next arm receives. Four ways to end a body.
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        recv($channel:expr $(,)?) -> $result:pat => $body:block, $($rest:tt)*) => {
        $crate::__bine_select!(@recv $biased $arms $n $default $channel, $result, $body, $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        recv($channel:expr $(,)?) -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::__bine_select!(@recv $biased $arms $n $default $channel, $result, $body, $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        recv($channel:expr $(,)?) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::__bine_select!(@recv $biased $arms $n $default $channel, $result, $body, $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        recv($channel:expr $(,)?) -> $result:pat => $body:expr) => {
        $crate::__bine_select!(@recv $biased $arms $n $default $channel, $result, $body,)
    };
    (@recv $biased:tt [$($arms:tt)*] [$($n:tt)*] $default:tt
        $channel:expr, $result:pat, $body:expr, $($rest:tt)*) => {
        match &$channel {
            channel => {
                let channel: &$crate::channel::Receiver<_> = channel;
                $crate::__bine_select!(@arms $biased
                    [$($arms)* (recv channel [$($n)*] () $result => $body)]
                    [$($n)* + 1] $default $($rest)*)
            }
        }
    };

    // It sends.
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        send($channel:expr, $message:expr $(,)?) -> $result:pat => $body:block, $($rest:tt)*) => {
        $crate::__bine_select!(@send $biased $arms $n $default
            $channel, $message, $result, $body, $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        send($channel:expr, $message:expr $(,)?) -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::__bine_select!(@send $biased $arms $n $default
            $channel, $message, $result, $body, $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        send($channel:expr, $message:expr $(,)?) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::__bine_select!(@send $biased $arms $n $default
            $channel, $message, $result, $body, $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        send($channel:expr, $message:expr $(,)?) -> $result:pat => $body:expr) => {
        $crate::__bine_select!(@send $biased $arms $n $default
            $channel, $message, $result, $body,)
    };
    (@send $biased:tt [$($arms:tt)*] [$($n:tt)*] $default:tt
        $channel:expr, $message:expr, $result:pat, $body:expr, $($rest:tt)*) => {
        match &$channel {
            channel => {
                let channel: &$crate::channel::Sender<_> = channel;
                $crate::__bine_select!(@arms $biased
                    [$($arms)* (send channel [$($n)*] ($message) $result => $body)]
                    [$($n)* + 1] $default $($rest)*)
            }
        }
    };

    // It is the default.
    (@arms $biased:tt $arms:tt $n:tt []
        default $(($($timeout:expr $(,)?)?))? => $body:block, $($rest:tt)*) => {
        $crate::__bine_select!(@arms $biased $arms $n [($($($timeout)?)?) $body] $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt []
        default $(($($timeout:expr $(,)?)?))? => $body:block $($rest:tt)*) => {
        $crate::__bine_select!(@arms $biased $arms $n [($($($timeout)?)?) $body] $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt []
        default $(($($timeout:expr $(,)?)?))? => $body:expr, $($rest:tt)*) => {
        $crate::__bine_select!(@arms $biased $arms $n [($($($timeout)?)?) $body] $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt []
        default $(($($timeout:expr $(,)?)?))? => $body:expr) => {
        $crate::__bine_select!(@arms $biased $arms $n [($($($timeout)?)?) $body])
    };

    // No arms are left.
    (@arms $biased:tt [] $n:tt []) => {
        ::core::compile_error!("`select!` without arms would wait for ever")
    };
    (@arms [$biased:expr] [$(($kind:ident $channel:ident [$($n:tt)*] $($arm:tt)*))+] $count:tt []) => {{
        let selected = $crate::channel::macro_support::wait(
            &mut [$($crate::channel::macro_support::$kind($channel, $($n)*)),+],
            $biased,
        );
        $crate::__bine_select!(@finish selected $(($kind $channel [$($n)*] $($arm)*))+)
    }};
    (@arms [$biased:expr] [$(($kind:ident $channel:ident [$($n:tt)*] $($arm:tt)*))*] $count:tt
        [($($timeout:expr)?) $default:expr]) => {
        match $crate::channel::macro_support::choose(
            &mut [$($crate::channel::macro_support::$kind($channel, $($n)*)),*],
            $biased,
            $crate::__bine_select!(@limit $($timeout)?),
        ) {
            ::core::option::Option::Some(selected) => {
                $crate::__bine_select!(@finish selected $(($kind $channel [$($n)*] $($arm)*))*)
            }
            ::core::option::Option::None => $default,
        }
    };
    (@limit) => {
        $crate::channel::macro_support::Limit::Now
    };
    (@limit $timeout:expr) => {
        $crate::channel::macro_support::timeout($timeout)
    };
    (@finish $selected:ident
        $(($kind:ident $channel:ident [$($n:tt)*] ($($message:expr)?) $result:pat => $body:expr))*) => {
        match $selected.index() {
            $(index if index == $($n)* => {
                let $result =
                    $crate::__bine_select!(@complete $kind $selected $channel $($message)?);
                $body
            })*
            _ => $crate::channel::macro_support::no_such_arm(),
        }
    };
    (@complete recv $selected:ident $channel:ident) => {
        $selected.guard().recv($channel)
    };
    (@complete send $selected:ident $channel:ident $message:expr) => {
        $selected.lenient_guard().send($channel, $message)
    };

    // What is wrong.
    (@arms $biased:tt $arms:tt $n:tt [$($before:tt)+] default $($rest:tt)*) => {
        ::core::compile_error!("there is more than one `default` arm")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt default $(($($timeout:tt)*))? -> $($rest:tt)*) => {
        ::core::compile_error!("expected `=>` after `default`: it has no result")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt recv($($args:tt)*) => $($rest:tt)*) => {
        ::core::compile_error!("expected `-> pattern =>` after `recv(..)`")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt send($($args:tt)*) => $($rest:tt)*) => {
        ::core::compile_error!("expected `-> pattern =>` after `send(..)`")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        recv($channel:expr $(,)?) -> $result:pat => $($rest:tt)*) => {
        $crate::__bine_select!(@body $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt
        send($channel:expr, $message:expr $(,)?) -> $result:pat => $($rest:tt)*) => {
        $crate::__bine_select!(@body $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt default $(($($timeout:expr)?))? => $($rest:tt)*) => {
        $crate::__bine_select!(@body $($rest)*)
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt recv($($args:tt)*) -> $($rest:tt)*) => {
        ::core::compile_error!("expected `recv(receiver) -> pattern => body`")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt send($($args:tt)*) -> $($rest:tt)*) => {
        ::core::compile_error!("expected `send(sender, message) -> pattern => body`")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt default $($rest:tt)*) => {
        ::core::compile_error!("expected `default => body` or `default(timeout) => body`")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt recv $($rest:tt)*) => {
        ::core::compile_error!("expected `recv(receiver) -> pattern => body`")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt send $($rest:tt)*) => {
        ::core::compile_error!("expected `send(sender, message) -> pattern => body`")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt ; $($rest:tt)*) => {
        ::core::compile_error!("expected a comma between two arms, or nothing, found `;`")
    };
    (@arms $biased:tt $arms:tt $n:tt $default:tt $found:tt $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "expected `recv`, `send` or `default`, found `",
            ::core::stringify!($found),
            "`",
        ))
    };
    (@body $(,)?) => {
        ::core::compile_error!("expected a body after `=>`")
    };
    (@body $body:expr; $($rest:tt)*) => {
        ::core::compile_error!("expected a comma after the body of the arm, found `;`")
    };
    (@body $($rest:tt)*) => {
        ::core::compile_error!("expected a comma after the body of the arm")
    };
}
