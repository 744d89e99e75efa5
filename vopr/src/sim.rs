//! The simulator: all nodes in one thread, driven by the network's queue of events.
//!
//! In: a seed's options. Out: a summary and what the checkers found. Two phases: safety, with
//! faults; then liveness: faults are healed, objects stop changing, and the routers must come to
//! the final state and stay there.

mod abandoned;
mod converge;

use crate::abuser::Abuser;
use crate::api_server::Api;
use crate::backend::Backends;
use crate::capacities::{cramped, small, tight};
use crate::checkers::{
    d1, d2, d3, d4, d6, d7, d9, d11, d13, l1, l2, l3, l4, l6, l8, s1, s4, s6, s8,
};
use crate::client::{Clients, Outcome};
use crate::controller::{Around, Counts, Process};
use crate::controllers::{CONTROLLERS, Controllers};
use crate::faults::Fault;
use crate::ledger::Ledger;
use crate::marks::{self, sometimes};
use crate::model::lookup::{Answer, FROM_BACKEND, FROM_CLIENT};
use crate::model::secret::Pairs;
use crate::network::{Event, MS, Network, Node, SECOND, SocketEvent, Step, Time};
use crate::observer::Observer;
use crate::pauses::{Pauses, node_of};
use crate::replay::Replays;
use crate::router::{NODES, Router, set_wall, slice_of};
use crate::seed::{Options, Rate};
use crate::status_api;
use crate::strangers::Strangers;
pub use crate::summary::{Summary, Sums};
use crate::tables::Tables;
use crate::target;
use crate::timeline::Timeline;
use crate::trace::Trace;
use crate::workload::{PORTS, Workload};
use serval::stdx::Prng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

mod faults;
mod outages;
mod times;

/// Routers of a run.
pub const ROUTERS: usize = 2;
/// All routers must serve the final state so long after.
const CONVERGE_WITHIN: Time = 50 * SECOND;
/// They must stay so for so long, without clients from `CLIENTS_STAY` on.
const STAY: Time = 22 * SECOND;
const CLIENTS_STAY: Time = 14 * SECOND;
/// The final state had to stay so long before something disturbs it.
const CALM: Time = 3 * SECOND;
/// Then a router is silent for so long; its addresses are gone after `HEARD_NO_MORE`.
const SILENCE: Time = 15 * SECOND;
const HEARD_NO_MORE: Time = 11 * SECOND;
/// A control plane that ends for good does so within so long after the last change.
const LAST_WORDS: Time = 20 * SECOND;
/// Statuses follow what is served within so long.
const FOLLOW: Time = 5 * SECOND;
/// A watch that the server answered with errors may come back so late (BACKOFF_ERROR_MAX_MS).
const LATE: Time = 42 * SECOND;

/// What disturbed the final state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calm {
    Whole,
    SecretWentBad,
    /// All is listed again, and nothing may follow.
    Listed,
    Over,
}

/// All nodes.
#[expect(missing_debug_implementations, reason = "machines are large")]
pub struct Sim {
    options: Options,
    net: Network,
    routers: Vec<Router>,
    controllers: Controllers,
    pauses: Pauses,
    /// How far wall clocks were stepped, in seconds.
    walls: BTreeMap<Node, i64>,
    api: Api,
    clients: Clients,
    abuser: Abuser,
    backends: Backends,
    workload: Workload,
    replays: Replays,
    strangers: Strangers,
    ledger: Ledger,
    tables: Tables,
    counts: Counts,
    seen: Vec<s1::Seen>,
    /// Swaps of each router that S4 has judged.
    adopted: [u64; ROUTERS],
    prng: Prng,
    sums: Sums,
    is_healed: bool,
    outages: outages::Outages,
    /// Changes of objects that are left of a flurry.
    flurry: u32,
    /// Two contend for the Lease until then, and nothing else happens to the control plane.
    contest_until: Time,
    /// Since when all routers serve the final state.
    converged: Option<Time>,
    /// When they came to it.
    reached: Time,
    /// What happened since, and when the last of it did.
    calm: Calm,
    disturbed: Time,
    /// Who answers in the calm.
    tally: l6::Tally,
    /// Some endpoints refuse connections until then.
    flaps_until: Time,
    /// A router is silent since then, if ever.
    silent_from: Time,
    /// (pushes, status writes, swaps) then.
    settled: (u64, u64, u64),
    /// The control plane is gone for good.
    alone: Option<abandoned::Alone>,
    /// Since when the controller that reigns is told of what changes.
    hears_since: Option<Time>,
    /// The last client has gone.
    is_quiet: bool,
    is_over: bool,
    /// Fills the timeline, if there is one.
    observer: Option<Observer>,
}

