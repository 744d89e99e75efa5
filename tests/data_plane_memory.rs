//! The data plane takes no memory after its start: a counting allocator around a worker thread that
//! serves, opens and closes connections, swaps and fails.
//!
//! A test binary of its own, since an allocator is a process's.

#![allow(clippy::disallowed_methods, reason = "tests have threads of their own")]

#[path = "router/harness.rs"]
mod harness;

use harness::{Client, Router, echo, free_port, plain, wait_for};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

static CALLS: AtomicU64 = AtomicU64::new(0);

struct Counting;

impl Counting {
    fn count() {
        if IS_WORKER.with(Cell::get) {
            CALLS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Counting::count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn serving_allocates_nothing() {
    let backend = echo("a");
    let gone = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut router = Router::watched(1, 256, 16, || IS_WORKER.set(true), plain(&[backend]));
    let port = router.port;
    let body = "x".repeat(200_000);
    let mut kept = router.connect();
    for n in 0..300 {
        assert_eq!(kept.get("/kept").status(), 200);
        let mut fresh = router.connect();
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
        fresh.send(head + &body);
        assert_eq!(fresh.response().body.len(), "a POST / HTTP/1.1\n".len() + body.len());
        let mut bad = router.connect();
        bad.send("nonsense\r\n\r\n");
        assert_eq!(bad.response().status(), 400);
        if n % 10 == 0 {
            router.swap(|s| plain(&[gone])(s, port));
            assert_eq!(kept.get("/gone").status(), 503);
            router.swap(|s| plain(&[backend, gone])(s, port));
        }
    }
    let idle: Vec<Client> = (0..50).map(|_| router.connect()).collect();
    wait_for("all are accepted", || router.counter("accepted") >= 650);
    assert_eq!(CALLS.load(Ordering::SeqCst), 0, "calls of the allocator by the worker");
    drop((kept, idle));
    router.finish();
    // The count counts: the worker's tables were given back at its end.
    assert!(CALLS.load(Ordering::SeqCst) > 0);
}
