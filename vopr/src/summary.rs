//! What a run was, in numbers: what the totals add up and the command line prints.

use crate::faults::Injected;
use crate::marks::Marks;
use crate::trace::Violation;

/// What happened to requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// Answered by backends.
    pub proxied: u64,
    /// Of those over HTTPS.
    pub secured: u64,
    /// And with a status of 200 to 299.
    pub successes: u64,
    /// Answered 421.
    pub misdirected: u64,
    /// Redirects of the routers' own.
    pub redirected: u64,
    /// Answers whose request or response a filter edited.
    pub edited: u64,
    /// Requests that a filter gave another URL.
    pub rewritten: u64,
    /// Pairs that stayed when their Secret went bad, in statuses.
    pub pairs_kept: u64,
    /// certificateRefs that do not resolve, in statuses.
    pub ref_problems: u64,
    /// Requests and answers with trailers, tunnels, and those that ended in order.
    pub trailed: u64,
    pub tunnels: u64,
    pub tunnels_whole: u64,
    /// Requests that took their time, and clients that ended their direction, in the calm.
    pub timed: u64,
    pub halves: u64,
    /// Requests that L3 demands an answer of a backend for.
    pub owed: u64,
    /// Of SS, without a control plane.
    pub owed_alone: u64,
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub seconds: u64,
    pub requests: u64,
    pub sums: Sums,
    pub swaps: u64,
    pub crashes: u64,
    pub relists: u64,
    pub pushes: u64,
    /// Faults, by name.
    pub injected: Injected,
    /// What was met.
    pub marks: Marks,
    pub compared: u64,
    /// The final state was reached and kept.
    pub is_live: bool,
    pub hash: u64,
    /// Blind to times of day.
    pub timeless: u64,
    pub events: u64,
    /// Pieces and ends that arrived somewhere, and timers that came up.
    pub deliveries: u64,
    pub timers: u64,
    pub violations: Vec<Violation>,
}
