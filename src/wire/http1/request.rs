//! Request heads: httparse, then the strict grammar.
//!
//! In: the first bytes of a request in their buffer. Out: a [`RequestHead`] that borrows from it,
//! None when bytes are missing, or a [`Refusal`] with the status that tells the client why.

use super::field::{self, Direction, Field, FieldError};
use super::{FieldSpace, Framing};
use crate::limits::{MAX_HEAD_BYTES, MAX_URI_BYTES};
use crate::wire::url::{self, UrlError};

/// Why a request is refused before it is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not HTTP/1.
    Syntax,
    /// Its fields cannot be read in one way only.
    Field(FieldError),
    /// Its target or Host is malformed.
    Url(UrlError),
    /// No Host, or one that differs from the authority of the absolute form (RFC 9112 section 3.2).
    Host,
    /// Transfer-Encoding in HTTP/1.0.
    OldCoding,
    /// The target is longer than [`MAX_URI_BYTES`].
    UriTooLong,
    /// The head is longer than [`MAX_HEAD_BYTES`] or has too many fields.
    HeadTooLarge,
    /// Expect holds something other than `100-continue`.
    Expectation,
    /// CONNECT: there is no tunnel here.
    Connect,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
}

impl Refusal {
    /// The status code to answer with (RFC 9110 section 15).
    pub fn status(self) -> u16 {
        match self {
            Refusal::UriTooLong => 414,
            Refusal::Expectation => 417,
            Refusal::HeadTooLarge => 431,
            Refusal::Connect => 501,
            Refusal::Version => 505,
            _ => 400,
        }
    }
}

/// A request's head. Everything borrows from the buffer it was parsed in, or from the scratch that
/// the canonical path was written to.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'b, 'h> {
    /// As written; case matters (RFC 9110 section 9.1).
    pub method: &'b str,
    /// The canonical path ([`crate::wire::url`]): matched and forwarded; `*` for the asterisk form.
    pub path: &'b [u8],
    /// After the `?`, as written; None when there is no `?`.
    pub query: Option<&'b [u8]>,
    /// The effective authority, as written, with its port.
    pub authority: &'b [u8],
    /// The authority's host: no port, no final dot, case as written.
    pub host: &'b [u8],
    /// All fields, in order.
    pub fields: &'h [Field<'b>],
    /// Bits of fields that neither cross nor match.
    pub stripped: u128,
    /// Bits of fields that the renderer writes itself.
    pub own: u128,
    /// Of the body.
    pub framing: Framing,
    /// The client's connection ends with this exchange: HTTP/1.0 or Connection: close.
    pub close: bool,
    /// HTTP/1.1, so that interim responses and chunks may be sent.
    pub is_11: bool,
    /// The client waits for 100 (Continue) before it sends the body.
    pub expect_continue: bool,
    /// It asks for WebSocket in place of HTTP (RFC 6455 section 4.1): the only upgrade that is
    /// forwarded.
    pub websocket: bool,
    /// Bytes of the head, with its final empty line and empty lines before it.
    pub len: usize,
}

impl<'b, 'h> RequestHead<'b, 'h> {
    /// Parses. `scratch` takes the canonical path when it differs from what was sent; it must hold
    /// [`MAX_URI_BYTES`].
    pub fn parse(
        bytes: &'b [u8],
        space: &'h mut FieldSpace<'b>,
        scratch: &'b mut [u8],
    ) -> Result<Option<Self>, Refusal> {
        let skipped = skip_empty_lines(bytes)?;
        let text = &bytes[skipped..];
        let mut raw = httparse::Request::new(&mut []);
        let len = match raw.parse_with_uninit_headers(text, space) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return overlong(bytes).map_or(Ok(None), Err),
            Err(error) => return Err(syntax(error)),
        };
        let (method, target) = (raw.method.unwrap_or(""), raw.path.unwrap_or("").as_bytes());
        let is_11 = raw.version == Some(1);
        let fields: &'h [Field<'b>] = raw.headers;
        if target.len() > MAX_URI_BYTES as usize {
            return Err(Refusal::UriTooLong);
        }
        if skipped + len > MAX_HEAD_BYTES as usize {
            return Err(Refusal::HeadTooLarge);
        }
        let line_end = method.len() + 1 + target.len() + 1 + "HTTP/1.1".len();
        let scan =
            field::scan(text, line_end, len, fields, Direction::Request).map_err(Refusal::Field)?;
        if method == "CONNECT" {
            return Err(Refusal::Connect);
        }
        if scan.chunked && !is_11 {
            return Err(Refusal::OldCoding);
        }
        let target = url::split_target(target).map_err(Refusal::Url)?;
        let authority = effective_authority(target.authority, scan.host)?;
        let path = match target.path {
            b"*" => target.path,
            path => url::canonical_path(path, scratch).map_err(Refusal::Url)?,
        };
        let framing = match scan.content_length {
            _ if scan.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        };
        let may_upgrade = is_11 && method == "GET" && framing == Framing::None;
        let expect_continue = is_11 && expects_continue(scan.expect)?;
        Ok(Some(RequestHead {
            method,
            path,
            query: target.query,
            authority,
            host: url::host_of(authority).map_err(Refusal::Url)?,
            fields,
            // RFC 9110 section 10.1.1: 100-continue from an HTTP/1.0 client is ignored.
            stripped: if is_11 { scan.stripped } else { scan.stripped | scan.expect_bit },
            own: scan.own,
            framing,
            close: scan.close || !is_11,
            is_11,
            expect_continue,
            websocket: may_upgrade && scan.upgrade && scan.websocket,
            len: skipped + len,
        }))
    }

    /// Whether the method promises to be idempotent (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
    }

    /// Whether all values of a field, joined, equal a route's header match.
    pub fn field_equals(&self, name: &[u8], value: &[u8]) -> bool {
        field::joined_equals(self.fields, self.stripped, name, value)
    }
}

/// RFC 9112 section 2.2: empty lines before a request line are ignored; bare LF are not.
fn skip_empty_lines(bytes: &[u8]) -> Result<usize, Refusal> {
    let mut at = 0;
    while matches!(bytes.get(at), Some(b'\r' | b'\n')) {
        match bytes.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            None if bytes[at] == b'\r' => return Ok(at),
            _ => return Err(Refusal::Syntax),
        }
    }
    Ok(at)
}

fn syntax(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version => Refusal::Version,
        _ => Refusal::Syntax,
    }
}

/// A request line that has not ended here is too long: the target and, around it, room for a
/// method, a version and empty lines.
pub const TARGET_END: usize = MAX_URI_BYTES as usize + 64;

/// A head that is not whole yet and already too long, if it is.
fn overlong(bytes: &[u8]) -> Option<Refusal> {
    if bytes.len() > TARGET_END && !bytes[..TARGET_END].contains(&b'\n') {
        return Some(Refusal::UriTooLong);
    }
    if bytes.len() > MAX_HEAD_BYTES as usize { Some(Refusal::HeadTooLarge) } else { None }
}

/// One authority: Host must be there, and equal to the absolute form's (RFC 9112 section 3.2.2).
fn effective_authority<'b>(
    absolute: Option<&'b [u8]>,
    host: Option<&'b [u8]>,
) -> Result<&'b [u8], Refusal> {
    let host = host.ok_or(Refusal::Host)?;
    match absolute {
        Some(authority) if !authority.eq_ignore_ascii_case(host) => Err(Refusal::Host),
        _ => Ok(host),
    }
}

fn expects_continue(expect: Option<&[u8]>) -> Result<bool, Refusal> {
    match expect {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Refusal::Expectation),
    }
}
