//! L5: a watch that lost its connection is tried again within the cap of its backoff, and is there
//! so long after the API server is healthy: 2 s when nobody answered, 30 s behind an error, 10 s
//! when it had no such kind (limits.toml, BACKOFF_SILENT_MAX_MS, BACKOFF_ERROR_MAX_MS,
//! KUBE_ABSENT_POLL_MS). A version that is too old is no error: whatever was before, the relist
//! comes soon, but for those that follow each other.

use crate::model::object::Kind;
use crate::network::{MS, Network, SECOND, Time};
use serval::kube::Trouble;

const SILENT: Time = 2 * SECOND;
const ERROR: Time = 30 * SECOND;
/// The first relist behind a version that is too old; doubles.
const RELIST: Time = 800 * MS;
/// A kind that is not served is looked for so often (KUBE_ABSENT_POLL_MS).
const ABSENT: Time = 10 * SECOND;
/// A connection and its request need so long.
const WAY: Time = 4 * SECOND;
/// A connection that nobody has at the other end ends so late, or one from before all was healed
/// that brings a list byte by byte.
const NOTICED: Time = 40 * SECOND;

/// The CRD of ReferenceGrants may be away, which is no failure.
fn least(kind: Kind) -> Time {
    if kind == Kind::Grant { ABSENT } else { SILENT }
}

/// One watch of a controller.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When the API server had it last, or it began.
    at: Time,
    /// When it had a connection last, as far as it knew.
    held: Time,
    /// How long its next attempt may be away.
    cap: Time,
    /// When it was told first that its version is too old, which takes another attempt.
    expired: Option<Time>,
    /// How often it was told so since the last bookmark.
    in_a_row: u32,
}

impl Seen {
    /// It begins.
    pub fn new(kind: Kind, now: Time) -> Seen {
        Seen { at: now, held: now, cap: least(kind), expired: None, in_a_row: 0 }
    }

    /// The watch is well.
    pub fn bookmark(&mut self) {
        self.in_a_row = 0;
    }

    /// An attempt failed; the next one is due then.
    pub fn failed(&mut self, kind: Kind, trouble: Trouble, wait_ms: u64, net: &mut Network) {
        let is_silence = matches!(
            trouble,
            Trouble::Unreachable
                | Trouble::ConnectTimeout
                | Trouble::Closed
                | Trouble::AnswerTimeout
        );
        let mut cap = if is_silence { least(kind) } else { ERROR };
        if matches!(trouble, Trouble::Status(410)) {
            self.expired.get_or_insert(net.now);
            cap = ERROR.min(RELIST << self.in_a_row.min(10));
            self.in_a_row += 1;
        }
        // The list that follows may find nobody, or that there is no such kind.
        self.cap = cap.max(least(kind));
        if wait_ms * MS > cap {
            let text = format!("the watch of {kind:?} waits for {wait_ms} ms behind {trouble:?}");
            net.trace.violated(net.now, "L5", text);
        }
    }

    /// Whether the API server has it, which is healthy since then.
    pub fn look(
        &mut self,
        what: &str,
        (is_there, is_connected): (bool, bool),
        healthy: Time,
        net: &mut Network,
    ) {
        if is_there || is_connected {
            self.held = net.now;
        }
        if is_there {
            self.expired = None;
            return self.at = net.now;
        }
        // What was before all was well does not count.
        self.expired = self.expired.filter(|&at| at >= healthy);
        let since = self.at.max(healthy);
        let within = self.cap + WAY;
        let held = self.held.max(healthy).max(self.expired.unwrap_or(0));
        if net.now > (since + NOTICED).min(held) + within {
            let seconds = (net.now - since) as f64 / 1e9;
            let text = format!("{what} is not watched, {seconds} s after it could be");
            net.trace.violated(net.now, "L5", text);
        }
    }
}
