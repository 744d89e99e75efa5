//! The controller thread: alone owns stores and reconcile.
//!
//! In: records of the watch threads, reports, results of status writes. Out: pushes to routers,
//! orders to the status thread, numbers for the admin thread.

use super::endpoint_sync::{RosterProducer, read_report, send_roster};
use super::numbers::Numbers;
use super::router_socket::RouterSockets;
use super::status_writer::{Bell, OrderProducer, Outcome, order_look, order_status};
use crate::config::Report;
use crate::config::client::{Answer, Ask};
use crate::controller::reign::{Change, Reign};
use crate::controller::{Controller, StatusQueue};
use crate::limits::{
    ENDPOINT_SYNC_PERIOD_MS, MAX_PUSHES_AT_ONCE, MAX_RECORD_SIZE_BYTES, REPORT_RING_BYTES,
    RESULT_RING_BYTES,
};
use crate::resource::document::Document;
use crate::resource::store::Upserted;
use crate::resource::{Key, Kind, Meta};
use crate::shell::kube::record::Record;
use crate::shell::kube::watch_thread::Feed;
use crate::shell::log::log;
use crate::shell::{clock, json};
use crate::stdx::ring::Consumer;
use crate::stdx::{Duration, Full, Instant, Now, Prng, Short};
use core::sync::atomic::{AtomicBool, Ordering};
use mio::{Events, Poll, Waker};
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

/// Records of one feed taken before the others get their turn.
const RECORDS_PER_TURN: u32 = 256;

/// The sockets of this thread.
pub type Pushers =
    RouterSockets<{ MAX_RECORD_SIZE_BYTES as usize }, { MAX_PUSHES_AT_ONCE as usize }>;

/// What the thread needs, built before it starts.
#[expect(missing_debug_implementations, reason = "sockets say nothing")]
pub struct MainLoop {
    /// The machine.
    pub controller: Box<Controller>,
    /// One feed per kind, in the order of [`Kind::ALL`].
    pub feeds: Vec<Feed>,
    /// Reports of the endpoint-sync thread.
    pub reports: Consumer<'static, { REPORT_RING_BYTES as usize }>,
    /// Orders to the status thread.
    pub orders: OrderProducer,
    /// Its results.
    pub results: Consumer<'static, { RESULT_RING_BYTES as usize }>,
    /// Wakes the status thread.
    pub bell: Arc<Bell>,
    /// Sockets to push by.
    pub sockets: Pushers,
    /// Rosters to the endpoint-sync thread.
    pub rosters: RosterProducer,
    /// The roster it has.
    pub roster_sent: u64,
    /// Wakes it.
    pub sync: Arc<Waker>,
    /// What the admin thread shows.
    pub numbers: Arc<Numbers>,
    /// The poll that others wake.
    pub poll: Poll,
    /// Its events.
    pub events: Events,
    /// Ends this thread.
    pub stop: Arc<AtomicBool>,
    /// To parse into.
    pub document: Box<Document>,
    /// Jitter.
    pub prng: Prng,
    /// The routers' admin token.
    pub secret: Short<512>,
}

struct Orders<'o>(&'o mut OrderProducer, bool);

impl StatusQueue for Orders<'_> {
    fn push(&mut self, kind: Kind, meta: &Meta, body: &str) -> Result<(), Full> {
        self.1 = true;
        order_status(self.0, kind, meta, body)
    }
}

