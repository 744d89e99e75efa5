//! The status thread: takes and renews the Lease, and writes statuses, one at a time.
//!
//! In: a ring of orders. Out: a ring of results. A write reads the object, merges the own entries
//! into its status ([`crate::reconcile::merge`]) and patches it with its resourceVersion.

use crate::kube::kind::Watched;
use crate::kube::lease::{Held, Look};
use crate::kube::status_patch::{WriteError, Written};
use crate::limits::{MAX_STATUS_SIZE_BYTES, RESULT_RING_BYTES, STATUS_RING_BYTES};
use crate::reconcile::merge::merge;
use crate::resource::document::Document;
use crate::resource::{Key, Kind, Meta};
use crate::shell::kube::api_client::{ApiClient, Computed, Target};
use crate::shell::log::log;
use crate::shell::{clock, json};
use crate::stdx::pack::{Pack, Packer, Unpacker};
use crate::stdx::ring::{Consumer, Producer};
use crate::stdx::{Full, Short};
use core::sync::atomic::{AtomicBool, Ordering};
use mio::Waker;
use std::boxed::Box;
use std::sync::{Arc, Condvar, Mutex};

/// The controller thread's end of the orders.
pub type OrderProducer = Producer<'static, { STATUS_RING_BYTES as usize }>;
/// This thread's end of the orders.
pub type OrderConsumer = Consumer<'static, { STATUS_RING_BYTES as usize }>;
/// This thread's end of the results.
pub type ResultProducer = Producer<'static, { RESULT_RING_BYTES as usize }>;

/// Wakes the thread: a flag under a lock, since it blocks on its API client otherwise.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Something is to be done.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(|e| e.into_inner());
        while !*rung {
            rung = self.changed.wait(rung).unwrap_or_else(|e| e.into_inner());
        }
        *rung = false;
    }
}

/// What the thread is asked for.
const LOOK: u8 = 0;
const WRITE_STATUS: u8 = 1;

/// Orders a look at the Lease.
pub fn order_look(orders: &mut OrderProducer, look: Look) -> Result<(), Full> {
    orders.push_with(32, |out| {
        let mut packer = Packer::new(out);
        let packed = (|| {
            LOOK.pack(&mut packer)?;
            look.held.pack(&mut packer)?;
            look.given.pack(&mut packer)?;
            look.take.pack(&mut packer)?;
            look.stale.pack(&mut packer)
        })();
        packed.map_or(0, |()| packer.len() as u32)
    })
}

/// Orders the status of one object.
pub fn order_status(
    orders: &mut OrderProducer,
    kind: Kind,
    meta: &Meta,
    body: &str,
) -> Result<(), Full> {
    let max = 512 + body.len() as u32;
    orders.push_with(max, |out| {
        let mut packer = Packer::new(out);
        let packed = (|| {
            WRITE_STATUS.pack(&mut packer)?;
            (kind as u8).pack(&mut packer)?;
            meta.key.pack(&mut packer)?;
            meta.uid.pack(&mut packer)?;
            packer.put(body.as_bytes())
        })();
        packed.map_or(0, |()| packer.len() as u32)
    })
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Whose the Lease is.
    Lease(Held),
    /// Nobody knows: order it again.
    NoLease,
    /// A status write ended.
    Status {
        /// Whether it went well.
        ok: bool,
        /// Kind of the object.
        kind: u8,
        /// The object.
        key: Key,
    },
}

impl Outcome {
    fn push(&self, results: &mut ResultProducer) -> Result<(), Full> {
        results.push_with(400, |out| {
            let mut packer = Packer::new(out);
            let packed = match self {
                Outcome::Lease(Held::Own(n)) => 0u8.pack(&mut packer).and(n.pack(&mut packer)),
                Outcome::Lease(Held::Others(n)) => 3u8.pack(&mut packer).and(n.pack(&mut packer)),
                Outcome::NoLease => 1u8.pack(&mut packer),
                Outcome::Status { ok, kind, key } => {
                    let head = 2u8.pack(&mut packer).and(ok.pack(&mut packer));
                    head.and(kind.pack(&mut packer)).and(key.pack(&mut packer))
                }
            };
            packed.map_or(0, |()| packer.len() as u32)
        })
    }

    /// Reads a record of the results' ring.
    pub fn read(record: &[u8]) -> Outcome {
        let mut from = Unpacker::new(record);
        let (mut tag, mut number) = (0u8, 0u64);
        tag.unpack(&mut from);
        match tag {
            0 | 3 => {
                number.unpack(&mut from);
                Outcome::Lease(if tag == 0 { Held::Own(number) } else { Held::Others(number) })
            }
            1 => Outcome::NoLease,
            _ => {
                let (mut ok, mut kind, mut key) = (false, 0u8, Key::default());
                ok.unpack(&mut from);
                kind.unpack(&mut from);
                key.unpack(&mut from);
                Outcome::Status { ok, kind, key }
            }
        }
    }
}

