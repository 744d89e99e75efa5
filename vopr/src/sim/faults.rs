//! What happens to controllers, and to the time of any process.
//!
//! In: the seed's rates. Out: starts, crashes, pauses, cut links, older Leases, stepped clocks.

use super::{ROUTERS, Sim};
use crate::controllers::CONTROLLERS;
use crate::faults::Fault;
use crate::marks::sometimes;
use crate::network::{Event, MS, Node, SECOND, Step, Time};
use crate::seed::Rate;
use crate::workload::PORTS;
use std::collections::BTreeMap;

/// Nodes that have something to say to each other.
const LINKS: [(Node, Node); 10] = [
    (Node::Controller(0), Node::Api),
    (Node::Controller(1), Node::Api),
    (Node::Controller(0), Node::Router(0)),
    (Node::Controller(0), Node::Router(1)),
    (Node::Controller(1), Node::Router(0)),
    (Node::Controller(1), Node::Router(1)),
    (Node::Router(0), Node::Backends),
    (Node::Router(1), Node::Backends),
    (Node::Clients, Node::Router(0)),
    (Node::Clients, Node::Router(1)),
];

impl Sim {
    /// Links are cut: one, in one direction or both; all of one node; or some, one after the other,
    /// that come back in another order.
    pub(super) fn partition(&mut self, until: Time) {
        let Sim { net, prng, .. } = self;
        net.injected.add(Fault::Partitions);
        let now = net.now;
        let (a, b) = LINKS[prng.below(LINKS.len() as u64) as usize];
        match prng.below(5) {
            0 | 1 => {
                sometimes("a partition: one link");
                net.cut(a, b, until);
            }
            2 => {
                sometimes("a partition: one direction");
                let (from, to) = if prng.chance(1, 2) { (a, b) } else { (b, a) };
                net.hold(from, to, now..until);
            }
            3 => {
                sometimes("a partition: all links of a node");
                let node = if prng.chance(1, 2) { a } else { b };
                let its = LINKS.iter().filter(|link| link.0 == node || link.1 == node);
                its.for_each(|&(a, b)| net.cut(a, b, until));
            }
            _ => {
                sometimes("a partition: one link after the other");
                for (a, b) in LINKS {
                    if prng.chance(1, 2) {
                        let from = now + prng.below(2 * SECOND);
                        let cut = from..from + prng.range(50 * MS, 2 * SECOND);
                        net.hold(a, b, cut.clone());
                        net.hold(b, a, cut);
                    }
                }
            }
        }
    }

    /// Perhaps something happens to controllers.
    pub(super) fn fault_controllers(&mut self, later: Time) {
        let (options, now) = (self.options, self.net.now);
        if now < self.contest_until {
            return;
        }
        let running = self.controllers.running();
        if options.several.happens(&mut self.prng) {
            match (0..CONTROLLERS).find(|i| !running.contains(i)) {
                Some(free) if !running.is_empty() => {
                    self.net.injected.add(Fault::SecondControllers);
                    self.start_controller(free);
                }
                // The end of a rolling update, or not yet.
                None if self.prng.chance(1, 4) => {
                    let i = self.prng.below(CONTROLLERS as u64) as usize;
                    self.crash_controller(i);
                }
                _ => {}
            }
        }
        let running = self.controllers.running();
        if running.is_empty() {
            return;
        }
        let i = running[self.prng.below(running.len() as u64) as usize];
        let long = if self.prng.chance(1, 3) { 25 * SECOND } else { 5 * SECOND };
        let until = now + self.prng.range(SECOND / 2, long);
        if options.controller_crashes.happens(&mut self.prng) {
            self.net.injected.add(Fault::ControllerCrashes);
            self.crash_controller(i);
            self.net.schedule(later, Event::Step(Step::Restart(Node::Controller(i))));
        } else if options.pauses.happens(&mut self.prng) {
            self.net.injected.add(Fault::ControllerPauses);
            self.pause(Node::Controller(i), until);
        }
        if running.len() > 1 && options.isolations.happens_mostly(&mut self.prng) {
            self.contest(&running);
        }
        if options.restores != Rate::Off && options.isolations.happens_mostly(&mut self.prng) {
            self.give_out_twice(&running);
        }
        if options.isolations.happens(&mut self.prng) {
            self.net.injected.add(Fault::Isolations);
            let others = match self.prng.chance(1, 2) {
                true => vec![Node::Api],
                false => (0..ROUTERS).map(Node::Router).collect(),
            };
            self.net.trace.say(now, &format!("controller {i} loses {others:?}"));
            for other in others {
                self.net.cut(Node::Controller(i), other, until);
            }
        }
        if options.api_faults.happens(&mut self.prng) && self.prng.chance(1, 3) {
            self.api.delete_grants(now + self.prng.range(SECOND, 8 * SECOND));
        }
        if options.restores.happens(&mut self.prng) && self.api.leases.restore(&mut self.prng) {
            self.net.injected.add(Fault::Restores);
            let lease = format!("the Lease is {:?} again", self.api.leases.lease);
            self.net.trace.say(now, &lease);
        }
    }

