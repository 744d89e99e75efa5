//! A router in this process on loopback, with backends and clients as threads.
//!
//! In: a configuration written by hand, what a backend does with each connection. Out: addresses to
//! talk to. No test sleeps: what has to happen is waited for, with a deadline that only a failure
//! meets.

#![allow(dead_code, reason = "each test binary needs some of it")]
#![allow(clippy::disallowed_methods, reason = "tests have threads and clocks of their own")]

#[path = "../../src/config/building.rs"]
pub mod building;

use building::MatchSpec;
use serval::config::snapshot::Snapshot;
use serval::config::storage::{ConfigStorage, Writer};
use serval::limits::Capacities;
use serval::router::{Options, Worker};
use serval::shell::clock;
use serval::shell::net::{Control, Traffic, run_worker};
use serval::shell::tls::rustls::certificates::Certificates;
use serval::stdx::zeroed_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread::{JoinHandle, spawn, yield_now};
use std::time::{Duration, Instant};

pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "never came: {what}");
        yield_now();
    }
}

/// A port nobody else has at the moment.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap();
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if !given.contains(&port) {
            given.push(port);
            return port;
        }
    }
}

pub struct Router {
    pub storage: &'static ConfigStorage,
    pub writer: Writer<'static>,
    pub controls: Vec<&'static Control>,
    certificates: Option<&'static Certificates>,
    threads: Vec<JoinHandle<usize>>,
    buffers: usize,
    pub port: u16,
}

impl Router {
    pub fn start(workers: usize, fill: impl FnOnce(&mut Snapshot, u16)) -> Router {
        Router::sized(workers, 256, 64, fill)
    }

    pub fn sized(
        workers: usize,
        connections: u32,
        buffers: u32,
        fill: impl FnOnce(&mut Snapshot, u16),
    ) -> Router {
        Router::watched(workers, connections, buffers, || (), fill)
    }

    /// `begin` runs in each worker's thread just before it serves.
    pub fn watched(
        workers: usize,
        connections: u32,
        buffers: u32,
        begin: fn(),
        fill: impl FnOnce(&mut Snapshot, u16),
    ) -> Router {
        let mut capacities = Capacities::DEFAULT;
        capacities.max_connections = connections;
        capacities.max_io_buffers = buffers;
        Router::made(workers, &capacities, None, begin, fill)
    }

    /// One worker with room for TLS; `fill` makes the binds and certificates.
    pub fn secured(
        connections: u32,
        buffers: u32,
        sessions: u32,
        fill: impl FnOnce(&mut Snapshot, u16),
    ) -> Router {
        let mut capacities = Capacities::DEFAULT;
        capacities.max_connections = connections;
        capacities.max_io_buffers = buffers;
        capacities.max_tls_connections = sessions;
        let certificates: &'static Certificates = Box::leak(Box::new(Certificates::new(4)));
        Router::made(1, &capacities, Some(certificates), || (), fill)
    }

    fn made(
        workers: usize,
        capacities: &Capacities,
        certificates: Option<&'static Certificates>,
        begin: fn(),
        fill: impl FnOnce(&mut Snapshot, u16),
    ) -> Router {
        let (capacities, buffers) = (*capacities, capacities.max_io_buffers);
        let mut storage = zeroed_box::<ConfigStorage>();
        storage.set_caps(&capacities);
        let storage: &'static ConfigStorage = Box::leak(storage);
        let writer = storage.writer().unwrap();
        let (mut controls, mut threads) = (Vec::new(), Vec::new());
        for seed in 0..workers {
            let (mut traffic, control) = Traffic::new(&capacities, certificates).unwrap();
            let control: &'static Control = Box::leak(Box::new(control));
            controls.push(control);
            let mut reader = storage.reader().unwrap();
            threads.push(spawn(move || {
                let mut worker = zeroed_box::<Worker>();
                let options = Options { allow_loopback: true, own: [None; 2] };
                worker.init(&capacities, options, seed as u64, clock::now().mono);
                begin();
                run_worker(&mut traffic, &mut worker, &mut reader, control);
                traffic.driver().free_buffers()
            }));
        }
        let buffers = buffers as usize;
        let port = free_port();
        let mut router = Router { storage, writer, controls, certificates, threads, buffers, port };
        router.swap(|s| fill(s, port));
        router
    }

