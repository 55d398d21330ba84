//! The system calls of the hot paths: each returns its result or `-errno`, by value.
//!
//! `__errno_location()` is declared to the optimizer as a pure function, so a function that makes
//! a system call, parks, and makes another may keep the address of the first OS thread's errno
//! across the park, and a green thread may wake up on another one. Hence each function here is
//! out of line and reads errno before it returns; nothing that parks is ever inlined into it.
//! [`out_of_line`] does the same for calls into std and socket2, which read errno themselves.
//!
//! EINTR is retried here and nowhere else.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockAddr;

/// Flags of every receive: a descriptor that was made blocking behind our back, through a
/// duplicate, still does not block the OS thread.
const RECV_FLAGS: libc::c_int = libc::MSG_DONTWAIT;
/// Flags of every send; a peer that is gone is an error and not a signal.
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
/// Most buffers that one vectored call takes (`UIO_MAXIOV`); std passes on no more either.
const MAX_IOV: usize = 1024;
/// Most bytes that one call is asked for, as in std.
const MAX_LEN: usize = isize::MAX as usize;

/// What a call returned, with errno in place of -1.
#[inline(always)]
fn errno_by_value(result: isize) -> isize {
    if result >= 0 {
        return result;
    }
    // SAFETY: errno's address is valid in the thread that asks for it.
    -(unsafe { *libc::__errno_location() } as isize)
}

/// Repeats `call` while it says EINTR. To be inlined into functions that are not.
#[inline(always)]
fn retry(mut call: impl FnMut() -> isize) -> isize {
    loop {
        let result = errno_by_value(call());
        if result != -(libc::EINTR as isize) {
            return result;
        }
    }
}

/// Turns a result of this module into std's.
pub(crate) fn to_result(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result as i32))
}

/// Calls `f` out of line: whatever errno it reads is not read before or after it by mistake.
#[inline(never)]
pub(crate) fn out_of_line<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[inline(never)]
pub(crate) fn recv(fd: RawFd, buf: &mut [u8], flags: libc::c_int) -> isize {
    let len = buf.len().min(MAX_LEN);
    // SAFETY: `buf` is valid for writes of `len` bytes.
    retry(|| unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), len, flags | RECV_FLAGS) })
}

#[inline(never)]
pub(crate) fn send(fd: RawFd, buf: &[u8]) -> isize {
    let len = buf.len().min(MAX_LEN);
    // SAFETY: `buf` is valid for reads of `len` bytes.
    retry(|| unsafe { libc::send(fd, buf.as_ptr().cast(), len, SEND_FLAGS) })
}

