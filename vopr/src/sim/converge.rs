//! The end of a run: the final state is reached, stays, is disturbed once, and all is at rest.
//!
//! In: a simulation whose faults are healed. Out: violations of L1, L2, L4, L5, L8, S8, D11; that
//! it is over.

use super::*;
use crate::model::object::Kind;
use crate::model::table::Table;

/// So long, when the final state is reached.
const FLAP: Time = 1500 * MS;

/// The API server is away for so long, once all is calm. Watches that hear nothing then list after
/// 10 s (KUBE_WATCH_AFTER_FAILURE_MS), and what follows from that must show before the end.
const AWAY: Time = 6 * SECOND;

/// Who reigns is given so long to watch and list all.
const RELIST: Time = 10 * SECOND;

/// A watch of a restored API server is silent for so long (KUBE_WATCH_AFTER_FAILURE_MS and
/// KUBE_WATCH_GRACE_MS), and then its kind is listed.
const SILENT_WATCH: Time = 20 * SECOND;

/// Waits behind errors from before all was healed are over then (BACKOFF_ERROR_MAX_MS), and a list
/// and what it says have followed.
const ERRORS_PASS: Time = 40 * SECOND;

impl Sim {
    /// In the calm of the final state something happens that only statuses may follow.
    pub(super) fn disturb(&mut self) {
        let now = self.net.now;
        self.reached = now + LATE + self.notices_late();
        let is_known = self.is_known();
        let until = self.converged.map_or(0, |since| since + CALM + RELIST);
        // Not of a server that was restored: who has not noticed that yet has something to say.
        let waits = !self.options.restored && !is_known && now < until;
        self.calm = match self.calm {
            Calm::Whole => {
                // The last good pair stays. And D14: the time of day is nothing to go by.
                (0..ROUTERS).for_each(|i| self.step_clock(Node::Router(i)));
                (0..CONTROLLERS).for_each(|i| self.step_clock(Node::Controller(i)));
                self.workload.spoil(&mut self.api, now);
                Calm::SecretWentBad
            }
            calm if waits => calm,
            Calm::SecretWentBad if is_known && !self.options.restored => {
                sometimes("all is listed again in the calm");
                self.net.trace.say(now, "all watches expire");
                self.api.compact();
                // Whose addresses are those of nodes has listeners by which routers are ready.
                self.api.is_still = !self.options.in_nodes;
                Calm::Listed
            }
            _ => {
                self.disturbed = now;
                // A router is not heard for a while, or the API server is away; clients are served
                // as before.
                if self.options.in_nodes {
                    self.silent_from = now;
                    for i in 0..CONTROLLERS {
                        let (node, silent) = (Node::Controller(i), Node::Router(ROUTERS - 1));
                        self.net.cut(node, silent, now + SILENCE);
                    }
                } else if self.is_api_away() {
                    self.net.trace.say(now, "API server goes");
                    self.api.stop(&mut self.net);
                    let back = Event::Step(Step::Restart(Node::Api));
                    self.net.schedule(now + AWAY, back);
                }
                Calm::Over
            }
        };
    }

    /// Whether the API server is away for a while in the calm. Not one that was restored: for who
    /// has not noticed that, it would begin again.
    fn is_api_away(&self) -> bool {
        !self.options.in_nodes && !self.options.restored
    }

    /// Whether who reigns watches all, and has said what follows from it.
    fn is_known(&mut self) -> bool {
        let Sim { controllers, api, net, .. } = self;
        let Some(process) = controllers.0.iter_mut().flatten().find(|p| p.lease.reigns) else {
            return false;
        };
        let watched = api.watched_by(process.node, net);
        Kind::ALL.iter().all(|kind| watched.contains(kind))
            && process.is_told_all(api)
            && process.orders.is_empty()
            && process.statuses_differing(net.now) == 0
    }

    /// How much later all may come, since a watch has to be silent for its whole time.
    fn notices_late(&self) -> Time {
        if self.options.restored { SILENT_WATCH } else { 0 }
    }

    pub(super) fn lacks_addresses(&self, routers: usize) -> Option<String> {
        let nodes = self.routers[..routers].iter().map(|r| r.address().ip());
        let nodes: Vec<IpAddr> = nodes.collect();
        self.options.in_nodes.then(|| l2::lacks(&self.api, &nodes)).flatten()
    }

    /// The first so many routers are those that Gateways are reached at.
    pub(super) fn check_addresses(&mut self, routers: usize) {
        if let Some(lacks) = self.lacks_addresses(routers) {
            self.net.trace.violated(self.net.now, "L2", lacks);
        }
    }

    /// The final state stayed since then, and nobody asks any more: all must be at rest.
    fn end(&mut self, since: Time) {
        for router in &self.routers {
            d6::at_rest(router, &mut self.net);
            d11::at_rest(router, &mut self.net);
        }
        self.tally.judge(&mut self.net);
        self.check_addresses(ROUTERS);
        for process in self.controllers.0.iter_mut().flatten() {
            process.check_admitted(Some(&self.api), &mut self.net);
        }
        s8::told(&self.api, &mut self.net);
        l8::at_rest(&mut self.controllers.0, &self.routers, &self.api, &mut self.net);
        if let Some(process) = self.controllers.reigning() {
            let missed = if self.is_api_away() { AWAY } else { 0 };
            l4::renewed(since, process, &self.api, missed, &mut self.net);
        }
        self.is_over = true;
    }