/// Runs a seed.
pub fn run(options: Options, verbose: bool) -> Summary {
    observe(options, verbose, None)
}

/// Runs a seed, with a timeline if one is wanted.
pub fn observe(
    options: Options,
    verbose: bool,
    timeline: Option<Rc<RefCell<Timeline>>>,
) -> Summary {
    marks::take();
    let mut sim = Sim::new(options, verbose);
    sim.observer = timeline.clone().map(Observer::new);
    sim.net.trace.timeline = timeline;
    sim.start();
    while !sim.is_over && sim.net.trace.violations.is_empty() {
        let Some(event) = sim.net.next(Time::MAX) else { break };
        if let Some(observer) = &mut sim.observer {
            observer.begin(event, &sim.net);
        }
        sim.dispatch(event);
        sim.look_around();
    }
    if let Some(observer) = &mut sim.observer {
        observer.end(sim.ledger.requests.values());
    }
    sim.summary()
}

impl Sim {
    fn new(options: Options, verbose: bool) -> Sim {
        let trace = Trace::new(verbose);
        let net = Network::new(options.child("network"), options.network, trace);
        let capacities = if options.tight { tight() } else { small() };
        let router = |i: usize| Router::new(i, options.child(&format!("router{i}")), capacities);
        Sim {
            options,
            net,
            routers: (0..ROUTERS).map(router).collect(),
            controllers: Controllers::default(),
            pauses: Pauses::default(),
            walls: BTreeMap::new(),
            api: Api::new(&options),
            clients: Clients::new(&options),
            abuser: Abuser::new(options.child("abuser"), ROUTERS),
            backends: Backends::new(options.child("backends"), options.backend_faults),
            workload: Workload::new(options.child("workload"), options.over_capacity),
            replays: Replays::new(options.child("replays")),
            strangers: Strangers::new(&options),
            ledger: Ledger::default(),
            tables: Tables::default(),
            counts: Counts::default(),
            seen: vec![s1::Seen::default(); ROUTERS],
            adopted: [0; ROUTERS],
            prng: options.child("faults"),
            sums: Sums::default(),
            is_healed: false,
            outages: outages::Outages::default(),
            flurry: 0,
            contest_until: 0,
            converged: None,
            reached: 0,
            calm: Calm::Whole,
            disturbed: 0,
            tally: l6::Tally::default(),
            flaps_until: 0,
            silent_from: Time::MAX / 2,
            settled: (0, 0, 0),
            alone: None,
            hears_since: None,
            is_quiet: false,
            is_over: false,
            observer: None,
        }
    }

    /// Shows the nodes to the observer, if there is one.
    fn look_around(&mut self) {
        let Sim { observer: Some(observer), net, api, backends, clients, routers, .. } = self
        else {
            return;
        };
        let injected = [net.injected, api.injected, backends.injected, clients.injected];
        observer.look(net.now, injected, (&routers[..], api, self.counts.relists));
    }

