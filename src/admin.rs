//! The admin port's HTTP server, as a machine: one [`Connection`] per socket.
//!
//! In: bytes of a socket. Out: requests, their bodies line by line (a push is megabytes of lines),
//! and the bytes of the answer, produced piece by piece. What a request means is not known here:
//! see [`crate::router::update`] and the drivers.

use crate::limits::{
    ADMIN_INPUT_BYTES, HEALTH_ANSWER_BYTES, HEALTH_INPUT_BYTES, MAX_HEAD_BYTES,
    MAX_RECORD_SIZE_BYTES, MAX_URI_BYTES,
};
use crate::stdx::Short;
use crate::stdx::text::Truncating;
use crate::wire::http1::{self, Decoder, Framing, RequestHead};
use core::fmt::Write as _;

static_assertions::const_assert!(ADMIN_INPUT_BYTES > MAX_HEAD_BYTES);
// What a head and the frame of an answer take.
static_assertions::const_assert!(HEALTH_INPUT_BYTES >= 1024 && HEALTH_ANSWER_BYTES > 1024);

/// Methods that the admin port knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the methods themselves")]
pub enum Method {
    #[default]
    Get,
    Post,
    Put,
    Delete,
    Other,
}

/// A request, without its body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Method (HEAD counts as GET).
    pub method: Method,
    /// Path without query.
    pub path: Short<512>,
    /// The token of `Authorization: Bearer`; empty when absent.
    pub token: Short<512>,
}

/// What a connection has for its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until more bytes come.
    More,
    /// A request began: see [`Connection::request`]; its body follows.
    Request,
    /// A line of the body (or the rest of it): see [`Connection::line`].
    Line,
    /// The request is whole: answer it.
    End,
    /// The bytes are no request: answer with this status and close.
    Refuse(u16),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// The last answer is out: close.
    Finished,
    Body,
    /// A line was handed out and is dropped at the next step.
    Line,
    Answer,
}

/// One connection of the admin port, which takes lines and gives answers of RECORD bytes. Hundreds
/// of kilobytes: built in place.
#[derive(Debug)]
pub struct Connection<
    const INPUT: usize = { ADMIN_INPUT_BYTES as usize },
    const RECORD: usize = { MAX_RECORD_SIZE_BYTES as usize },
> {
    state: State,
    request: Request,
    close: bool,
    head_only: bool,
    decoder: Decoder,
    input: [u8; INPUT],
    filled: usize,
    /// Payload waiting in `input`, decoded already: (start, end).
    payload: [usize; 2],
    line: [u8; RECORD],
    line_len: usize,
    output: [u8; RECORD],
    output_at: usize,
    output_len: usize,
    /// The answer goes on: the driver is asked for more when the output is out.
    streaming: bool,
}

impl<const INPUT: usize, const RECORD: usize> Connection<INPUT, RECORD> {
    /// A new socket.
    pub fn clear(&mut self) {
        self.state = State::Head;
        self.request = Request::default();
        (self.close, self.head_only) = (false, false);
        self.decoder = Decoder::default();
        (self.filled, self.payload, self.line_len) = (0, [0, 0], 0);
        (self.output_at, self.output_len, self.streaming) = (0, 0, false);
    }