impl MainLoop {
    /// Works until told to stop.
    pub fn run(mut self) {
        let start = clock::now().mono;
        // Reachable routers answer within this; one that comes later is fenced by its own report.
        let patience = Duration::from_millis(u64::from(ENDPOINT_SYNC_PERIOD_MS) / 2);
        let mut reign = Reign::new(start + patience);
        let mut relisted = start;
        while !self.stop.load(Ordering::Acquire) {
            let now = clock::now();
            let busy = self.take_records();
            self.relist(&mut relisted, now);
            self.take_reports(now);
            self.take_results(&mut reign, now);
            self.order_look(&mut reign, now);
            if self.controller.tick(now) {
                let identity = self.controller.published().map(|p| p.identity);
                let identity = identity.unwrap_or_default();
                let (epoch, generation) = (identity.epoch, identity.generation);
                log!(Info, "controller", "published epoch={epoch} generation={generation}");
            }
            self.send_roster(now);
            self.push(now);
            self.write_statuses(now);
            self.numbers.update(&mut self.controller);
            let wait = if busy { Duration::ZERO } else { self.wait(now) };
            let wait = core::time::Duration::from_nanos(wait.0);
            // Interrupted or not: the loop looks at everything anyway.
            let _ = self.poll.poll(&mut self.events, Some(wait));
        }
        // Each sleeps in a poll of its own, for as long as its server is silent.
        self.feeds.iter().for_each(Feed::stop);
    }

    fn wait(&self, now: Now) -> Duration {
        let due = self.sockets.timeout(|address| self.controller.is_behind(address));
        let due = if due <= now.mono { now.mono + Duration::from_millis(100) } else { due };
        due.since(now.mono).min(Duration::from_millis(500))
    }

    /// Whether some feed has more.
    fn take_records(&mut self) -> bool {
        let mut more = false;
        for (index, feed) in self.feeds.iter_mut().enumerate() {
            let kind = Kind::ALL[index];
            for turn in 0..RECORDS_PER_TURN {
                let Some(record) = feed.peek() else { break };
                take_record(&mut self.controller, &mut self.document, kind, record);
                feed.pop();
                more |= turn + 1 == RECORDS_PER_TURN;
            }
        }
        more
    }

    /// Room freed up: the whole state again, at most once a second.
    fn relist(&mut self, relisted: &mut Instant, now: Now) {
        if now.mono.since(*relisted) < Duration::from_secs(1) {
            return;
        }
        if let Some(kind) = self.controller.wants_relist() {
            *relisted = now.mono;
            log!(Info, "store", "room for refused objects: relist kind={}", kind.name());
            self.feeds[kind as usize].relist();
        }
    }

    fn take_reports(&mut self, now: Now) {
        while let Some(record) = self.reports.peek() {
            let (address, body) = read_report(record);
            let parsed = json::parse(body, &mut self.document).is_ok();
            if let Some(report) = parsed.then(|| Report::read(self.document.root())).flatten() {
                self.controller.report(address, &report, now);
            }
            self.reports.pop();
        }
    }

    fn take_results(&mut self, reign: &mut Reign, now: Now) {
        while let Some(record) = self.results.peek() {
            match Outcome::read(record) {
                Outcome::Lease(held) => match reign.found(held, now.mono) {
                    Change::None => {}
                    Change::Taken(epoch) => {
                        log!(Info, "controller", "epoch={epoch} taken from the Lease");
                        self.controller.set_epoch(epoch);
                    }
                    Change::Overtaken => {
                        log!(Warn, "controller", "another controller has the Lease: standing by");
                        self.controller.stand_by();
                    }
                },
                Outcome::NoLease => reign.failed(now.mono),
                Outcome::Status { ok, kind, key } => {
                    if let Some(&kind) = Kind::ALL.get(usize::from(kind)) {
                        self.controller.status_written(kind, &key, ok);
                    }
                }
            }
            self.results.pop();
        }
    }

    /// An epoch above every reachable router's, then what keeps it.
    fn order_look(&mut self, reign: &mut Reign, now: Now) {
        let highest = self.controller.highest_epoch();
        let all = self.controller.routers().iter().all(|r| r.report.is_some());
        let Some(look) = reign.look(highest, all, now.mono) else { return };
        if order_look(&mut self.orders, look).is_ok() {
            reign.asked();
            self.bell.ring();
        }
    }

    /// A router came or went.
    fn send_roster(&mut self, now: Now) {
        let version = self.controller.roster_version();
        if self.roster_sent == version {
            return;
        }
        let routers = self.controller.routers().iter().map(|r| r.address);
        log!(Info, "controller", "routers={}", routers.len());
        self.sockets.fleet.set(routers.clone(), now).expect("at most MAX_ROUTERS");
        // A full ring: the next turn tries again.
        if send_roster(&mut self.rosters, routers).is_ok() {
            self.roster_sent = version;
            let _ = self.sync.wake();
        }
    }

