//! D6: the bytes that a router sends toward a backend are requests, read by RFC 9112 at its
//! strictest, one at a time, and those that its clients sent; it counts as many bytes as it sent.
//!
//! In: the bytes of each upstream connection as the worker hands them over, before any fault. Out:
//! the heads of requests; what is wrong.

use crate::ledger::Ledger;
use crate::network::Network;
use crate::router::Router;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(usize),
    ChunkLine,
    Chunk(usize),
    Trailers,
    /// Whether what follows is HTTP depends on the answer to an upgrade.
    Upgrade,
    /// It is none any more.
    Tunnel,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    pub target: String,
    pub stamp: String,
    /// None: in chunks.
    pub length: Option<usize>,
}

/// Reads one upstream connection.
#[derive(Debug)]
pub struct Strict {
    buffer: Vec<u8>,
    state: State,
    /// The beginning of the last answer.
    heard: Vec<u8>,
    /// No request was sent that is not answered yet.
    is_free: bool,
}

fn is_token(text: &str) -> bool {
    let odd = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || odd.contains(&b))
}

/// RFC 9112 section 5: `name: value`, nothing before the colon, no folding, no control character.
fn field(line: &str) -> Result<(String, &str), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no field: {line:?}"))?;
    if !is_token(name) || value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(format!("a field {line:?}"));
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])))
}

/// The lines up to the empty one, each ended by CRLF, with nothing of CR or LF within.
fn lines(text: &str) -> Result<Vec<&str>, String> {
    let lines: Vec<&str> = text.split("\r\n").take_while(|line| !line.is_empty()).collect();
    match lines.iter().find(|line| line.contains(['\r', '\n', '\0'])) {
        Some(line) => Err(format!("an end of a line within {line:?}")),
        None => Ok(lines),
    }
}

/// RFC 9112 sections 3 and 6.
fn head(text: &str) -> Result<(Head, bool), String> {
    let lines = lines(text)?;
    let (start, rest) = lines.split_first().ok_or("an empty head")?;
    let words: Vec<&str> = start.split(' ').collect();
    let &[method, target, "HTTP/1.1"] = &words[..] else {
        return Err(format!("a request line {start:?}"));
    };
    // Routers ask for the origin form alone, which has no fragment.
    let is_path = target.starts_with('/') && target.bytes().all(|b| (0x21..0x7f).contains(&b));
    if !is_token(method) || !is_path || target.contains('#') {
        return Err(format!("a request line {start:?}"));
    }
    let fields: Vec<(String, &str)> = rest.iter().map(|l| field(l)).collect::<Result<_, _>>()?;
    let one = |name: &str| {
        let mut all = fields.iter().filter(|f| f.0 == name).map(|f| f.1);
        let first = all.next();
        if all.next().is_some() { Err(format!("two of {name}: {text:?}")) } else { Ok(first) }
    };
    let host = one("host")?.unwrap_or("");
    if host.is_empty() || host.contains([' ', '\t', ',', '/', '@']) {
        return Err(format!("the host {host:?}"));
    }
    // A user's own requests have none; in a run of a seed `sent` misses it.
    let stamp = one("x-stamp")?.unwrap_or("").to_string();
    let length = match (one("content-length")?, one("transfer-encoding")?) {
        (None, None) => Some(0),
        (None, Some("chunked")) => None,
        (Some(length), None) if length.bytes().all(|b| b.is_ascii_digit()) => {
            Some(length.parse().map_err(|_| format!("the length {length:?}"))?)
        }
        (length, coding) => return Err(format!("length {length:?}, coding {coding:?}")),
    };
    let upgrades = one("upgrade")?.is_some();
    if upgrades != one("connection")?.is_some_and(|c| c.eq_ignore_ascii_case("upgrade")) {
        return Err(format!("half an upgrade: {text:?}"));
    }
    let (method, target) = (method.to_string(), target.to_string());
    Ok((Head { method, target, stamp, length }, upgrades))
}

impl Default for Strict {
    fn default() -> Strict {
        let (buffer, heard) = (Vec::new(), Vec::new());
        Strict { buffer, state: State::Head, heard, is_free: true }
    }
}

