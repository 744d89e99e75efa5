//! D13: once a router drains nothing is accepted, and what it is asked then is answered with
//! `Connection: close`, no new tunnel among it. L7: a drain with nothing left to do ends before its
//! deadline, and at once when no client is left.

use crate::client::Outcome;
use crate::network::{Network, SECOND, Time};
use crate::router::{Process, Router};

/// A client that has its last answer, or whose head does not end, is gone within so long: so
/// are LINGER_TIMEOUT_MS and HEADER_TIMEOUT_MS.
const GOES: Time = 4 * SECOND;

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

/// Something happened to a router that drains, and rests since then, without a client since then.
pub fn goes(
    router: usize,
    process: &Process,
    since: (Option<Time>, Option<Time>),
    net: &mut Network,
) {
    let (rests, alone) = since;
    let counters = process.worker.counters();
    let (clients, upstreams) = (counters.clients, counters.upstreams);
    if rests.is_some_and(|since| net.now - since > GOES) {
        let text = format!("router {router} waits for {clients} clients, {upstreams} upstreams");
        net.trace.violated(net.now, "L7", text);
    }
    if alone.is_some_and(|since| net.now - since > SECOND) {
        let text = format!("router {router} drains on for {upstreams} upstreams, without a client");
        net.trace.violated(net.now, "L7", text);
    }
}