    fn start(&mut self) {
        let now = self.net.now;
        self.workload.seed(&mut self.api, now);
        self.api.start(&mut self.net);
        for router in &mut self.routers {
            router.is_mixed = self.options.mixed;
            router.start(&mut self.net);
        }
        self.write_endpoints();
        if self.options.bind_failures != Rate::Off {
            // The first binds fail; nobody knows when there will be others.
            self.fail_binds(0, &PORTS);
            self.fail_binds_at_random(1);
        }
        self.start_controller(0);
        self.plan_restore();
        for (after, event) in [
            (0, Event::Timer(Node::Clients, 0)),
            (SECOND, Event::Timer(Node::Strangers, 0)),
            (0, Event::Step(Step::ApiTimer)),
            (0, Event::Step(Step::Workload)),
            (SECOND, Event::Step(Step::Fault)),
            (SECOND, Event::Step(Step::Hiccup)),
            (5 * SECOND, Event::Step(Step::Outage)),
            (self.options.until_ms * MS, Event::Step(Step::Heal)),
        ] {
            self.net.schedule(now + after, event);
        }
    }

    fn start_controller(&mut self, i: usize) {
        let mut prng = Prng::new(self.prng.next_u64());
        let (node, setup) = (Node::Controller(i), self.api.setup);
        let capacities = if self.options.cramped { cramped() } else { small() };
        let process = Process::start(&mut prng, node, ROUTERS, &capacities, setup, &mut self.net);
        self.controllers.0[i] = Some(process);
    }

    fn dispatch(&mut self, event: Event) {
        if self.pauses.keeps(event, &self.net) {
            return;
        }
        let walls = Some(&self.walls).filter(|walls| !walls.is_empty());
        let stepped = walls.and_then(|walls| walls.get(&node_of(event, &self.net)?));
        let stepped = stepped.filter(|_| !self.options.still_clocks);
        set_wall(stepped.copied().unwrap_or(0));
        match event {
            Event::Socket(end, what) => match self.net.owner(end) {
                Some(Node::Router(i)) => self.router_socket(i, end, what),
                Some(Node::Controller(i)) => {
                    self.with_controller(i, |c, api, around| c.on_socket(end, what, api, around));
                }
                Some(Node::Abuser) => self.abuser.on_socket(end, what, &mut self.net),
                Some(Node::Past) => self.replays.on_socket(end, what, &mut self.net),
                Some(Node::Strangers) => self.strangers.on_socket(end, what, &mut self.net),
                Some(Node::Api) => self.api.on_socket(end, what, &mut self.net),
                Some(Node::Clients) => {
                    let Sim { clients, ledger, net, tables, routers, .. } = self;
                    let served = |i: usize| tables.adopted(&routers[i]);
                    let outcomes = clients.on_socket(end, what, &served, ledger, net);
                    self.check(outcomes);
                }
                Some(Node::Backends) => {
                    self.backends.on_socket(end, what, &mut self.ledger, &mut self.net);
                    self.check_arrivals();
                }
                None => {}
            },
            Event::Timer(node, number) => self.timer(node, number),
            Event::Step(step) => self.step(step),
            Event::Segment(_) | Event::Syn(_) => unreachable!("the network's own"),
        }
    }

    fn router_socket(&mut self, i: usize, end: crate::network::EndId, what: SocketEvent) {
        self.routers[i].on_socket(end, what, &mut self.net);
        self.look(i);
    }

    fn look(&mut self, i: usize) {
        if self.adopted[i] != self.routers[i].swaps {
            self.adopted[i] = self.routers[i].swaps;
            s4::adopted(&self.routers[i], &self.tables, &mut self.net);
        }
        self.judge_sent(i);
        for asked in core::mem::take(&mut self.routers[i].asked) {
            d2::asked(i, &asked, &self.tables, &mut self.net);
        }
        if let Some(process) = &self.routers[i].process {
            s1::look(i, process, &mut self.seen[i], &mut self.net);
        }
    }

    /// Judges what a router sent to backends.
    fn judge_sent(&mut self, i: usize) {
        let Some(process) = &mut self.routers[i].process else { return };
        for head in core::mem::take(&mut process.driver.heads) {
            d6::sent(i, &head, &self.ledger, &mut self.net);
        }
    }