/// What the thread needs, built before it starts.
#[expect(missing_debug_implementations, reason = "the API client has none")]
pub struct StatusWriter {
    /// The API client with its own connection.
    pub client: ApiClient,
    /// Orders.
    pub orders: OrderConsumer,
    /// Results.
    pub results: ResultProducer,
    /// Wakes the controller thread.
    pub notify: Arc<Waker>,
    /// Wakes this thread.
    pub bell: Arc<Bell>,
    /// Ends this thread.
    pub stop: Arc<AtomicBool>,
    /// spec.controllerName of our classes.
    pub controller: Short<253>,
    /// Where the Lease lies.
    pub lease_namespace: Short<63>,
    /// Who takes the Lease.
    pub holder: Short<253>,
    /// To parse an order's body into.
    pub wanted: Box<Document>,
    /// An order's body, while its place in the ring is free again.
    pub body: Box<Body>,
}

/// The Lease whose transitions are the epoch.
pub const LEASE: &str = "serval-controller";

impl StatusWriter {
    /// Bytes it holds, without connection and credentials: a line of the memory plan.
    pub fn bytes() -> u64 {
        ApiClient::bytes() + (size_of::<Document>() + size_of::<Body>()) as u64
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            let Some(record) = self.orders.peek() else {
                self.bell.wait();
                continue;
            };
            let mut from = Unpacker::new(record);
            let mut tag = 0u8;
            tag.unpack(&mut from);
            let outcome = if tag == LOOK {
                let mut look = Look::default();
                look.held.unpack(&mut from);
                look.given.unpack(&mut from);
                look.take.unpack(&mut from);
                look.stale.unpack(&mut from);
                self.orders.pop();
                self.look_at_lease(look)
            } else {
                let (mut kind, mut key, mut uid) = (0u8, Key::default(), Short::<40>::EMPTY);
                kind.unpack(&mut from);
                key.unpack(&mut from);
                uid.unpack(&mut from);
                let text = from.take(from.rest());
                self.body.0[..text.len()].copy_from_slice(text);
                let len = text.len();
                self.orders.pop();
                let ok = self.write(kind, &key, &uid, len);
                Outcome::Status { ok, kind, key }
            };
            // The ring holds an answer to every order that fits the orders' ring.
            if outcome.push(&mut self.results).is_err() {
                log!(Warn, "status", "a result was dropped; it is tried again by time");
            }
            let _ = self.notify.wake();
        }
    }

    fn look_at_lease(&mut self, look: Look) -> Outcome {
        let (namespace, holder) = (self.lease_namespace, self.holder);
        let lease = (namespace.as_str(), LEASE);
        match self.client.look_at_lease(lease, holder.as_str(), look) {
            Ok(held) => Outcome::Lease(held),
            Err(WriteError::Retryable(trouble) | WriteError::Permanent(trouble)) => {
                let text = self.client.error();
                log!(Warn, "lease", "not to be had: {namespace}/{LEASE}: {trouble:?} {text}");
                Outcome::NoLease
            }
        }
    }

    fn write(&mut self, kind: u8, key: &Key, uid: &Short<40>, body_len: usize) -> bool {
        let StatusWriter { wanted, body, .. } = self;
        if json::parse(&body.0[..body_len], wanted).is_err() {
            log!(Error, "status", "the status of {key} does not fit a document");
            return false;
        }
        let of = |kinds: &[Watched]| kinds[usize::from(kind)];
        let (watched, kind) = (of(&Watched::ALL), Kind::ALL[usize::from(kind)]);
        let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
        let target = Target { kind: watched, namespace, name, uid: uid.as_str() };
        let controller = self.controller;
        let now = clock::now();
        let written = self.client.patch_status(target, |object, out| {
            match merge(kind, object, wanted.root(), controller.as_str(), now.wall, out) {
                true => Computed::Status,
                false => Computed::Equal,
            }
        });
        match written {
            Ok(Written::Patched) => log!(Debug, "status", "written {} {key}", kind.name()),
            Ok(Written::Unchanged | Written::Gone) => {}
            Err(error) => {
                let text = self.client.error();
                log!(Warn, "status", "not written {} {key}: {error:?} {text}", kind.name());
                return false;
            }
        }
        true
    }
}

/// Room for one order's body.
#[derive(Debug)]
pub struct Body([u8; MAX_STATUS_SIZE_BYTES as usize]);

crate::zeroed_struct!(Body { 0: [u8; MAX_STATUS_SIZE_BYTES as usize] });
