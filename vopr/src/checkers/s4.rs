//! S4: one request is served by one configuration: host and path that a backend gets, the edits of
//! request and response, and the backend are those of one rule of one of them. What a worker serves
//! is whole: as it was published.

use super::l1;
use super::s3::difference;
use crate::client::Outcome;
use crate::ledger::Ledger;
use crate::marks::sometimes;
use crate::model::lookup::{Answer, Edits};
use crate::network::Network;
use crate::router::Router;
use crate::tables::Tables;

/// A client got an answer.
pub fn answered(
    outcome: &Outcome,
    router: &Router,
    (ledger, tables): (&Ledger, &Tables),
    net: &mut Network,
) {
    let (request, Some(response)) = (&outcome.request, &outcome.response) else { return };
    let Some(backend) = &response.backend else { return };
    let seen = Edits { request: response.seen.clone(), response: response.edited.clone() };
    let attempts = ledger.attempts.get(&request.stamp).map_or(&[][..], Vec::as_slice);
    let mine = || attempts.iter().filter(|a| a.backend == *backend);
    let is_one = |answer: &Answer| match answer {
        Answer::Backends { ways, .. } => ways.iter().any(|w| {
            let is_it =
                w.names.contains(backend) && w.edits == seen && mine().any(|a| a.url == w.url);
            if is_it && w.is_filtered_twice {
                sometimes("a backend's filters follow those of its rule");
            }
            is_it
        }),
        _ => false,
    };
    let served = router.served_between(request.sent_at, response.at);
    for checksum in &served {
        match tables.of(checksum) {
            Some(table) if !table.answers(request).iter().any(is_one) => {}
            // Not known, or all of it is of this one.
            _ => return,
        }
    }
    let urls: Vec<_> = mine().map(|a| &a.url).collect();
    let text = format!(
        "{} was served by no one of {} configurations: {urls:?} of {backend}, {seen:?}",
        request.stamp,
        served.len(),
    );
    net.trace.violated(net.now, "S4", text);
}

/// A worker adopted a configuration.
pub fn adopted(router: &Router, tables: &Tables, net: &mut Network) {
    let (Some(process), Some((_, Some(checksum)))) = (&router.process, router.adopted.last())
    else {
        return;
    };
    // The next one may be there already.
    let is_it = process.writer.active().snapshot.identity.checksum == *checksum;
    let Some(wanted) = tables.of(checksum).filter(|_| is_it) else { return };
    let got = l1::served(process);
    if got != **wanted {
        let (index, differs) = (router.index, difference(&got, wanted));
        net.trace.violated(net.now, "S4", format!("router {index} adopted {differs}"));
    }
}
