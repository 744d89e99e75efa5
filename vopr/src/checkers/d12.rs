//! D12: a peer that pipelines, drips, hardly reads or never ends keeps no others from being served:
//! one event costs a worker few requests, what waits to be read is read after few turns, and L3
//! holds beside it.

use crate::network::Network;
use serval::limits::MAX_REQUESTS_PER_INPUT;

/// What is there waits for as many turns at most: some of all connections, several times over.
const TURNS: u64 = 400;

/// A worker judged so many heads of requests in one event.
pub fn judged(router: usize, heads: u64, net: &mut Network) {
    if heads > u64::from(MAX_REQUESTS_PER_INPUT) {
        let text = format!("router {router} judged {heads} requests in one event");
        net.trace.violated(net.now, "D12", text);
    }
}

/// Bytes of a client were read after so many turns.
pub fn waited(router: usize, turns: u64, net: &mut Network) {
    if turns > TURNS {
        let text = format!("a client of router {router} waited for {turns} turns");
        net.trace.violated(net.now, "D12", text);
    }
}
