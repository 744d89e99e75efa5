//! The controller's side of a router's admin port, as a machine: asks for the report, pushes a
//! Snapshot. One request a connection; who is asked when, and again after a failure, is
//! [`super::fleet`]'s.
//!
//! In: socket events and bytes from a driver. Out: bytes, and the answer's status and body.

use super::codec::Encoder;
use super::{Identity, Snapshot};
use crate::limits::*;
use crate::stdx::text::Truncating;
use crate::stdx::{Duration, Instant, Now, Short};
use crate::wire::http1::{self, Asked, Decoder, Framing, ResponseHead};
use core::fmt::Write as _;
use core::net::SocketAddr;

/// Bytes for the head of a request: line, Host, a token of 512 bytes.
pub const HEAD_BYTES: usize = 1024;

/// A client that pushes.
pub type Pusher = Client<{ MAX_RECORD_SIZE_BYTES as usize }>;
/// A client that asks for reports.
pub type Reporter = Client<HEAD_BYTES>;

/// What a connection is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// `GET /status`.
    #[default]
    Report,
    /// `POST /routes/update`.
    Push,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Connecting,
    /// The request's head or body is being sent; an early answer ends it.
    Sending,
    Receiving,
}

/// What the answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it answers.
    pub ask: Ask,
    /// What was pushed.
    pub identity: Identity,
    /// HTTP status.
    pub status: u16,
}

/// Talks to one router at a time, with `OUTPUT` bytes for what it sends: a record of a Snapshot, or
/// [`HEAD_BYTES`] for one that only asks. Tens to hundreds of kilobytes: built in place.
#[derive(Debug)]
pub struct Client<const OUTPUT: usize> {
    address: Short<64>,
    phase: Phase,
    ask: Ask,
    encoder: Encoder,
    identity: Identity,
    output: [u8; OUTPUT],
    output_at: usize,
    output_len: usize,
    ended: bool,
    input: [u8; MAX_REPORT_SIZE_BYTES as usize],
    input_len: usize,
    /// The body of the last answer: range of `input`.
    body: [usize; 2],
    deadline: Instant,
}

impl<const OUTPUT: usize> Client<OUTPUT> {
    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether the connection is still to be made: [`Self::connected`] comes next.
    pub fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    /// When the running request has failed; NEVER when there is none.
    pub fn timeout(&self) -> Instant {
        if self.is_idle() { Instant::NEVER } else { self.deadline }
    }

    /// Begins to talk to a router: the driver connects.
    pub fn begin(&mut self, ask: Ask, address: SocketAddr, now: Now) {
        assert!(self.is_idle());
        assert!(ask == Ask::Report || OUTPUT == MAX_RECORD_SIZE_BYTES as usize);
        self.address = Short::truncated(format_args!("{address}"));
        (self.phase, self.ask) = (Phase::Connecting, ask);
        (self.output_at, self.output_len, self.ended) = (0, 0, false);
        (self.input_len, self.body) = (0, [0, 0]);
        self.deadline = now.mono + Duration::from_millis(u64::from(KUBE_CONNECT_TIMEOUT_MS));
    }

    /// The connection is there: writes the request's head. `published`: what to push.
    pub fn connected(&mut self, published: Option<&Snapshot>, token: &str, now: Now) {
        assert!(self.phase == Phase::Connecting);
        self.phase = Phase::Sending;
        self.deadline = now.mono + Duration::from_millis(u64::from(ADMIN_TIMEOUT_MS));
        self.encoder = Encoder::new();
        self.identity = published.map_or(Identity::default(), |p| p.identity);
        let mut out = Truncating::new(&mut self.output);
        let line = match self.ask {
            Ask::Report => "GET /status HTTP/1.1",
            Ask::Push => "POST /routes/update HTTP/1.1",
        };
        let host = self.address;
        // Truncating never fails, and the buffer is larger than any head.
        let _ = write!(out, "{line}\r\nHost: {host}\r\nConnection: close\r\n");
        if !token.is_empty() {
            let _ = write!(out, "Authorization: Bearer {token}\r\n");
        }
        if self.ask == Ask::Push {
            let _ =
                write!(out, "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n");
        }
        let _ = write!(out, "\r\n");
        self.output_len = out.finish().len();
        self.ended = self.ask == Ask::Report;
    }

