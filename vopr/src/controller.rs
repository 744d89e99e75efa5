//! One simulated controller: the machines as `shell::controller` connects them, in one thread.
//!
//! In: network events. Out: requests of the watch machines, reports asked for, pushes, status
//! writes, an epoch from the model's Lease. A crash drops it all.

mod checks;

use crate::api_server::{Api, api_address};
use crate::checkers::{l4, l5, s9, s11};
use crate::lease_client::LeaseClient;
use crate::marks::sometimes;
use crate::model::object::{Kind as ModelKind, Object};
use crate::model::roster::{Roster, SERVICE};
use crate::model::secret::{CANARY, Pairs};
use crate::model::table::Setup;
use crate::network::{EndId, Event as Due, MS, Network, Node, SECOND, SocketEvent, Step, Time};
use crate::router::{admin_address, clocks, parse, router_of};
use crate::shadow::Shadow;
use crate::status_api::Worked;
use crate::tables::Tables;
use crate::timeline::{Kind as Mark, Lane};
use crate::workload::CONTROLLER;
use serval::config::client::{Answer, Ask, Client, HEAD_BYTES};
use serval::config::fleet::Fleet;
use serval::config::{Report, Source};
use serval::controller::reign::Change;
use serval::controller::{Controller, StatusQueue};
use serval::kube::Trouble;
use serval::kube::kind::Watched;
use serval::kube::watch::{Event, Input, Output, Settings as WatchSettings, Skip, Watch};
use serval::limits::{
    Capacities, ENDPOINT_SYNC_PERIOD_MS, MAX_PUSHES_AT_ONCE, MAX_RECORD_SIZE_BYTES,
    MAX_REPORTS_AT_ONCE,
};
use serval::reconcile::Settings;
use serval::reconcile::addresses::AddressPool;
use serval::resource::document::{Document, Value};
use serval::resource::secret::PairProblem;
use serval::resource::store::Upserted;
use serval::resource::{Key, Kind, Meta};
use serval::shell::tls::rustls::certificates;
use serval::stdx::{Duration, Full, Prng, Short, zeroed_box};
use std::net::SocketAddr;
use std::rc::Rc;

struct Watcher {
    watch: Box<Watch>,
    document: Box<Document>,
    end: Option<EndId>,
    is_open: bool,
    output: Vec<u8>,
    shadow: Shadow,
    seen: l5::Seen,
}

/// As `RouterSockets`, on simulated streams.
struct Sockets<const OUTPUT: usize, const SLOTS: usize> {
    node: Node,
    fleet: Fleet<SLOTS>,
    slots: Vec<Socket<OUTPUT>>,
}

struct Socket<const OUTPUT: usize> {
    client: Box<Client<OUTPUT>>,
    end: Option<EndId>,
    is_open: bool,
    is_asked: bool,
}

/// A status on its way to the API server.
#[derive(Debug)]
pub struct Order {
    pub kind: Kind,
    pub key: Key,
    pub uid: String,
    pub body: String,
    pub due: Time,
    /// The object was read.
    pub worked: Option<Worked>,
}

/// Statuses on their way at most: few, so that full is met.
const ORDERS: usize = 3;

#[derive(Debug)]
struct Orders<'o> {
    out: &'o mut Vec<Order>,
    due: Time,
}

impl StatusQueue for Orders<'_> {
    fn push(&mut self, kind: Kind, meta: &Meta, body: &str) -> Result<(), Full> {
        if self.out.len() >= ORDERS {
            sometimes("no more statuses go out for now");
            return Err(Full);
        }
        let uid = meta.uid.as_str().to_string();
        let (body, due) = (body.to_string(), self.due);
        self.out.push(Order { kind, key: meta.key, uid, body, due, worked: None });
        Ok(())
    }
}

