//! Heads written anew: what crosses a proxy is what its own writer wrote.
//!
//! In: a parsed head and what this router adds. Out: bytes for the other side, or None when they do
//! not fit the room given.

use super::edit::{Edit, brought, replaced, replaces};
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
    /// What follows is WebSocket.
    Switch,
}

/// The fields of a request for WebSocket and of the answer to it.
const SWITCH: &[u8] = b"Connection: Upgrade\r\nUpgrade: websocket\r\n";

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

    /// The fields that edits bring.
    fn edits<'e>(&mut self, edits: impl Iterator<Item = Edit<'e>> + Clone) {
        for edit in brought(edits) {
            self.put(edit.name);
            self.put(b": ");
            self.put(edit.value);
            self.put(b"\r\n");
        }
    }

    /// The fields that frame a request's body and its connection.
    #[inline(always)]
    fn request_framing(&mut self, head: &RequestHead<'_, '_>) {
        if head.websocket {
            self.put(SWITCH);
        }
        match head.framing {
            Framing::None => {}
            Framing::Length(length) => {
                self.put(b"Content-Length: ");
                self.decimal(length);
                self.put(b"\r\n");
            }
            Framing::Chunked => self.put(b"Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => unreachable!("a request never ends with its connection"),
        }
    }

    #[inline(always)]
    fn status_line(&mut self, status: u16, reason: &[u8]) {
        // 100 to 999, as the parser made sure.
        let digit = |n: u16| b'0' + (n % 10) as u8;
        let [a, b, c] = [digit(status / 100), digit(status / 10), digit(status)];
        self.put(&[b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', a, b, c, b' ']);
        self.put(reason);
        self.put(b"\r\n");
    }

    #[inline(always)]
    fn delivery(&mut self, delivery: Delivery, close: bool) {
        match delivery {
            Delivery::None(None) | Delivery::UntilClose => {}
            Delivery::None(Some(length)) | Delivery::Length(length) => {
                self.put(b"Content-Length: ");
                self.decimal(length);
                self.put(b"\r\n");
            }
            Delivery::Chunked => self.put(b"Transfer-Encoding: chunked\r\n"),
            Delivery::Switch => self.put(SWITCH),
        }
        if close {
            self.put(b"Connection: close\r\n");
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
    out.request_framing(head);
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
    out.status_line(head.status, head.reason);
    out.fields(head.fields, head.stripped | head.own);
    out.delivery(delivery, close);
    out.finish()
}

/// [`response`] with edits of its fields.
pub fn response_edited<'e>(
    head: &ResponseHead<'_, '_>,
    delivery: Delivery,
    close: bool,
    edits: impl Iterator<Item = Edit<'e>> + Clone,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out::new(out);
    out.status_line(head.status, head.reason);
    out.fields(head.fields, head.stripped | head.own | replaced(head.fields, edits.clone()));
    out.delivery(delivery, close);
    out.edits(edits);
    out.finish()
}

/// A path in two parts: what takes the place of its beginning, and its rest.
#[derive(Clone, Copy, Debug)]
pub struct SplitPath<'a> {
    /// The replacement; empty when nothing was replaced.
    pub front: &'a [u8],
    /// What follows it.
    pub rest: &'a [u8],
}

impl SplitPath<'_> {
    /// An empty path is `/` (Gateway API, HTTPPathModifier.replacePrefixMatch).
    fn put(&self, out: &mut Out<'_>) {
        if self.front.is_empty() && self.rest.is_empty() {
            out.put(b"/");
        }
        out.put(self.front);
        out.put(self.rest);
    }
}

/// What filters change of a request besides its fields.
#[derive(Clone, Copy, Debug)]
pub struct Rewritten<'a> {
    /// The path to ask for.
    pub path: SplitPath<'a>,
    /// The host to ask, in place of the request's authority.
    pub host: Option<&'a [u8]>,
}

/// [`request`] with filters: another URL, edits of its fields. X-Forwarded-Host keeps the host that
/// the client asked for; edits of X-Forwarded fields take the place of what the router says.
pub fn request_edited<'e>(
    head: &RequestHead<'_, '_>,
    forwarded: &Forwarded<'_>,
    rewritten: &Rewritten<'_>,
    edits: impl Iterator<Item = Edit<'e>> + Clone,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out::new(out);
    out.put(head.method.as_bytes());
    out.put(b" ");
    rewritten.path.put(&mut out);
    if let Some(query) = head.query {
        out.put(b"?");
        out.put(query);
    }
    out.put(b" HTTP/1.1\r\nHost: ");
    out.put(rewritten.host.unwrap_or(head.authority));
    out.put(b"\r\n");
    out.fields(head.fields, head.stripped | head.own | replaced(head.fields, edits.clone()));
    out.request_framing(head);
    let mut port = [0u8; 5];
    let port = decimal_u16(forwarded.port, &mut port);
    for (name, value) in [
        ("X-Forwarded-For", forwarded.client),
        ("X-Forwarded-Proto", forwarded.proto),
        ("X-Forwarded-Host", head.authority),
        ("X-Forwarded-Port", port),
    ] {
        if !replaces(edits.clone(), name.as_bytes()) {
            out.put(name.as_bytes());
            out.put(b": ");
            out.put(value);
            out.put(b"\r\n");
        }
    }
    out.edits(edits);
    out.finish()
}

fn decimal_u16(value: u16, digits: &mut [u8; 5]) -> &[u8] {
    let mut out = Out::new(digits);
    out.decimal(u64::from(value));
    let len = out.len;
    &digits[..len]
}

/// Where a redirect leads.
#[derive(Clone, Copy, Debug)]
pub struct Location<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Without port.
    pub host: &'a [u8],
    /// 0: the scheme's own.
    pub port: u16,
    /// Path.
    pub path: SplitPath<'a>,
    /// After the `?`.
    pub query: Option<&'a [u8]>,
}

impl Location<'_> {
    fn put(&self, out: &mut Out<'_>) {
        out.put(self.scheme.as_bytes());
        out.put(b"://");
        out.put(self.host);
        if self.port != 0 {
            out.put(b":");
            out.decimal(u64::from(self.port));
        }
        self.path.put(out);
        if let Some(query) = self.query {
            out.put(b"?");
            out.put(query);
        }
    }
}

/// How an answer of the router's own is written.
#[derive(Clone, Copy, Debug)]
pub struct AnswerShape {
    /// `Connection: close`.
    pub close: bool,
    /// False for HEAD, whose answer still describes the body.
    pub with_body: bool,
}

/// Writes a redirect, whole; its length.
pub fn redirect<'e>(
    (status, reason): (u16, &str),
    location: &Location<'_>,
    shape: AnswerShape,
    edits: impl Iterator<Item = Edit<'e>> + Clone,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out::new(out);
    out.status_line(status, reason.as_bytes());
    let unless_replaced = |name: &[u8]| !replaces(edits.clone(), name);
    if unless_replaced(b"Location") {
        out.put(b"Location: ");
        location.put(&mut out);
        out.put(b"\r\n");
    }
    if unless_replaced(b"Content-Type") {
        out.put(b"Content-Type: text/plain\r\n");
    }
    out.delivery(Delivery::Length(reason.len() as u64 + 5), shape.close);
    out.edits(edits.clone());
    out.put(b"\r\n");
    if shape.with_body {
        out.decimal(u64::from(status));
        out.put(b" ");
        out.put(reason.as_bytes());
        out.put(b"\n");
    }
    if out.full { None } else { Some(out.len) }
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
