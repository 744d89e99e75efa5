//! HTTP/1.1 heads and bodies (RFC 9110, RFC 9112), strict in what is taken, new in what is given.
//!
//! In: a buffer with the first bytes of a message. Out: a [`RequestHead`] or [`ResponseHead`] that
//! borrows from it, the [`Framing`] of its body, and writers that serialise a head anew.
//!
//! httparse finds the fields; what it is lenient about is refused here: a line that ends in a bare
//! LF, empty lines before a response, more than one Content-Length, Transfer-Encoding or Host,
//! Content-Length together with Transfer-Encoding, any coding but exactly `chunked`, codings in
//! HTTP/1.0, lengths that are not plain digits. No head is ever copied through: a field that a
//! reader might have understood differently than we did is not there to be misread.

pub mod body;
pub mod edit;
pub mod field;
pub mod render;
pub mod request;
pub mod response;
pub mod trailer;

pub use body::{BodyError, Decoded, Decoder, Framing};
pub use edit::Edit;
pub use field::Field;
pub use request::{Refusal, RequestHead};
pub use response::{Asked, ResponseError, ResponseHead};

use crate::limits::{MAX_HEAD_BYTES, MAX_HEADER_FIELDS};
use core::mem::MaybeUninit;

/// Room for the fields of one head, on the parser's stack.
pub type FieldSpace<'b> = [MaybeUninit<Field<'b>>; MAX_HEADER_FIELDS as usize];

/// An empty [`FieldSpace`]; nothing is initialised.
pub const fn field_space<'b>() -> FieldSpace<'b> {
    [const { MaybeUninit::uninit() }; MAX_HEADER_FIELDS as usize]
}

/// Whether a head is worth parsing again: its end has come, or it has become too long. `scanned`
/// bytes were there at the last look (0: there was none). Without this a peer that drips bytes
/// would make us parse n times n.
pub fn is_worth_parsing(bytes: &[u8], scanned: usize) -> bool {
    let target_end = request::TARGET_END;
    let outgrew = |limit: usize| scanned <= limit && bytes.len() > limit;
    scanned == 0
        || outgrew(target_end)
        || outgrew(MAX_HEAD_BYTES as usize)
        || bytes[scanned.saturating_sub(3).min(bytes.len())..].windows(4).any(|w| w == b"\r\n\r\n")
}

#[cfg(test)]
#[path = "http1/hostile_tests.rs"]
mod hostile_tests;
