//! A backend that costs little: the same response to every request head, keep-alive for ever.
//!
//! In: `backend LISTEN BODY_BYTES`. Out: traffic until it is killed. Requests have no body; several
//! in one read are answered by as many responses.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: backend LISTEN BODY_BYTES";
    let listen: SocketAddr = arguments.next().and_then(|a| a.parse().ok()).expect(usage);
    let size: usize = arguments.next().and_then(|a| a.parse().ok()).expect(usage);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ";
    let head = format!("{head}{size}\r\n\r\n");
    let response = [head.as_bytes(), &vec![b'x'; size]].concat();
    let listener = TcpListener::bind(listen).expect("the address is free");
    // std's backlog is 128, too short for hundreds of clients that come at once.
    // SAFETY: a plain call; listening again changes the backlog only.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 4096) }, 0, "listen");
    listener.set_nonblocking(true).expect("fcntl");
    // SAFETY: a plain call.
    let poll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let add = |fd: i32, token: u64| {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: the pointer is to an epoll_event; the descriptors are open.
        let result = unsafe { libc::epoll_ctl(poll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(result, 0, "epoll_ctl");
    };
    add(listener.as_raw_fd(), u64::MAX);
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    loop {
        // SAFETY: pointer and length are of the vector.
        let count = unsafe { libc::epoll_wait(poll, events.as_mut_ptr(), 512, -1) };
        for event in &events[..usize::try_from(count).unwrap_or(0)] {
            let token = event.u64;
            if token == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true).expect("setsockopt");
                    add(stream.as_raw_fd(), streams.len() as u64);
                    streams.push(Some(stream));
                }
                continue;
            }
            let slot = &mut streams[token as usize];
            if !slot.as_mut().is_some_and(|stream| serve(stream, &response)) {
                *slot = None;
            }
        }
    }
}

/// Answers what one read brought; large responses are written through, however long that takes.
fn serve(stream: &mut TcpStream, response: &[u8]) -> bool {
    let mut bytes = [0u8; 16384];
    let len = match stream.read(&mut bytes) {
        Ok(0) => return false,
        Ok(len) => len,
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    };
    let heads = bytes[..len].windows(4).filter(|w| *w == b"\r\n\r\n").count();
    (0..heads).all(|_| stream.write_all(response).is_ok())
}
