//! D7: answers come in the order of their requests, interim ones among them; what has no body (to
//! HEAD, 1xx, 204, 304) says so, and its length only where that describes another one. Behind a
//! chunked body those trailers cross that may trail, all or none (blocks for them are few); never
//! one that frames, routes, authenticates or belongs to a connection.

use crate::client::Outcome;
use crate::http::Message;
use crate::ledger::Ledger;
use crate::network::Network;

/// The field that may trail; its value is the stamp.
pub const TRAILER: &str = "x-trailer";

/// A section that has it, among others that must not cross.
pub fn section(stamp: &str) -> String {
    let bad =
        "Content-Length: 3\r\nAuthorization: evil\r\nKeep-Alive: hop\r\nX-Forwarded-For: hop\r\n";
    format!("Host: evil\r\nX-Trailer: {stamp}\r\n{bad}")
}

/// A message arrived whole; whether trailers came with it. `sent`: there were some.
pub fn crossed(
    what: &str,
    stamp: &str,
    trailers: &[(String, String)],
    sent: bool,
    net: &mut Network,
) -> bool {
    let wanted = [(TRAILER.to_string(), stamp.to_string())];
    let may_be = trailers.is_empty() || sent && trailers == wanted;
    if !may_be {
        let text = format!("{what} of {stamp} has the trailers {trailers:?} (sent: {sent})");
        net.trace.violated(net.now, "D7", text);
    }
    !trailers.is_empty()
}

/// A client got a head. `stamp`: of its oldest request; `is_old`: it speaks HTTP/1.0.
pub fn headed(stamp: &str, message: &Message, is_old: bool, net: &mut Network) {
    let status = message.status();
    let is_interim = (100..200).contains(&status) && status != 101;
    let framed = ["content-length", "transfer-encoding"].map(|name| message.field(name));
    let of_another = message.field("x-stamp").is_some_and(|of| of != stamp);
    let wrong = if (status < 200 || status == 204) && framed != [None, None] {
        "says how long its body is"
    } else if is_old && (status < 200 || framed[1].is_some()) {
        "is for HTTP/1.1"
    } else if is_interim && of_another {
        "belongs to another request"
    } else {
        return;
    };
    let text = format!("{status} to {stamp} {wrong}: {:?}", message.fields);
    net.trace.violated(net.now, "D7", text);
}

/// A client got an answer: its status is the backend's, and its length what that said of it.
pub fn answered(outcome: &Outcome, ledger: &Ledger, net: &mut Network) {
    let (request, Some(response)) = (&outcome.request, &outcome.response) else { return };
    let Some(backend) = &response.backend else { return };
    let attempts = ledger.attempts.get(&request.stamp).map_or(&[][..], Vec::as_slice);
    let bodiless = request.method == "HEAD" || matches!(response.status, 101 | 204 | 304);
    let fits = |a: &&crate::ledger::Attempt| {
        a.backend == *backend
            && a.status == response.status
            && (!bodiless || response.body.is_empty() && response.length == a.described)
    };
    if !attempts.iter().any(|a| fits(&a)) {
        let said: Vec<_> = attempts.iter().map(|a| (&a.backend, a.status, a.described)).collect();
        let text = format!(
            "{} {} was answered {} of length {:?}; backends said {said:?}",
            request.method, request.stamp, response.status, response.length,
        );
        net.trace.violated(net.now, "D7", text);
    }
}
