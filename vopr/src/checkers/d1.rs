//! D1: an answer is what the model says for some generation that was current on that router
//! between the request's head and the response's head.

use crate::client::Outcome;
use crate::model::lookup::{Answer, Edits};
use crate::network::Network;
use crate::router::Router;
use crate::tables::Tables;

/// A client got an answer.
pub fn answered(outcome: &Outcome, router: &Router, tables: &Tables, net: &mut Network) {
    let (request, Some(response)) = (&outcome.request, &outcome.response) else { return };
    let mut allowed = Vec::new();
    for (at, entry) in router.adopted.iter().enumerate() {
        let until = router.adopted.get(at + 1).map_or(u64::MAX, |next| next.0);
        let (Some(checksum), true) = (entry.1, until >= request.sent_at && entry.0 <= response.at)
        else {
            continue;
        };
        let Some(table) = tables.of(&checksum) else { return };
        allowed.push(table.answer(request));
    }
    let edits = Edits { request: response.seen.clone(), response: response.edited.clone() };
    // A request that found no endpoint any more is routed again, with the edits it has.
    let was_edited =
        |answer: &Answer| matches!(answer, Answer::Backends { edits: e, .. } if *e == edits);
    let fits = |answer: &Answer| match (answer, &response.backend) {
        (Answer::Backends { names, .. }, Some(backend)) => {
            names.contains(backend) && allowed.iter().any(was_edited)
        }
        (Answer::Redirect { status, location }, None) => {
            response.status == *status && response.location.as_ref() == Some(location)
                || matches!(response.status, 408 | 503)
        }
        (_, Some(_)) => false,
        (Answer::Backends { may_500, .. }, None) => match response.status {
            // Of the backends' or the router's own making: D2, D4 and L3 look at those.
            408 | 502 | 503 | 504 => true,
            500 => *may_500,
            _ => false,
        },
        (Answer::NotFound, None) => matches!(response.status, 404 | 408 | 503),
        (Answer::Failed, None) => matches!(response.status, 500 | 408 | 503),
    };
    if !allowed.iter().any(fits) {
        let text = format!(
            "router {} answered {} {}{} (kind {:?}, query {:?}) at {} with {} of {:?}, location \
             {:?}, {edits:?}; allowed was {allowed:?}",
            request.router,
            request.method,
            request.host,
            request.path,
            request.headers,
            request.query,
            request.address,
            response.status,
            response.backend,
            response.location,
        );
        net.trace.violated(net.now, "D1", text);
    }
}
