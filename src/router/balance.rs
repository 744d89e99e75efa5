//! Which backend a request goes to: by weight, then the less loaded of two endpoints.
//!
//! In: a route, the endpoints' loads, random numbers. Out: up to four endpoints in the order in
//! which they are tried, or the status that the Gateway API asks for when there is none.

use super::endpoints::Endpoints;
use super::exchange::Candidates;
use super::timers::Tick;
use crate::config::reach::may_reach;
use crate::config::snapshot::{NO_FILTER, POOL_INVALID, Route, Snapshot};
use crate::limits::MAX_ENDPOINT_CANDIDATES;
use crate::stdx::Prng;
use core::net::SocketAddr;

/// The endpoints for one request.
#[derive(Clone, Copy, Debug)]
pub struct Picked {
    /// In the order in which they are tried.
    pub candidates: Candidates,
    /// Filters of their backend, or `NO_FILTER`.
    pub filter: u32,
}

/// Picks the endpoints for one request of a route; or the status of the answer: 500 when a
/// backendRef does not resolve or no backend has a weight (HTTPBackendRef), 503 for an empty pool.
pub fn pick(
    snapshot: &Snapshot,
    route: &Route,
    endpoints: &Endpoints,
    prng: &mut Prng,
    now: Tick,
) -> Result<Picked, u16> {
    let backends = snapshot.backends.span(route.backends);
    let (pool, filter) = match backends {
        [] => return Err(500),
        [only] if only.weight > 0 => (only.pool, only.filter),
        _ => {
            let total: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
            if total == 0 {
                return Err(500);
            }
            let mut share = prng.below(total);
            let heavy = |b: &&crate::config::snapshot::Backend| {
                let weight = u64::from(b.weight);
                let hit = share < weight;
                share = share.wrapping_sub(weight);
                hit
            };
            let none = (POOL_INVALID, NO_FILTER);
            backends.iter().find(heavy).map_or(none, |b| (b.pool, b.filter))
        }
    };
    if pool == POOL_INVALID {
        return Err(500);
    }
    let upstreams = snapshot.upstreams.span(snapshot.pools[pool].upstreams);
    let mut candidates = Candidates::EMPTY;
    match upstreams {
        [] => return Err(503),
        [only] => candidates.add(only.address),
        many => {
            let address = |i: u64| many[(i % many.len() as u64) as usize].address;
            let load = |i: u64| endpoints.load(&address(i), now);
            let first = prng.below(many.len() as u64);
            let other = first + 1 + prng.below(many.len() as u64 - 1);
            let (best, second) =
                if load(other) < load(first) { (other, first) } else { (first, other) };
            candidates.add(address(best));
            candidates.add(address(second));
            // Pools with the same endpoint twice may yield fewer.
            for step in 1..u64::from(MAX_ENDPOINT_CANDIDATES) + 1 {
                candidates.add(address(second + step));
            }
            prefer_rested(&mut candidates, endpoints, now);
        }
    }
    Ok(Picked { candidates, filter })
}

/// When even the better of the two rests, the first that does not comes before it.
fn prefer_rested(candidates: &mut Candidates, endpoints: &Endpoints, now: Tick) {
    let known = &mut candidates.addresses[..usize::from(candidates.count)];
    let rests = |address: &SocketAddr| endpoints.load(address, now) >= 1 << 30;
    if rests(&known[0])
        && let Some(awake) = known.iter().position(|address| !rests(address))
    {
        known.swap(0, awake);
    }
}

/// Whether a router may connect there at all (`config::reach`).
pub fn may_connect(address: &SocketAddr, allow_loopback: bool) -> bool {
    address.port() != 0 && may_reach(address.ip(), allow_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::building::{self, MatchSpec};
    use crate::limits::Capacities;
    use crate::stdx::zeroed_box;
    use std::boxed::Box;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    struct Rig {
        snapshot: Box<Snapshot>,
        endpoints: Box<Endpoints>,
        prng: Prng,
    }

    impl Rig {
        fn new(pools: &[&[u16]], backends: &[(u32, u32)]) -> Rig {
            let mut rig =
                Rig { snapshot: zeroed_box(), endpoints: zeroed_box(), prng: Prng::new(1) };
            rig.snapshot.set_caps(&Capacities::DEFAULT);
            rig.endpoints.init(8);
            for ports in pools {
                let addresses: std::vec::Vec<_> = ports.iter().map(|&p| at(p)).collect();
                building::pool(&mut rig.snapshot, "p", &addresses);
            }
            building::route(&mut rig.snapshot, "r", &[], &[MatchSpec::prefix("")], backends);
            rig
        }

        fn pick(&mut self) -> Result<Candidates, u16> {
            let route = &self.snapshot.routes[0];
            let picked = pick(&self.snapshot, route, &self.endpoints, &mut self.prng, Tick(0));
            picked.map(|picked| picked.candidates)
        }
    }

    #[test]
    fn what_the_gateway_api_asks_for() {
        assert_eq!(Rig::new(&[], &[]).pick().err(), Some(500));
        assert_eq!(Rig::new(&[&[1]], &[(0, 0)]).pick().err(), Some(500));
        assert_eq!(Rig::new(&[&[1]], &[(0, 0), (0, 0)]).pick().err(), Some(500));
        assert_eq!(Rig::new(&[], &[(POOL_INVALID, 1)]).pick().err(), Some(500));
        assert_eq!(Rig::new(&[&[]], &[(0, 1)]).pick().err(), Some(503));
    }

    #[test]
    fn weights_are_shares() {
        let mut rig = Rig::new(&[&[1], &[2]], &[(0, 30), (1, 10), (POOL_INVALID, 60), (0, 0)]);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            match rig.pick() {
                Ok(c) => counts[usize::from(c.addresses[0].port()) - 1] += 1,
                Err(status) => {
                    assert_eq!(status, 500);
                    counts[2] += 1;
                }
            }
        }
        assert!((2800..3200).contains(&counts[0]), "{counts:?}");
        assert!((850..1150).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn the_busy_and_the_resting_come_later() {
        let mut rig = Rig::new(&[&[1, 2, 3, 4, 5, 6]], &[(0, 1)]);
        let one = rig.endpoints.get(&at(1), Tick(0)).unwrap();
        rig.endpoints.opened(one);
        (0..50).for_each(|_| rig.endpoints.began(one));
        let two = rig.endpoints.get(&at(2), Tick(0)).unwrap();
        rig.endpoints.failed(two, Tick(0));
        for _ in 0..1_000 {
            let candidates = rig.pick().unwrap();
            assert_eq!(candidates.count, 4);
            // Two are drawn: the busy one comes first only before the one that rests.
            match candidates.addresses[0].port() {
                1 => assert_eq!(candidates.addresses[1].port(), 2),
                port => assert_ne!(port, 2),
            }
        }
    }
}