#[inline(never)]
pub(crate) fn recv_vectored(fd: RawFd, bufs: &mut [io::IoSliceMut<'_>]) -> isize {
    let mut message = empty_message();
    // An `IoSliceMut` has the layout of an `iovec`; std guarantees it on Unix.
    message.msg_iov = bufs.as_mut_ptr().cast();
    message.msg_iovlen = bufs.len().min(MAX_IOV) as _;
    // SAFETY: `message` refers to `msg_iovlen` buffers that are valid for writes, and to nothing
    // else.
    retry(|| unsafe { libc::recvmsg(fd, &raw mut message, RECV_FLAGS) })
}

#[inline(never)]
pub(crate) fn send_vectored(fd: RawFd, bufs: &[io::IoSlice<'_>]) -> isize {
    let mut message = empty_message();
    // An `IoSlice` has the layout of an `iovec`; std guarantees it on Unix. Not written to.
    message.msg_iov = bufs.as_ptr().cast_mut().cast();
    message.msg_iovlen = bufs.len().min(MAX_IOV) as _;
    // SAFETY: `message` refers to `msg_iovlen` buffers that are valid for reads, and to nothing
    // else.
    retry(|| unsafe { libc::sendmsg(fd, &raw const message, SEND_FLAGS) })
}

/// Sends to `address`; returns as [`send`].
#[inline(never)]
pub(crate) fn send_to(fd: RawFd, buf: &[u8], address: &SockAddr) -> isize {
    let len = buf.len().min(MAX_LEN);
    // SAFETY: `buf` is valid for reads of `len` bytes, and `address` is a valid address of the
    // length that it says.
    retry(|| unsafe {
        let to = address.as_ptr().cast();
        libc::sendto(fd, buf.as_ptr().cast(), len, SEND_FLAGS, to, address.len())
    })
}

/// Receives, and stores whence in `from`; returns as [`recv`].
#[inline(never)]
pub(crate) fn recv_from(
    fd: RawFd,
    buf: &mut [u8],
    flags: libc::c_int,
    from: &mut Option<SockAddr>,
) -> isize {
    let room = buf.len().min(MAX_LEN);
    let mut storage = socket2::SockAddrStorage::zeroed();
    let mut len = storage.size_of();
    let result = retry(|| {
        len = storage.size_of();
        // SAFETY: `buf` is valid for writes of `room` bytes; `storage` is as large as any address
        // and `len` says how large.
        unsafe {
            let address = storage.view_as::<libc::sockaddr>();
            let buf = buf.as_mut_ptr().cast();
            libc::recvfrom(fd, buf, room, flags | RECV_FLAGS, address, &raw mut len)
        }
    });
    if result >= 0 {
        // SAFETY: the kernel has filled `len` bytes of `storage`; where the sender has no name,
        // none, and the zeroes before are an unspecified address.
        *from = Some(unsafe { SockAddr::new(storage, len) });
    }
    result
}

/// Who is at the other end of a Unix connection (SO_PEERCRED).
#[inline(never)]
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: `peer` is valid for writes of `len` bytes, and any bytes are a `ucred`.
    to_result(retry(|| unsafe {
        let value = (&raw mut peer).cast();
        let name = libc::SO_PEERCRED;
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, &raw mut len) as isize
    }))?;
    Ok(peer)
}

/// Asks which of `events` (of poll(2)) are there, without waiting. An error or a hang-up counts.
#[inline(never)]
pub(crate) fn poll_now(fd: RawFd, events: libc::c_short) -> isize {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: `poll` is one valid entry.
    match retry(|| unsafe { libc::poll(&raw mut poll, 1, 0) as isize }) {
        error @ ..0 => error,
        _ => poll.revents as isize,
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a `msghdr` is made of integers and pointers, for which zero is valid.
    unsafe { std::mem::zeroed() }
}

/// An accepted connection: non-blocking, close-on-exec.
pub(crate) struct Accepted {
    pub(crate) fd: OwnedFd,
    pub(crate) peer: SockAddr,
}

/// Accepts into `accepted`; returns 0 or `-errno`.
#[inline(never)]
pub(crate) fn accept(fd: RawFd, accepted: &mut Option<Accepted>) -> isize {
    let mut storage = socket2::SockAddrStorage::zeroed();
    let mut len = storage.size_of();
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let result = retry(|| {
        len = storage.size_of();
        // SAFETY: `storage` is as large as any address and `len` says how large.
        unsafe {
            let address = storage.view_as::<libc::sockaddr>();
            libc::accept4(fd, address, &raw mut len, flags) as isize
        }
    });
    if result < 0 {
        return result;
    }
    // SAFETY: accept4 has just returned this descriptor, which nobody else owns; the kernel has
    // filled `len` bytes of `storage` (more than it has room for is impossible, see above).
    *accepted = Some(unsafe {
        Accepted { fd: OwnedFd::from_raw_fd(result as RawFd), peer: SockAddr::new(storage, len) }
    });
    0
}

#[inline(never)]
pub(crate) fn connect(fd: RawFd, address: &SockAddr) -> isize {
    // SAFETY: `address` is a valid address of the length that it says.
    retry(|| unsafe { libc::connect(fd, address.as_ptr().cast(), address.len()) as isize })
}

#[inline(never)]
pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = to_result(retry(|| unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) as isize }))?;
    // SAFETY: the kernel has just returned this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Adds `fd` to `epoll`; its events carry `data`.
