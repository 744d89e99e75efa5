//! The Kubernetes client as state machines: list and watch, status writes, a Lease's epoch.
//!
//! In: bytes of the API server, parsed documents, tokens, time. Out: requests, whole bounded lines
//! to parse, events. A driver (`shell::kube`, or the simulator) owns sockets, TLS and the JSON
//! parser; the machines own every rule of `shared/kube-client.md`.
//!
//! ```text
//! request -> socket -> response -> lines | list_items -> (parse) -> watch -> events
//! ```
//!
//! Architecture invariant: nothing here knows a typed object: an object is a document's value.

pub mod backoff;
pub mod config;
pub mod exchange;
pub mod kind;
pub mod lease;
pub mod lines;
pub mod list_items;
pub mod request;
pub mod response;
pub mod scan;
pub mod status_patch;
pub mod watch;

use crate::limits::KUBE_RESOURCE_VERSION_BYTES;
use crate::stdx::Inline;

/// `metadata.resourceVersion`: opaque, stored and sent back, compared for equality only.
pub type ResourceVersion = Inline<{ KUBE_RESOURCE_VERSION_BYTES as usize }>;

/// Why an attempt failed; what the operator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection could not be made (refused, unreachable, name not found).
    Unreachable,
    /// No connection, TLS included, within KUBE_CONNECT_TIMEOUT_MS.
    ConnectTimeout,
    /// The TLS handshake failed: the certificate was not accepted, by us or by the server.
    Tls,
    /// The connection ended before the answer did.
    Closed,
    /// No answer within KUBE_ANSWER_TIMEOUT_MS.
    AnswerTimeout,
    /// An HTTP status that is no success.
    Status(u16),
    /// Not HTTP, or not the body that was asked for.
    BadAnswer,
    /// A watch that ended at once and told nothing.
    ShortWatch,
    /// The request does not fit KUBE_REQUEST_BYTES.
    RequestTooLarge,
    /// The answer does not fit MAX_LINE_SIZE_BYTES.
    AnswerTooLarge,
}

impl Trouble {
    /// Whether nobody answered (retry soon), as opposed to an answer that is an error (retry late).
    pub fn is_silence(self) -> bool {
        matches!(
            self,
            Trouble::Unreachable
                | Trouble::ConnectTimeout
                | Trouble::Closed
                | Trouble::AnswerTimeout
        )
    }

    /// As one number, for records between threads: class in the high half, status in the low.
    pub fn to_u32(self) -> u32 {
        match self {
            Trouble::Unreachable => 0,
            Trouble::ConnectTimeout => 1 << 16,
            Trouble::Tls => 2 << 16,
            Trouble::Closed => 3 << 16,
            Trouble::AnswerTimeout => 4 << 16,
            Trouble::Status(status) => 5 << 16 | u32::from(status),
            Trouble::BadAnswer => 6 << 16,
            Trouble::ShortWatch => 7 << 16,
            Trouble::RequestTooLarge => 8 << 16,
            Trouble::AnswerTooLarge => 9 << 16,
        }
    }

    /// Back from [`Trouble::to_u32`].
    pub fn from_u32(value: u32) -> Trouble {
        match value >> 16 {
            0 => Trouble::Unreachable,
            1 => Trouble::ConnectTimeout,
            2 => Trouble::Tls,
            3 => Trouble::Closed,
            4 => Trouble::AnswerTimeout,
            5 => Trouble::Status(value as u16),
            6 => Trouble::BadAnswer,
            7 => Trouble::ShortWatch,
            8 => Trouble::RequestTooLarge,
            _ => Trouble::AnswerTooLarge,
        }
    }
}

impl core::fmt::Display for Trouble {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = match self {
            Trouble::Unreachable => "the API server cannot be reached",
            Trouble::ConnectTimeout => "no connection in time",
            Trouble::Tls => "TLS failed",
            Trouble::Closed => "the connection ended early",
            Trouble::AnswerTimeout => "no answer in time",
            Trouble::Status(status) => return write!(f, "the API server answered {status}"),
            Trouble::BadAnswer => "the answer is not what the API promises",
            Trouble::ShortWatch => "the watch ended at once",
            Trouble::RequestTooLarge => "the request is too large",
            Trouble::AnswerTooLarge => "the answer is too large",
        };
        f.write_str(text)
    }
}