    /// Looks whether all is watched.
    fn check_watches(&mut self, heal_at: Time) {
        let healthy = self.api.since.max(heal_at);
        let Sim { controllers, api, net, .. } = self;
        for process in controllers.0.iter_mut().flatten().filter(|_| api.running) {
            process.check_watches(api, healthy, net);
        }
        let hears = controllers.reigning().is_some_and(|process| {
            let watched = api.watched_by(process.node, net);
            [Kind::Gateway, Kind::Slice].iter().all(|kind| watched.contains(kind))
        });
        self.hears_since = hears.then(|| self.hears_since.unwrap_or(net.now));
    }

    /// Of each pool the first endpoint refuses connections for a while, so that it rests.
    fn flap(&mut self, table: &Table) {
        if self.flaps_until == 0 {
            let pools = table.rules.iter().flat_map(|r| &r.backends).filter_map(|b| b.0.as_ref());
            let first = pools.filter(|pool| pool.len() > 1).map(|pool| pool[0]);
            self.net.absent.extend(first);
            self.flaps_until = self.net.now + FLAP;
            self.clients.hurry();
            self.routers.iter_mut().for_each(Router::begin_calm);
            self.backends.sheds = self.prng.chance(1, 2);
            // A tight router may refuse the others what it takes.
            if !self.options.tight && self.prng.chance(1, 2) {
                self.abuser.begin(&mut self.net);
            }
        }
    }

    /// What the final state lacks, and by which checker.
    fn lacking(&self, wanted: &Table) -> Option<(&'static str, String)> {
        let lacking = self.routers.iter().find_map(|r| {
            let lacks = l1::lacks(r, wanted)?;
            Some(("L1", format!("router {}: {lacks}", r.index)))
        });
        let reign = || l4::lacks(self.controllers.processes(), &self.routers, &self.api);
        let lacking = lacking.or_else(|| Some(("L4", reign()?)));
        let reached = || self.lacks_addresses(ROUTERS).filter(|_| self.converged.is_none());
        lacking.or_else(|| Some(("L2", reached()?)))
    }

    /// Looks whether the final state is reached, and stays.
    pub(super) fn converge(&mut self) {
        let heal_at = self.options.until_ms * MS;
        let now = self.net.now;
        self.check_watches(heal_at);
        self.net.absent.retain(|_| now < self.flaps_until);
        let reigning = self.controllers.reigning();
        let pairs = reigning.map_or_else(Pairs::default, |c| c.pairs().clone());
        let wanted = l1::wanted(&self.api, pairs);
        let lacking = self.lacking(&wanted);
        let notices_late = self.notices_late();
        let heard = self.silent_from + HEARD_NO_MORE..self.silent_from + SILENCE;
        // Whose watch rests behind an error of before does not know yet what it wrote itself.
        let hears = self.hears_since.is_some_and(|since| now >= since + FOLLOW)
            || now >= heal_at + ERRORS_PASS + notices_late;
        if self.calm == Calm::Over && heard.contains(&now) && hears {
            self.check_addresses(ROUTERS - 1);
        }
        let swaps = self.routers.iter().map(|r| r.swaps).sum();
        let counted = (self.counts.pushes, self.api.status_writes, swaps);
        let within = CONVERGE_WITHIN + notices_late;
        let late = (heal_at + LATE + notices_late).max(self.reached + FOLLOW);
        match (lacking, self.converged) {
            (None, None) => {
                let (listeners, rules) = (wanted.listeners.len(), wanted.rules.len());
                let healthy = wanted.rules.iter().filter(|r| target::is_healthy(r)).count();
                let text = format!(
                    "converged: {listeners} listeners, {rules} rules, {healthy} with endpoints"
                );
                self.net.trace.say(now, &text);
                (self.converged, self.settled) = (Some(now), counted);
                self.reached = now;
                self.flap(&wanted);
            }
            // Statuses follow what the routers report, and addresses what statuses say.
            (None, Some(_)) if counted != self.settled && now < late => {
                (self.converged, self.settled) = (Some(now), counted);
            }
            (None, Some(_)) if counted != self.settled => {
                let text = format!("(pushes, writes, swaps) go on: {counted:?}");
                self.net.trace.violated(now, "L1", text);
            }
            (None, Some(since)) if self.calm != Calm::Over && now >= since + CALM => {
                self.disturb();
            }
            (None, Some(since)) => {
                // What follows from the last disturbance must show before the end.
                let since = since.max(self.disturbed);
                if now >= since + CLIENTS_STAY {
                    self.clients.stopped = true;
                    self.abuser.stop(&mut self.net);
                }
                let all_noticed = notices_late == 0 || now >= heal_at + within;
                let is_quiet = now >= since + STAY && self.clients.open() == 0 && all_noticed;
                // Routers hear a moment later that the last one has gone.
                if is_quiet && core::mem::replace(&mut self.is_quiet, true) {
                    self.end(since);
                }
            }
            (Some(_), Some(_)) if now < heal_at + LATE + notices_late => self.converged = None,
            (Some((checker, lacks)), _) if now >= heal_at + within || self.converged.is_some() => {
                self.net.trace.violated(now, checker, lacks);
            }
            (Some(_), _) => {}
        }
        if now > heal_at + within + 3 * STAY && !self.is_over {
            let text = format!("{} clients do not end", self.clients.open());
            self.net.trace.violated(now, "L1", text);
        }
        self.net.schedule(now + 500 * MS, Event::Step(Step::Check));
    }
}
