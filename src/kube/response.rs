//! Answers of the API server: a push machine over HTTP/1.1 responses (RFC 9112).
//!
//! In: bytes, cut anywhere. Out: the head (status, framing, Retry-After), then pieces of the body
//! as ranges of the input, then the end. Bodies: content-length, chunked, or up to the close.

use crate::limits::{KUBE_HEAD_BYTES, KUBE_HEADER_FIELDS};
use crate::stdx::Inline;

/// Why an answer cannot be read; the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// Not an HTTP/1 head, or more than KUBE_HEADER_FIELDS fields.
    BadHead,
    /// The head is larger than KUBE_HEAD_BYTES.
    HeadTooLarge,
    /// Framing that could be read in two ways, or a coding nobody asked for.
    BadFraming,
    /// A chunk without its size or its line ends.
    BadChunk,
    /// The connection ended before the body did.
    Cut,
}

/// What the bytes were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Nothing whole yet: all bytes were used.
    More,
    /// The head is read.
    Head,
    /// The next `len` bytes after the used ones are body: take some and say so by `took`.
    Body {
        /// Number of bytes, at least 1.
        len: usize,
    },
    /// The answer is whole.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// `remaining` bytes of a body of known length.
    Length,
    /// Body up to the close.
    ToClose,
    ChunkSize,
    ChunkExtension,
    ChunkData,
    ChunkDataEnd,
    Trailer,
    Done,
}

crate::zeroed_enum!(State { Head });

/// The machine; zero bytes are the beginning of an answer.
#[derive(Debug)]
pub struct Response {
    state: State,
    head: Inline<{ KUBE_HEAD_BYTES as usize }>,
    status: u16,
    keep_alive: bool,
    retry_after_s: u32,
    /// Bytes left of the body or chunk.
    remaining: u64,
    /// Digits of the chunk's size seen; bytes of the trailer seen.
    count: u32,
    /// The last byte was CR; the line at hand is empty so far.
    after_cr: bool,
    line_is_empty: bool,
}

crate::zeroed_struct!(Response {
    state: State,
    head: Inline<{ KUBE_HEAD_BYTES as usize }>,
    status: u16,
    keep_alive: bool,
    retry_after_s: u32,
    remaining: u64,
    count: u32,
    after_cr: bool,
    line_is_empty: bool,
});

/// How far the head has come.
enum HeadTaken {
    Part,
    Interim,
    Whole,
}

/// Framing fields of a head.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    retry_after_s: u32,
}

impl Response {
    /// Begins a new answer.
    pub fn clear(&mut self) {
        self.state = State::Head;
        self.head.clear();
        (self.status, self.keep_alive, self.retry_after_s) = (0, false, 0);
        (self.remaining, self.count) = (0, 0);
        (self.after_cr, self.line_is_empty) = (false, false);
    }

    /// Status code; 0 before the head is read.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the connection may carry another request after the end.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// `Retry-After` in milliseconds (delta-seconds only, as the API server sends), 0 for none.
    pub fn retry_after_ms(&self) -> u64 {
        u64::from(self.retry_after_s) * 1000
    }

    /// Whether nothing of the answer has come yet.
    pub fn is_untouched(&self) -> bool {
        self.state == State::Head && self.head.is_empty()
    }

