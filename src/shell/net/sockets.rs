//! Sockets made with the options a router needs, without allocation.
//!
//! In: addresses. Out: mio's sockets, or the error number. What a listener has set (buffer sizes,
//! TCP_NODELAY) its connections inherit, so that accepting costs one system call.

use crate::limits::{Capacities, LISTEN_BACKLOG};
use crate::router::io::Errno;
use core::mem::size_of;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use libc::{c_int, c_void, sockaddr_storage, socklen_t};
use mio::net::{TcpListener, TcpStream};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The error number of the last system call of this thread.
fn last_errno() -> Errno {
    errno_of(&io::Error::last_os_error())
}

/// The error number of an error that came from the system.
pub fn errno_of(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

fn check(result: c_int) -> Result<c_int, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn set(fd: c_int, level: c_int, name: c_int, value: c_int) -> Result<(), Errno> {
    let len = size_of::<c_int>() as socklen_t;
    // SAFETY: the pointer and length describe one c_int, which outlives the call.
    let result =
        unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast::<c_void>(), len) };
    check(result).map(|_| ())
}

/// A TCP socket: not blocking, without Nagle's delay, with bounded kernel buffers.
fn socket(address: &SocketAddr, buffer_bytes: u32) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a plain call; the descriptor it returns is ours alone.
    let socket = unsafe { OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?) };
    let fd = socket.as_raw_fd();
    set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, buffer_bytes as c_int)?;
    set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, buffer_bytes as c_int)?;
    set(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    Ok(socket)
}

/// Calls `run` with the address as the system wants it.
fn with_sockaddr<R>(
    address: &SocketAddr,
    run: impl FnOnce(*const libc::sockaddr, socklen_t) -> R,
) -> R {
    // SAFETY: all-zero bytes are a sockaddr_storage.
    let mut storage: sockaddr_storage = unsafe { core::mem::zeroed() };
    let place = &raw mut storage;
    let len = match address {
        SocketAddr::V4(v4) => {
            let out = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large enough and aligned for every address family.
            unsafe { place.cast::<libc::sockaddr_in>().write(out) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let out = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(out) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    run(place.cast::<libc::sockaddr>(), len as socklen_t)
}

/// Listens. SO_REUSEPORT lets each worker have a listener of its own at the same address.
pub fn listen(address: &SocketAddr, buffer_bytes: u32) -> Result<TcpListener, Errno> {
    match listen_at(address, buffer_bytes) {
        // A kernel without IPv6: any address is any of IPv4.
        Err(Errno(libc::EAFNOSUPPORT)) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            listen_at(&any, buffer_bytes)
        }
        result => result,
    }
}

fn listen_at(address: &SocketAddr, buffer_bytes: u32) -> Result<TcpListener, Errno> {
    let socket = socket(address, buffer_bytes)?;
    let fd = socket.as_raw_fd();
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    if address.is_ipv6() {
        // `::` means any address of either family.
        let only = c_int::from(!address.ip().is_unspecified());
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only)?;
    }
    // SAFETY: pointer and length are of an address that outlives the call.
    check(with_sockaddr(address, |at, len| unsafe { libc::bind(fd, at, len) }))?;
    // SAFETY: a plain call.
    check(unsafe { libc::listen(fd, LISTEN_BACKLOG as c_int) })?;
    Ok(TcpListener::from_std(std::net::TcpListener::from(socket)))
}

/// Begins to connect.
pub fn connect(address: &SocketAddr, buffer_bytes: u32) -> Result<TcpStream, Errno> {
    let socket = socket(address, buffer_bytes)?;
    let fd = socket.as_raw_fd();
    // SAFETY: pointer and length are of an address that outlives the call.
    let result = with_sockaddr(address, |at, len| unsafe { libc::connect(fd, at, len) });
    match check(result) {
        Ok(_) | Err(Errno(libc::EINPROGRESS)) => {}
        Err(errno) => return Err(errno),
    }
    Ok(TcpStream::from_std(std::net::TcpStream::from(socket)))
}

/// Makes the coming close a reset.
pub fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let len = size_of::<libc::linger>() as socklen_t;
    let value = (&raw const linger).cast::<c_void>();
    // SAFETY: the pointer and length describe one linger, which outlives the call. It may fail on a
    // connection that is gone, which is a reset already.
    let _ = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len)
    };
}

/// Descriptors that so many workers need at these capacities: connections, listeners (those of two
/// Snapshots may be open at once), poll and waker; and some for the rest of the process.
pub fn descriptors_needed(capacities: &Capacities, workers: u32) -> u64 {
    let per_worker = capacities.max_connections + 2 * capacities.max_config_binds + 2;
    u64::from(workers) * u64::from(per_worker) + 64
}

/// Raises the soft limit of descriptors to what is needed, if the hard limit allows; else what it
/// allows. To be called before any thread.
pub fn raise_descriptor_limit(needed: u64) -> Result<(), u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to an rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(0);
    }
    if limit.rlim_cur >= needed {
        return Ok(());
    }
    if limit.rlim_max < needed {
        return Err(limit.rlim_max);
    }
    limit.rlim_cur = needed;
    // SAFETY: as above.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if result == 0 { Ok(()) } else { Err(limit.rlim_max) }
}
