//! D13: once a router drains nothing is accepted, and what it is asked then is answered with
//! `Connection: close`, no new tunnel among it. L7: a drain with nothing left to do ends before its
//! deadline.

use crate::client::Outcome;
use crate::network::Network;
use crate::router::{Process, Router};

/// A client got an answer.
pub fn answered(outcome: &Outcome, router: &Router, net: &mut Network) {
    let (request, Some(response)) = (&outcome.request, &outcome.response) else { return };
    let (sent, at) = (request.sent_at, response.at);
    let drains = router.drains.iter().any(|(from, until)| *from < sent && at <= *until);
    if drains && !response.closes {
        let (index, stamp, status) = (router.index, &request.stamp, response.status);
        let text = format!("router {index} drains, but goes on behind {status} to {stamp}");
        net.trace.violated(net.now, "D13", text);
    }
}

/// The deadline of a drain: something still runs, or why did it not end?
pub fn is_late(router: usize, process: &Process, net: &mut Network) {
    let (exchanges, counters) = (process.worker.exchanges_in_use(), process.worker.counters());
    let queued = process.driver.buffers().1;
    if exchanges == 0 && queued == 0 {
        let (clients, upstreams) = (counters.clients, counters.upstreams);
        let text = format!("router {router} waits for {clients} clients, {upstreams} upstreams");
        net.trace.violated(net.now, "L7", text);
    }
}