    /// Who reigns may lose the API server for about as long as it takes the other one to notice.
    /// Meanwhile nothing else happens to them, else hardly any would take over while it is away.
    fn contest(&mut self, running: &[usize]) {
        let reigns = |i: &&usize| self.controllers.0[**i].as_ref().is_some_and(|p| p.lease.reigns);
        let Some(&i) = running.iter().find(reigns) else { return };
        let node = Node::Controller(i);
        let is_cut = self.net.blocked_until(node, Node::Api).is_some();
        if is_cut || !self.prng.chance(1, 12) {
            return;
        }
        sometimes("who reigns loses the API server until the other one takes over");
        self.net.injected.add(Fault::Isolations);
        let until = self.net.now + self.prng.range(14 * SECOND, 28 * SECOND);
        self.net.trace.say(self.net.now, &format!("controller {i}, which reigns, loses the API"));
        self.net.cut(node, Node::Api, until);
        self.contest_until = until;
    }

    /// Who just began to reign may lose the API server, which is restored to before that. Another
    /// one, which begins then, is given the same epoch, and publishes other content with it.
    fn give_out_twice(&mut self, running: &[usize]) {
        let is_new = |i: &&usize| {
            let process = self.controllers.0[**i].as_ref().filter(|p| p.lease.reigns);
            let published = process.and_then(|p| p.controller.published());
            published.is_some_and(|published| published.identity.generation <= 1)
        };
        let Some(&i) = running.iter().find(is_new) else { return };
        let node = Node::Controller(i);
        let is_cut = self.net.blocked_until(node, Node::Api).is_some();
        if is_cut || self.net.now < self.contest_until || !self.prng.chance(1, 2) {
            return;
        }
        sometimes("who just began to reign loses the API server, and its epoch is given out again");
        self.net.injected.add(Fault::Isolations);
        self.net.injected.add(Fault::Restores);
        self.net.trace.say(self.net.now, &format!("the epoch of controller {i} is lost"));
        let (now, other) = (self.net.now, (i + 1) % CONTROLLERS);
        let until = now + self.prng.range(14 * SECOND, 28 * SECOND);
        self.net.cut(node, Node::Api, until);
        self.contest_until = until;
        self.api.leases.restore_before_taken();
        self.crash_controller(other);
        let later = now + self.prng.range(50 * MS, 2 * SECOND);
        self.net.schedule(later, Event::Step(Step::Restart(Node::Controller(other))));
    }

    /// etcd may be saved, and restored later.
    pub(super) fn plan_restore(&mut self) {
        if self.options.restored {
            let until = self.options.until_ms * MS;
            let at = self.prng.range(until / 4, until);
            let saved = self.prng.range(at / 4, at - at / 8);
            self.net.schedule(saved, Event::Step(Step::Save));
            self.net.schedule(at, Event::Step(Step::Restore));
        }
    }

    /// The API server goes, and comes back as it was saved.
    pub(super) fn restore(&mut self) {
        if self.is_healed || !self.api.restore() {
            return;
        }
        self.net.injected.add(Fault::StatesRestored);
        let text = format!("all objects are as at version {} again", self.api.version);
        self.net.trace.say(self.net.now, &text);
        if self.api.running {
            self.api.stop(&mut self.net);
            let at = self.net.now + self.prng.range(50 * MS, 4 * SECOND);
            self.net.schedule(at, Event::Step(Step::Restart(Node::Api)));
        }
        // Who writes endpoints looks what there is.
        self.write_endpoints_later();
    }

    /// Some port of a router cannot be bound from now on, or none, or all can again.
    pub(super) fn fail_binds_at_random(&mut self, i: usize) {
        let ports = match self.prng.below(5) as usize {
            0 => &[][..],
            1 => &PORTS,
            n => &PORTS[n - 2..n - 1],
        };
        self.fail_binds(i, ports);
    }

    pub(super) fn fail_binds(&mut self, i: usize, ports: &[u16]) {
        if let Some(process) = &mut self.routers[i].process {
            process.driver.failing_ports = ports.to_vec();
        }
    }