    /// The request that runs.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Room for bytes from the socket; empty while the answer is not out (one at a time).
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.input[self.filled..]
    }

    /// So many bytes came.
    pub fn received(&mut self, bytes: usize) {
        self.filled += bytes;
        assert!(self.filled <= self.input.len());
    }

    /// The line that [`Step::Line`] told of, without its newline.
    pub fn line(&self) -> &[u8] {
        &self.line[..self.line_len]
    }

    /// What comes next; call until it says [`Step::More`] or [`Step::End`].
    pub fn step(&mut self) -> Step {
        if self.state == State::Line {
            self.line_len = 0;
            self.state = State::Body;
        }
        match self.state {
            State::Head => self.head(),
            State::Body => self.body(),
            State::Line | State::Answer | State::Finished => Step::More,
        }
    }

    fn head(&mut self) -> Step {
        let mut space = http1::field_space();
        let mut scratch = [0u8; MAX_URI_BYTES as usize];
        let bytes = &self.input[..self.filled];
        let head = match RequestHead::parse(bytes, &mut space, &mut scratch) {
            Ok(Some(head)) => head,
            Ok(None) if self.filled == self.input.len() => return Step::Refuse(431),
            Ok(None) => return Step::More,
            Err(refusal) => return Step::Refuse(refusal.status()),
        };
        let text = |bytes| core::str::from_utf8(bytes).unwrap_or("");
        let bearer = head.fields.iter().find(|f| f.name.eq_ignore_ascii_case("authorization"));
        let bearer = bearer.and_then(|f| text(f.value).strip_prefix("Bearer "));
        self.request = Request {
            method: match head.method {
                "GET" | "HEAD" => Method::Get,
                "POST" => Method::Post,
                "PUT" => Method::Put,
                "DELETE" => Method::Delete,
                _ => Method::Other,
            },
            path: Short::truncated(format_args!("{}", text(head.path))),
            token: Short::truncated(format_args!("{}", bearer.unwrap_or("").trim())),
        };
        let (len, framing) = (head.len, head.framing);
        (self.close, self.head_only) = (head.close, head.method == "HEAD");
        self.decoder = Decoder::new(framing);
        self.consume(len);
        self.state = State::Body;
        let expects = framing != Framing::None;
        debug_assert!(expects || self.payload == [0, 0]);
        Step::Request
    }

    fn consume(&mut self, bytes: usize) {
        self.input.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
        self.payload = [0, 0];
    }

    fn body(&mut self) -> Step {
        let decoder = &mut self.decoder;
        // Bounded: each turn consumes input or returns.
        loop {
            let [start, end] = self.payload;
            if start < end {
                let newline = self.input[start..end].iter().position(|&b| b == b'\n');
                let take = newline.unwrap_or(end - start);
                let room = self.line.len() - self.line_len;
                if take > room {
                    return Step::Refuse(413);
                }
                self.line[self.line_len..self.line_len + take]
                    .copy_from_slice(&self.input[start..start + take]);
                self.line_len += take;
                self.payload[0] = start + take + usize::from(newline.is_some());
                if newline.is_some() && self.line_len > 0 {
                    self.state = State::Line;
                    return Step::Line;
                }
                continue;
            }
            if end > 0 {
                // All payload is taken; what follows in the input begins at `end`.
                self.input.copy_within(end..self.filled, 0);
                self.filled -= end;
                self.payload = [0, 0];
            }
            if decoder.is_done() {
                if self.line_len > 0 {
                    self.state = State::Line;
                    return Step::Line;
                }
                self.state = State::Answer;
                return Step::End;
            }
            if self.filled == 0 {
                return Step::More;
            }
            let Ok(decoded) = decoder.decode(&mut self.input[..self.filled]) else {
                return Step::Refuse(400);
            };
            // Payload first, then what follows this body: drop the coding between them.
            let (from, to) = (decoded.start, decoded.start + decoded.len);
            self.input.copy_within(from..to, 0);
            self.input.copy_within(decoded.consumed..self.filled, decoded.len);
            self.filled -= decoded.consumed - decoded.len;
            self.payload = [0, decoded.len];
            if decoded.consumed == 0 {
                return Step::More;
            }
        }
    }

    // ------------------------------------------------------------ answers

    /// Answers with a whole body that `write` puts into the buffer; None of it when it does not
    /// fit (500).
    pub fn answer(
        &mut self,
        status: u16,
        content_type: &str,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) {
        const HEAD: usize = 512;
        let body = write(&mut self.output[HEAD..]);
        let (status, body) = body.map_or((500, 0), |len| (status, len));
        let close = self.begin_answer();
        let mut head = [0u8; HEAD];
        let mut out = Truncating::new(&mut head);
        // Truncating never fails.
        let _ =
            write!(out, "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\n", reason(status));
        let _ = write!(
            out,
            "Content-Length: {body}\r\n{}",
            if close { "Connection: close\r\n" } else { "" }
        );
        let _ = write!(out, "{}\r\n", if status == 503 { "Retry-After: 1\r\n" } else { "" });
        let len = out.finish().len();
        self.output[HEAD - len..HEAD].copy_from_slice(&head[..len]);
        self.output_at = HEAD - len;
        self.output_len = HEAD + if self.head_only { 0 } else { body };
    }

    /// Answers with a short text.
    pub fn answer_text(&mut self, status: u16, text: core::fmt::Arguments<'_>) {
        self.answer(status, "text/plain", |out| {
            let mut out = Truncating::new(out);
            let _ = writeln!(out, "{text}");
            Some(out.finish().len())
        });
    }

    /// Begins an answer whose body follows in pieces ([`Connection::piece`]).
    pub fn answer_stream(&mut self, content_type: &str) {
        let close = self.begin_answer();
        let mut out = Truncating::new(&mut self.output);
        let _ = write!(out, "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n");
        let _ = write!(out, "Transfer-Encoding: chunked\r\n");
        let _ = write!(out, "{}\r\n", if close { "Connection: close\r\n" } else { "" });
        self.output_len = out.finish().len();
        self.streaming = !self.head_only;
    }

    fn begin_answer(&mut self) -> bool {
        assert!(self.output_at == self.output_len, "one answer at a time");
        if self.state != State::Answer {
            // The request was not read to its end: nothing after it can be understood.
            self.close = true;
            self.state = State::Answer;
        }
        (self.output_at, self.output_len) = (0, 0);
        self.close
    }

    /// Whether the next piece of a streamed answer is wanted.
    pub fn wants_piece(&self) -> bool {
        self.streaming && self.output_at == self.output_len
    }

    /// The next piece of a streamed answer; `write` says its length, None for the end.
    pub fn piece(&mut self, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        assert!(self.wants_piece());
        const HEAD: usize = 16;
        let room = self.output.len() - 2;
        let Some(len) = write(&mut self.output[HEAD..room]) else {
            self.output[..5].copy_from_slice(b"0\r\n\r\n");
            (self.output_at, self.output_len, self.streaming) = (0, 5, false);
            return;
        };
        if len == 0 {
            return;
        }
        let mut head = [0u8; HEAD];
        let mut out = Truncating::new(&mut head);
        let _ = write!(out, "{len:x}\r\n");
        let head_len = out.finish().len();
        self.output[HEAD - head_len..HEAD].copy_from_slice(&head[..head_len]);
        self.output[HEAD + len..HEAD + len + 2].copy_from_slice(b"\r\n");
        (self.output_at, self.output_len) = (HEAD - head_len, HEAD + len + 2);
    }

    /// Bytes for the socket.
    pub fn output(&self) -> &[u8] {
        &self.output[self.output_at..self.output_len]
    }

    /// So many of them are out.
    pub fn sent(&mut self, bytes: usize) {
        self.output_at += bytes;
        assert!(self.output_at <= self.output_len);
        if self.output_at == self.output_len && !self.streaming && self.state == State::Answer {
            self.state = if self.close { State::Finished } else { State::Head };
        }
    }

    /// Whether the answer is out and the socket is to be closed.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Whether the request is whole and its answer is still owed.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Answer && !self.is_answering()
    }

    /// Whether an answer is under way.
    pub fn is_answering(&self) -> bool {
        self.output_at < self.output_len || self.streaming
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

crate::zeroed_struct!(Connection<INPUT, RECORD> {
    state: State,
    request: Request,
    close: bool,
    head_only: bool,
    decoder: Decoder,
    input: [u8; INPUT],
    filled: usize,
    payload: [usize; 2],
    line: [u8; RECORD],
    line_len: usize,
    output: [u8; RECORD],
    output_at: usize,
    output_len: usize,
    streaming: bool,
});
crate::zeroed_struct!(Request { method: Method, path: Short<512>, token: Short<512> });
crate::zeroed_enum!(Method { Get });
crate::zeroed_enum!(State { Head });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::place::boxed_zeroed;
    use std::boxed::Box;
    use std::string::String;
    use std::vec::Vec;

    fn connection() -> Box<Connection> {
        let mut connection = boxed_zeroed::<Connection>();
        connection.clear();
        connection
    }

    /// Feeds the bytes in pieces of `size` and collects the body's lines; answers `ok`.
    fn feed(connection: &mut Connection, bytes: &[u8], size: usize) -> (Vec<String>, String) {
        let (mut lines, mut out) = (Vec::new(), String::new());
        for piece in bytes.chunks(size) {
            connection.room()[..piece.len()].copy_from_slice(piece);
            connection.received(piece.len());
            loop {
                match connection.step() {
                    Step::More => break,
                    Step::Request => {}
                    Step::Line => lines.push(String::from_utf8_lossy(connection.line()).into()),
                    Step::End => connection.answer_text(200, format_args!("ok")),
                    Step::Refuse(status) => connection.answer_text(status, format_args!("no")),
                }
                out += core::str::from_utf8(connection.output()).unwrap();
                connection.sent(connection.output().len());
            }
        }
        (lines, out)
    }

    #[test]
    fn lines_of_a_chunked_body_and_the_next_request() {
        let text = b"POST /routes/update HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
            Authorization: Bearer t0ken\r\n\r\n\
            4\r\n{}\n{\r\n4;x=y\r\n}\n\n1\r\n1\r\n2\r\n0\r\n\r\nGET /status HTTP/1.1\r\nHost: a\r\n\r\n";
        for size in 1..=text.len() {
            let mut connection = connection();
            let (lines, out) = feed(&mut connection, text, size);
            assert_eq!(lines, ["{}", "{}", "12"], "{size}");
            assert_eq!(out.matches("HTTP/1.1 200 OK").count(), 2, "{size}: {out}");
            assert_eq!(connection.request().path.as_str(), "/status");
        }
    }

    #[test]
    fn a_line_too_long_is_413_and_closes() {
        let mut connection = connection();
        let length = MAX_RECORD_SIZE_BYTES + 1;
        let mut text =
            std::format!("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        text.extend(core::iter::repeat_n('x', length as usize));
        let (lines, out) = feed(&mut connection, &text.as_bytes()[..1000], 1000);
        assert!(lines.is_empty() && out.is_empty());
        let (_, out) = feed(&mut connection, &text.as_bytes()[1000..], 1000);
        assert!(out.starts_with("HTTP/1.1 413 "), "{out}");
        assert!(connection.is_finished());
    }

    #[test]
    fn streamed_answers_are_chunked() {
        let mut connection = connection();
        let bytes = b"GET /config HTTP/1.1\r\nHost: a\r\n\r\n";
        connection.room()[..bytes.len()].copy_from_slice(bytes);
        connection.received(bytes.len());
        assert_eq!((connection.step(), connection.step()), (Step::Request, Step::End));
        connection.answer_stream("application/json");
        let mut out = Vec::new();
        let mut pieces = ["abc\n", "d"].iter();
        while connection.is_answering() {
            out.extend_from_slice(connection.output());
            connection.sent(connection.output().len());
            if connection.wants_piece() {
                connection.piece(|room| {
                    let piece = pieces.next()?;
                    room[..piece.len()].copy_from_slice(piece.as_bytes());
                    Some(piece.len())
                });
            }
        }
        let out = String::from_utf8(out).unwrap();
        assert!(out.ends_with("\r\n\r\n4\r\nabc\n\r\n1\r\nd\r\n0\r\n\r\n"), "{out}");
    }
}
