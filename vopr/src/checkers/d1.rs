//! D1: an answer, and what a backend is asked for, is what the model says for some generation that
//! was current on that router between the request's head and the response's head.

use crate::client::Outcome;
use crate::ledger::{Arrival, Request};
use crate::model::lookup::{Answer, Edits};
use crate::network::{Network, Time};
use crate::router::Router;
use crate::tables::Tables;

/// What the model says for each generation that was current in a time; None when one of them is
/// not known.
fn allowed(
    request: &Request,
    (from, to): (Time, Time),
    router: &Router,
    tables: &Tables,
) -> Option<Vec<Answer>> {
    let mut allowed = Vec::new();
    for (at, entry) in router.adopted.iter().enumerate() {
        let until = router.adopted.get(at + 1).map_or(u64::MAX, |next| next.0);
        if let (Some(checksum), true) = (entry.1, until >= from && entry.0 <= to) {
            allowed.push(tables.of(&checksum)?.answer(request));
        }
    }
    Some(allowed)
}

/// A backend got a whole request; whether its URL is another than the client's.
pub fn arrived(
    arrival: &Arrival,
    request: &Request,
    router: &Router,
    tables: &Tables,
    net: &mut Network,
) -> bool {
    let Some(allowed) = allowed(request, (request.sent_at, net.now), router, tables) else {
        return false;
    };
    // A request that found no endpoint any more is routed again, with the head it has.
    let is_head = |answer: &Answer| match answer {
        Answer::Backends { ways, .. } => {
            ways.iter().any(|w| w.url == arrival.url && w.edits.request == arrival.edited)
        }
        _ => false,
    };
    let is_place = |answer: &Answer| match answer {
        Answer::Backends { ways, .. } => ways.iter().any(|w| w.names.contains(&arrival.backend)),
        _ => false,
    };
    let fits = allowed.iter().any(is_head) && allowed.iter().any(is_place);
    let proto = if request.secured.is_some() { "https" } else { "http" };
    let forwarded = [&request.host, proto, &request.address.port().to_string()];
    if !fits || arrival.forwarded != forwarded.map(|value| Some(value.to_string())) {
        let text = format!(
            "router {} sent {} as {arrival:?}; allowed was {allowed:?}",
            request.router,
            said(request),
        );
        net.trace.violated(net.now, "D1", text);
    }
    let query = if request.query.is_empty() { "" } else { "?" };
    arrival.url.host != request.host
        || arrival.url.target != format!("{}{query}{}", request.path, request.query)
}

/// A request in words.
fn said(request: &Request) -> String {
    let Request { method, host, path, headers, query, address, .. } = request;
    format!("{method} {host}{path} (kind {headers:?}, query {query:?}) at {address}")
}

/// A client got an answer.
pub fn answered(outcome: &Outcome, router: &Router, tables: &Tables, net: &mut Network) {
    let (request, Some(response)) = (&outcome.request, &outcome.response) else { return };
    let time = (request.sent_at, response.at);
    let Some(allowed) = allowed(request, time, router, tables) else { return };
    let edits = Edits { request: response.seen.clone(), response: response.edited.clone() };
    // A request that found no endpoint any more is routed again, with the edits it has.
    let was_edited = |answer: &Answer| match answer {
        Answer::Backends { ways, .. } => ways.iter().any(|w| w.edits == edits),
        _ => false,
    };
    let fits = |answer: &Answer| match (answer, &response.backend) {
        (Answer::Backends { ways, .. }, Some(backend)) => {
            ways.iter().any(|w| w.names.contains(backend)) && allowed.iter().any(was_edited)
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
        (Answer::Misdirected, None) => matches!(response.status, 421 | 408 | 503),
        (Answer::Failed, None) => matches!(response.status, 500 | 408 | 503),
    };
    if !allowed.iter().any(fits) {
        let text = format!(
            "router {} answered {} with {} of {:?}, location {:?}, {edits:?}; allowed was \
             {allowed:?}",
            request.router,
            said(request),
            response.status,
            response.backend,
            response.location,
        );
        net.trace.violated(net.now, "D1", text);
    }
}
