//! D5: a non-idempotent request reaches at most one backend.

use crate::ledger::{Ledger, Request};
use crate::network::Network;

/// A whole request arrived at a backend.
pub fn attempted(stamp: &str, meant: Option<&Request>, ledger: &Ledger, net: &mut Network) {
    let before = ledger.attempts.get(stamp).map_or(0, Vec::len);
    if before > 0 && meant.is_some_and(|m| m.method == "POST") {
        net.trace.violated(net.now, "D5", format!("POST {stamp} was sent {} times", before + 1));
    }
}