/// A running controller.
#[expect(missing_debug_implementations, reason = "machines are large")]
pub struct Process {
    pub number: u64,
    pub controller: Box<Controller>,
    watchers: Vec<Watcher>,
    syncs: Sockets<HEAD_BYTES, { MAX_REPORTS_AT_ONCE as usize }>,
    pushes: Sockets<{ MAX_RECORD_SIZE_BYTES as usize }, { MAX_PUSHES_AT_ONCE as usize }>,
    setup: Setup,
    /// What the controller must know of the routers.
    routers: Roster,
    /// What they serve.
    reports: s11::Reports,
    /// The version of the EndpointSlices that they follow.
    followed: Option<u64>,
    /// The roster that the sockets know.
    roster: u64,
    document: Box<Document>,
    pub lease: LeaseClient,
    pub node: Node,
    relisted: Time,
    pub orders: Vec<Order>,
    prng: Prng,
    due: Time,
}

/// What is counted over all processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub pushes: u64,
    pub relists: u64,
    pub generations: u64,
    pub refusals: u64,
    pub compared: u64,
    /// Pairs that stay of Secrets that went bad, in statuses.
    pub pairs_kept: u64,
    /// Addresses that were left out since their routers were silent, in statuses.
    pub silent: u64,
    /// certificateRefs that do not resolve, in statuses.
    pub ref_problems: u64,
}

/// What a controller works with.
#[derive(Debug)]
pub struct Around<'a> {
    pub net: &'a mut Network,
    pub tables: &'a mut Tables,
    pub counts: &'a mut Counts,
}

impl Process {
    /// A controller that begins.
    pub fn start(
        prng: &mut Prng,
        node: Node,
        routers: usize,
        caps: &Capacities,
        setup: Setup,
        net: &mut Network,
    ) -> Process {
        let mut controller = zeroed_box::<Controller>();
        let settings = Settings {
            controller: Short::new(CONTROLLER).expect("short enough"),
            standalone: false,
            pool: match setup.in_nodes {
                true => AddressPool::default(),
                false => AddressPool::parse("10.240.0.1-10.240.0.3").expect("three addresses"),
            },
            gateway_service: Key::default(),
            router_service: match setup.in_nodes {
                true => Key::new(SERVICE.0, SERVICE.1).expect("short names"),
                false => Key::default(),
            },
        };
        controller.init(settings, caps);
        controller.set_vet(if setup.is_foreign { certificates::vet } else { vet });
        for router in (0..routers).filter(|_| !setup.in_nodes) {
            assert!(controller.add_router(admin_address(router, 0), clocks(net.now)));
        }
        let watchers = Watched::ALL.into_iter().zip(ModelKind::ALL).map(|(kind, model)| {
            let mut watch = zeroed_box::<Watch>();
            let authority = api_address().to_string();
            let settings =
                WatchSettings { kind, authority: &authority, prefix: "", token: b"token" };
            watch.start(settings, Prng::new(prng.next_u64())).expect("settings fit");
            let mut document = zeroed_box::<Document>();
            document.clear();
            Watcher {
                watch,
                document,
                end: None,
                is_open: false,
                output: Vec::new(),
                shadow: Shadow::new(model),
                seen: l5::Seen::new(model, net.now),
            }
        });
        let watchers: Vec<Watcher> = watchers.collect();
        let number = prng.next_u64();
        let process = Process {
            number,
            controller,
            watchers,
            syncs: Sockets::new(node),
            pushes: Sockets::new(node),
            setup,
            routers: Roster::default(),
            reports: s11::Reports::default(),
            followed: None,
            roster: u64::MAX,
            document: zeroed_box::<Document>(),
            lease: LeaseClient::new(node, number, prng, net),
            node,
            relisted: net.now,
            orders: Vec::new(),
            prng: Prng::new(prng.next_u64()),
            due: Time::MAX,
        };
        net.trace.say(net.now, &format!("{node:?} starts, {}", process.lease.holder));
        net.schedule(net.now, Due::Timer(node, process.number));
        process
    }