impl Strict {
    /// Bytes go to the backend; heads that are whole by now.
    pub fn sent(&mut self, bytes: &[u8], heads: &mut Vec<Head>) -> Result<(), String> {
        if self.state == State::Upgrade {
            let switched = self.heard.starts_with(b"HTTP/1.1 101");
            self.state = if switched { State::Tunnel } else { State::Head };
        }
        if self.state == State::Tunnel {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        while !self.buffer.is_empty() && self.step(heads)? {}
        Ok(())
    }

    /// Bytes came from the backend.
    pub fn heard(&mut self, bytes: &[u8]) {
        let room = "HTTP/1.1 101".len() - self.heard.len();
        self.heard.extend(&bytes[..room.min(bytes.len())]);
        self.is_free = true;
    }

    /// Takes the next element; false when it is not whole.
    fn step(&mut self, heads: &mut Vec<Head>) -> Result<bool, String> {
        match self.state {
            State::Head => {
                if !self.is_free {
                    return Err("a request before the answer to the last one".to_string());
                }
                let Some(text) = self.take(b"\r\n\r\n")? else { return Ok(false) };
                let (head, upgrades) = head(&text)?;
                self.state = match head.length {
                    _ if upgrades => State::Upgrade,
                    Some(length) => State::Length(length),
                    None => State::ChunkLine,
                };
                self.heard.clear();
                self.is_free = false;
                heads.push(head);
                if self.state == State::Upgrade && !self.buffer.is_empty() {
                    return Err("bytes behind an upgrade that is not answered".to_string());
                }
                self.end_length();
            }
            State::Length(length) => {
                let len = length.min(self.buffer.len());
                self.buffer.drain(..len);
                self.state = State::Length(length - len);
                self.end_length();
            }
            State::ChunkLine => {
                let Some(line) = self.take(b"\r\n")? else { return Ok(false) };
                let size = line.trim_end_matches("\r\n");
                let is_hex = !size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit());
                let size = usize::from_str_radix(size, 16).ok().filter(|_| is_hex);
                self.state = match size.ok_or_else(|| format!("a chunk's line {line:?}"))? {
                    0 => State::Trailers,
                    size => State::Chunk(size),
                };
            }
            State::Chunk(size) => {
                if self.buffer.len() < size + 2 {
                    return Ok(false);
                }
                let data: Vec<u8> = self.buffer.drain(..size + 2).collect();
                if !data.ends_with(b"\r\n") {
                    return Err("no end of a chunk".to_string());
                }
                self.state = State::ChunkLine;
            }
            State::Trailers => {
                let end: &[u8] =
                    if self.buffer.starts_with(b"\r\n") { b"\r\n" } else { b"\r\n\r\n" };
                let Some(text) = self.take(end)? else { return Ok(false) };
                for line in lines(&text)? {
                    field(line)?;
                }
                self.state = State::Head;
            }
            State::Upgrade | State::Tunnel => return Ok(false),
        }
        Ok(true)
    }

    fn end_length(&mut self) {
        if self.state == State::Length(0) {
            self.state = State::Head;
        }
    }

    /// The text up to and with `end`, once it is there.
    fn take(&mut self, end: &[u8]) -> Result<Option<String>, String> {
        // Few bytes are the first of an end: most are passed over one by one.
        let is_end = |at: &usize| self.buffer[*at..].starts_with(end);
        let first = |(at, byte): (usize, &u8)| (*byte == end[0]).then_some(at);
        let found = self.buffer.iter().enumerate().filter_map(first).find(is_end);
        let Some(at) = found else { return Ok(None) };
        let text = self.buffer.drain(..at + end.len()).collect();
        String::from_utf8(text).map(Some).map_err(|_| "a head that is no text".to_string())
    }
}

/// A router sent a request: its client's, as that framed it.
pub fn sent(router: usize, head: &Head, ledger: &Ledger, net: &mut Network) {
    let number = head.stamp.split_once('.').and_then(|(_, n)| n.parse::<u64>().ok());
    if head.stamp.starts_with("stranger.") {
        // Whom nobody keeps account of.
        return;
    }
    let wrong = match ledger.requests.get(&head.stamp) {
        // The client may have given up and be forgotten.
        None => number.is_none_or(|n| n > ledger.stamped),
        Some(meant) => {
            let length = (!meant.is_chunked).then_some(meant.body.len());
            meant.router != router || meant.method != head.method || length != head.length
        }
    };
    if wrong {
        let text = format!("router {router} sent what no client of it did: {head:?}");
        net.trace.violated(net.now, "D6", text);
    }
}

/// All is at rest: what the router says it sent.
pub fn at_rest(router: &Router, net: &mut Network) {
    let Some(process) = &router.process else { return };
    let (says, sent) = (process.worker.counters().upstream_bytes_out, process.driver.sent_up);
    if says != sent {
        let text = format!("router {} says {says} bytes, and sent {sent}", router.index);
        net.trace.violated(net.now, "D6", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\nX-Stamp: 1.1\r\n\r\n";

    fn read(text: &str) -> Result<usize, String> {
        let (mut strict, mut heads) = (Strict::default(), Vec::new());
        strict.sent(text.as_bytes(), &mut heads)?;
        Ok(heads.len())
    }

    #[test]
    fn what_is_a_request() {
        assert_eq!(read(GET), Ok(1));
        let post = GET.replace("GET", "POST");
        let with = |field: &str| post.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"));
        assert_eq!(read(&(with("Content-Length: 2") + "ab")), Ok(1));
        let chunked = with("Transfer-Encoding: chunked");
        assert_eq!(read(&format!("{chunked}2\r\nab\r\n0\r\nX: y\r\n\r\n")), Ok(1));
        for bad in [
            with("Content-Length: 2") + "abc",
            with("Content-Length: +2"),
            with("Content-Length: 2\r\nContent-Length: 2"),
            with("Content-Length: 2\r\nTransfer-Encoding: chunked"),
            with("Transfer-Encoding: gzip, chunked"),
            with("X : y"),
            with(" folded"),
            with("X: a\nb"),
            with("Host: i"),
            with("Upgrade: websocket"),
            format!("{chunked}2;x\r\nab\r\n"),
            format!("{chunked}2\r\nabc\r\n"),
            format!("{chunked}0\r\nno field\r\n\r\n"),
            GET.replace("HTTP/1.1", "HTTP/1.0"),
            GET.replace("/ ", "http://h/ "),
            GET.replace("/ ", "/a b "),
            format!("{GET}{GET}"),
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_follows_an_upgrade() {
        let ask = GET.replace("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        for (answer, then) in [("HTTP/1.1 101 x", "no HTTP\r\n\r\n"), ("HTTP/1.1 200 x", GET)] {
            let (mut strict, mut heads) = (Strict::default(), Vec::new());
            strict.sent(ask.as_bytes(), &mut heads).unwrap();
            strict.heard(answer.as_bytes());
            strict.sent(then.as_bytes(), &mut heads).unwrap();
        }
    }
}