    /// Pushes to every router that is behind.
    fn push(&mut self, now: Now) {
        for slot in 0..MAX_PUSHES_AT_ONCE as usize {
            let (published, secret) = (self.controller.published(), self.secret.as_str());
            let answer = self.sockets.drive(slot, published, secret, now, &mut self.prng);
            if let Some(answer) = answer {
                self.take_answer(slot, answer, now);
            }
        }
        let (controller, registry) = (&self.controller, self.poll.registry());
        let behind = |address| controller.is_behind(address);
        self.sockets.begin(Ask::Push, behind, registry, now, &mut self.prng);
    }

    fn take_answer(&mut self, slot: usize, answer: Answer, now: Now) {
        let address = self.sockets.fleet.address(slot).expect("it answered");
        let (status, identity) = (answer.status, answer.identity);
        let body = self.sockets.body(slot);
        let pause = if status == 200 {
            let parsed = json::parse(body, &mut self.document).is_ok();
            let report = parsed.then(|| Report::read(self.document.root())).flatten();
            self.controller.push_taken(address, identity, report.as_ref(), now)
        } else {
            let text = core::str::from_utf8(body).unwrap_or("").trim();
            log!(Warn, "push", "router {address} answered {status}: {text}");
            self.controller.push_refused(address, identity, status);
            // Whatever it waits for takes longer than a retry of a broken connection.
            Duration::from_secs(1)
        };
        self.sockets.fleet.answered(slot, now.mono + pause);
    }

    fn write_statuses(&mut self, now: Now) {
        let mut orders = Orders(&mut self.orders, false);
        self.controller.write_statuses(now, &mut orders);
        if orders.1 {
            self.bell.ring();
        }
    }
}

fn take_record(c: &mut Controller, document: &mut Document, kind: Kind, record: Record<'_>) {
    let name = kind.name();
    match record {
        Record::ResyncBegin { .. } => c.resync_begin(kind),
        Record::ResyncEnd { complete, .. } => c.resync_end(kind, complete),
        Record::Synced => {
            log!(Info, "watch", "synced kind={name}");
            c.synced(kind);
        }
        Record::Upsert { object } => {
            if json::parse(object, document).is_err() {
                return log!(Error, "watch", "an object of kind {name} does not fit a document");
            }
            let metadata = |m| document.root().at(&["metadata", m]).and_then(|v| v.str());
            let taken = c.upsert(kind, document.root(), None);
            let of = |m| metadata(m).unwrap_or("");
            match taken {
                Ok(Upserted::Refused(why)) => {
                    let (namespace, object) = (of("namespace"), of("name"));
                    log!(Warn, "store", "refused {name} {namespace}/{object}: {why:?}");
                }
                Ok(_) => {}
                Err(problem) => {
                    let (namespace, object) = (of("namespace"), of("name"));
                    log!(Warn, "store", "refused {name} {namespace}/{object}: {problem}");
                }
            }
        }
        Record::Delete { namespace, name, .. } => {
            let namespace = if kind.is_cluster_scoped() { "" } else { namespace };
            if let Ok(key) = Key::new(namespace, name) {
                c.delete(kind, &key);
            }
        }
        Record::Skipped { why, namespace, name: object, size } => {
            log!(Warn, "watch", "skipped {name} {namespace}/{object}: {why:?}, {size} bytes");
            if let Ok(key) = Key::new(namespace, object) {
                c.skipped(kind, &key);
            }
        }
        Record::Absent => log!(Info, "watch", "kind {name} is not served; looked for again"),
        Record::Vanished => log!(Warn, "watch", "kind {name} is not served any more"),
        Record::Served { version } => log!(Info, "watch", "kind {name} is served as {version}"),
        Record::Retrying { trouble, wait_ms, text } => {
            log!(Warn, "watch", "kind={name} {trouble:?} {text} again in {wait_ms} ms");
        }
        Record::Bookmark => {}
    }
}
