//! D7, of trailers: behind a chunked body those that may trail cross, all or none (blocks for them
//! are few); never one that frames, routes or authenticates.

use crate::network::Network;

/// The field that may trail; its value is the stamp.
pub const TRAILER: &str = "x-trailer";

/// A section that has it, among others that must not cross.
pub fn section(stamp: &str) -> String {
    format!("Host: evil\r\nX-Trailer: {stamp}\r\nContent-Length: 3\r\nAuthorization: evil\r\n")
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
