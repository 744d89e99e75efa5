//! S9: no byte of a private key is in a status, a report or another answer of the admin port.

use crate::model::secret::CANARY;
use crate::network::Network;

/// Something is shown.
pub fn shown(what: &str, bytes: &[u8], net: &mut Network) {
    if bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
        let text = format!("{what} shows a private key: {}", String::from_utf8_lossy(bytes));
        net.trace.violated(net.now, "S9", text);
    }
}
