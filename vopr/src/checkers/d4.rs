//! D4: bytes in are bytes out. A truncated body is never presented as complete.

use crate::client::Outcome;
use crate::http::Message;
use crate::ledger::{Ledger, Request};
use crate::network::Network;

/// A backend got a whole request.
pub fn request_arrived(
    stamp: &str,
    message: &Message,
    meant: Option<&Request>,
    backend: &str,
    net: &mut Network,
) {
    // The client may have given up and be forgotten.
    let Some(meant) = meant else { return };
    let wrong = if message.body != meant.body {
        Some(format!("a body of {} bytes, not {}", message.body.len(), meant.body.len()))
    } else if message.word(0) != meant.method {
        Some(format!("{:?}, not {}", message.start, meant.method))
    } else {
        None
    };
    if let Some(wrong) = wrong {
        net.trace.violated(net.now, "D4", format!("{stamp} reached {backend} as {wrong}"));
    }
}

/// Longer than that no body may be (`MAX_REQUEST_BODY_MIB` in `capacities`).
const MOST: usize = 1 << 20;

/// A backend got a request, or what there is of it.
pub fn limited(backend: &str, message: &Message, net: &mut Network) {
    let len = message.body.len();
    if len > MOST {
        net.trace.violated(net.now, "D4", format!("{backend} got a body of {len} bytes"));
    }
}

/// A client got a whole answer.
pub fn answered(outcome: &Outcome, ledger: &Ledger, net: &mut Network) {
    let (request, Some(response)) = (&outcome.request, &outcome.response) else { return };
    let Some(backend) = &response.backend else { return };
    let none = Vec::new();
    let attempts = ledger.attempts.get(&request.stamp).unwrap_or(&none);
    let of_backend = || attempts.iter().filter(|a| a.backend == *backend);
    let wanted = |body: &[u8]| request.method == "HEAD" || body == response.body;
    if !of_backend().any(|a| (!a.truncated || request.method == "HEAD") && wanted(&a.body)) {
        let sent: Vec<_> = of_backend().map(|a| (a.body.len(), a.truncated)).collect();
        let text = format!(
            "{}: {} bytes were presented as complete; {backend} sent (bytes, truncated) {sent:?}",
            request.stamp,
            response.body.len(),
        );
        net.trace.violated(net.now, "D4", text);
    }
}
