//! The pods of a Service go, and nobody answers at their addresses. Meanwhile a user edits the
//! route that leads there, and then others take their place: requests wait all the while.
//!
//! In: what a router serves. Out: cut connections, addresses that are mute, changed objects.

use super::{ROUTERS, Sim};
use crate::faults::Fault;
use crate::marks::sometimes;
use crate::model::object::Filters;
use crate::model::table::ServedRule;
use crate::network::{Event, MS, SECOND, Step, Time};
use crate::target;
use std::net::SocketAddr;
use std::ops::Range;

/// Nobody changes anything else for so long, mostly.
const FREEZE: Time = 2500 * MS;

/// Those of a run.
#[derive(Debug, Default)]
pub(super) struct Outages {
    times: Vec<Range<Time>>,
    /// The rule whose endpoints went, and these.
    rule: Option<ServedRule>,
    dead: Vec<SocketAddr>,
    pub(super) frozen_until: Time,
}

impl Outages {
    /// Whether one was while a request waited.
    pub(super) fn were_in(&self, asked: Range<Time>) -> bool {
        self.times.iter().any(|time| time.start <= asked.end && asked.start <= time.end)
    }
}

impl Sim {
    /// All endpoints of a rule go.
    pub(super) fn begin_outage(&mut self) {
        if self.is_healed || !self.options.outages {
            return;
        }
        let now = self.net.now;
        let Some(rule) = self.rule_to_lose() else {
            return self.net.schedule(now + SECOND, Event::Step(Step::Outage));
        };
        let until = now + self.prng.range(1500 * MS, 4 * SECOND);
        let pools = rule.backends.iter().filter_map(|b| b.0.as_ref());
        self.outages.dead = pools.flatten().copied().collect();
        for &address in &self.outages.dead {
            self.net.mute.insert(address, until);
            self.backends.end(address, &mut self.net);
        }
        self.net.injected.add(Fault::Outages);
        self.net.trace.say(now, &format!("the endpoints of {} are gone", rule.name));
        (self.outages.rule, self.outages.frozen_until) = (Some(rule), now);
        self.outages.times.push(now..until);
        if self.prng.chance(3, 4) {
            self.outages.frozen_until = now + FREEZE;
        }
        let edited = now + self.prng.range(100 * MS, 1200 * MS);
        let replaced = edited + self.prng.below(500 * MS);
        let next = now + self.prng.range(5 * SECOND, 10 * SECOND);
        for (at, step) in [(edited, Step::Edit), (replaced, Step::Respawn), (next, Step::Outage)] {
            self.net.schedule(at, Event::Step(step));
        }
    }

    /// A rule with endpoints that a router serves; mostly one with filters.
    fn rule_to_lose(&mut self) -> Option<ServedRule> {
        let first = self.prng.below(ROUTERS as u64) as usize;
        let may = |r: &&ServedRule| target::is_healthy(r) && r.filters.redirect.is_none();
        let is_plain = |r: &ServedRule| r.filters == Filters::default();
        for i in 0..ROUTERS {
            let table = self.tables.adopted(&self.routers[(first + i) % ROUTERS]);
            let mut rules: Vec<&ServedRule> = table.rules.iter().filter(may).collect();
            if !rules.iter().all(|r| is_plain(r)) && self.prng.chance(3, 4) {
                rules.retain(|r| !is_plain(r));
            }
            if !rules.is_empty() {
                return Some(rules[self.prng.below(rules.len() as u64) as usize].clone());
            }
        }
        None
    }

    /// A user edits the route of the rule.
    pub(super) fn edit_in_outage(&mut self) {
        let Some(rule) = self.outages.rule.as_ref().filter(|_| !self.is_healed) else { return };
        let listeners = &self.tables.adopted(&self.routers[0]).listeners;
        if self.workload.edit_served(rule, listeners, &mut self.api, self.net.now) {
            sometimes("a route is edited while its endpoints are gone");
        }
    }

    /// Other pods take the place of those that went.
    pub(super) fn respawn(&mut self) {
        let Some(rule) = self.outages.rule.take().filter(|_| !self.is_healed) else { return };
        self.workload.respawn(&rule.name, &self.outages.dead, &mut self.api, self.net.now);
    }
}
