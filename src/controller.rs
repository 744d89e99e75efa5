//! The controller machine: objects and reports in; Snapshots, statuses and relists out.
//!
//! It owns the stores and is the only one that reconciles. Changes are coalesced: at most one
//! reconcile a tick. Nothing is published and no status written before every served kind has
//! synced once (the barrier), and in a cluster not without an epoch.
//!
//! Architecture invariant: level-triggered. What is published and written follows from what the
//! stores and the routers' last reports hold, never from an event; an answer that never comes is
//! retried by time.

#[cfg(test)]
mod address_tests;
pub mod reign;
pub mod routers;
pub mod secrets;

use crate::config::codec::checksum;
use crate::config::{Checksum, Identity, Snapshot, Source};
use crate::limits::*;
use crate::reconcile::status::{Sink, statuses};
use crate::reconcile::{self, Settings, Work};
use crate::resource::document::Value;
use crate::resource::store::Upserted;
use crate::resource::{Decoder, Key, Kind, Meta, Problem, Secret, Stores};
use crate::stdx::{Duration, Instant, Now, Table, touch};
pub use routers::Router;
use routers::Routers;
use secrets::{Vet, Wanted};

/// A status write handed out.
#[derive(Clone, Copy, Debug, Default)]
struct InFlight {
    kind: u8,
    key: u64,
    wanted: u64,
    until: Instant,
}

/// Takes status writes; Full means later.
pub trait StatusQueue {
    /// Queues the own status entries of one object.
    fn push(&mut self, kind: Kind, meta: &Meta, body: &str) -> Result<(), crate::stdx::Full>;
}

/// Counters of the controller, for /metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Runs of reconcile.
    pub reconciles: u64,
    /// Snapshots published (generations).
    pub generations: u64,
    /// Status writes handed out.
    pub statuses: u64,
    /// Objects that the API server holds but serval cannot read.
    pub invalid_objects: u64,
    /// Endpoints of the routers' Service beyond MAX_ROUTERS.
    pub routers_left_out: u64,
}

/// The controller. Megabytes: built in place.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    stores: Stores,
    decoder: Decoder,
    work: Work,
    vet: Option<Vet>,
    wanted: Wanted,
    /// A Secret as it was before.
    earlier: Secret,
    /// Of the last tick.
    now: Now,
    snapshots: [Snapshot; 2],
    /// Which of the two is published.
    current: usize,
    has_epoch: bool,
    epoch: u64,
    /// Another controller reigns: nothing is pushed, no status written.
    stands_by: bool,
    generation: u64,
    /// Kinds that have synced once, as bits.
    synced: u32,
    /// The stores' and the roster's version that was reconciled last.
    reconciled: u64,
    published: bool,
    /// The version of the EndpointSlices that routers were looked for in.
    discovered: u64,
    roster_version: u64,
    /// Which routers are silent, as [`Controller::notice_silence`] saw it last.
    silence: u64,
    routers: Table<Router, { MAX_ROUTERS as usize }>,
    in_flight: Table<InFlight, { MAX_STATUSES_IN_FLIGHT as usize }>,
    /// Statuses may differ from what is wanted.
    statuses_due: bool,
    statuses_again: Instant,
    status_buffer: [u8; MAX_STATUS_SIZE_BYTES as usize],
    record_buffer: [u8; MAX_RECORD_SIZE_BYTES as usize],
    counters: Counters,
}

crate::zeroed_struct!(Counters {
    reconciles: u64,
    generations: u64,
    statuses: u64,
    invalid_objects: u64,
    routers_left_out: u64,
});

crate::zeroed_struct!(Controller {
    settings: Settings,
    stores: Stores,
    decoder: Decoder,
    work: Work,
    vet: Option<Vet>,
    wanted: Wanted,
    earlier: Secret,
    now: Now,
    snapshots: [Snapshot; 2],
    current: usize,
    has_epoch: bool,
    epoch: u64,
    stands_by: bool,
    generation: u64,
    synced: u32,
    reconciled: u64,
    published: bool,
    discovered: u64,
    roster_version: u64,
    silence: u64,
    routers: Table<Router, { MAX_ROUTERS as usize }>,
    in_flight: Table<InFlight, { MAX_STATUSES_IN_FLIGHT as usize }>,
    statuses_due: bool,
    statuses_again: Instant,
    status_buffer: [u8; MAX_STATUS_SIZE_BYTES as usize],
    record_buffer: [u8; MAX_RECORD_SIZE_BYTES as usize],
    counters: Counters,
});

