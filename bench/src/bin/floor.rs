//! The floor: what a proxy costs that parses nothing. Two reads and two writes a request, and a
//! share of an epoll_wait; each client has an upstream connection of its own.
//!
//! In: `floor LISTEN UPSTREAM`. Out: traffic until it is killed. It gives up on a connection that
//! takes less than it is given: with small bodies that does not happen, and it keeps the floor low.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

struct Poll(i32);

impl Poll {
    fn add(&self, fd: i32, token: u64) {
        let events = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: the pointer is to an epoll_event; the descriptors are open.
        let result =
            unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(result, 0, "epoll_ctl");
    }

    fn wait(&self, events: &mut [libc::epoll_event]) -> usize {
        // SAFETY: pointer and length are of the slice.
        let count = unsafe {
            libc::epoll_wait(self.0, events.as_mut_ptr(), events.len() as i32, -1)
        };
        usize::try_from(count).unwrap_or(0)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut address = || -> SocketAddr {
        arguments.next().and_then(|a| a.parse().ok()).expect("usage: floor LISTEN UPSTREAM")
    };
    let (listen, upstream) = (address(), address());
    let listener = TcpListener::bind(listen).expect("the address is free");
    // std's backlog is 128, too short for hundreds of clients that come at once.
    // SAFETY: a plain call; listening again changes the backlog only.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 4096) }, 0, "listen");
    listener.set_nonblocking(true).expect("fcntl");
    // SAFETY: a plain call.
    let poll = Poll(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
    assert!(poll.0 >= 0, "epoll_create1");
    poll.add(listener.as_raw_fd(), u64::MAX);
    // Connection i and i ^ 1 are a pair.
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0u8; 1 << 16];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    loop {
        let count = poll.wait(&mut events);
        for event in &events[..count] {
            let token = event.u64;
            if token == u64::MAX {
                accept(&poll, &listener, upstream, &mut streams);
                continue;
            }
            let (from, to) = (token as usize, token as usize ^ 1);
            if !forward(&mut streams, from, to, &mut buffer) {
                (streams[from], streams[to]) = (None, None);
            }
        }
    }
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    upstream: SocketAddr,
    streams: &mut Vec<Option<TcpStream>>,
) {
    while let Ok((client, _)) = listener.accept() {
        let Ok(backend) = TcpStream::connect(upstream) else { continue };
        for stream in [client, backend] {
            stream.set_nonblocking(true).expect("fcntl");
            stream.set_nodelay(true).expect("setsockopt");
            poll.add(stream.as_raw_fd(), streams.len() as u64);
            streams.push(Some(stream));
        }
    }
}

/// One read, one write; false when the pair is over.
fn forward(streams: &mut [Option<TcpStream>], from: usize, to: usize, buffer: &mut [u8]) -> bool {
    loop {
        let Some(stream) = &mut streams[from] else { return true };
        let len = match stream.read(buffer) {
            Ok(0) => return false,
            Ok(len) => len,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let Some(other) = &mut streams[to] else { return false };
        if !matches!(other.write(&buffer[..len]), Ok(written) if written == len) {
            return false;
        }
        if len < buffer.len() {
            return true;
        }
    }
}