    /// Something happened at a socket.
    pub fn on_socket(
        &mut self,
        end: EndId,
        what: SocketEvent,
        api: &mut Api,
        around: &mut Around<'_>,
    ) {
        if let Some(index) = self.watchers.iter().position(|w| w.end == Some(end)) {
            self.watcher_socket(index, what, api, around);
        }
        self.syncs.on_socket(end, what, around.net, &mut self.prng);
        self.pushes.on_socket(end, what, around.net, &mut self.prng);
        self.run(api, around);
    }

    /// A timer came up.
    pub fn on_timer(&mut self, number: u64, api: &mut Api, around: &mut Around<'_>) {
        if number == self.number {
            if self.due <= around.net.now {
                self.due = Time::MAX;
            }
            self.run(api, around);
        }
    }

    // ------------------------------------------------------------ watches

    fn watcher_socket(
        &mut self,
        index: usize,
        what: SocketEvent,
        api: &mut Api,
        around: &mut Around<'_>,
    ) {
        let w = &mut self.watchers[index];
        match what {
            SocketEvent::Opened => {
                w.is_open = true;
                self.give(index, Input::Connected, api, around);
            }
            SocketEvent::Refused => {
                if let Some(end) = w.end.take() {
                    around.net.close(end, false);
                }
                self.give(index, Input::Closed(Trouble::Unreachable), api, around);
            }
            _ => {}
        }
        self.watcher_receive(index, api, around);
    }

    fn watcher_receive(&mut self, index: usize, api: &mut Api, around: &mut Around<'_>) {
        loop {
            let w = &mut self.watchers[index];
            let Some(end) = w.end.filter(|_| w.is_open) else { return };
            if !w.output.is_empty() {
                match around.net.write(end, &w.output) {
                    Some(taken) => drop(w.output.drain(..taken)),
                    None => w.output.clear(),
                }
            }
            let bytes = around.net.read(end, 4096);
            if bytes.is_empty() {
                if around.net.ended(end).is_some() {
                    around.net.close(end, false);
                    w.end = None;
                    self.give(index, Input::Closed(Trouble::Closed), api, around);
                }
                return;
            }
            let mut at = 0;
            // What a machine that hung up did not take is of the old connection.
            while at < bytes.len() && self.watchers[index].end == Some(end) {
                let input = Input::Bytes(&bytes[at..]);
                let now = clocks(around.net.now);
                let used = self.watchers[index].watch.input(input, now);
                at += used.expect("all outputs were polled");
                self.outputs(index, api, around);
            }
        }
    }

    fn give(&mut self, index: usize, input: Input<'_>, api: &mut Api, around: &mut Around<'_>) {
        let taken = self.watchers[index].watch.input(input, clocks(around.net.now));
        assert!(taken.is_ok(), "all outputs were polled, and lines are parsed at once");
        self.outputs(index, api, around);
    }

