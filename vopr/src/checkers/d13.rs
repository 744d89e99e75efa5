//! D13: once a router drains nothing is accepted, and what it is asked then is answered with
//! `Connection: close`, no new tunnel among it. L7: a drain with nothing left to do ends before its
//! deadline, and at once when no client is left.

use crate::client::Outcome;
use crate::network::{Network, SECOND, Time};
use crate::router::{Process, Router};

/// A client that has its last answer, or whose head does not end, is gone within so long
/// (LINGER_TIMEOUT_MS, HEADER_TIMEOUT_MS).
const GOES: Time = 6 * SECOND;

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

/// Nothing runs, and nothing is to be sent.
pub fn rests(process: &Process) -> bool {
    process.worker.exchanges_in_use() == 0 && process.driver.buffers().1 == 0
}

/// And no client is left: connections to backends are nothing to wait for.
pub fn is_alone(process: &Process) -> bool {
    rests(process) && process.worker.counters().clients == 0
}

/// Something happened to a router that drains and had no client since then.
pub fn goes_at_once(router: usize, alone_since: Option<Time>, net: &mut Network) {
    if alone_since.is_some_and(|since| net.now - since > SECOND) {
        let text = format!("router {router} drains on, though no client is left");
        net.trace.violated(net.now, "L7", text);
    }
}

/// The deadline of a drain: something still ran a while ago, or why did it not end?
pub fn is_late(router: usize, process: &Process, since: Option<Time>, net: &mut Network) {
    let counters = process.worker.counters();
    if since.is_some_and(|since| net.now - since > GOES) {
        let (clients, upstreams) = (counters.clients, counters.upstreams);
        let text = format!("router {router} waits for {clients} clients, {upstreams} upstreams");
        net.trace.violated(net.now, "L7", text);
    }
}
