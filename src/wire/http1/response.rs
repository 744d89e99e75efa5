//! Response heads: httparse, then the strict grammar.
//!
//! In: the first bytes an upstream sent. Out: a [`ResponseHead`] that borrows from them, None when
//! bytes are missing, or why it cannot be forwarded (then the client gets 502).

use super::field::{self, Direction, Field, FieldError};
use super::{FieldSpace, Framing};
use crate::limits::MAX_HEAD_BYTES;

/// Why a response cannot be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// It is not HTTP/1.
    Syntax,
    /// Its fields cannot be read in one way only.
    Field(FieldError),
    /// Transfer-Encoding in HTTP/1.0.
    OldCoding,
    /// The head is longer than [`MAX_HEAD_BYTES`] or has too many fields.
    HeadTooLarge,
    /// 101 (Switching Protocols) that nobody asked for, or to something other than WebSocket.
    Upgrade,
}

/// What the request was that a response answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Its method was HEAD.
    pub head: bool,
    /// It asked for WebSocket.
    pub websocket: bool,
}

/// A response's head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'b, 'h> {
    /// 100 to 999.
    pub status: u16,
    /// May be empty.
    pub reason: &'b [u8],
    /// All fields, in order.
    pub fields: &'h [Field<'b>],
    /// Bits of fields that do not cross.
    pub stripped: u128,
    /// Bits of fields that the renderer writes itself.
    pub own: u128,
    /// Of the body, for the request that was sent (RFC 9112 section 6.3).
    pub framing: Framing,
    /// Content-Length of a response without a body (to HEAD, or 304), which describes another one.
    pub described_length: Option<u64>,
    /// 101 to WebSocket: what follows is not HTTP, and goes on until the connection ends.
    pub switches: bool,
    /// The upstream keeps the connection after this response.
    pub persistent: bool,
    /// Bytes of the head, with its final empty line.
    pub len: usize,
}

impl<'b, 'h> ResponseHead<'b, 'h> {
    /// Parses the response to such a request.
    pub fn parse(
        bytes: &'b [u8],
        space: &'h mut FieldSpace<'b>,
        asked: Asked,
    ) -> Result<Option<Self>, ResponseError> {
        if matches!(bytes.first(), Some(b'\r' | b'\n')) {
            return Err(ResponseError::Syntax);
        }
        let mut raw = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut raw, bytes, space);
        let len = match parsed {
            Ok(httparse::Status::Complete(len)) if len > MAX_HEAD_BYTES as usize => {
                return Err(ResponseError::HeadTooLarge);
            }
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD_BYTES as usize => {
                return Err(ResponseError::HeadTooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::HeadTooLarge),
            Err(_) => return Err(ResponseError::Syntax),
        };
        let status = raw.code.unwrap_or(0);
        let is_11 = raw.version == Some(1);
        let fields: &'h [Field<'b>] = raw.headers;
        let line_end = bytes.iter().position(|&b| b == b'\n').unwrap_or(0).saturating_sub(1);
        let scan = field::scan(bytes, line_end, len, fields, Direction::Response)
            .map_err(ResponseError::Field)?;
        if status < 100 {
            return Err(ResponseError::Syntax);
        }
        let switches = status == 101;
        let framed = scan.chunked || scan.content_length.is_some();
        if switches && (framed || !(asked.websocket && scan.upgrade && scan.websocket && is_11)) {
            return Err(ResponseError::Upgrade);
        }
        if scan.chunked && !is_11 {
            return Err(ResponseError::OldCoding);
        }
        let bodiless = asked.head || status < 200 || status == 204 || status == 304;
        let framing = match scan.content_length {
            _ if switches => Framing::UntilClose,
            _ if bodiless => Framing::None,
            _ if scan.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        };
        // 1xx and 204 describe nothing (RFC 9110 section 8.6).
        let describes = bodiless && status >= 200 && status != 204;
        Ok(Some(ResponseHead {
            status,
            reason: bytes[..line_end].get("HTTP/1.1 200 ".len()..).unwrap_or(b""),
            fields,
            stripped: scan.stripped,
            own: scan.own,
            framing,
            described_length: if describes { scan.content_length } else { None },
            switches,
            persistent: is_11 && !scan.close && framing != Framing::UntilClose,
            len,
        }))
    }

    /// Whether a final response is still to come (RFC 9110 section 15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200 && !self.switches
    }
}