    /// Does all that a machine wants.
    fn outputs(&mut self, index: usize, api: &mut Api, around: &mut Around<'_>) {
        let (mut parsed, mut token_wanted) = (None, false);
        loop {
            let Process { watchers, controller, setup, node, .. } = self;
            let (before, rest) = watchers.split_at_mut(index);
            let w = &mut rest[0];
            // Secrets are watched behind Gateways.
            let is_wanted = |namespace: &str, name: &str| {
                let gateways = &before[ModelKind::Gateway as usize].shadow;
                let is_known = !gateways.is_behind && !setup.is_foreign;
                is_known.then(|| gateways.refers_to(namespace, name))
            };
            let Some(output) = w.watch.poll_output(&w.document) else {
                let input = match parsed.take() {
                    Some(true) => Input::Parsed(&w.document),
                    Some(false) => Input::Refused,
                    None if core::mem::take(&mut token_wanted) => Input::Token(b"token"),
                    None => return,
                };
                let taken = w.watch.input(input, clocks(around.net.now));
                assert!(taken.is_ok(), "all outputs were polled");
                continue;
            };
            match output {
                Output::Connect => {
                    let end = around.net.connect(*node, Node::Api, api_address());
                    (w.end, w.is_open) = (Some(end), false);
                    w.output.clear();
                }
                Output::Disconnect => {
                    if let Some(end) = w.end.take() {
                        around.net.close(end, true);
                    }
                }
                Output::Send(bytes) => w.output.extend(bytes),
                // As the watch thread, which looks at the file again.
                Output::ReadToken => token_wanted = true,
                Output::Parse(line) => {
                    parsed = Some(parse(line, &mut w.document));
                }
                Output::Event(Event::Retrying { trouble, wait_ms }) => {
                    w.seen.failed(w.shadow.kind, trouble, wait_ms, around.net);
                }
                Output::Event(event) => {
                    if matches!(event, Event::Bookmark) {
                        w.seen.bookmark();
                    }
                    take_event(controller, &mut w.shadow, &is_wanted, event, (api, around));
                }
            }
            if let (Some(end), true) = (w.end, w.is_open)
                && !w.output.is_empty()
            {
                match around.net.write(end, &w.output) {
                    Some(taken) => drop(w.output.drain(..taken)),
                    None => w.output.clear(),
                }
            }
        }
    }

    // ------------------------------------------------------------ the loop

    /// As `MainLoop::run`, once.
    fn run(&mut self, api: &mut Api, around: &mut Around<'_>) {
        let now = clocks(around.net.now);
        for index in 0..self.watchers.len() {
            self.watchers[index].watch.tick(now);
            self.outputs(index, api, around);
        }
        self.relist(api, around);
        self.ask_reports(around);
        self.look_at_lease(around.net);
        let has_published = self.controller.tick(now);
        let slices = &self.watchers[ModelKind::Slice as usize].shadow;
        if self.controller.is_synced() && self.followed != Some(slices.version) {
            self.followed = Some(slices.version);
            self.routers.follow(&slices.objects());
        }
        if has_published {
            self.check_published(around);
        }
        self.take_roster(around.net);
        self.push(around);
        // One at a time, in order.
        let last = self.orders.last().map_or(0, |o| o.due);
        let due = last.max(around.net.now + self.prng.range(MS, 200 * MS));
        let before = self.orders.len();
        let mut queue = Orders { out: &mut self.orders, due };
        self.controller.write_statuses(now, &mut queue);
        if self.orders.len() > before {
            around.net.schedule(due, Due::Step(Step::Status(self.node)));
            l4::acts(self, "writes a status", around.net);
            self.check_statuses(before, around);
        }
        self.rearm(around.net);
    }

    /// Looks which kinds the API server is watched for, that is healthy since then.
    pub fn check_watches(&mut self, api: &Api, healthy: Time, net: &mut Network) {
        let watched = api.watched_by(self.node, net);
        for w in &mut self.watchers {
            let (kind, node) = (w.shadow.kind, self.node);
            let what = format!("{kind:?} of {node:?}");
            let is_connected = w.end.is_some() && w.is_open;
            w.seen.look(&what, (watched.contains(&kind), is_connected), healthy, net);
        }
    }

    fn rearm(&mut self, net: &mut Network) {
        let mut due = net.now + 100 * MS;
        for w in &self.watchers {
            due = due.min(w.watch.timeout().map_or(Time::MAX, |t| t.0));
        }
        let due = due.max(net.now + MS);
        if due < self.due {
            self.due = due;
            net.schedule(due, Due::Timer(self.node, self.number));
        }
    }

    fn relist(&mut self, api: &mut Api, around: &mut Around<'_>) {
        if around.net.now - self.relisted < SECOND {
            return;
        }
        if let Some(kind) = self.controller.wants_relist() {
            self.relisted = around.net.now;
            around.net.trace.say(around.net.now, &format!("relist of {}", kind.name()));
            self.give(kind as usize, Input::Relist, api, around);
        }
    }

