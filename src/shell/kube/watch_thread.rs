//! One thread per watched kind: drives a [`Watch`] and hands its events to the controller thread.
//!
//! In: an [`Access`], an [`Encode`]. Out: a [`Feed`] of records. A full ring stops the reading, TCP
//! pushes back on the API server, at worst it closes the watch and the kind is listed anew; nothing
//! is dropped.

use super::access::Access;
use super::credentials::Credentials;
use super::record::{self, Encode, EventRing, RECORD_BYTES, Record};
use super::transport::{Happened, Transport};
use crate::kube::Trouble;
use crate::kube::kind::Watched;
use crate::kube::watch::{Event, Input, Output, Settings, Watch};
use crate::limits::KUBE_RING_BYTES;
use crate::resource::document::Document;
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::make_client_slot;
use crate::shell::{clock, json};
use crate::stdx::ring::{Consumer, Producer};
use crate::stdx::{Duration, Full, Instant, Prng, touch};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use mio::Waker;
use std::boxed::Box;
use std::format;
use std::string::String;
use std::sync::Arc;

/// What a watch thread did so far; read by /metrics.
#[derive(Debug, Default)]
pub struct WatchCounters {
    /// Objects added or changed.
    pub upserts: AtomicU64,
    /// Objects deleted.
    pub deletes: AtomicU64,
    /// Objects skipped.
    pub skipped: AtomicU64,
    /// Whole states (lists) begun.
    pub resyncs: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    /// Times that the ring was full.
    pub ring_full: AtomicU64,
}

/// What both threads see.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// The whole state is wanted again.
    relist: AtomicBool,
    /// The watch thread waits for room in the ring.
    wants_room: AtomicBool,
    counters: WatchCounters,
}

/// The controller thread's end.
#[derive(Debug)]
pub struct Feed {
    kind: Watched,
    consumer: Consumer<'static, { KUBE_RING_BYTES as usize }>,
    shared: Arc<Shared>,
    waker: Arc<Waker>,
}

impl Feed {
    /// The kind it is about.
    pub fn kind(&self) -> Watched {
        self.kind
    }