const ALL_KINDS: u32 = (1 << Kind::ALL.len()) - 1;

impl Controller {
    /// Sets up a zeroed controller.
    pub fn init(&mut self, settings: Settings, capacities: &Capacities) {
        self.settings = settings;
        self.stores.init(capacities);
        touch(&mut self.decoder);
        self.work.init(capacities);
        self.wanted.init();
        touch(&mut self.status_buffer);
        touch(&mut self.record_buffer);
        self.snapshots.iter_mut().for_each(|s| s.set_caps(capacities));
        self.routers.set_cap(capacities.max_routers);
        self.in_flight.set_cap(MAX_STATUSES_IN_FLIGHT);
        // Zero is also the version of empty stores: reconcile once.
        (self.reconciled, self.discovered) = (u64::MAX, u64::MAX);
    }

    /// Bytes at these capacities: the line of the memory plan, without stores and Snapshots.
    pub fn bytes(c: &Capacities) -> u64 {
        Work::bytes(c)
            + (size_of::<Decoder>() + size_of::<Wanted>() + size_of::<Secret>()) as u64
            + u64::from(c.max_routers) * size_of::<Router>() as u64
            + size_of::<Table<InFlight, { MAX_STATUSES_IN_FLIGHT as usize }>>() as u64
            + u64::from(MAX_STATUS_SIZE_BYTES + MAX_RECORD_SIZE_BYTES)
    }

