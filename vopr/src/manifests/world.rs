//! The simulated cluster around a user's manifests: API server, controller, two routers on nodes of
//! their own, endpoints and clients. Nothing fails here but what `events` lets fail.
//!
//! In: manifests and a seed. Out: a world in virtual time, moved on by `run_for`.

use super::askers::Askers;
use super::pods::Pods;
use super::read::{Manifests, age};
use crate::api_server::Api;
use crate::controller::{Around, Counts, Process};
use crate::model::object::{Key, Spec};
use crate::network::{Event, MS, Network, NetworkFaults, Node, SECOND, Step, Time};
use crate::router::{Router, admin_address, slice_of};
use crate::seed::{Options, Rate};
use crate::sim::ROUTERS;
use crate::status_api;
use crate::tables::Tables;
use crate::trace::Trace;
use serval::limits::Capacities;
use serval::stdx::Prng;

/// There is one controller.
const CONTROLLER: Node = Node::Controller(0);
/// The world settles within so long, or never.
const SETTLE_WITHIN: Time = 60 * SECOND;
/// It has settled when nothing changed for so many steps of 50 ms.
const SETTLED_STEPS: u32 = 6;

/// All nodes.
#[expect(missing_debug_implementations, reason = "machines are large")]
pub struct World {
    pub net: Network,
    pub routers: Vec<Router>,
    pub controller: Option<Process>,
    pub api: Api,
    pub pods: Pods,
    pub askers: Askers,
    pub manifests: Manifests,
    pub prng: Prng,
    capacities: Capacities,
    tables: Tables,
    counts: Counts,
}

/// A seed's options without any fault.
fn calm(seed: u64) -> Options {
    let off = Rate::Off;
    let network =
        NetworkFaults { tiny_pieces: off, stalls: off, resets: off, refusals: off, half_open: off };
    Options {
        network,
        api_faults: off,
        bookmarks: off,
        has_watch_list: true,
        in_nodes: true,
        ..Options::of(seed, false)
    }
}

impl World {
    /// Everything starts.
    pub fn new(seed: u64, manifests: Manifests, capacities: &Capacities) -> World {
        let options = calm(seed);
        let net = Network::new(options.child("network"), options.network, Trace::new(false));
        let router = |i: usize| Router::new(i, options.child(&format!("router{i}")), *capacities);
        let nodes = core::array::from_fn(|i| admin_address(i, 0).ip());
        let mut world = World {
            net,
            routers: (0..ROUTERS).map(router).collect(),
            controller: None,
            api: Api::new(&options),
            pods: Pods::new(options.child("pods")),
            askers: Askers::new(options.child("askers"), nodes),
            manifests,
            prng: options.child("events"),
            capacities: *capacities,
            tables: Tables::default(),
            counts: Counts::default(),
        };
        world.api.setup.is_foreign = true;
        world.apply_all("");
        world.api.start(&mut world.net);
        for i in 0..ROUTERS {
            world.start_router(i);
        }
        world.start_controller();
        world.net.schedule(world.net.now, Event::Step(Step::ApiTimer));
        world
    }

    // ------------------------------------------------------------ objects

    fn keys(&self) -> usize {
        self.manifests.objects.len() + self.manifests.slices.len()
    }