    fn ask_reports(&mut self, around: &mut Around<'_>) {
        let now = clocks(around.net.now);
        let period = Duration::from_millis(u64::from(ENDPOINT_SYNC_PERIOD_MS));
        for slot in 0..MAX_REPORTS_AT_ONCE as usize {
            let Some(address) = self.syncs.fleet.address(slot) else { continue };
            let answer = self.syncs.drive(slot, None, around.net, &mut self.prng);
            let Some(answer) = answer else { continue };
            if answer.status == 200 && parse(self.syncs.body(slot), &mut self.document) {
                let report = Report::read(self.document.root());
                let report = report.expect("a router's report can be read");
                self.controller.report(address, &report, now);
                self.note_report(address, &report, around.net.now);
                let is_configured = report.source != Source::None;
                self.routers.heard(address, is_configured, around.net.now);
            }
            self.syncs.fleet.answered(slot, now.mono + period);
        }
        self.syncs.begin(Ask::Report, |_| true, around.net);
    }

    fn take_roster(&mut self, net: &mut Network) {
        if self.roster == self.controller.roster_version() {
            return;
        }
        self.roster = self.controller.roster_version();
        let routers = self.controller.routers().iter().map(|r| r.address);
        self.reports.keep(|address| routers.clone().any(|r| r == *address));
        let now = clocks(net.now);
        self.syncs.fleet.set(routers.clone(), now).expect("as many as the controller has");
        self.pushes.fleet.set(routers, now).expect("as many as the controller has");
    }

    fn look_at_lease(&mut self, net: &mut Network) {
        let highest = self.controller.highest_epoch();
        let all = self.controller.routers().iter().all(|r| r.report.is_some());
        let change = self.lease.run(highest, all, net);
        match change {
            Change::None => return,
            Change::Taken(epoch) => self.controller.set_epoch(epoch),
            Change::Overtaken => self.controller.stand_by(),
        }
        net.trace.say(net.now, &format!("{:?}: {change:?}", self.node));
    }

    fn push(&mut self, around: &mut Around<'_>) {
        for slot in 0..MAX_PUSHES_AT_ONCE as usize {
            let published = self.controller.published();
            let answer = self.pushes.drive(slot, published, around.net, &mut self.prng);
            if let Some(answer) = answer {
                self.take_answer(slot, answer, around);
            }
        }
        let controller = &self.controller;
        let begun = self.pushes.begin(Ask::Push, |a| controller.is_behind(a), around.net);
        around.counts.pushes += begun;
        if begun > 0 {
            l4::acts(self, "pushes", around.net);
        }
    }

    fn take_answer(&mut self, slot: usize, answer: Answer, around: &mut Around<'_>) {
        let address = self.pushes.fleet.address(slot).expect("it answered");
        let now = clocks(around.net.now);
        let pause = if answer.status == 200 {
            assert!(parse(self.pushes.body(slot), &mut self.document), "a report is JSON");
            let report = Report::read(self.document.root()).expect("a report can be read");
            let is_configured = report.source != Source::None;
            self.routers.heard(address, is_configured, around.net.now);
            self.note_report(address, &report, around.net.now);
            self.controller.push_taken(address, answer.identity, Some(&report), now)
        } else {
            let text = format!("router {address} answered {} to a push", answer.status);
            around.net.trace.say(around.net.now, &text);
            self.controller.push_refused(address, answer.identity, answer.status);
            Duration::from_secs(1)
        };
        self.pushes.fleet.answered(slot, now.mono + pause);
    }
}

impl<const OUTPUT: usize, const SLOTS: usize> Sockets<OUTPUT, SLOTS> {
    fn new(node: Node) -> Self {
        let slot = |_| Socket {
            client: zeroed_box::<Client<OUTPUT>>(),
            end: None,
            is_open: false,
            is_asked: false,
        };
        Sockets { node, fleet: Fleet::new(), slots: (0..SLOTS).map(slot).collect() }
    }

    fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network, prng: &mut Prng) {
        let Some(slot) = self.slots.iter().position(|s| s.end == Some(end)) else { return };
        if what == SocketEvent::Refused {
            self.slots[slot].give_up(net);
            self.fleet.failed(slot, clocks(net.now), prng);
        } else {
            self.slots[slot].is_open = true;
        }
    }

    /// How many talks began.
    fn begin(&mut self, ask: Ask, wanted: impl Fn(SocketAddr) -> bool, net: &mut Network) -> u64 {
        let mut begun = 0;
        while let Some((slot, address)) = self.fleet.begin(clocks(net.now), &wanted) {
            let socket = &mut self.slots[slot];
            socket.client.begin(ask, address, clocks(net.now));
            let router = router_of(address);
            socket.end = Some(net.connect(self.node, Node::Router(router), address));
            if let (Ask::Push, Node::Controller(i)) = (ask, self.node) {
                let text = || format!("push to router {router} begins");
                net.trace.mark(net.now, Lane::Controller(i), Mark::Pushed, text);
            }
            (socket.is_open, socket.is_asked) = (false, false);
            begun += 1;
        }
        begun
    }

    fn drive(
        &mut self,
        slot: usize,
        published: Option<&serval::config::Snapshot>,
        net: &mut Network,
        prng: &mut Prng,
    ) -> Option<Answer> {
        let socket = &mut self.slots[slot];
        let end = socket.end?;
        match socket.exchange(end, published, net) {
            Ok(None) if !socket.client.is_late(clocks(net.now)) => None,
            Ok(Some(answer)) => {
                net.close(end, false);
                socket.end = None;
                Some(answer)
            }
            _ => {
                socket.give_up(net);
                self.fleet.failed(slot, clocks(net.now), prng);
                None
            }
        }
    }

    fn body(&self, slot: usize) -> &[u8] {
        self.slots[slot].client.body()
    }
}

impl<const OUTPUT: usize> Socket<OUTPUT> {
    fn give_up(&mut self, net: &mut Network) {
        if let Some(end) = self.end.take() {
            net.close(end, false);
        }
        self.client.failed();
    }

    fn exchange(
        &mut self,
        end: EndId,
        published: Option<&serval::config::Snapshot>,
        net: &mut Network,
    ) -> Result<Option<Answer>, ()> {
        let now = clocks(net.now);
        if !self.is_open {
            return Ok(None);
        }
        if !self.is_asked {
            self.is_asked = true;
            self.client.connected(published, "", now);
        }
        loop {
            let bytes = self.client.output(published).ok_or(())?;
            if bytes.is_empty() {
                break;
            }
            match net.write(end, bytes) {
                Some(0) | None => break,
                Some(written) => self.client.sent(written, now),
            }
        }
        loop {
            let len = net.read_into(end, self.client.room());
            if len == 0 && net.ended(end).is_none() {
                return Ok(None);
            }
            if let Some(answer) = self.client.received(len) {
                return Ok(Some(answer));
            }
            if len == 0 {
                return Err(());
            }
        }
    }
}

/// The TLS stack's word on a pair, by the words of `model::secret`.
fn vet(chain: &str, key: &str) -> PairProblem {
    let Some(certificate) = chain.strip_prefix("certificate ") else {
        return PairProblem::Malformed;
    };
    match key.strip_prefix(CANARY).map(str::trim_start) {
        None => PairProblem::UnsupportedKey,
        Some(own) if own != certificate => PairProblem::KeyMismatch,
        Some(_) => PairProblem::None,
    }
}

