//! Identity of a Snapshot: two controllers at once, an older epoch, equal content, an API server
//! restored to an older state. One router, no faults.

use vopr::api_server::Api;
use vopr::capacities::small;
use vopr::checkers::{l1, s1};
use vopr::controller::{Around, Counts, Process};
use vopr::model::secret::Pairs;
use vopr::network::{Event, Network, Node, SECOND, Step};
use vopr::replay::Replays;
use vopr::router::Router;
use vopr::seed::{Options, Rate};
use vopr::status_api::write_due;
use vopr::tables::Tables;
use vopr::trace::Trace;
use vopr::workload::Workload;

struct World {
    net: Network,
    api: Api,
    router: Router,
    controllers: Vec<Process>,
    workload: Workload,
    replays: Replays,
    tables: Tables,
    counts: Counts,
    seen: s1::Seen,
    options: Options,
}

impl World {
    fn new() -> World {
        let mut options = Options::of(7, false);
        options.api_faults = Rate::Off;
        options.bookmarks = Rate::Off;
        options.in_nodes = false;
        let trace = Trace::new(false);
        let mut net = Network::new(options.child("network"), options.network, trace);
        net.heal();
        let mut api = Api::new(&options);
        let mut workload = Workload::new(options.child("workload"), false);
        workload.seed(&mut api, SECOND);
        api.start(&mut net);
        let mut router = Router::new(0, options.child("router"), small());
        router.start(&mut net);
        net.schedule(SECOND, Event::Step(Step::ApiTimer));
        World {
            net,
            api,
            router,
            controllers: Vec::new(),
            workload,
            replays: Replays::new(options.child("replays")),
            tables: Tables::default(),
            counts: Counts::default(),
            seen: s1::Seen::default(),
            options,
        }
    }

    fn add_controller(&mut self) {
        let mut prng = self.options.child(&format!("controller{}", self.net.now));
        self.controllers.push(Process::start(
            &mut prng,
            Node::Controller(self.controllers.len()),
            1,
            &small(),
            self.api.setup,
            &mut self.net,
        ));
    }

    fn run(&mut self, seconds: u64) {
        let until = self.net.now + seconds * SECOND;
        while let Some(event) = self.net.next(until) {
            self.dispatch(event);
            let process = self.router.process.as_ref().expect("it runs");
            s1::look(0, process, &mut self.seen, &mut self.net);
        }
        let found = &self.net.trace.violations;
        assert!(found.is_empty(), "{found:?}");
    }

    fn dispatch(&mut self, event: Event) {
        let World { net, api, router, controllers, tables, counts, replays, .. } = self;
        match event {
            Event::Socket(end, what) => match net.owner(end) {
                Some(Node::Router(_)) => router.on_socket(end, what, net),
                Some(Node::Api) => api.on_socket(end, what, net),
                Some(Node::Past) => replays.on_socket(end, what, net),
                _ => {
                    for c in controllers {
                        c.on_socket(end, what, api, &mut Around { net, tables, counts });
                    }
                }
            },
            Event::Timer(Node::Router(_), number) => router.on_timer(number, net),
            Event::Timer(_, number) => {
                for c in controllers {
                    c.on_timer(number, api, &mut Around { net, tables, counts });
                }
            }
            Event::Step(Step::ApiTimer) => api.on_timer(net),
            Event::Step(Step::Lease(node)) => {
                for c in controllers.iter_mut().filter(|c| c.node == node) {
                    c.lease.arrive(api, net);
                }
            }
            Event::Step(Step::Status(_)) => {
                let mut prng = self.options.child("status");
                for c in controllers {
                    write_due(c, api, Rate::Off, &mut prng, net);
                }
            }
            _ => {}
        }
    }

    fn epoch(&self) -> u64 {
        self.router.process.as_ref().map_or(0, |p| p.updater.served().0.epoch)
    }

    fn assert_final(&self) {
        let pairs = self.controllers.last().map_or_else(Pairs::default, |c| c.pairs().clone());
        assert_eq!(l1::lacks(&self.router, &l1::wanted(&self.api, pairs)), None);
    }
}

#[test]
fn equal_content_of_a_new_controller_is_adopted_without_a_swap() {
    let mut world = World::new();
    world.add_controller();
    world.run(15);
    world.assert_final();
    let (swaps, epoch) = (world.router.swaps, world.epoch());
    world.controllers.clear();
    world.net.crash(Node::Controller(0));
    world.add_controller();
    world.run(15);
    world.assert_final();
    assert_eq!(world.epoch(), epoch + 1);
    assert_eq!(world.router.swaps, swaps, "nothing differs but the identity");
}

#[test]
fn two_controllers_at_once_do_no_harm() {
    let mut world = World::new();
    world.add_controller();
    world.add_controller();
    world.run(15);
    for _ in 0..20 {
        let now = world.net.now;
        world.workload.change(&mut world.api, now);
        world.run(1);
    }
    world.run(20);
    world.assert_final();
}

#[test]
fn a_restored_api_server_does_not_bring_an_old_epoch() {
    let mut world = World::new();
    world.api.leases.set(40);
    world.add_controller();
    world.run(15);
    assert_eq!(world.epoch(), 41);
    // etcd comes back from a backup: the Lease is older than what the router has seen.
    world.api.leases.set(3);
    world.controllers.clear();
    world.net.crash(Node::Controller(0));
    world.add_controller();
    world.run(15);
    assert_eq!(world.epoch(), 42);
    world.assert_final();
}

#[test]
fn an_older_push_is_refused() {
    let mut world = World::new();
    world.add_controller();
    world.run(15);
    let published = world.controllers[0].controller.published().expect("a first one");
    world.replays.remember(published);
    for _ in 0..10 {
        let now = world.net.now;
        world.workload.change(&mut world.api, now);
        world.run(1);
    }
    world.run(10);
    world.assert_final();
    let swaps = world.router.swaps;
    for _ in 0..8 {
        world.replays.replay(0, world.router.address(), &mut world.net);
        world.run(2);
    }
    world.assert_final();
    assert_eq!(world.router.swaps, swaps);
}