    /// Looks at bytes: how many were used, and what they were. To be called again with the rest
    /// until `More` or `End`, with no bytes too: an empty body ends right after its head.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(usize, Piece), ResponseError> {
        let mut used = 0;
        loop {
            match self.state {
                State::Head => {
                    let (taken, head) = self.take_head(&bytes[used..])?;
                    used += taken;
                    match head {
                        HeadTaken::Part => return Ok((used, Piece::More)),
                        HeadTaken::Whole => return Ok((used, Piece::Head)),
                        // RFC 9110 §15.2: interim answers are skipped; the final head follows.
                        HeadTaken::Interim => self.clear(),
                    }
                }
                State::Length | State::ChunkData if self.remaining == 0 => {
                    let chunked = self.state == State::ChunkData;
                    self.state = if chunked { State::ChunkDataEnd } else { State::Done };
                }
                State::Length | State::ChunkData | State::ToClose => {
                    let left = (bytes.len() - used) as u64;
                    let len = left.min(self.remaining) as usize;
                    return Ok((used, if len == 0 { Piece::More } else { Piece::Body { len } }));
                }
                State::Done => return Ok((used, Piece::End)),
                _ => {
                    let Some(&byte) = bytes.get(used) else { return Ok((used, Piece::More)) };
                    used += 1;
                    self.step_chunk(byte)?;
                }
            }
        }
    }

    /// `len` bytes of the body were taken.
    pub fn took(&mut self, len: usize) {
        assert!(len as u64 <= self.remaining);
        if self.state != State::ToClose {
            self.remaining -= len as u64;
        }
    }

    /// The connection ended: whether that is the end of the answer too.
    pub fn closed(&self) -> Result<(), ResponseError> {
        match self.state {
            State::ToClose | State::Done => Ok(()),
            _ => Err(ResponseError::Cut),
        }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<(usize, HeadTaken), ResponseError> {
        let before = self.head.len();
        let take = bytes.len().min(KUBE_HEAD_BYTES as usize - before);
        // It fits: `take` is at most the room that is left.
        let _ = self.head.push(&bytes[..take]);
        // Only an empty line can end the head: do not parse it anew for each byte.
        let fresh = &self.head.as_bytes()[before.saturating_sub(3)..];
        let ends = fresh.windows(2).any(|w| w == b"\n\n");
        if ends || fresh.windows(3).any(|w| w == b"\n\r\n") {
            let (status, len, framing) = parse_head(self.head.as_bytes())?;
            let whole = len.filter(|&len| len > before).ok_or(ResponseError::BadHead)?;
            self.head.clear();
            if (100..200).contains(&status) {
                return Ok((whole - before, HeadTaken::Interim));
            }
            self.begin_body(status, &framing)?;
            return Ok((whole - before, HeadTaken::Whole));
        }
        if self.head.len() == KUBE_HEAD_BYTES as usize {
            return Err(ResponseError::HeadTooLarge);
        }
        Ok((take, HeadTaken::Part))
    }

    fn begin_body(&mut self, status: u16, framing: &Framing) -> Result<(), ResponseError> {
        if framing.chunked && framing.length.is_some() {
            return Err(ResponseError::BadFraming);
        }
        self.status = status;
        self.retry_after_s = framing.retry_after_s;
        self.keep_alive = framing.keep_alive && !framing.close;
        (self.remaining, self.count) = (0, 0);
        self.state = match (status, framing.length) {
            (204 | 304, _) => State::Done,
            _ if framing.chunked => State::ChunkSize,
            (_, Some(length)) => {
                self.remaining = length;
                State::Length
            }
            (_, None) => {
                self.remaining = u64::MAX;
                self.keep_alive = false;
                State::ToClose
            }
        };
        Ok(())
    }

    fn step_chunk(&mut self, byte: u8) -> Result<(), ResponseError> {
        match (self.state, byte) {
            (State::ChunkSize, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.count < 15 => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                self.remaining = self.remaining << 4 | u64::from(digit);
                self.count += 1;
            }
            (State::ChunkSize, b';' | b' ' | b'\t' | b'\r') if self.count > 0 => {
                self.after_cr = byte == b'\r';
                (self.state, self.count) = (State::ChunkExtension, 0);
            }
            (State::ChunkExtension, b'\n') if self.after_cr => {
                self.after_cr = false;
                self.state = if self.remaining > 0 { State::ChunkData } else { State::Trailer };
                (self.count, self.line_is_empty) = (0, true);
            }
            // An extension is skipped (RFC 9112 §7.1.1), but not without a bound.
            (State::ChunkExtension, _) if !self.after_cr && self.count < KUBE_HEAD_BYTES => {
                self.after_cr = byte == b'\r';
                self.count += 1;
            }
            (State::ChunkDataEnd, b'\r') if !self.after_cr => self.after_cr = true,
            (State::ChunkDataEnd, b'\n') if self.after_cr => {
                self.after_cr = false;
                (self.state, self.count) = (State::ChunkSize, 0);
            }
            (State::Trailer, b'\n') if self.after_cr => {
                self.after_cr = false;
                if self.line_is_empty {
                    self.state = State::Done;
                }
                self.line_is_empty = true;
            }
            (State::Trailer, _) if !self.after_cr && self.count < KUBE_HEAD_BYTES => {
                self.after_cr = byte == b'\r';
                self.line_is_empty &= self.after_cr;
                self.count += 1;
            }
            _ => return Err(ResponseError::BadChunk),
        }
        Ok(())
    }
}