/// An object is too large to be taken.
fn skip(controller: &mut Controller, shadow: &mut Shadow, (namespace, name): (&str, &str)) {
    sometimes("an object that is too large is skipped");
    let kind = Kind::ALL[shadow.kind as usize];
    let key = Key::new(namespace, name).expect("names of the model are short");
    controller.skipped(kind, &key);
    shadow.skip(namespace, name, holds(controller, kind, namespace, name));
}

/// Whether the store of a kind has an object.
fn holds(controller: &mut Controller, kind: Kind, namespace: &str, name: &str) -> bool {
    let stores = controller.stores();
    let found = match kind {
        Kind::Gateway => stores.gateways.find_parts(namespace, name),
        Kind::HttpRoute => stores.routes.find_parts(namespace, name),
        Kind::Service => stores.services.find_parts(namespace, name),
        Kind::EndpointSlice => stores.slices.find_parts(namespace, name),
        _ => unreachable!("no {kind:?} is too large"),
    };
    found.is_some()
}

/// As the shell's main loop takes a record, and the same for the shadow. `is_wanted`: whether a
/// Gateway refers to a Secret, if that is known.
fn take_event(
    controller: &mut Controller,
    shadow: &mut Shadow,
    is_wanted: &dyn Fn(&str, &str) -> Option<bool>,
    event: Event<'_>,
    (api, around): (&Api, &mut Around<'_>),
) {
    let kind = Kind::ALL[shadow.kind as usize];
    match event {
        Event::ResyncBegin { .. } => {
            // What a new watch lists first is no relist.
            around.counts.relists += u64::from(shadow.resyncs > 0);
            shadow.begin();
            controller.resync_begin(kind);
        }
        Event::ResyncEnd { complete, .. } => {
            assert!(complete, "no object of the model is skipped");
            shadow.end();
            controller.resync_end(kind, complete);
        }
        Event::Synced => controller.synced(kind),
        Event::Upsert { object } => {
            let of = |m| object.at(&["metadata", m]).and_then(Value::str).unwrap_or("");
            let version = of("resourceVersion").parse().unwrap_or(0);
            if let Err(wrong) = shadow.upsert(api, of("namespace"), of("name"), version) {
                around.net.trace.violated(around.net.now, "S3", wrong);
            }
            let taken = controller.upsert(kind, object, None);
            if kind == Kind::Secret {
                let (namespace, name) = (of("namespace"), of("name"));
                let is_kept = controller.stores().secrets.find_parts(namespace, name).is_some();
                let is_wanted = is_wanted(namespace, name).unwrap_or(is_kept);
                if is_kept != is_wanted {
                    let text = format!("{namespace}/{name}: kept {is_kept}, wanted {is_wanted}");
                    around.net.trace.violated(around.net.now, "S9", text);
                }
                let text = format!("Secret {namespace}/{name}: version {version}, {is_wanted}");
                around.net.trace.say(around.net.now, &text);
                if !is_wanted {
                    shadow.delete(namespace, name);
                }
            }
            match taken {
                Ok(Upserted::Refused(_)) => around.counts.refusals += 1,
                Ok(_) => {}
                Err(problem) => {
                    let text = format!("a valid {} was refused: {problem}", kind.name());
                    around.net.trace.violated(around.net.now, "S3", text);
                }
            }
        }
        Event::Delete { namespace, name, .. } => {
            shadow.delete(namespace, name);
            let namespace = if kind.is_cluster_scoped() { "" } else { namespace };
            let key = Key::new(namespace, name).expect("names of the model are short");
            controller.delete(kind, &key);
        }
        Event::Skipped { why: Skip::TooLarge, namespace, name, .. }
            if api.was_huge(&(shadow.kind, namespace.to_string(), name.to_string())) =>
        {
            skip(controller, shadow, (namespace, name));
        }
        // Only the API server's nonsense has no name.
        Event::Skipped { why, name, .. } if !name.is_empty() => {
            let text = format!("{} {name} was skipped: {why:?}", kind.name());
            around.net.trace.violated(around.net.now, "S3", text);
        }
        _ => {}
    }
}