    /// Applies the object of that number, all but slices first; `mark` makes it another version.
    fn apply_one(&mut self, index: usize, mark: &str) {
        let Manifests { objects, slices, .. } = &self.manifests;
        let (key, spec): (Key, Spec) = match index.checked_sub(objects.len()) {
            None => objects[index].clone(),
            Some(slice) => (slices[slice].key.clone(), slices[slice].spec()),
        };
        let Spec::Foreign { meta, rest } = spec else { unreachable!("a user's own") };
        let meta = match mark {
            "" => meta,
            mark => format!(r#"{meta},"selfLink":"{mark}""#),
        };
        self.api.apply(key, Spec::Foreign { meta, rest }, age(index));
    }

    fn apply_all(&mut self, mark: &str) {
        (0..self.keys()).for_each(|index| self.apply_one(index, mark));
    }

    /// Applies all objects again, one after the other.
    pub fn apply_again(&mut self, mark: &str) {
        let pause = (2 * SECOND / self.keys().max(1) as u64).min(50 * MS);
        for index in 0..self.keys() {
            self.apply_one(index, mark);
            self.run_for(pause);
        }
    }

    /// Applies a slice as it is now.
    pub fn apply_slice(&mut self, slice: usize) {
        self.apply_one(self.manifests.objects.len() + slice, "");
    }

    /// Writes the endpoints of the routers' own Service.
    pub fn write_routers(&mut self) {
        let (key, spec) = slice_of(&self.routers);
        self.api.apply(key, spec, 0);
    }

    // ------------------------------------------------------------ processes

    /// Starts a router, from its state file.
    pub fn start_router(&mut self, index: usize) {
        self.routers[index].start(&mut self.net);
        self.write_routers();
    }

    /// Starts the controller.
    pub fn start_controller(&mut self) {
        let mut prng = Prng::new(self.prng.next_u64());
        let setup = self.api.setup;
        let net = &mut self.net;
        let process = Process::start(&mut prng, CONTROLLER, ROUTERS, &self.capacities, setup, net);
        self.controller = Some(process);
    }

    /// Ends the controller.
    pub fn stop_controller(&mut self) {
        self.controller = None;
        self.net.crash(CONTROLLER);
    }

    // ------------------------------------------------------------ time

    /// Time passes.
    pub fn run_for(&mut self, span: Time) {
        let until = self.net.now + span;
        while let Some(event) = self.net.next(until) {
            self.dispatch(event);
        }
    }

    /// Time passes until all routers serve what was published last, and nothing follows; what is
    /// lacking when it does not come to that.
    pub fn settle(&mut self) -> Result<(), String> {
        let until = self.net.now + SETTLE_WITHIN;
        let (mut steps, mut before) = (0, 0);
        while self.net.now < until {
            self.run_for(50 * MS);
            let is_same = before == self.api.version && self.lacks().is_none();
            steps = if is_same { steps + 1 } else { 0 };
            before = self.api.version;
            if steps == SETTLED_STEPS {
                return Ok(());
            }
        }
        Err(self.lacks().unwrap_or_else(|| "objects are written again and again".into()))
    }

    fn lacks(&self) -> Option<String> {
        let published = self.controller.as_ref().and_then(|c| c.controller.published());
        let Some(published) = published else { return Some("nothing is published".into()) };
        let wanted = published.identity;
        let serves = |r: &&Router| {
            r.process.as_ref().is_some_and(|p| p.updater.served().0.checksum == wanted.checksum)
        };
        let lacking = self.routers.iter().find(|r| !serves(r))?;
        Some(format!("router {} does not serve what was published", lacking.index))
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Socket(end, what) => match self.net.owner(end) {
                Some(Node::Router(i)) => self.routers[i].on_socket(end, what, &mut self.net),
                Some(CONTROLLER) => {
                    self.with_controller(|c, api, around| c.on_socket(end, what, api, around));
                }
                Some(Node::Api) => self.api.on_socket(end, what, &mut self.net),
                Some(Node::Clients) => self.askers.on_socket(end, what, &mut self.net),
                Some(Node::Backends) => self.pods.on_socket(end, what, &mut self.net),
                _ => {}
            },
            Event::Timer(Node::Router(i), number) => {
                self.routers[i].on_timer(number, &mut self.net)
            }
            Event::Timer(CONTROLLER, number) => {
                self.with_controller(|c, api, around| c.on_timer(number, api, around));
            }
            Event::Timer(Node::Clients, _) => self.askers.on_timer(&mut self.net),
            Event::Timer(Node::Backends, _) => self.pods.on_timer(&mut self.net),
            Event::Step(Step::ApiTimer) => self.api.on_timer(&mut self.net),
            Event::Step(Step::Status(_)) => {
                if let Some(process) = &mut self.controller {
                    let (prng, net) = (&mut self.prng, &mut self.net);
                    status_api::write_due(process, &mut self.api, Rate::Off, prng, net);
                }
            }
            Event::Step(Step::Lease(_)) => {
                if let Some(process) = &mut self.controller {
                    process.lease.arrive(&mut self.api, &mut self.net);
                }
            }
            _ => {}
        }
    }

    fn with_controller(&mut self, act: impl FnOnce(&mut Process, &mut Api, &mut Around<'_>)) {
        let World { controller, api, net, tables, counts, .. } = self;
        if let Some(process) = controller {
            act(process, api, &mut Around { net, tables, counts });
        }
    }
}