/// Status, length of the head when whole, framing.
fn parse_head(bytes: &[u8]) -> Result<(u16, Option<usize>, Framing), ResponseError> {
    let mut fields = [httparse::EMPTY_HEADER; KUBE_HEADER_FIELDS as usize];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(|_| ResponseError::BadHead)?;
    let httparse::Status::Complete(len) = parsed else { return Ok((0, None, Framing::default())) };
    let status = response.code.ok_or(ResponseError::BadHead)?;
    let mut framing = Framing { keep_alive: response.version == Some(1), ..Framing::default() };
    for field in response.headers.iter() {
        let value = field.value.trim_ascii();
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let length = decimal(value).ok_or(ResponseError::BadFraming)?;
            if framing.length.is_some_and(|other| other != length) {
                return Err(ResponseError::BadFraming);
            }
            framing.length = Some(length);
        } else if is("transfer-encoding") {
            if framing.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(ResponseError::BadFraming);
            }
            framing.chunked = true;
        } else if is("connection") {
            let mut options = value.split(|&byte| byte == b',').map(|o| o.trim_ascii());
            framing.close |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        } else if is("retry-after") {
            let seconds = decimal(value).unwrap_or(0);
            framing.retry_after_s = seconds.min(u64::from(u32::MAX)) as u32;
        } else if is("content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
            return Err(ResponseError::BadFraming);
        }
    }
    Ok((status, Some(len), framing))
}

