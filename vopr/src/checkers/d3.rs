//! D3: no cross-talk. The response carries the stamp of the request it answers.

use crate::client::Outcome;
use crate::network::Network;

/// A client got an answer.
pub fn answered(outcome: &Outcome, net: &mut Network) {
    let Some(response) = &outcome.response else { return };
    if response.backend.is_none() && response.stamp.is_none() {
        // The router's own answer.
        return;
    }
    let wanted = &outcome.request.stamp;
    if response.stamp.as_ref() != Some(wanted) {
        let text = format!("{wanted} was answered with the stamp {:?}", response.stamp);
        net.trace.violated(net.now, "D3", text);
    }
}
