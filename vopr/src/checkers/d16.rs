//! D16: who ends its direction behind its last request reads on (RFC 9112 section 9.6): it gets all
//! answers, then the end.

use super::l3::SETTLED;
use crate::network::{MS, Network, SECOND, Time};

/// The end follows the last answer within so long.
pub const WITHIN: Time = SECOND;

/// A client that ended its direction.
#[derive(Clone, Copy, Debug)]
pub struct Half {
    pub router: usize,
    /// Its connection.
    pub stream: u32,
    /// When its last request was sent.
    pub sent_at: Time,
    /// When the last answer was whole; None: some did not come.
    pub answered_at: Option<Time>,
    /// When the end came, or it was no longer waited for.
    pub ended_at: Time,
}

/// A client that ended its direction has come to the end. `calm`: since when faults are healed and
/// the final state is served. Whether that was in the calm.
pub fn ended(half: &Half, calm: Option<Time>, net: &mut Network) -> bool {
    if calm.is_none_or(|since| half.sent_at < since + SETTLED) {
        return false;
    }
    let wrong = match half.answered_at {
        None => "did not get all answers".to_string(),
        Some(at) if half.ended_at > at + WITHIN => {
            format!("was kept for {} ms", (half.ended_at - at) / MS)
        }
        Some(_) => return true,
    };
    let text = format!("router {}: stream {} ended, and {wrong}", half.router, half.stream);
    net.trace.violated(net.now, "D16", text);
    true
}