/// Digits only: no sign, no white space, no overflow.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::shell::place::boxed_zeroed;
    use std::string::String;
    use std::vec::Vec;

    #[derive(Debug, PartialEq)]
    struct Read {
        status: u16,
        body: String,
        rest: String,
        keep_alive: bool,
        retry_after_ms: u64,
    }

    /// Reads one answer from `text` in pieces of `piece` bytes; what follows it is the rest.
    fn read(text: &[u8], piece: usize) -> Result<Read, ResponseError> {
        let mut response = boxed_zeroed::<Response>();
        let (mut body, mut rest, mut whole) = (Vec::new(), Vec::new(), false);
        for mut chunk in text.chunks(piece) {
            loop {
                if whole {
                    rest.extend_from_slice(chunk);
                    break;
                }
                let (used, piece) = response.advance(chunk)?;
                chunk = &chunk[used..];
                match piece {
                    Piece::More => {
                        assert!(chunk.is_empty());
                        break;
                    }
                    Piece::Head => assert!(response.status() >= 200),
                    Piece::Body { len } => {
                        // One byte less than offered, when there is more than one.
                        let take = len.div_ceil(2);
                        body.extend_from_slice(&chunk[..take]);
                        response.took(take);
                        chunk = &chunk[take..];
                    }
                    Piece::End => whole = true,
                }
            }
        }
        if !whole {
            response.closed()?;
        }
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ok(Read {
            status: response.status(),
            body: text(body),
            rest: text(rest),
            keep_alive: response.keep_alive(),
            retry_after_ms: response.retry_after_ms(),
        })
    }

    fn check(text: &str, status: u16, body: &str, rest: &str, keep_alive: bool) {
        let expected =
            Read { status, body: body.into(), rest: rest.into(), keep_alive, retry_after_ms: 0 };
        for piece in 1..=text.len() {
            let read = read(text.as_bytes(), piece);
            assert_eq!(read.as_ref(), Ok(&expected), "{text:?} in pieces of {piece}");
        }
    }

    #[test]
    fn bodies_of_all_framings_cut_at_every_position() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP";
        check(length, 200, "hello", "HTTP", true);
        let empty = "HTTP/1.1 409 Conflict\r\ncontent-length:0\r\n\r\nx";
        check(empty, 409, "", "x", true);
        check("HTTP/1.1 204 No Content\r\n\r\nx", 204, "", "x", true);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            5\r\nhello\r\n1;a=b\r\n \r\n00a \r\n0123456789\r\n0\r\nX: y\r\n\r\nrest";
        check(chunked, 200, "hello 0123456789", "rest", true);
        let to_close = "HTTP/1.0 200 OK\r\n\r\nall of it";
        check(to_close, 200, "all of it", "", false);
        let close = "HTTP/1.1 500 x\r\nConnection: foo, Close\r\nContent-Length: 1\r\n\r\n!";
        check(close, 500, "!", "", false);
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\n\
            HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
        check(interim, 201, "ok", "", true);
    }

    #[test]
    fn retry_after_in_seconds_only() {
        let read = |value: &str| {
            let text =
                std::format!("HTTP/1.1 429 x\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n");
            read(text.as_bytes(), 7).unwrap().retry_after_ms
        };
        assert_eq!(read("3"), 3000);
        assert_eq!(read("Wed, 21 Oct 2026 07:28:00 GMT"), 0);
        assert_eq!(read("99999999999"), u64::from(u32::MAX) * 1000);
    }

    #[test]
    fn cut_answers_are_errors() {
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for text in [chunked, length] {
            for cut in 0..text.len() {
                let read = read(&text.as_bytes()[..cut], 3);
                assert_eq!(read, Err(ResponseError::Cut), "{:?}", &text[..cut]);
            }
        }
    }

    #[test]
    fn hostile_answers() {
        let head = |fields: &str| std::format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        let chunked = head("Transfer-Encoding: chunked");
        for (text, error) in [
            ("\x16\x03\x01 not http\n\n".into(), ResponseError::BadHead),
            (head("Content-Length: 5\r\nContent-Length: 6"), ResponseError::BadFraming),
            (head("Content-Length: +5"), ResponseError::BadFraming),
            (head("Content-Length: 99999999999999999999"), ResponseError::BadFraming),
            (head("Content-Length: 5\r\nTransfer-Encoding: chunked"), ResponseError::BadFraming),
            (head("Transfer-Encoding: gzip, chunked"), ResponseError::BadFraming),
            (head("Content-Encoding: gzip"), ResponseError::BadFraming),
            (chunked.clone() + "x\r\n", ResponseError::BadChunk),
            (chunked.clone() + "\r\n", ResponseError::BadChunk),
            (chunked.clone() + "1\n", ResponseError::BadChunk),
            (chunked.clone() + "1\r\nab\r\n", ResponseError::BadChunk),
            (chunked.clone() + "ffffffffffffffff\r\n", ResponseError::BadChunk),
            (
                head(&("x: y\r\n".repeat(KUBE_HEADER_FIELDS as usize) + "x: y")),
                ResponseError::BadHead,
            ),
        ] {
            for piece in [1, 1000] {
                assert_eq!(read(text.as_bytes(), piece), Err(error), "{text:?}");
            }
        }
    }

    #[test]
    fn head_at_max_and_one_more() {
        let max = KUBE_HEAD_BYTES as usize;
        let start = "HTTP/1.1 204 No Content\r\nX: ";
        let head =
            |len: usize| std::format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4));
        for piece in [1, 100, max + 1] {
            assert_eq!(read(head(max).as_bytes(), piece).map(|r| r.status), Ok(204));
            let over = read(head(max + 1).as_bytes(), piece);
            assert_eq!(over, Err(ResponseError::HeadTooLarge));
        }
        let trailer = std::format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}",
            "x".repeat(max + 1)
        );
        assert_eq!(read(trailer.as_bytes(), 100), Err(ResponseError::BadChunk));
    }
}