#[inline(never)]
pub(crate) fn epoll_add(epoll: RawFd, fd: RawFd, interest: u32, data: u64) -> isize {
    let mut event = libc::epoll_event { events: interest, u64: data };
    // SAFETY: `event` is valid for the call, which does not keep its address.
    retry(|| unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) as isize })
}

/// Removes `fd` from `epoll`.
#[inline(never)]
pub(crate) fn epoll_delete(epoll: RawFd, fd: RawFd) -> isize {
    // SAFETY: the kernel ignores the event pointer of a removal.
    retry(|| unsafe {
        libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) as isize
    })
}

/// Room for `N` events.
pub(crate) struct Events<const N: usize>([MaybeUninit<libc::epoll_event>; N]);

impl<const N: usize> Events<N> {
    pub(crate) const fn new() -> Self {
        Self([MaybeUninit::uninit(); N])
    }

    /// Waits for events, without an end if there is no `timeout`, and returns them. There may be none
    /// before the timeout has passed, if a signal came.
    #[inline(never)]
    pub(crate) fn wait(
        &mut self,
        epoll: RawFd,
        timeout: Option<Duration>,
    ) -> io::Result<&[libc::epoll_event]> {
        let count = match timeout {
            None => self.wait_millis(epoll, -1),
            Some(Duration::ZERO) => self.wait_millis(epoll, 0),
            Some(timeout) => self.wait_for(epoll, timeout),
        };
        let count = to_result(count)?;
        // SAFETY: the kernel has written the first `count` events.
        Ok(unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), count) })
    }

    fn wait_millis(&mut self, epoll: RawFd, timeout: libc::c_int) -> isize {
        let room = self.0.as_mut_ptr().cast();
        // SAFETY: `room` has room for `N` events.
        retry(|| unsafe { libc::epoll_wait(epoll, room, N as libc::c_int, timeout) as isize })
    }

    /// To the nanosecond. Before Linux 5.11 by way of poll(2), of which an epoll instance is a file as any.
    fn wait_for(&mut self, epoll: RawFd, timeout: Duration) -> isize {
        /// The kernel, or what filters system calls, does not know `epoll_pwait2`.
        static UNKNOWN: AtomicBool = AtomicBool::new(false);
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let (room, timeout) = (self.0.as_mut_ptr(), &raw const timeout);
        // Relaxed: a hint.
        if !UNKNOWN.load(Ordering::Relaxed) {
            // SAFETY: `room` has room for `N` events, and `timeout` is valid; there is no signal mask.
            let result = errno_by_value(unsafe {
                let mask = std::ptr::null::<libc::sigset_t>();
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    epoll,
                    room,
                    N as libc::c_int,
                    timeout,
                    mask,
                    8usize,
                ) as isize
            });
            match -result as libc::c_int {
                libc::ENOSYS | libc::EPERM => UNKNOWN.store(true, Ordering::Relaxed),
                libc::EINTR => return 0,
                _ => return result,
            }
        }
        let mut poll = libc::pollfd { fd: epoll, events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` is one valid entry, and `timeout` is valid; there is no signal mask.
        unsafe { libc::ppoll(&raw mut poll, 1, timeout, std::ptr::null()) };
        self.wait_millis(epoll, 0)
    }
}

/// Restores a thread's signal mask when dropped.
pub(crate) struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    /// Blocks all signals in the calling OS thread, and in threads that it starts.
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: `sigfillset` fills `all` before it is read, and `pthread_sigmask`, which cannot
        // fail with these arguments, fills `before`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init() }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `before` is a mask that the kernel has given.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

/// A new non-blocking eventfd.
#[inline(never)]
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
    // SAFETY: no memory is involved.
    let fd = to_result(retry(|| unsafe { libc::eventfd(0, flags) as isize }))?;
    // SAFETY: the kernel has just returned this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Adds one to an eventfd. Async-signal-safe.
pub(crate) fn eventfd_add(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: `one` is valid for reads of its eight bytes. The call can fail only where the
    // counter is at its maximum, and then its reader has been told long ago.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}