    pub(super) fn crash_controller(&mut self, i: usize) {
        let node = Node::Controller(i);
        self.net.trace.say(self.net.now, &format!("{node:?} crashes"));
        self.controllers.0[i] = None;
        self.pauses.resume(node);
        self.net.crash(node);
    }

    pub(super) fn pause(&mut self, node: Node, until: Time) {
        self.net.trace.say(self.net.now, &format!("{node:?} is paused"));
        self.pauses.pause(node);
        if let Node::Router(i) = node {
            self.routers[i].was_held_up = true;
        }
        self.net.schedule(until, Event::Step(Step::Resume(node)));
    }

    /// Perhaps a router is not scheduled for a moment. In the calm too, while clients ask.
    pub(super) fn hiccup(&mut self) {
        if self.options.router_pauses == Rate::Off {
            return;
        }
        let i = self.prng.below(ROUTERS as u64) as usize;
        let node = Node::Router(i);
        let is_calm = self.converged.is_some() && !self.clients.stopped;
        let may = !self.is_healed || is_calm;
        if may && !self.pauses.has(node) {
            let until = self.net.now + self.prng.range(MS, 60 * MS);
            self.pauses.pause(node);
            self.backends.shed_unheard(i, until, &mut self.net);
            // D12 counts turns, of which one that was paused has many at once.
            self.routers[i].is_calm = false;
            self.net.schedule(until, Event::Step(Step::Resume(node)));
        }
        let most = if self.is_healed { SECOND / 4 } else { SECOND };
        let next = self.net.now + self.prng.range(60 * MS, most);
        if !self.clients.stopped {
            self.net.schedule(next, Event::Step(Step::Hiccup));
        }
    }

    pub(super) fn resume(&mut self, node: Node) {
        if self.pauses.has(node) {
            self.net.trace.say(self.net.now, &format!("{node:?} goes on"));
            let mut events = self.pauses.resume(node);
            if self.prng.chance(1, 2) {
                self.mix(&mut events);
            }
            events.into_iter().for_each(|event| self.dispatch(event));
            if let (Node::Router(i), true) = (node, self.converged.is_some()) {
                self.routers[i].begin_calm();
            }
        }
    }

    /// Who looks after a while is told of each socket in turn, in no order of time between them.
    fn mix(&mut self, events: &mut [Event]) {
        let mut turns = BTreeMap::new();
        for event in events.iter() {
            if let Event::Socket(end, _) = event {
                turns.entry(*end).or_insert_with(|| self.prng.below(1 << 32));
            }
        }
        events.sort_by_key(|event| match event {
            Event::Socket(end, _) => turns[end],
            _ => 0,
        });
    }

    /// The wall clock of a node is set to another time: some seconds or years away.
    pub(super) fn step_clock(&mut self, node: Node) {
        let most = [5, 4000, 60_000_000][self.prng.below(3) as usize];
        let seconds = self.prng.below(2 * most) as i64 - most as i64;
        self.net.trace.say(self.net.now, &format!("the clock of {node:?} is {seconds} s off"));
        self.walls.insert(node, seconds);
    }

    /// Perhaps something happens to the time of a router or controller.
    pub(super) fn fault_clocks(&mut self, later: Time) {
        let routers = (0..ROUTERS).map(Node::Router);
        let nodes: Vec<Node> = routers.chain((0..CONTROLLERS).map(Node::Controller)).collect();
        let node = nodes[self.prng.below(nodes.len() as u64) as usize];
        if self.options.clock_steps.happens(&mut self.prng) {
            self.net.injected.add(Fault::ClockSteps);
            self.step_clock(node);
        }
        let i = self.prng.below(ROUTERS as u64) as usize;
        if self.options.router_pauses.happens(&mut self.prng) && self.routers[i].process.is_some() {
            self.net.injected.add(Fault::RouterPauses);
            self.pause(Node::Router(i), later);
        }
    }

    /// All go on. One of two may end for good: the other one must take over, if it has not.
    pub(super) fn heal_controllers(&mut self) {
        (0..CONTROLLERS).for_each(|i| self.resume(Node::Controller(i)));
        (0..ROUTERS).for_each(|i| self.resume(Node::Router(i)));
        match self.controllers.running()[..] {
            [] => self.start_controller(0),
            [_, _] if self.prng.chance(1, 2) => {
                let i = self.prng.below(CONTROLLERS as u64) as usize;
                self.crash_controller(i);
            }
            _ => {}
        }
    }
}