    /// The stores, for admin pages.
    pub fn stores(&mut self) -> &mut Stores {
        &mut self.stores
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The published Snapshot; None before the first.
    pub fn published(&self) -> Option<&Snapshot> {
        self.published.then(|| &self.snapshots[self.current])
    }

    /// Whether every kind has synced once.
    pub fn is_synced(&self) -> bool {
        self.synced == ALL_KINDS
    }

    // ------------------------------------------------------------ objects

    /// A resync of a kind begins: what is not seen until it ends is gone.
    pub fn resync_begin(&mut self, kind: Kind) {
        self.stores.resync_begin(kind);
        if kind == Kind::Secret {
            // What is referred to by now will be in the list.
            self.look_for_secrets();
            self.wanted.resync_begins();
        }
    }

    /// A resync of a kind ended; the kind has synced. Not `complete`: something was skipped whose
    /// name is not known, so nothing is swept.
    pub fn resync_end(&mut self, kind: Kind, complete: bool) {
        self.stores.resync_end(kind, complete);
        if kind == Kind::Secret {
            self.wanted.resync_ends();
        }
        self.synced(kind);
    }

    /// An object exists but was not taken; its last version, if there is one, stays.
    pub fn skipped(&mut self, kind: Kind, key: &Key) {
        self.stores.skipped(kind, key);
        self.counters.invalid_objects += 1;
    }

    /// The epoch; 0 before there is one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The kind has synced (an optional one that is not served is synced and empty).
    pub fn synced(&mut self, kind: Kind) {
        self.synced |= 1 << kind as u32;
    }

    /// An object was added or changed. `age` stands for the creationTimestamp in standalone.
    pub fn upsert(
        &mut self,
        kind: Kind,
        value: Value<'_>,
        age: Option<u64>,
    ) -> Result<Upserted, Problem> {
        let result = if kind == Kind::Secret {
            self.upsert_secret(value, age)
        } else {
            let Controller { stores, decoder, settings, .. } = self;
            stores.upsert_aged(kind, value, settings.controller.as_str(), age, decoder)
        };
        self.counters.invalid_objects += u64::from(result.is_err());
        self.statuses_due = true;
        result
    }

    /// An object is gone.
    pub fn delete(&mut self, kind: Kind, key: &Key) {
        self.stores.remove(kind, key);
    }

    /// A kind whose relist could admit a refused object.
    pub fn wants_relist(&mut self) -> Option<Kind> {
        if self.wanted.wants_relist() {
            return Some(Kind::Secret);
        }
        Kind::ALL.into_iter().find(|&kind| self.stores.wants_relist(kind))
    }

    // ------------------------------------------------------------ routers

    /// The epoch of this controller: raised above every router's and the Lease's.
    pub fn set_epoch(&mut self, epoch: u64) {
        assert!(!self.has_epoch || self.epoch < epoch, "an epoch only rises");
        (self.has_epoch, self.epoch) = (true, epoch);
        self.stands_by = false;
        self.generation = 0;
        self.reconciled = u64::MAX;
    }

    /// Another controller has taken a higher epoch: nothing is pushed and no status written until
    /// the next [`Controller::set_epoch`]. All else goes on, so that the state is there then.
    pub fn stand_by(&mut self) {
        self.stands_by = true;
    }

    /// Generations go on above this one (standalone, from the last good file).
    pub fn set_generation(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
    }

    // ------------------------------------------------------------ work

    /// Reconciles when something changed; true when a new Snapshot is published.
    pub fn tick(&mut self, now: Now) -> bool {
        self.now = now;
        self.discover_routers(now);
        self.look_for_secrets();
        self.notice_silence(now);
        let epoch = self.epoch;
        let version = self.version();
        let may =
            self.has_epoch && self.is_synced() && !self.wanted.holds_back(now, self.published);
        if !may || self.reconciled == version {
            return false;
        }
        self.reconciled = version;
        self.counters.reconciles += 1;
        self.statuses_due = true;
        let (staging, nodes) = (1 - self.current, self.nodes());
        let Controller { stores, settings, work, snapshots, record_buffer, .. } = self;
        reconcile::build(stores, settings, nodes.as_slice(), work, &mut snapshots[staging]);
        let published = snapshots[1 - staging].identity;
        // Mostly a status alone was written: what is the same has the same checksum.
        let sum = match self.published && snapshots[0].has_content_of(&snapshots[1]) {
            true => published.checksum,
            false => checksum(&snapshots[staging], record_buffer).unwrap_or(Checksum([0xff; 32])),
        };
        if self.published && published.checksum == sum && published.epoch == epoch {
            return false;
        }
        self.generation += 1;
        self.counters.generations += 1;
        let identity = Identity { epoch, generation: self.generation, checksum: sum };
        assert!(!self.published || published.precedes(&identity));
        self.snapshots[staging].identity = identity;
        self.snapshots[staging].source =
            if self.settings.standalone { Source::Standalone } else { Source::Controller };
        self.current = staging;
        self.published = true;
        true
    }

    /// Of all that a Snapshot is made of. Both parts only rise: the sum changes with each.
    fn version(&self) -> u64 {
        self.stores.version() + self.roster_version
    }

    /// Hands out the statuses that differ from what the API server has.
    pub fn write_statuses(&mut self, now: Now, queue: &mut impl StatusQueue) {
        let due = self.statuses_due || now.mono >= self.statuses_again;
        // They are told of what was reconciled, by the places that it had in the stores.
        let is_current = self.reconciled == self.version();
        if !self.published || !due || !is_current || self.stands_by {
            return;
        }
        self.statuses_due = false;
        self.statuses_again = Instant::NEVER;
        self.in_flight.retain(|f| f.until > now.mono);
        let Controller { stores, settings, work, routers, snapshots, current, .. } = self;
        let rollout = Routers { routers: routers.as_slice(), now, snapshot: &snapshots[*current] };
        let (in_flight, mut filtered) = (&mut self.in_flight, 0);
        let mut filter = Filter { in_flight, queue, now, handed: 0, waiting: &mut filtered };
        statuses(stores, settings, work, &rollout, &mut self.status_buffer, &mut filter);
        self.counters.statuses += filter.handed;
        if filtered > 0 {
            let retry = Duration::from_millis(u64::from(STATUS_RETRY_MS));
            self.statuses_again = now.mono + retry;
        }
    }

    /// Hands every status to the sink, equal or not (`serval check`). It relies on no digest that
    /// is known, so that a wrong one shows.
    pub fn all_statuses(&mut self, now: Now, sink: &mut impl Sink) {
        self.work.forget_digests();
        let Controller { stores, settings, work, routers, snapshots, current, .. } = self;
        let rollout = Routers { routers: routers.as_slice(), now, snapshot: &snapshots[*current] };
        statuses(stores, settings, work, &rollout, &mut self.status_buffer, sink);
    }

    /// A status write was answered; with an error it is tried again after STATUS_RETRY_MS.
    pub fn status_written(&mut self, kind: Kind, key: &Key, ok: bool) {
        if ok {
            let (kind, key) = (kind as u8, key.hash());
            self.in_flight.retain(|f| (f.kind, f.key) != (kind, key));
        }
        self.statuses_due = true;
    }
}

/// Passes on the statuses that differ and are not on their way.
struct Filter<'f, Q> {
    in_flight: &'f mut Table<InFlight, { MAX_STATUSES_IN_FLIGHT as usize }>,
    queue: &'f mut Q,
    now: Now,
    handed: u64,
    waiting: &'f mut u32,
}

