//! No descriptor left: listeners rest, nothing spins, and all is served when descriptors are back.
//!
//! A test binary of its own, since the limit is a process's.

#![allow(clippy::disallowed_methods, reason = "tests have threads of their own")]

#[path = "router/harness.rs"]
mod harness;

use harness::{Router, echo, plain, wait_for};
use std::fs::File;
use std::time::Instant;

fn cpu_ticks() -> u64 {
    // SAFETY: the pointer is to a tms.
    unsafe {
        let mut times: libc::tms = std::mem::zeroed();
        libc::times(&raw mut times);
        (times.tms_utime + times.tms_stime) as u64
    }
}

#[test]
fn accepting_rests_without_descriptors() {
    let router = Router::start(1, plain(&[echo("a")]));
    assert_eq!(router.connect().get("/").status(), 200);
    let mut waiting: Vec<_> = (0..8).map(|_| router.connect()).collect();
    wait_for("they are accepted", || router.counter("clients") >= 8);
    // Take every descriptor but two, which the next client and its connection to us get.
    let mut files = Vec::new();
    // SAFETY: the pointer is to an rlimit.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = 200;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    files.pop();
    // The client has the last descriptor; it waits in the backlog.
    let mut late = router.connect();
    late.send("GET /late HTTP/1.1\r\nHost: h\r\n\r\n");
    let accepted = router.counter("accepted");
    let (begun, before) = (Instant::now(), cpu_ticks());
    while begun.elapsed().as_millis() < 1_000 {
        // Those that are connected are served over the connection that the pool keeps.
        assert_eq!(waiting[0].get("/").status(), 200);
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let used = cpu_ticks() - before;
    assert!(used < 50, "{used} ticks of 10 ms in a second: somebody spins");
    assert_eq!(router.counter("accepted"), accepted);
    files.clear();
    assert_eq!(late.response().status(), 200);
    assert_eq!(waiting[7].get("/").status(), 200);
    drop((waiting, late));
    router.finish();
}
