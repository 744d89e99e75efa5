//! One request at a time over a connection that is kept: GET, POST, PUT, PATCH and their answers.
//!
//! In: a request, what happens to the connection, bytes, tokens, time. Out: connect, send, the
//! answer, or why there is none. It repeats only what is safe by itself: on a connection that was
//! closed while idle, and once after 401 with the token read again. All else is its user's affair
//! ([`super::status_patch`], [`super::lease`]), who knows what may be done twice.

use super::Trouble;
use super::lines::Line;
use super::request::write_head;
use super::request::{Head, Method, ObjectPath, RequestHead, Server, ServerError, TargetText};
use super::response::{Piece, Response};
use crate::limits::{KUBE_ANSWER_TIMEOUT_MS, KUBE_BODY_BYTES, KUBE_CONNECT_TIMEOUT_MS};
use crate::stdx::{Duration, Full, Inline, Instant, Now, Table};

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: Method,
    /// Object or collection.
    pub path: ObjectPath<'a>,
    /// JSON; not sent with GET.
    pub body: &'a [u8],
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Something to ask; [`Full`] while another one runs.
    Request(Request<'a>),
    /// The connection that was asked for is up, TLS included.
    Connected,
    /// There is no connection, or no longer.
    Closed(Trouble),
    /// Bytes of the connection; the number taken is returned.
    Bytes(&'a [u8]),
    /// The token, read again.
    Token(&'a [u8]),
}

/// The server's answer, whatever its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'m> {
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, 0 for none.
    pub retry_after_ms: u64,
    /// Its body, whole.
    pub body: &'m [u8],
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output<'m> {
    /// Make a connection, then say [`Input::Connected`] or [`Input::Closed`].
    Connect,
    /// End the connection; nothing is to be said.
    Disconnect,
    /// Send all of these bytes.
    Send(&'m [u8]),
    /// Read the token again, then say [`Input::Token`].
    ReadToken,
    /// The request was answered.
    Answer(Answer<'m>),
    /// The request was not answered; it may have been carried out.
    Failed(Trouble),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Connecting,
    Up,
}

crate::zeroed_enum!(Link { Down });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Connecting,
    Asked,
    /// 401 came: for the token.
    WantsToken,
}

crate::zeroed_enum!(Phase { Idle });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Connect,
    Disconnect,
    SendHead,
    SendBody,
    ReadToken,
    Answer,
    Failed,
}

/// Disconnect, Failed; or Connect, SendHead, SendBody: never more than four.
const PENDING_MAX: usize = 4;

/// The machine. Hundreds of kilobytes: built in place.
#[derive(Debug)]
pub struct Exchange {
    link: Link,
    phase: Phase,
    /// No answer has come on this connection yet.
    fresh: bool,
    token_retried: bool,
    method: Method,
    deadline: Instant,
    trouble: u32,
    pending: Table<Pending, PENDING_MAX>,
    polled: u32,
    server: Server,
    target: TargetText,
    head: RequestHead,
    body: Inline<{ KUBE_BODY_BYTES as usize }>,
    response: Response,
    answer: Line,
}

crate::zeroed_struct!(Exchange {
    link: Link,
    phase: Phase,
    fresh: bool,
    token_retried: bool,
    method: Method,
    deadline: Instant,
    trouble: u32,
    pending: Table<Pending, PENDING_MAX>,
    polled: u32,
    server: Server,
    target: TargetText,
    head: RequestHead,
    body: Inline<{ KUBE_BODY_BYTES as usize }>,
    response: Response,
    answer: Line,
});

impl Exchange {
    /// Must be called first, on zero bytes.
    pub fn start(
        &mut self,
        authority: &str,
        prefix: &str,
        token: &[u8],
    ) -> Result<(), ServerError> {
        self.server.set(authority, prefix)?;
        self.server.set_token(token)?;
        self.deadline = Instant::NEVER;
        self.pending.set_cap(PENDING_MAX as u32);
        Ok(())
    }

    /// Whether no request runs.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && !self.has_outputs()
    }

    /// Takes an input; for bytes, returns how many were taken.
    pub fn input(&mut self, input: Input<'_>, now: Now) -> Result<usize, Full> {
        if self.has_outputs() {
            return Err(Full);
        }
        match input {
            Input::Request(_) if self.phase != Phase::Idle => return Err(Full),
            Input::Request(request) => self.request(request, now),
            Input::Connected if self.phase == Phase::Connecting => {
                self.link = Link::Up;
                self.ask(now);
            }
            Input::Connected => {}
            Input::Closed(trouble) => self.closed(trouble, now),
            Input::Bytes(bytes) => return Ok(self.bytes(bytes, now)),
            Input::Token(token) => {
                // One that cannot be sent is as good as the old one.
                let _ = self.server.set_token(token);
                if self.phase == Phase::WantsToken {
                    self.begin(now);
                }
            }
        }
        Ok(0)
    }

    /// The next thing to do, until None.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        let Some(&pending) = self.pending.get(self.polled) else {
            self.pending.clear();
            self.polled = 0;
            return None;
        };
        self.polled += 1;
        Some(match pending {
            Pending::Connect => Output::Connect,
            Pending::Disconnect => Output::Disconnect,
            Pending::SendHead => Output::Send(self.head.as_bytes()),
            Pending::SendBody => Output::Send(self.body.as_bytes()),
            Pending::ReadToken => Output::ReadToken,
            Pending::Answer => Output::Answer(Answer {
                status: self.response.status(),
                retry_after_ms: self.response.retry_after_ms(),
                body: self.answer.as_bytes(),
            }),
            Pending::Failed => Output::Failed(Trouble::from_u32(self.trouble)),
        })
    }

    /// When `tick` is due.
    pub fn timeout(&self) -> Option<Instant> {
        Some(self.deadline).filter(|&at| at != Instant::NEVER && !self.has_outputs())
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        if self.has_outputs() || self.deadline > now.mono {
            return;
        }
        match self.phase {
            Phase::Idle => self.deadline = Instant::NEVER,
            Phase::Connecting => self.failed(Trouble::ConnectTimeout),
            Phase::Asked => self.failed(Trouble::AnswerTimeout),
            Phase::WantsToken => self.failed(Trouble::Status(401)),
        }
    }

    fn has_outputs(&self) -> bool {
        self.polled < self.pending.len()
    }

    fn push(&mut self, pending: Pending) {
        let pushed = self.pending.push(pending);
        assert!(pushed.is_ok(), "PENDING_MAX counts what one input can cause");
    }

    fn request(&mut self, request: Request<'_>, now: Now) {
        assert!(self.phase == Phase::Idle);
        self.method = request.method;
        self.token_retried = false;
        self.target.clear();
        let target = request.path.write(&mut self.target);
        let body = self.body.set(request.body);
        if target.and(body).is_err() {
            return self.failed(Trouble::RequestTooLarge);
        }
        self.begin(now);
    }

    fn begin(&mut self, now: Now) {
        if self.link == Link::Up {
            return self.ask(now);
        }
        (self.link, self.phase, self.fresh) = (Link::Connecting, Phase::Connecting, true);
        self.deadline = now.mono + Duration::from_millis(KUBE_CONNECT_TIMEOUT_MS.into());
        self.push(Pending::Connect);
    }

    fn ask(&mut self, now: Now) {
        let body = Some(self.body.len()).filter(|_| self.method != Method::Get);
        let target = self.target.as_bytes();
        let head = Head { method: self.method, target, value: b"", body };
        if write_head(&mut self.head, &self.server, head).is_err() {
            return self.failed(Trouble::RequestTooLarge);
        }
        self.phase = Phase::Asked;
        self.deadline = now.mono + Duration::from_millis(KUBE_ANSWER_TIMEOUT_MS.into());
        self.response.clear();
        self.answer.clear(false);
        self.push(Pending::SendHead);
        if body.is_some_and(|len| len > 0) {
            self.push(Pending::SendBody);
        }
    }

    fn hang_up(&mut self) {
        if core::mem::replace(&mut self.link, Link::Down) != Link::Down {
            self.push(Pending::Disconnect);
        }
    }

    fn failed(&mut self, trouble: Trouble) {
        self.hang_up();
        self.trouble = trouble.to_u32();
        self.push(Pending::Failed);
        (self.phase, self.deadline) = (Phase::Idle, Instant::NEVER);
    }

    fn closed(&mut self, trouble: Trouble, now: Now) {
        if core::mem::replace(&mut self.link, Link::Down) == Link::Down {
            return;
        }
        match self.phase {
            Phase::Idle | Phase::WantsToken => {}
            Phase::Asked if !self.fresh && self.response.is_untouched() => self.begin(now),
            Phase::Asked if self.response.closed().is_ok() => self.answered(now),
            Phase::Connecting | Phase::Asked => self.failed(trouble),
        }
    }

    fn bytes(&mut self, bytes: &[u8], now: Now) -> usize {
        let mut used = 0;
        while self.phase == Phase::Asked {
            let Ok((taken, piece)) = self.response.advance(&bytes[used..]) else {
                self.failed(Trouble::BadAnswer);
                break;
            };
            used += taken;
            match piece {
                Piece::More => return used,
                Piece::Head => self.fresh = false,
                Piece::Body { len } => {
                    self.answer.extend(&bytes[used..used + len]);
                    self.response.took(len);
                    used += len;
                    if self.answer.is_oversized() {
                        self.failed(Trouble::AnswerTooLarge);
                    }
                }
                Piece::End => self.answered(now),
            }
        }
        if self.link == Link::Up && used < bytes.len() {
            // Nobody asked for these.
            self.hang_up();
        }
        bytes.len()
    }

    fn answered(&mut self, now: Now) {
        if !self.response.keep_alive() {
            self.hang_up();
        }
        if self.response.status() == 401 && !self.token_retried {
            (self.token_retried, self.phase) = (true, Phase::WantsToken);
            self.deadline = now.mono + Duration::from_millis(KUBE_CONNECT_TIMEOUT_MS.into());
            return self.push(Pending::ReadToken);
        }
        (self.phase, self.deadline) = (Phase::Idle, Instant::NEVER);
        self.push(Pending::Answer);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::kube::kind::Watched;
    use crate::limits::MAX_LINE_SIZE_BYTES;
    use crate::shell::place::boxed_zeroed;
    use std::boxed::Box;
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    const NOW: Now = Now { mono: Instant(5), wall: crate::stdx::Wall(0) };

    struct Client(Box<Exchange>, Now);

    impl Client {
        fn new() -> Client {
            let mut exchange = boxed_zeroed::<Exchange>();
            exchange.start("a:1", "", b"t0").unwrap();
            Client(exchange, NOW)
        }

        fn input(&mut self, input: Input<'_>) -> Vec<String> {
            self.0.input(input, self.1).expect("no outputs wait");
            self.outputs()
        }

        fn outputs(&mut self) -> Vec<String> {
            let mut log = Vec::new();
            while let Some(output) = self.0.poll_output() {
                log.push(match output {
                    Output::Send(bytes) => {
                        let text = core::str::from_utf8(bytes).unwrap();
                        text.split(" HTTP").next().unwrap().to_string()
                    }
                    Output::Answer(answer) => {
                        let body = core::str::from_utf8(answer.body).unwrap();
                        format!("{} {body}", answer.status)
                    }
                    other => format!("{other:?}"),
                });
            }
            log
        }

        fn ask(&mut self, method: Method, body: &[u8]) -> Vec<String> {
            let path = ObjectPath::object(Watched::Service, "n", "s");
            self.input(Input::Request(Request { method, path, body }))
        }

        fn receive(&mut self, text: &str, piece: usize) -> Vec<String> {
            let bytes = text.as_bytes();
            bytes.chunks(piece).flat_map(|chunk| self.input(Input::Bytes(chunk))).collect()
        }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    #[test]
    fn requests_one_after_the_other_cut_at_every_position() {
        for piece in 1..=OK.len() {
            let mut client = Client::new();
            assert_eq!(client.ask(Method::Get, b""), ["Connect"]);
            assert_eq!(client.input(Input::Connected), ["GET /api/v1/namespaces/n/services/s"]);
            assert_eq!(client.receive(OK, piece), ["200 ok"]);
            let sent = client.ask(Method::Patch, b"{}");
            assert_eq!(sent, ["PATCH /api/v1/namespaces/n/services/s", "{}"]);
            let busy = Request {
                method: Method::Get,
                path: ObjectPath::object(Watched::Service, "n", "s"),
                body: b"",
            };
            assert_eq!(client.0.input(Input::Request(busy), NOW), Err(Full));
            let closing = OK.replace("OK\r\n", "OK\r\nConnection: close\r\n");
            assert_eq!(client.receive(&closing, piece), ["Disconnect", "200 ok"]);
            assert_eq!(client.ask(Method::Get, b""), ["Connect"]);
        }
    }

    #[test]
    fn a_connection_closed_while_idle_is_made_anew_once() {
        let mut client = Client::new();
        client.ask(Method::Get, b"");
        client.input(Input::Connected);
        client.receive(OK, 9);
        client.ask(Method::Put, b"x");
        assert_eq!(client.input(Input::Closed(Trouble::Closed)), ["Connect"]);
        assert_eq!(client.input(Input::Connected).len(), 2);
        assert_eq!(client.input(Input::Closed(Trouble::Closed)), ["Failed(Closed)"]);
        // Once a byte of the answer came it may not be repeated.
        client.ask(Method::Get, b"");
        client.input(Input::Connected);
        client.receive(OK, 9);
        client.ask(Method::Put, b"x");
        assert_eq!(client.receive("HTTP/1.1 20", 99), [""; 0]);
        assert_eq!(client.input(Input::Closed(Trouble::Closed)), ["Failed(Closed)"]);
    }

    #[test]
    fn the_token_is_read_again_once() {
        let unauthorized = "HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n";
        let mut client = Client::new();
        client.ask(Method::Get, b"");
        client.input(Input::Connected);
        assert_eq!(client.receive(unauthorized, 99), ["ReadToken"]);
        assert_eq!(client.input(Input::Token(b"t1")).len(), 1);
        assert_eq!(client.receive(unauthorized, 99), ["401 "]);
    }

    #[test]
    fn timeouts() {
        let mut client = Client::new();
        client.ask(Method::Get, b"");
        client.1.mono = client.0.timeout().unwrap();
        client.0.tick(client.1);
        assert_eq!(client.outputs(), ["Disconnect", "Failed(ConnectTimeout)"]);
        client.ask(Method::Get, b"");
        client.input(Input::Connected);
        client.1.mono = client.0.timeout().unwrap();
        client.0.tick(client.1);
        assert_eq!(client.outputs(), ["Disconnect", "Failed(AnswerTimeout)"]);
        assert_eq!(client.0.timeout(), None);
    }

    #[test]
    fn sizes_at_max_and_one_more() {
        let mut client = Client::new();
        let body = std::vec![b'x'; KUBE_BODY_BYTES as usize + 1];
        assert_eq!(client.ask(Method::Put, &body), ["Failed(RequestTooLarge)"]);
        assert_eq!(client.ask(Method::Put, &body[1..]), ["Connect"]);
        client.input(Input::Connected);
        let answer = |len: usize| {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len))
        };
        let max = MAX_LINE_SIZE_BYTES as usize;
        assert_eq!(client.receive(&answer(max), 16_384)[0].len(), max + 4);
        client.ask(Method::Get, b"");
        let over = client.receive(&answer(max + 1), 1 << 30);
        assert_eq!(over, ["Disconnect", "Failed(AnswerTooLarge)"]);
    }

    #[test]
    fn bytes_nobody_asked_for_end_the_connection() {
        let mut client = Client::new();
        client.ask(Method::Get, b"");
        client.input(Input::Connected);
        let outputs = client.receive(&format!("{OK}HTTP/1.1 200 OK\r\n"), 1 << 30);
        assert_eq!(outputs, ["200 ok", "Disconnect"]);
    }
}
