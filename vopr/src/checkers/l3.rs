//! L3: when faults are healed and the final state is reached, a request to a healthy route
//! succeeds.

use crate::client::Outcome;
use crate::model::lookup::Answer;
use crate::model::table::Table;
use crate::network::{Network, SECOND, Time};

/// What flew and stalled before must have gone.
pub const SETTLED: Time = 6 * SECOND;

/// A client's request came to its end; whether it had to succeed. `table`: what is served since
/// the final state was reached.
pub fn answered(outcome: &Outcome, table: &Table, converged: Time, net: &mut Network) -> bool {
    let request = &outcome.request;
    if request.sent_at < converged + SETTLED || outcome.was_told {
        return false;
    }
    let healthy = match table.answer(request) {
        Answer::Backends { may_500, may_503, .. } => !may_500 && !may_503,
        _ => false,
    };
    let response = outcome.response.as_ref();
    if healthy
        && !response
            .is_some_and(|r| r.backend.is_some() && matches!(r.status, 101 | 200 | 204 | 304))
    {
        let text = format!(
            "router {}: {} {}{} ({}) of a healthy route got {:?}",
            request.router,
            request.method,
            request.host,
            request.path,
            request.stamp,
            response.map(|r| r.status),
        );
        net.trace.violated(net.now, "L3", text);
    }
    healthy
}