    /// The oldest record; it stays until [`Feed::pop`].
    pub fn peek(&mut self) -> Option<Record<'_>> {
        self.consumer.peek().map(record::read)
    }

    /// Drops the oldest record; there must be one.
    pub fn pop(&mut self) {
        self.consumer.pop();
        // A thread that waits for room wants it for a large record: not a wake per small one.
        let is_empty = self.consumer.peek().is_none();
        if is_empty && self.shared.wants_room.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Asks for the whole state again: there is room for what was refused.
    pub fn relist(&self) {
        if !self.shared.relist.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Asks the thread to return.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// What the thread did so far.
    pub fn counters(&self) -> &WatchCounters {
        &self.shared.counters
    }

    fn wake(&self) {
        // An eventfd that is written to: it fails only when it is full of wakes.
        let _ = self.waker.wake();
    }
}

/// The watch thread's end of the ring.
#[derive(Debug)]
struct Outlet<E: Encode> {
    kind: Watched,
    encode: E,
    producer: Producer<'static, { KUBE_RING_BYTES as usize }>,
    shared: Arc<Shared>,
    /// Wakes the controller thread.
    notify: Arc<Waker>,
    /// It was woken since the last record.
    notified: bool,
}

impl<E: Encode> Outlet<E> {
    /// Hands one event over; while the ring is full, blocks: nothing else could be done.
    fn deliver(&mut self, event: &Event<'_>, text: &str, transport: &mut Transport) {
        self.count(event);
        self.notified = false;
        while self.push(event, text).is_err() && !self.shared.stop.load(Ordering::Acquire) {
            self.shared.counters.ring_full.fetch_add(1, Ordering::Relaxed);
            self.tell();
            self.shared.wants_room.store(true, Ordering::SeqCst);
            // Room that came before the flag was seen would not be told: look once more.
            if self.push(event, text).is_ok() {
                break;
            }
            transport.wait(Some(Duration::from_millis(100)));
        }
        self.shared.wants_room.store(false, Ordering::SeqCst);
    }

    fn push(&mut self, event: &Event<'_>, text: &str) -> Result<(), Full> {
        let Outlet { kind, encode, producer, .. } = self;
        producer.push_with(RECORD_BYTES, |out| record::write(event, *kind, text, encode, out))
    }

    /// Wakes the consumer if it has something new.
    fn tell(&mut self) {
        if !core::mem::replace(&mut self.notified, true) {
            let _ = self.notify.wake();
        }
    }

    fn count(&self, event: &Event<'_>) {
        let counters = &self.shared.counters;
        let counter = match event {
            Event::Upsert { .. } => &counters.upserts,
            Event::Delete { .. } => &counters.deletes,
            Event::Skipped { .. } => &counters.skipped,
            Event::ResyncBegin { .. } => &counters.resyncs,
            Event::Retrying { .. } => &counters.failures,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the machine wants an answer to.
enum Then {
    Nothing,
    Parsed,
    Refused,
    Unreachable(Trouble),
    Token,
}

/// Everything that one thread needs, built before it starts.
#[expect(missing_debug_implementations, reason = "rustls' connection has none")]
pub struct WatchThread<E: Encode> {
    credentials: Credentials,
    watch: Box<Watch>,
    document: Box<Document>,
    transport: Transport,
    outlet: Outlet<E>,
}

impl<E: Encode> WatchThread<E> {
    /// Builds the thread's state and reads CA, certificate and token for the first time. `notify`
    /// wakes the consumer when records wait. The thread prepares its parse slot and reserve itself,
    /// before the seal: [`prepare`](crate::shell::parse_slot::prepare).
    pub fn new(
        kind: Watched,
        access: Arc<Access>,
        encode: E,
        notify: Arc<Waker>,
        prng: Prng,
    ) -> Result<(WatchThread<E>, Feed), String> {
        let name = kind.served().name;
        let slot = access.is_tls().then(make_client_slot).flatten();
        let transport = Transport::new(&access, slot).map_err(|e| format!("{name}: {e}"))?;
        let credentials = Credentials::new(access, slot, clock::now());
        let credentials = credentials.map_err(|text| format!("{name}: {text}"))?;
        let mut watch = boxed_zeroed::<Watch>();
        let access = &credentials.access;
        let (authority, prefix) = (&*access.authority, &*access.prefix);
        let settings = Settings { kind, authority, prefix, token: credentials.token() };
        watch.start(settings, prng).map_err(|error| format!("{name}: {error:?}"))?;
        // Both ends live as long as the process.
        let ring: &'static mut EventRing = Box::leak(boxed_zeroed());
        touch(&mut *ring);
        let (producer, consumer) = ring.split();
        let shared = Arc::new(Shared::default());
        let feed = Feed { kind, consumer, shared: shared.clone(), waker: transport.waker() };
        let mut document = boxed_zeroed::<Document>();
        document.clear();
        let outlet = Outlet { kind, encode, producer, shared, notify, notified: true };
        Ok((WatchThread { credentials, watch, document, transport, outlet }, feed))
    }

    /// Works until [`Feed::stop`].
    pub fn run(mut self) {
        while !self.is_stopped() {
            self.watch.tick(clock::now());
            self.outputs();
            self.refresh();
            self.receive();
            if self.outlet.shared.relist.swap(false, Ordering::AcqRel) {
                self.give(Input::Relist);
            }
            self.outlet.tell();
            let due = self.watch.timeout().unwrap_or(Instant::NEVER).min(self.credentials.due());
            self.transport.wait(Some(due.since(clock::now().mono)));
        }
    }

    fn is_stopped(&self) -> bool {
        self.outlet.shared.stop.load(Ordering::Acquire)
    }

    /// Moves bytes of the connection into the machine until the socket has no more.
    fn receive(&mut self) {
        while !self.is_stopped() {
            let happened = self.transport.step(self.credentials.identity());
            match happened {
                Happened::Nothing if self.transport.plaintext().is_empty() => return,
                Happened::Nothing => {}
                Happened::Up => {
                    self.outlet.shared.counters.connections.fetch_add(1, Ordering::Relaxed);
                    self.give(Input::Connected);
                }
                Happened::Gone(trouble) => {
                    if trouble == Trouble::Tls {
                        self.credentials.suspect_identity();
                    }
                    self.give(Input::Closed(trouble));
                }
            }
            while !self.transport.plaintext().is_empty() && !self.is_stopped() {
                let bytes = Input::Bytes(self.transport.plaintext());
                let used = self.watch.input(bytes, clock::now());
                self.transport.consume(used.expect("all outputs were polled"));
                self.outputs();
            }
        }
    }

    /// Gives the machine an input and does what it says.
    fn give(&mut self, input: Input<'_>) {
        let taken = self.watch.input(input, clock::now());
        assert!(taken.is_ok(), "all outputs were polled, and lines are parsed at once");
        self.outputs();
    }

    /// Reads token, CA and certificate again when it is time.
    fn refresh(&mut self) {
        let now = clock::now();
        if self.credentials.refresh_token(now) {
            let taken = self.watch.input(Input::Token(self.credentials.token()), now);
            assert!(taken.is_ok(), "all outputs were polled");
            self.outputs();
        }
        if self.credentials.refresh_identity(now) {
            self.transport.disconnect();
            self.give(Input::Closed(Trouble::Closed));
        }
    }

    /// Does all that the machine wants.
    fn outputs(&mut self) {
        while !self.is_stopped() {
            let input = match self.poll_outputs() {
                Then::Nothing => return,
                Then::Parsed => Input::Parsed(&self.document),
                Then::Refused => Input::Refused,
                Then::Unreachable(trouble) => Input::Closed(trouble),
                Then::Token => {
                    self.credentials.read_token();
                    Input::Token(self.credentials.token())
                }
            };
            let taken = self.watch.input(input, clock::now());
            assert!(taken.is_ok(), "all outputs were polled");
        }
    }

    fn poll_outputs(&mut self) -> Then {
        let mut then = Then::Nothing;
        while let Some(output) = self.watch.poll_output(&self.document) {
            match output {
                Output::Connect => {
                    if let Err(trouble) = self.transport.connect(&self.credentials.access) {
                        then = Then::Unreachable(trouble);
                    }
                }
                Output::Disconnect => self.transport.disconnect(),
                Output::Send(bytes) => self.transport.send(bytes),
                Output::ReadToken => then = Then::Token,
                Output::Parse(line) => {
                    let parsed = json::parse(line, &mut self.document);
                    then = if parsed.is_ok() { Then::Parsed } else { Then::Refused };
                }
                Output::Event(event) => {
                    let text = self.transport.take_error();
                    self.outlet.deliver(&event, text.as_str(), &mut self.transport);
                }
            }
        }
        then
    }
}