    /// Publishes another configuration; returns when every worker serves it.
    pub fn swap(&mut self, fill: impl FnOnce(&mut Snapshot)) {
        wait_for("grace", || self.writer.all_passed());
        let snapshot = self.writer.begin().unwrap();
        snapshot.clear();
        fill(snapshot);
        if let Some(certificates) = self.certificates {
            certificates.load(snapshot, snapshot).unwrap();
        }
        let generation = self.writer.commit().unwrap();
        self.controls.iter().for_each(|c| c.wake());
        wait_for("adoption", || {
            self.controls.iter().all(|c| c.status().generation() == Some(generation))
        });
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Sum over the workers of one counter.
    pub fn counter(&self, name: &str) -> u64 {
        self.controls.iter().map(|c| c.status().counter_named(name).unwrap()).sum()
    }

    /// Drains, and looks that every buffer is back.
    pub fn finish(mut self) {
        self.controls.iter().for_each(|c| c.drain());
        for thread in self.threads.drain(..) {
            assert_eq!(thread.join().unwrap(), self.buffers, "buffers at rest");
        }
        assert!(self.controls.iter().all(|c| c.status().is_drained()));
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.controls.iter().for_each(|c| c.stop());
        for thread in self.threads.drain(..) {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking());
        }
    }
}

/// One route for everything, to these backends.
pub fn plain(backends: &[SocketAddr]) -> impl Fn(&mut Snapshot, u16) {
    let backends = backends.to_vec();
    move |s, port| {
        let bind = building::bind(s, SocketAddr::from(([127, 0, 0, 1], port)));
        let listener = building::listener(s, "", port, &[bind]);
        let pool = building::pool(s, "p", &backends);
        let all = [MatchSpec::prefix("")];
        building::route(s, "r", &[(listener, "")], &all, &[(pool, 1)]);
    }
}

/// A message as it came: its head, its body as bytes on the wire without their framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A plain HTTP/1.1 reader of its own, that has nothing of the product's parser.
pub struct Client {
    pub stream: TcpStream,
    seen: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::of(TcpStream::connect(address).unwrap())
    }

    pub fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, seen: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads more; false at the end, which may be a reset.
    fn fill(&mut self) -> bool {
        let mut piece = vec![0; 1 << 16];
        match self.stream.read(&mut piece) {
            Ok(len) => {
                self.seen.extend_from_slice(&piece[..len]);
                len > 0
            }
            Err(error) => {
                let kind = error.kind();
                assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "{error}");
                false
            }
        }
    }

    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.seen.len() < len {
            if !self.fill() {
                return None;
            }
        }
        Some(self.seen.drain(..len).collect())
    }

    fn line(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.seen.windows(end.len()).position(|w| w == end) {
                let line = self.seen.drain(..at + end.len()).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    pub fn head(&mut self) -> Option<Message> {
        Some(Message { head: self.line(b"\r\n\r\n")?, body: Vec::new() })
    }

    /// The next message; None when the connection ends before it is whole.
    pub fn message(&mut self, to_head: bool) -> Option<Message> {
        let mut message = self.head()?;
        let is_response = message.head.starts_with("HTTP/");
        let bodiless = to_head
            || is_response && (message.status() < 200 || matches!(message.status(), 204 | 304));
        if bodiless {
            return Some(message);
        }
        if message.field("Transfer-Encoding").is_some() {
            loop {
                let line = self.line(b"\r\n")?;
                let len = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
                let data = self.take(len + 2)?;
                assert_eq!(&data[len..], b"\r\n");
                if len == 0 {
                    return Some(message);
                }
                message.body.extend_from_slice(&data[..len]);
            }
        }
        match message.field("Content-Length").map(|l| l.parse().unwrap()) {
            Some(len) => message.body = self.take(len)?,
            None if is_response => {
                while self.fill() {}
                message.body = std::mem::take(&mut self.seen);
            }
            None => {}
        }
        Some(message)
    }

    pub fn response(&mut self) -> Message {
        self.message(false).expect("a whole response")
    }

    pub fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        self.response()
    }

    /// What was read and not asked for.
    pub fn rest(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.seen)).unwrap()
    }

    /// Whether the other side has ended, and nothing is left unread.
    pub fn at_end(&mut self) -> bool {
        self.seen.is_empty() && !self.fill() && self.seen.is_empty()
    }
}

/// A backend: `serve` has each connection, in a thread of its own. It lives as long as the process.
pub fn backend(serve: impl Fn(Client, usize) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve: &'static _ = Box::leak(Box::new(serve));
    spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let client = Client::of(stream.unwrap());
            spawn(move || serve(client, number));
        }
    });
    address
}

/// Answers every request with its name, the request line and the body it got.
pub fn echo(name: &'static str) -> SocketAddr {
    backend(move |mut client, _| {
        while let Some(request) = client.message(false) {
            let line = request.head.lines().next().unwrap().to_string();
            let to_head = line.starts_with("HEAD ");
            let mut body = format!("{name} {line}\n").into_bytes();
            body.extend_from_slice(&request.body);
            let mut response =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            if !to_head {
                response.extend_from_slice(&body);
            }
            if client.stream.write_all(&response).is_err() {
                return;
            }
        }
    })
}
