//! L3: when faults are healed and the final state is reached, a request to a healthy route
//! succeeds.

use super::d15;
use crate::client::Outcome;
use crate::model::lookup::Answer;
use crate::model::table::Table;
use crate::network::{Network, SECOND, Time};

/// What flew and stalled before must have gone.
pub const SETTLED: Time = 6 * SECOND;

/// A client's request came to its end; whether it had to succeed. `table`: what is served since
/// the final state was reached.
pub fn answered(outcome: &Outcome, table: &Table, converged: Time, net: &mut Network) -> bool {
    let (is_owed, failure) = judge(outcome, table, converged);
    if let Some(text) = failure {
        net.trace.violated(net.now, "L3", text);
    }
    is_owed
}

/// Whether a request had to succeed when `table` is all that is served since then, and how it did
/// not.
pub(super) fn judge(outcome: &Outcome, table: &Table, since: Time) -> (bool, Option<String>) {
    let request = &outcome.request;
    if request.sent_at < since + SETTLED || outcome.was_told {
        return (false, None);
    }
    let has_time = d15::has_time(request, table) == Some(true);
    let healthy = match table.answer(request) {
        Answer::Backends { may_500, may_503, .. } => !may_500 && !may_503 && has_time,
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
        return (true, Some(text));
    }
    (healthy, None)
}
