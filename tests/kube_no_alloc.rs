//! The watch thread takes no memory after start: counted, over plain HTTP (rustls and serde_json
//! have their own slots; the objects here need no escapes, so that serde_json needs no scratch).
#![allow(clippy::disallowed_methods, reason = "tests run before and beside any seal")]

use serval::kube::kind::Watched;
use serval::limits::MAX_LINE_SIZE_BYTES;
use serval::resource::document::Value;
use serval::shell::kube::access::Access;
use serval::shell::kube::record::{AsJson, Encode, NotEncoded, Record};
use serval::shell::kube::watch_thread::{Feed, WatchThread};
use serval::stdx::Prng;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

struct Counting;

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

// SAFETY: all calls go to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            TAKEN.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// From the first object on, the thread is counted.
struct Marking;

impl Encode for Marking {
    fn encode(
        &mut self,
        kind: Watched,
        object: Value<'_>,
        out: &mut [u8],
    ) -> Result<usize, NotEncoded> {
        if !COUNTED.replace(true) {
            // The counter counts this thread.
            drop(std::hint::black_box(Box::new(7u64)));
            assert_eq!(TAKEN.swap(0, Ordering::Relaxed), 1);
        }
        AsJson.encode(kind, object, out)
    }
}

fn event(kind: &str, name: &str) -> String {
    format!(
        "{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{{\"name\":\"{name}\",\"uid\":\"u\",\
         \"resourceVersion\":\"7\",\"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}},\
         \"labels\":{{\"a\":\"b\"}}}},\"spec\":{{\"ports\":[{{\"port\":80}},null,true,-1.5]}}}}}}\n"
    )
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    request(&mut stream);
    stream
}

fn request(stream: &mut TcpStream) {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

fn chunk(stream: &mut TcpStream, text: &str) {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).unwrap();
}

/// Takes records until an object of this name came, or was deleted.
fn take_until(feed: &mut Feed, name: &str) {
    let end = format!("\"{name}\"");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let Some(record) = feed.peek() else {
            assert!(Instant::now() < deadline, "{name} did not come");
            std::thread::yield_now();
            continue;
        };
        let found = match record {
            Record::Upsert { object } => std::str::from_utf8(object).unwrap().contains(&end),
            Record::Delete { name: deleted, .. } => deleted == name,
            _ => false,
        };
        feed.pop();
        if found {
            return;
        }
    }
}

#[test]
fn nothing_is_taken_after_start() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = std::env::temp_dir().join(format!("serval-no-alloc-{}", std::process::id()));
    let token = std::env::temp_dir().join(format!("serval-no-alloc-t-{}", std::process::id()));
    std::fs::write(&token, "t").unwrap();
    let text = format!(
        "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: 'http://localhost:{port}'}}}}]\n\
         users: [{{name: u, user: {{tokenFile: {}}}}}]\n",
        token.to_str().unwrap()
    );
    std::fs::write(&config, text).unwrap();
    let access = Arc::new(Access::from_kubeconfig(config.to_str().unwrap(), "").unwrap());
    let poll = mio::Poll::new().unwrap();
    let notify = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let (thread, mut feed) =
        WatchThread::new(Watched::Service, access, Marking, notify, Prng::new(1)).unwrap();
    let thread = std::thread::spawn(move || thread.run());

    let mut stream = accept(&listener);
    stream.write_all(CHUNKED).unwrap();
    chunk(&mut stream, &event("ADDED", "first"));
    take_until(&mut feed, "first");
    // Counted from here: the end of the state, events, deletions, one too large.
    chunk(&mut stream, &event("BOOKMARK", ""));
    for n in 0..2000 {
        chunk(&mut stream, &event("MODIFIED", &format!("n{n}")));
        chunk(&mut stream, &event("DELETED", &format!("n{n}")));
    }
    chunk(&mut stream, &event("ADDED", &"x".repeat(2 * MAX_LINE_SIZE_BYTES as usize)));
    chunk(&mut stream, &event("ADDED", "events"));
    take_until(&mut feed, "events");
    // Cut, reconnected, 401 with the token read again, 410, listed anew in pages.
    drop(stream);
    let mut stream = accept(&listener);
    stream.write_all(b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n").unwrap();
    request(&mut stream);
    stream.write_all(b"HTTP/1.1 410 x\r\nContent-Length: 12\r\n\r\n{\"code\":410}").unwrap();
    drop(stream);
    let mut stream = accept(&listener);
    // First without our version, then without WatchList.
    stream.write_all(b"HTTP/1.1 422 x\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    drop(stream);
    let mut stream = accept(&listener);
    stream.write_all(b"HTTP/1.1 422 x\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    request(&mut stream);
    stream.write_all(CHUNKED).unwrap();
    let items = r#"{"metadata":{"resourceVersion":"8"},"items":[{"metadata":{"name":"listed"}}]}"#;
    chunk(&mut stream, items);
    stream.write_all(b"0\r\n\r\n").unwrap();
    take_until(&mut feed, "listed");
    feed.stop();
    thread.join().unwrap();
    assert_eq!(TAKEN.load(Ordering::Relaxed), 0, "allocations of the watch thread after start");
    std::fs::remove_file(config).unwrap();
    std::fs::remove_file(token).unwrap();
}