impl<Q: StatusQueue> Sink for Filter<'_, Q> {
    fn wants(&mut self, kind: Kind, meta: &Meta, observed: u64, wanted: u64) -> bool {
        if observed == wanted {
            return false;
        }
        *self.waiting += 1;
        let key = meta.key.hash();
        let twin = |f: &InFlight| (f.kind, f.key, f.wanted) == (kind as u8, key, wanted);
        !self.in_flight.as_slice().iter().any(twin)
    }

    fn status(&mut self, kind: Kind, meta: &Meta, _: u64, wanted: u64, body: &str) {
        let key = meta.key.hash();
        let until = self.now.mono + Duration::from_millis(u64::from(STATUS_RETRY_MS));
        let entry = InFlight { kind: kind as u8, key, wanted, until };
        if self.in_flight.push(entry).is_ok() {
            match self.queue.push(kind, meta, body) {
                Ok(()) => self.handed += 1,
                Err(crate::stdx::Full) => {
                    self.in_flight.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Report;
    use crate::reconcile::addresses::AddressPool;
    use crate::shell::place::boxed_zeroed;
    use core::net::SocketAddr;

    /// A controller that has published generation 1 of epoch 1 from empty stores.
    fn published() -> (std::boxed::Box<Controller>, SocketAddr) {
        let mut controller = boxed_zeroed::<Controller>();
        controller.init(Settings::default(), &Capacities::DEFAULT);
        let router = SocketAddr::from(([127, 0, 0, 1], 9901));
        assert!(controller.add_router(router, Now::default()));
        Kind::ALL.into_iter().for_each(|kind| controller.synced(kind));
        controller.set_epoch(1);
        assert!(controller.tick(Now::default()));
        (controller, router)
    }

    fn needs_push(controller: &Controller) -> bool {
        controller.is_behind(controller.routers()[0].address)
    }

    #[test]
    fn a_push_refused_for_a_time_is_repeated() {
        let (mut controller, router) = published();
        let identity = controller.published().unwrap().identity;
        controller.report(router, &Report { boot_id: 1, ..Report::default() }, Now::default());
        for status in [408, 409, 503] {
            controller.push_refused(router, identity, status);
            assert!(needs_push(&controller), "{status}");
        }
        controller.push_refused(router, identity, 507);
        assert!(!needs_push(&controller));
    }

    #[test]
    fn a_restarted_router_is_pushed_to_again() {
        let (mut controller, router) = published();
        let identity = controller.published().unwrap().identity;
        controller.report(router, &Report { boot_id: 1, ..Report::default() }, Now::default());
        controller.push_refused(router, identity, 507);
        controller.report(router, &Report { boot_id: 1, ..Report::default() }, Now::default());
        assert!(!needs_push(&controller));
        controller.report(router, &Report { boot_id: 2, ..Report::default() }, Now::default());
        assert!(needs_push(&controller));
    }

    #[test]
    fn one_that_stands_by_neither_pushes_nor_writes() {
        let (mut controller, router) = published();
        take(
            &mut controller,
            Kind::GatewayClass,
            r#"{"metadata":{"name":"c"},"spec":{"controllerName":"a/b"}}"#,
        );
        controller.settings.controller = crate::stdx::Short::new("a/b").unwrap();
        controller.report(router, &Report { boot_id: 1, ..Report::default() }, Now::default());
        let written = |controller: &mut Controller| {
            controller.tick(Now::default());
            let mut queue = Queue(0);
            controller.write_statuses(Now::default(), &mut queue);
            queue.0
        };
        controller.stand_by();
        assert_eq!((needs_push(&controller), written(&mut controller)), (false, 0));
        controller.set_epoch(3);
        let wrote = written(&mut controller);
        assert_eq!((needs_push(&controller), wrote), (true, 1), "what was held back comes then");
    }

    #[test]
    fn an_epoch_that_was_given_out_twice_is_no_longer_ours() {
        let (mut controller, router) = published();
        let own = controller.published().unwrap().identity;
        let mut highest = |identity| {
            let report = Report { identity, ..Report::default() };
            controller.report(router, &report, Now::default());
            controller.highest_epoch()
        };
        assert_eq!(highest(own), own.epoch);
        assert_eq!(highest(Identity { generation: own.generation - 1, ..own }), own.epoch);
        assert_eq!(highest(Identity { generation: own.generation + 1, ..own }), own.epoch + 1);
        assert_eq!(highest(Identity { checksum: Checksum([7; 32]), ..own }), own.epoch + 1);
        assert_eq!(highest(Identity { epoch: 5, ..own }), 5);
    }

    struct Queue(u32);

    impl StatusQueue for Queue {
        fn push(&mut self, _: Kind, _: &Meta, _: &str) -> Result<(), crate::stdx::Full> {
            self.0 += 1;
            Ok(())
        }
    }

    #[derive(Default)]
    struct OfClass(std::string::String);

    impl StatusQueue for OfClass {
        fn push(&mut self, kind: Kind, _: &Meta, body: &str) -> Result<(), crate::stdx::Full> {
            if kind == Kind::GatewayClass {
                self.0 = body.into();
            }
            Ok(())
        }
    }

    /// Its digest is known from the second pass on, until the class changes.
    #[test]
    fn a_status_that_is_known_follows_its_object() {
        let (mut controller, _) = published_with_gateway();
        let written = |controller: &mut Controller| {
            controller.tick(Now::default());
            let mut queue = OfClass::default();
            controller.status_written(Kind::GatewayClass, &Key::new("", "c").unwrap(), true);
            controller.write_statuses(Now::default(), &mut queue);
            queue.0
        };
        let first = written(&mut controller);
        assert!(first.contains("supportedFeatures"), "{first}");
        assert_eq!(written(&mut controller), first);
        let class = r#"{"metadata":{"name":"c"},"spec":{"controllerName":"a/b",
            "parametersRef":{"group":"g","kind":"k","name":"n"}}}"#;
        take(&mut controller, Kind::GatewayClass, class);
        let changed = written(&mut controller);
        assert!(changed.contains("InvalidParameters"), "{changed}");
    }

    struct Programmed(std::string::String);

    impl Sink for Programmed {
        fn status(&mut self, kind: Kind, _: &Meta, _: u64, _: u64, body: &str) {
            if kind == Kind::Gateway {
                self.0 = body.into();
            }
        }
    }

    /// Wants what differs, but of classes.
    struct Differing(std::vec::Vec<(Kind, u64)>);

    impl Sink for Differing {
        fn wants(&mut self, kind: Kind, _: &Meta, observed: u64, wanted: u64) -> bool {
            self.0.push((kind, wanted));
            kind != Kind::GatewayClass && observed != wanted
        }

        fn status(&mut self, kind: Kind, _: &Meta, _: u64, wanted: u64, body: &str) {
            assert!(kind == Kind::Gateway && self.0.last() == Some(&(kind, wanted)));
            assert!(body.starts_with("{\"conditions\":[") && body.ends_with("]}"), "{body}");
        }
    }

    #[test]
    fn a_status_that_is_not_wanted_is_not_handed_out() {
        let (mut controller, _) = published_with_gateway();
        assert!(controller.tick(Now::default()));
        let mut differing = Differing(std::vec::Vec::new());
        controller.all_statuses(Now::default(), &mut differing);
        let kinds = [differing.0[0].0, differing.0[1].0];
        assert_eq!((kinds, differing.0.len()), ([Kind::GatewayClass, Kind::Gateway], 2));
    }

    /// A controller that published ([`published`]), and has a Gateway of its class that was not
    /// reconciled yet.
    fn published_with_gateway() -> (std::boxed::Box<Controller>, SocketAddr) {
        let (mut controller, router) = published();
        let class = r#"{"metadata":{"name":"c"},"spec":{"controllerName":"a/b"}}"#;
        take(&mut controller, Kind::GatewayClass, class);
        let gateway = r#"{"metadata":{"name":"g"},"spec":{"gatewayClassName":"c",
            "listeners":[{"name":"l","port":80,"protocol":"HTTP"}]}}"#;
        take(&mut controller, Kind::Gateway, gateway);
        controller.settings.controller = crate::stdx::Short::new("a/b").unwrap();
        (controller, router)
    }

    fn take(controller: &mut Controller, kind: Kind, object: &str) {
        let mut document = boxed_zeroed::<crate::resource::document::Document>();
        crate::shell::json::parse(object.as_bytes(), &mut document).unwrap();
        controller.upsert(kind, document.root(), None).unwrap();
    }

    #[test]
    fn a_refusing_router_is_named_in_the_condition() {
        let (mut controller, router) = published_with_gateway();
        controller.settings.pool = AddressPool::parse("10.0.0.1").unwrap();
        assert!(controller.tick(Now::default()));
        let report = Report { boot_id: 1, ready: true, ..Report::default() };
        controller.report(router, &report, Now::default());
        let identity = controller.published().unwrap().identity;
        controller.push_refused(router, identity, 507);
        let mut body = Programmed(Default::default());
        controller.all_statuses(Now::default(), &mut body);
        let expected = "router 127.0.0.1:9901 refused the configuration (507): it does not fit";
        assert!(body.0.contains(expected) && body.0.contains("NoResources"), "{}", body.0);
    }

    /// Endpoints of the Service at its admin port, ready or not; not those that terminate, not
    /// another namespace's.
    #[test]
    fn routers_are_the_endpoints_of_their_service() {
        let (mut controller, _) = published();
        controller.settings.router_service = Key::new("ns", "routers").unwrap();
        let slice = |namespace: &str, endpoints: &str| {
            std::format!(
                r#"{{"metadata":{{"name":"routers-1","namespace":"{namespace}",
                "labels":{{"kubernetes.io/service-name":"routers"}}}},"addressType":"IPv4",
                "ports":[{{"name":"health","port":9902}},{{"name":"admin","port":9901}}],
                "endpoints":[{endpoints}]}}"#
            )
        };
        let endpoint = |ip: &str, condition: &str| {
            std::format!(r#"{{"addresses":["{ip}"],"conditions":{{{condition}}}}}"#)
        };
        let addresses = |controller: &Controller| {
            let routers = controller.routers().iter();
            routers.map(|r| std::format!("{}", r.address)).collect::<std::vec::Vec<_>>()
        };
        let elsewhere = slice("other", &endpoint("10.0.0.9", ""));
        take(&mut controller, Kind::EndpointSlice, &elsewhere);
        let [new, ready, leaving] = [
            endpoint("10.0.0.1", r#""ready":false"#),
            endpoint("10.0.0.2", ""),
            endpoint("10.0.0.3", r#""ready":false,"serving":true,"terminating":true"#),
        ];
        let all = slice("ns", &std::format!("{new},{ready},{leaving}"));
        take(&mut controller, Kind::EndpointSlice, &all);
        let before = controller.roster_version();
        controller.tick(Now::default());
        assert_eq!(addresses(&controller), ["10.0.0.1:9901", "10.0.0.2:9901"]);
        assert!(controller.roster_version() > before);
        let router = controller.routers()[1].address;
        controller.report(router, &Report { boot_id: 7, ..Report::default() }, Now::default());
        take(&mut controller, Kind::EndpointSlice, &slice("ns", &ready));
        controller.tick(Now::default());
        assert_eq!(addresses(&controller), ["10.0.0.2:9901"]);
        assert!(controller.routers()[0].report.is_some(), "one that stays is not forgotten");
        let version = controller.roster_version();
        controller.tick(Now::default());
        assert_eq!(controller.roster_version(), version, "nothing changed");
    }
}
