//! HTTPRoute timeouts: what a rule says (GEP-1742, spelled as GEP-2257 wants it), and by when a
//! router gives up.
//!
//! In: a rule's two durations. Out: their JSON; the time that each phase of a request has.

use serval::limits::{IDLE_TIMEOUT_MS, REQUEST_TIMEOUT_MS};

/// HTTPRouteTimeouts, in ms: absent, 0 (there is none), or so long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From a request to the whole answer.
    pub request: Option<u32>,
    /// From what a backend gets to its answer.
    pub backend: Option<u32>,
}

/// No byte moves in a body for so long, and it is given up (docs/LIMITS.md).
pub const REST_MS: u32 = IDLE_TIMEOUT_MS;
/// What is not limited at all.
pub const NEVER_MS: u32 = u32::MAX;

/// A duration with hours, minutes, seconds and milliseconds, each where it is not 0.
fn spelled(ms: u32) -> String {
    let parts =
        [(ms / 3_600_000, "h"), (ms / 60_000 % 60, "m"), (ms / 1000 % 60, "s"), (ms % 1000, "ms")];
    let text: String = parts.iter().filter(|p| p.0 > 0).map(|(n, u)| format!("{n}{u}")).collect();
    if text.is_empty() { "0s".to_string() } else { text }
}

/// Absent and 0 are no limit.
fn limit(own: Option<u32>) -> u32 {
    own.filter(|&ms| ms > 0).unwrap_or(NEVER_MS)
}

impl Timeouts {
    /// The member of a rule, with a comma before it; nothing when it says nothing.
    pub fn json(&self) -> String {
        let both = [("request", self.request), ("backendRequest", self.backend)];
        let said = both.into_iter().filter_map(|(name, ms)| Some((name, ms?)));
        let said: Vec<String> =
            said.map(|(name, ms)| format!(r#""{name}":"{}""#, spelled(ms))).collect();
        match said.is_empty() {
            true => String::new(),
            false => format!(r#","timeouts":{{{}}}"#, said.join(",")),
        }
    }

    /// The whole of it may take so long.
    pub fn whole_ms(&self) -> u32 {
        limit(self.request)
    }

    /// A backend that has the whole request begins to answer within so long. A router's own limit
    /// is for rules that say nothing.
    pub fn think_ms(&self) -> u32 {
        let own = match (self.request, self.backend) {
            (None, None) => REQUEST_TIMEOUT_MS,
            (_, backend) => limit(backend),
        };
        own.min(self.whole_ms())
    }

    /// A body that rests, of the request or of the answer, is given up within so long.
    pub fn rest_ms(&self) -> u32 {
        REST_MS.min(self.whole_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_durations_are_spelled() {
        for (ms, text) in
            [(0, "0s"), (900, "900ms"), (12_000, "12s"), (61_500, "1m1s500ms"), (3_600_000, "1h")]
        {
            assert_eq!(spelled(ms), text);
        }
    }

    #[test]
    fn who_gives_up_when() {
        let of = |request, backend| {
            let timeouts = Timeouts { request, backend };
            (timeouts.think_ms(), timeouts.rest_ms())
        };
        assert_eq!(of(None, None), (REQUEST_TIMEOUT_MS, REST_MS));
        assert_eq!(of(Some(0), None), (NEVER_MS, REST_MS));
        assert_eq!(of(Some(12_000), None), (12_000, REST_MS));
        assert_eq!(of(Some(3000), Some(0)), (3000, 3000));
        assert_eq!(of(None, Some(12_000)), (12_000, REST_MS));
        assert_eq!(of(Some(12_000), Some(3000)), (3000, REST_MS));
    }
}
