//! L6: endpoints that rest after a failed connect return: of many requests to a rule in the calm of
//! the final state each of its endpoints gets some.

use super::l3::SETTLED;
use crate::client::Outcome;
use crate::ledger::Attempt;
use crate::marks::sometimes;
use crate::model::table::Table;
use crate::network::{Network, Time};
use std::collections::BTreeMap;

/// Who should get at least so many of them cannot have got none by chance.
const ENOUGH: u64 = 16;

/// Endpoints of a rule, with their share of a million requests.
pub type Shares = Vec<(String, u64)>;

/// Requests by router and rule, and how many each endpoint answered.
#[derive(Debug, Default)]
pub struct Tally {
    rules: BTreeMap<(usize, Shares), BTreeMap<String, u64>>,
    /// Until when routers ask an endpoint for something that takes long: then others are preferred.
    busy: BTreeMap<(usize, String), Time>,
    /// When the first of them was sent.
    from: Option<Time>,
}

impl Tally {
    /// A client got an answer. `converged`: since when all is healed and stands still.
    pub fn answered(&mut self, outcome: &Outcome, table: &Table, converged: Time) {
        let request = &outcome.request;
        let backend = outcome.response.as_ref().and_then(|r| r.backend.clone());
        let (Some(backend), true) = (backend, request.sent_at >= converged + SETTLED) else {
            return;
        };
        let shares = table.shares(request);
        if shares.len() > 1 {
            self.from = Some(self.from.map_or(request.sent_at, |from| from.min(request.sent_at)));
            let hits = self.rules.entry((request.router, shares)).or_default();
            *hits.entry(backend).or_default() += 1;
        }
    }

    /// A request that takes its time was sent to these backends, until then.
    pub fn took_long(&mut self, (router, until): (usize, Time), attempts: &[Attempt]) {
        for attempt in attempts {
            let busy = self.busy.entry((router, attempt.backend.clone())).or_default();
            *busy = until.max(*busy);
        }
    }

    /// Nobody asks any more; how many endpoints had to be asked.
    pub fn judge(&self, net: &mut Network) {
        for ((router, shares), hits) in &self.rules {
            let all: u64 = hits.values().sum();
            let owed = shares.iter().filter(|(_, share)| all * share / 1_000_000 >= ENOUGH);
            for (name, share) in owed {
                let until = self.busy.get(&(*router, name.clone()));
                if until.is_some_and(|&until| Some(until) > self.from) {
                    continue;
                }
                sometimes("an endpoint is owed requests");
                if !hits.contains_key(name) {
                    let text = format!(
                        "router {router}: {name} got none of {all} requests, not {share} of a \
                         million; {hits:?}"
                    );
                    net.trace.violated(net.now, "L6", text);
                }
            }
        }
    }
}