    fn timer(&mut self, node: Node, number: u64) {
        match node {
            Node::Router(i) => {
                self.routers[i].on_timer(number, &mut self.net);
                self.look(i);
            }
            Node::Controller(i) => {
                self.with_controller(i, |c, api, around| c.on_timer(number, api, around));
            }
            Node::Clients => {
                let Sim { clients, ledger, net, tables, routers, .. } = self;
                let served = |i: usize| tables.adopted(&routers[i]);
                let outcomes = clients.on_timer(&served, ledger, net);
                self.check(outcomes);
            }
            Node::Backends => {
                self.backends.on_timer(&mut self.ledger, &mut self.net);
                self.check_arrivals();
            }
            Node::Abuser => {
                let table = self.tables.adopted(&self.routers[self.abuser.router]);
                self.abuser.on_timer(&table, &mut self.ledger, &mut self.net);
            }
            Node::Past => self.replays.on_timer(&mut self.net),
            Node::Strangers => {
                let Sim { strangers, net, tables, routers, .. } = self;
                let served = |i: usize| tables.adopted(&routers[i]);
                strangers.on_timer(&served, net);
            }
            Node::Api => {}
        }
    }

    fn with_controller(
        &mut self,
        i: usize,
        act: impl FnOnce(&mut Process, &mut Api, &mut Around<'_>),
    ) {
        let Sim { controllers, api, net, tables, counts, replays, .. } = self;
        let Some(process) = &mut controllers.0[i] else { return };
        let before = counts.generations;
        act(process, api, &mut Around { net, tables, counts });
        if counts.generations > before
            && let Some(published) = process.controller.published()
        {
            replays.remember(published);
        }
    }

    fn check(&mut self, outcomes: Vec<Outcome>) {
        for greeting in core::mem::take(&mut self.ledger.greetings) {
            let router = &self.routers[greeting.router];
            d9::greeted(&greeting, router, &self.tables, &mut self.net);
        }
        self.check_halves();
        for mut outcome in outcomes {
            if let Some(response) = &outcome.response {
                self.sums.proxied += u64::from(response.backend.is_some());
                self.sums.successes += u64::from(matches!(response.status, 200..=299));
                self.sums.redirected += u64::from(response.location.is_some());
                let secured = outcome.request.secured.is_some() && response.backend.is_some();
                self.sums.secured += u64::from(secured);
                if response.backend.is_none() {
                    sometimes(&format!("a router answers {}", response.status));
                }
                self.sums.misdirected += u64::from(response.status == 421);
                let plain = response.seen.as_deref() == Some(FROM_CLIENT)
                    && response.edited.as_deref() == Some(FROM_BACKEND);
                self.sums.edited += u64::from(response.backend.is_some() && !plain);
            }
            if self.options.canary
                && self.net.now > 10 * SECOND
                && let Some(response) = &mut outcome.response
            {
                // The canary: an answer is given to somebody else.
                response.stamp = Some("canary".into());
            }
            let before = self.net.trace.violations.len();
            let router = &self.routers[outcome.request.router];
            d3::answered(&outcome, &mut self.net);
            d13::answered(&outcome, router, &mut self.net);
            d4::answered(&outcome, &self.ledger, &mut self.net);
            d7::answered(&outcome, &self.ledger, &mut self.net);
            let known = (&self.ledger, &self.tables);
            s4::answered(&outcome, router, known, &mut self.net);
            if let (stamp, Some(response)) = (&outcome.request.stamp, &outcome.response) {
                let mut attempts = self.ledger.attempts.get(stamp).into_iter().flatten();
                let (sent, got) = (attempts.any(|a| a.is_trailed), &response.trailers);
                let came = d7::crossed("an answer", stamp, got, sent, &mut self.net);
                self.ledger.trailed += u64::from(came);
                self.sums.tunnels += u64::from(response.status == 101);
            }
            d1::answered(&outcome, router, &self.tables, &mut self.net);
            outcome.was_told |= self.is_excused(&outcome);
            self.check_times(&outcome);
            if let Some(since) = self.converged {
                let table = self.tables.adopted(&self.routers[outcome.request.router]);
                self.sums.owed += u64::from(l3::answered(&outcome, &table, since, &mut self.net));
                // Where an abuser keeps endpoints busy a share says nothing.
                if !self.abuser.is_on || self.abuser.router != outcome.request.router {
                    self.tally.answered(&outcome, &table, since);
                }
            }
            self.check_alone(&outcome);
            if let Some(observer) = &mut self.observer {
                let is_failing = self.net.trace.violations.len() > before;
                observer.answered(&outcome, self.net.now, is_failing);
            }
            self.ledger.attempts.remove(&outcome.request.stamp);
        }
    }

    /// Whether a router may answer with an error in the calm: what must not be sent twice is lost
    /// with a kept connection that its backend ends.
    fn is_excused(&mut self, outcome: &Outcome) -> bool {
        let request = &outcome.request;
        let own = outcome.response.as_ref().filter(|r| r.backend.is_none()).map(|r| r.status);
        let is_once = request.is_chunked || !request.body.is_empty() || request.method == "POST";
        if self.converged.is_none() || own != Some(502) || !is_once {
            return false;
        }
        let table = self.tables.adopted(&self.routers[request.router]);
        let Answer::Backends { ways, .. } = table.answer(request) else { return false };
        let names: Vec<String> = ways.into_iter().flat_map(|way| way.names).collect();
        // The end of what was kept may have been on its way, or not yet seen.
        let since = request.sent_at.saturating_sub(SECOND);
        let is_lost = self.ledger.takes_shed(request.router, &names, since);
        if is_lost {
            sometimes("a request is lost with a kept connection, in the calm");
        }
        is_lost
    }

    fn check_arrivals(&mut self) {
        for arrival in core::mem::take(&mut self.ledger.arrivals) {
            if let Some(observer) = &mut self.observer {
                observer.arrived(&arrival, self.net.now);
            }
            // The client may have given up and be forgotten.
            let Some(request) = self.ledger.requests.get(&arrival.stamp) else { continue };
            let router = &self.routers[request.router];
            s6::arrived(&arrival, request, router, &self.tables, &mut self.net);
            let rewritten = d1::arrived(&arrival, request, router, &self.tables, &mut self.net);
            self.sums.rewritten += u64::from(rewritten);
        }
    }

    // ------------------------------------------------------------ steps

    fn step(&mut self, step: Step) {
        match step {
            Step::Workload => {
                if !self.is_healed {
                    let now = self.net.now;
                    if now < self.outages.frozen_until {
                        let at = self.outages.frozen_until;
                        return self.net.schedule(at, Event::Step(Step::Workload));
                    }
                    self.workload.change(&mut self.api, now);
                    let pause = self.pause_of_changes();
                    self.net.schedule(now + pause, Event::Step(Step::Workload));
                }
            }
            Step::Fault => {
                if !self.is_healed {
                    self.fault();
                    self.workload.rotate(&mut self.api, self.net.now);
                    if self.prng.chance(1, 4) {
                        status_api::write_of_another(&mut self.api, &mut self.prng);
                    }
                    let at = self.net.now + self.prng.range(50 * MS, SECOND);
                    self.net.schedule(at, Event::Step(Step::Fault));
                }
            }
            Step::Restart(node) => self.restart(node),
            Step::ApiTimer => self.api.on_timer(&mut self.net),
            Step::Status(_) | Step::Lease(_) => self.at_api_server(step),
            Step::Resume(node) => self.resume(node),
            Step::Hiccup => self.hiccup(),
            Step::Heal => self.heal(),
            Step::Outage => self.begin_outage(),
            Step::Edit => self.edit_in_outage(),
            Step::Respawn => self.respawn(),
            Step::Abandon => self.abandon(),
            Step::HealBinds => (0..ROUTERS).for_each(|i| self.fail_binds(i, &[])),
            Step::Check if self.alone.is_some() => self.look_after(),
            Step::Check => self.converge(),
            Step::Endpoints => self.write_endpoints(),
            Step::Save => self.api.save(),
            Step::Restore => self.restore(),
        }
    }

    /// How long objects rest between two changes: in a flurry hardly, or they all rest for a while.
    fn pause_of_changes(&mut self) -> Time {
        if let Some(left) = self.flurry.checked_sub(1) {
            self.flurry = left;
            return self.prng.below(2 * MS);
        }
        match self.prng.below(150) {
            0 => {
                sometimes("changes come in a flurry");
                self.flurry = 40;
                self.prng.below(SECOND)
            }
            1 => 5 * SECOND,
            _ => self.prng.below(2 * self.options.change_ms * MS),
        }
    }

    /// Writes the endpoints of the routers' Service, as routers run now.
    fn write_endpoints(&mut self) {
        if !self.options.in_nodes {
            return;
        }
        let (key, spec) = slice_of(&self.routers);
        self.api.apply(key, spec, self.net.now);
    }

    /// Endpoints follow later what becomes of routers.
    fn write_endpoints_later(&mut self) {
        let at = self.net.now + self.prng.below(3 * SECOND);
        self.net.schedule(at, Event::Step(Step::Endpoints));
    }

    /// Perhaps something breaks.
    fn fault(&mut self) {
        let options = self.options;
        let later = self.net.now + self.prng.range(50 * MS, 4 * SECOND);
        if options.partitions.happens(&mut self.prng) {
            self.partition(later);
        }
        if options.router_crashes.happens(&mut self.prng) {
            self.crash_router(later);
        }
        self.fault_controllers(later);
        self.fault_clocks(later);
        let i = self.prng.below(ROUTERS as u64) as usize;
        let router = &mut self.routers[i];
        if router.process.is_some()
            && !self.pauses.has(Node::Router(i))
            && router.drain_ends().is_none()
            && options.drains.happens(&mut self.prng)
        {
            self.net.injected.add(Fault::Drains);
            self.net.trace.say(self.net.now, &format!("router {i} drains"));
            router.drain(&mut self.net);
            self.write_endpoints();
        }
        let is_restarted = options.api_restarts.happens(&mut self.prng);
        if is_restarted && self.api.running && self.net.now >= self.contest_until {
            self.net.injected.add(Fault::ApiRestarts);
            self.net.trace.say(self.net.now, "API server goes");
            self.api.stop(&mut self.net);
            self.net.schedule(later, Event::Step(Step::Restart(Node::Api)));
        }
        if options.replays.happens(&mut self.prng) {
            let router = self.prng.below(ROUTERS as u64) as usize;
            let address = self.routers[router].address();
            self.replays.replay(router, address, &mut self.net);
        }
        if options.bind_failures.happens(&mut self.prng) {
            let i = self.prng.below(ROUTERS as u64) as usize;
            self.fail_binds_at_random(i);
        }
    }

    /// What a controller asked the API server for is due there.
    fn at_api_server(&mut self, step: Step) {
        let conflicts = if self.is_healed { Rate::Off } else { self.options.status_conflicts };
        let Sim { controllers, api, prng, net, .. } = self;
        let (Step::Status(node) | Step::Lease(node)) = step else { return };
        let Node::Controller(i) = node else { return };
        match (&mut controllers.0[i], step) {
            (Some(process), Step::Lease(_)) => process.lease.arrive(api, net),
            (Some(process), _) => status_api::write_due(process, api, conflicts, prng, net),
            (None, _) => {}
        }
    }

    fn crash_router(&mut self, later: Time) {
        let i = self.prng.below(ROUTERS as u64) as usize;
        if self.routers[i].process.is_none() {
            return;
        }
        self.net.injected.add(Fault::RouterCrashes);
        self.net.trace.say(self.net.now, &format!("router {i} crashes"));
        self.pauses.resume(Node::Router(i));
        self.routers[i].crash(&mut self.net);
        if self.options.lost_files.happens_mostly(&mut self.prng) {
            let file = &mut self.routers[i].file;
            let keep = self.prng.below(file.len() as u64 + 1) as usize;
            file.truncate(if self.prng.chance(1, 2) { 0 } else { keep });
            self.net.injected.add(Fault::LostFiles);
        }
        if self.options.in_nodes && self.prng.chance(3, 4) {
            self.routers[i].on = (self.routers[i].on + 1) % NODES;
            self.net.injected.add(Fault::Moves);
        }
        if self.options.in_nodes {
            self.write_endpoints_later();
        }
        self.net.schedule(later, Event::Step(Step::Restart(Node::Router(i))));
    }

    fn restart(&mut self, node: Node) {
        match node {
            Node::Router(i) if self.routers[i].process.is_none() => {
                self.routers[i].start(&mut self.net);
                if !self.is_healed && self.options.bind_failures.happens_mostly(&mut self.prng) {
                    self.fail_binds_at_random(i);
                }
                if self.options.in_nodes {
                    self.write_endpoints_later();
                }
                self.look(i);
            }
            Node::Controller(_) | Node::Api if self.alone.is_some() => {}
            Node::Controller(i) if self.controllers.0[i].is_none() => {
                self.start_controller(i);
            }
            Node::Api if !self.api.running => self.api.start(&mut self.net),
            _ => {}
        }
    }

    fn heal(&mut self) {
        self.api.grants_are_back();
        self.workload.finish(&mut self.api, self.net.now);
        self.is_healed = true;
        self.net.trace.say(self.net.now, "healed");
        self.net.heal();
        self.replays.stop(&mut self.net);
        self.strangers.stop(&mut self.net);
        self.clients.heal();
        self.api.faults = Rate::Off;
        self.api.restores = Rate::Off;
        self.backends.faults = Rate::Off;
        for i in 0..ROUTERS {
            let router = &mut self.routers[i];
            router.is_mixed = false;
            if router.is_lesser() {
                self.pauses.resume(Node::Router(i));
                router.crash(&mut self.net);
            }
            self.restart(Node::Router(i));
        }
        self.heal_controllers();
        self.restart(Node::Api);
        let now = self.net.now;
        // Whoever holds a port is last to go: some seeds get no listener served before.
        self.net.schedule(now + 8 * SECOND, Event::Step(Step::HealBinds));
        if self.options.abandoned {
            let at = now + self.prng.below(LAST_WORDS);
            return self.net.schedule(at, Event::Step(Step::Abandon));
        }
        self.net.schedule(now + SECOND, Event::Step(Step::Check));
    }

    fn summary(&mut self) -> Summary {
        let running = |r: &Router| r.process.as_ref().map_or(0, |p| p.worker.counters().requests);
        let mut injected = self.net.injected;
        for more in [
            self.api.injected,
            self.backends.injected,
            self.clients.injected,
            self.strangers.injected,
        ] {
            injected.merge(&more);
        }
        injected.set(Fault::Replays, self.replays.sent);
        injected.set(Fault::OverCapacity, self.counts.refusals);
        injected.set(Fault::Silence, self.counts.silent);
        let trace = &mut self.net.trace;
        Summary {
            seconds: self.net.now / SECOND,
            requests: self.routers.iter().map(|r| r.requests + running(r)).sum(),
            sums: Sums {
                pairs_kept: self.counts.pairs_kept,
                ref_problems: self.counts.ref_problems,
                trailed: self.ledger.trailed,
                tunnels_whole: self.ledger.tunnels_whole,
                ..self.sums
            },
            swaps: self.routers.iter().map(|r| r.swaps).sum(),
            crashes: injected.of(Fault::RouterCrashes) + injected.of(Fault::ControllerCrashes),
            relists: self.counts.relists,
            pushes: self.counts.pushes,
            injected,
            marks: marks::take(),
            compared: self.counts.compared,
            is_live: self.is_over,
            hash: trace.hash(),
            timeless: trace.timeless(),
            events: trace.events,
            deliveries: self.net.deliveries,
            timers: self.net.timers,
            violations: core::mem::take(&mut trace.violations),
        }
    }
}
