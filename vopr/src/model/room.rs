//! What a Snapshot has room for: routes that do not fit are left out whole, the youngest first, and
//! leave their room to those behind them.
//!
//! In: the rules of a route. Out: whether they fit.

use super::table::ServedRule;
use std::collections::BTreeSet;

/// Room for parts of routes, as `--max-config-…` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub rules: usize,
    pub hosts: usize,
    pub matches: usize,
    /// Headers and queries of matches.
    pub conditions: usize,
    pub backends: usize,
}

impl Room {
    /// More than there can be.
    pub const LARGE: Room = Room {
        rules: 1 << 20,
        hosts: 1 << 20,
        matches: 1 << 20,
        conditions: 1 << 20,
        backends: 1 << 20,
    };

    /// Takes the room of a route; not when it is too little.
    pub(super) fn take(&mut self, rules: &[ServedRule]) -> bool {
        let matches = || rules.iter().flat_map(|r| &r.matches);
        // Of equal names only the first counts.
        let names = |pairs: &[(String, String)]| {
            pairs.iter().map(|p| p.0.as_str()).collect::<BTreeSet<_>>().len()
        };
        let needed = [
            rules.len(),
            rules.first().map_or(0, |r| r.hosts.len()),
            matches().count(),
            matches().map(|m| names(&m.headers) + names(&m.queries)).sum(),
            rules.iter().map(|r| r.backends.len()).sum(),
        ];
        let Room { rules, hosts, matches, conditions, backends } = self;
        let left = [rules, hosts, matches, conditions, backends];
        let fits = left.iter().zip(needed).all(|(left, needed)| **left >= needed);
        if fits {
            left.into_iter().zip(needed).for_each(|(left, needed)| *left -= needed);
        }
        fits
    }
}
