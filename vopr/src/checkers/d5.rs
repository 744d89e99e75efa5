//! D5: a non-idempotent request, or one of which a body byte was sent, reaches at most one backend,
//! and any other at most two: there is one replay.

use crate::ledger::{Ledger, Request};
use crate::network::Network;

/// A whole request arrived at a backend.
pub fn attempted(stamp: &str, meant: Option<&Request>, ledger: &Ledger, net: &mut Network) {
    let Some(meant) = meant else { return };
    let attempts = ledger.attempts.get(stamp).map_or(&[][..], Vec::as_slice);
    // Who answered early had perhaps no byte of the body.
    let with_body = attempts.iter().filter(|a| a.is_whole && !meant.body.is_empty()).count();
    let once = meant.method == "POST" && !attempts.is_empty();
    if once || with_body > 0 || attempts.len() > 1 {
        let text = format!("{} {stamp} was sent {} times", meant.method, attempts.len() + 1);
        net.trace.violated(net.now, "D5", text);
    }
}
