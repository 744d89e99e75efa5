//! What a worker counts: plain numbers that only it writes.
//!
//! In: one addition where a thing happens. Out: a copy per turn into atomics that the admin thread
//! reads (`shell::net::status`): no lock, no shared cache line on the way of a request.

/// One number per thing counted; all but `connections` only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Final responses by the hundreds of their status: 1xx never counts, 6xx and above as 5xx.
    pub responses: [u64; 6],
    /// Requests whose head was understood and routed, or refused.
    pub requests: u64,
    /// Of [`Counters::responses`]: answers of the router's own.
    pub answers: u64,
    /// Client connections accepted.
    pub accepted: u64,
    /// TLS handshakes that went through.
    pub handshakes: u64,
    /// Client connections now.
    pub clients: u64,
    /// Upstream connections now.
    pub upstreams: u64,
    /// Connects to endpoints begun.
    pub connects: u64,
    /// Connects to endpoints that failed or timed out.
    pub connects_failed: u64,
    /// Requests sent over a connection that had served another.
    pub reuses: u64,
    /// Requests sent a second time, after a reused connection closed unanswered.
    pub replays: u64,
    /// Exchanges cut after the response's head: what the client got is not complete, and shows it.
    pub truncated: u64,
    /// Timeouts of any kind.
    pub timeouts: u64,
    /// Connections closed because buffers ran out and they made no progress.
    pub evictions: u64,
    /// Clients closed between requests, or in a handshake that did not end, to make room.
    pub idle_evictions: u64,
    /// Moments at which no connection slot, exchange or buffer was left.
    pub exhausted: u64,
    /// Requests answered 503 because MAX_RESPONSE_EDITS lists of response edits were in use.
    pub edits_exhausted: u64,
    /// Connections that went over to WebSocket.
    pub tunnels: u64,
    /// Configurations adopted.
    pub swaps: u64,
    /// Payload and head bytes from clients.
    pub client_bytes_in: u64,
    /// Bytes handed to client sockets.
    pub client_bytes_out: u64,
    /// Bytes from upstreams.
    pub upstream_bytes_in: u64,
    /// Bytes handed to upstream sockets.
    pub upstream_bytes_out: u64,
}

/// Numbers in [`Counters`].
pub const COUNTERS: usize = 28;

impl Counters {
    /// Names for the metrics page, in the order of [`Counters::values`].
    pub const NAMES: [&'static str; COUNTERS] = [
        "responses_0xx",
        "responses_1xx",
        "responses_2xx",
        "responses_3xx",
        "responses_4xx",
        "responses_5xx",
        "requests",
        "answers",
        "accepted",
        "handshakes",
        "clients",
        "upstreams",
        "connects",
        "connects_failed",
        "reuses",
        "replays",
        "truncated",
        "timeouts",
        "evictions",
        "idle_evictions",
        "exhausted",
        "edits_exhausted",
        "tunnels",
        "swaps",
        "client_bytes_in",
        "client_bytes_out",
        "upstream_bytes_in",
        "upstream_bytes_out",
    ];

    /// All numbers, in the order of [`Counters::NAMES`].
    pub fn values(&self) -> [u64; COUNTERS] {
        let r = &self.responses;
        [
            r[0],
            r[1],
            r[2],
            r[3],
            r[4],
            r[5],
            self.requests,
            self.answers,
            self.accepted,
            self.handshakes,
            self.clients,
            self.upstreams,
            self.connects,
            self.connects_failed,
            self.reuses,
            self.replays,
            self.truncated,
            self.timeouts,
            self.evictions,
            self.idle_evictions,
            self.exhausted,
            self.edits_exhausted,
            self.tunnels,
            self.swaps,
            self.client_bytes_in,
            self.client_bytes_out,
            self.upstream_bytes_in,
            self.upstream_bytes_out,
        ]
    }

    /// Counts a final response.
    pub fn response(&mut self, status: u16) {
        self.responses[usize::from(status / 100).min(5)] += 1;
    }
}

crate::zeroed_struct!(Counters {
    responses: [u64; 6],
    requests: u64,
    answers: u64,
    accepted: u64,
    handshakes: u64,
    clients: u64,
    upstreams: u64,
    connects: u64,
    connects_failed: u64,
    reuses: u64,
    replays: u64,
    truncated: u64,
    timeouts: u64,
    evictions: u64,
    idle_evictions: u64,
    exhausted: u64,
    edits_exhausted: u64,
    tunnels: u64,
    swaps: u64,
    client_bytes_in: u64,
    client_bytes_out: u64,
    upstream_bytes_in: u64,
    upstream_bytes_out: u64,
});
