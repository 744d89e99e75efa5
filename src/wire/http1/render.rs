//! Heads written anew: what crosses a proxy is what its own writer wrote.
//!
//! In: a parsed head and what this router adds. Out: bytes for the other side, or None when they do
//! not fit the room given.

use super::field::Field;
use super::{Framing, RequestHead, ResponseHead};

/// What the router says about the client (the X-Forwarded fields).
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// The client's address as text.
    pub client: &'a [u8],
    /// `http`.
    pub proto: &'a [u8],
    /// The listener's port.
    pub port: u16,
}

/// How a response's body goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// There is none; a length may describe the one that a GET would get.
    None(Option<u64>),
    /// Exactly so many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Until we close: for HTTP/1.0 clients.
    UntilClose,
}

/// Writes into a slice; remembers when something did not fit.
struct Out<'a> {
    bytes: &'a mut [u8],
    len: usize,
    full: bool,
}

impl<'a> Out<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Out { bytes, len: 0, full: false }
    }

    #[inline]
    fn put(&mut self, part: &[u8]) {
        match self.bytes.get_mut(self.len..self.len + part.len()) {
            Some(place) => {
                place.copy_from_slice(part);
                self.len += part.len();
            }
            None => self.full = true,
        }
    }

    fn decimal(&mut self, mut value: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    fn fields(&mut self, fields: &[Field<'_>], omit: u128) {
        for (index, field) in fields.iter().enumerate() {
            if omit >> index & 1 == 0 {
                self.put(field.name.as_bytes());
                self.put(b": ");
                self.put(field.value);
                self.put(b"\r\n");
            }
        }
    }

    fn finish(mut self) -> Option<usize> {
        self.put(b"\r\n");
        if self.full { None } else { Some(self.len) }
    }
}

/// Writes the head of a request to an upstream; its length.
pub fn request(
    head: &RequestHead<'_, '_>,
    forwarded: &Forwarded<'_>,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out::new(out);
    out.put(head.method.as_bytes());
    out.put(b" ");
    out.put(head.path);
    if let Some(query) = head.query {
        out.put(b"?");
        out.put(query);
    }
    out.put(b" HTTP/1.1\r\nHost: ");
    out.put(head.authority);
    out.put(b"\r\n");
    out.fields(head.fields, head.stripped | head.own);
    match head.framing {
        Framing::None => {}
        Framing::Length(length) => {
            out.put(b"Content-Length: ");
            out.decimal(length);
            out.put(b"\r\n");
        }
        Framing::Chunked => out.put(b"Transfer-Encoding: chunked\r\n"),
        Framing::UntilClose => unreachable!("a request never ends with its connection"),
    }
    out.put(b"X-Forwarded-For: ");
    out.put(forwarded.client);
    out.put(b"\r\nX-Forwarded-Proto: ");
    out.put(forwarded.proto);
    out.put(b"\r\nX-Forwarded-Host: ");
    out.put(head.authority);
    out.put(b"\r\nX-Forwarded-Port: ");
    out.decimal(u64::from(forwarded.port));
    out.put(b"\r\n");
    out.finish()
}

/// Writes the head of a response to a client; its length.
pub fn response(
    head: &ResponseHead<'_, '_>,
    delivery: Delivery,
    close: bool,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out::new(out);
    // 100 to 999, as the parser made sure.
    let digit = |n: u16| b'0' + (n % 10) as u8;
    let [a, b, c] = [digit(head.status / 100), digit(head.status / 10), digit(head.status)];
    out.put(&[b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', a, b, c, b' ']);
    out.put(head.reason);
    out.put(b"\r\n");
    out.fields(head.fields, head.stripped | head.own);
    match delivery {
        Delivery::None(None) | Delivery::UntilClose => {}
        Delivery::None(Some(length)) | Delivery::Length(length) => {
            out.put(b"Content-Length: ");
            out.decimal(length);
            out.put(b"\r\n");
        }
        Delivery::Chunked => out.put(b"Transfer-Encoding: chunked\r\n"),
    }
    if close {
        out.put(b"Connection: close\r\n");
    }
    out.finish()
}

/// Writes an answer of the router's own, whole; its length. `with_body` is false for HEAD, whose
/// answer still describes the body.
pub fn answer(
    status: u16,
    reason: &str,
    close: bool,
    with_body: bool,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out::new(out);
    out.put(b"HTTP/1.1 ");
    out.decimal(u64::from(status));
    out.put(b" ");
    out.put(reason.as_bytes());
    out.put(b"\r\nContent-Type: text/plain\r\nContent-Length: ");
    // "404 Not Found\n"
    out.decimal(reason.len() as u64 + 5);
    out.put(b"\r\n");
    if close {
        out.put(b"Connection: close\r\n");
    }
    out.put(b"\r\n");
    if with_body {
        out.decimal(u64::from(status));
        out.put(b" ");
        out.put(reason.as_bytes());
        out.put(b"\n");
    }
    if out.full { None } else { Some(out.len) }
}

/// The most bytes that [`request`] adds to a head besides a second copy of the authority: the four
/// X-Forwarded fields with address and port, Host and framing rewritten, and one blank per field.
pub const REQUEST_GROWTH_BYTES: usize = 256;