    /// Bytes to send; fills from the published Snapshot. None: it is another one by now, and the
    /// driver must give the connection up ([`Client::failed`]).
    pub fn output(&mut self, published: Option<&Snapshot>) -> Option<&[u8]> {
        const HEAD: usize = 16;
        while self.output_at == self.output_len && !self.ended && self.phase == Phase::Sending {
            let snapshot = published.filter(|p| p.identity == self.identity)?;
            let room = self.output.len() - 2;
            match self.encoder.next_line(snapshot, &mut self.output[HEAD..room]) {
                None => {
                    self.output[..5].copy_from_slice(b"0\r\n\r\n");
                    (self.output_at, self.output_len, self.ended) = (0, 5, true);
                }
                Some(Err(_)) => return None,
                Some(Ok(line)) => {
                    let len = line.len();
                    let mut head = [0u8; HEAD];
                    let mut out = Truncating::new(&mut head);
                    let _ = write!(out, "{len:x}\r\n");
                    let head_len = out.finish().len();
                    self.output[HEAD - head_len..HEAD].copy_from_slice(&head[..head_len]);
                    self.output[HEAD + len..HEAD + len + 2].copy_from_slice(b"\r\n");
                    (self.output_at, self.output_len) = (HEAD - head_len, HEAD + len + 2);
                }
            }
        }
        Some(&self.output[self.output_at..self.output_len])
    }

    /// So many bytes are out.
    pub fn sent(&mut self, bytes: usize, now: Now) {
        self.output_at += bytes;
        assert!(self.output_at <= self.output_len);
        self.deadline = now.mono + Duration::from_millis(u64::from(ADMIN_TIMEOUT_MS));
        if self.ended && self.output_at == self.output_len {
            self.phase = Phase::Receiving;
        }
    }

    /// Room for bytes from the socket; empty when the answer is larger than a report may be.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.input[self.input_len..]
    }

    /// So many bytes came (0: the end). The answer, when it is whole; then the connection is done.
    pub fn received(&mut self, bytes: usize) -> Option<Answer> {
        self.input_len += bytes;
        let ended = bytes == 0;
        let mut space = http1::field_space();
        let (head_len, status, framing) = {
            let head =
                ResponseHead::parse(&self.input[..self.input_len], &mut space, Asked::default());
            let head = head.ok()??;
            (head.len, head.status, head.framing)
        };
        let mut decoder = Decoder::new(framing);
        let decoded = decoder.decode(&mut self.input[head_len..self.input_len]).ok()?;
        let whole = decoder.is_done() || (ended && framing == Framing::UntilClose);
        if !whole {
            assert!(framing != Framing::Chunked || decoded.len == 0, "we answer with a length");
            return None;
        }
        let start = head_len + decoded.start;
        self.body = [start, start + decoded.len];
        self.phase = Phase::Idle;
        Some(Answer { ask: self.ask, identity: self.identity, status })
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.input[self.body[0]..self.body[1]]
    }

    /// The connection failed, or its deadline passed.
    pub fn failed(&mut self) {
        self.phase = Phase::Idle;
    }

    /// Whether the deadline of the running request passed.
    pub fn is_late(&self, now: Now) -> bool {
        !self.is_idle() && now.mono >= self.deadline
    }
}

crate::zeroed_enum!(Ask { Report });
crate::zeroed_enum!(Phase { Idle });
crate::zeroed_struct!(Client<OUTPUT> {
    address: Short<64>,
    phase: Phase,
    ask: Ask,
    encoder: Encoder,
    identity: Identity,
    output: [u8; OUTPUT],
    output_at: usize,
    output_len: usize,
    ended: bool,
    input: [u8; MAX_REPORT_SIZE_BYTES as usize],
    input_len: usize,
    body: [usize; 2],
    deadline: Instant,
});
