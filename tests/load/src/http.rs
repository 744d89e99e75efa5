//! HTTP/1.1 as a client, a backend and an API client need it; nothing of the product's parser.
//!
//! In: a blocking socket, with TLS or without. Out: heads and bodies, or how the message is broken.

use crate::tls::TlsStream;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No read or write takes longer.
pub const TIMEOUT: Duration = Duration::from_secs(10);

const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 64 << 10;

/// Why there is no whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The connection ended before its first byte.
    Ended,
    /// The connection ended inside it.
    Cut,
    /// Nothing came for [`TIMEOUT`].
    Timeout,
    /// The socket failed.
    Socket(ErrorKind),
    /// It is not HTTP as we write it.
    Malformed(&'static str),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Broken {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Broken::Timeout,
            kind => Broken::Socket(kind),
        }
    }
}

/// A head: its first line, and its fields.
#[derive(Clone, Debug)]
pub struct Head {
    /// Request line or status line.
    pub first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Head, Broken> {
        let text = std::str::from_utf8(bytes).map_err(|_| Broken::Malformed("head not UTF-8"))?;
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap_or_default().to_string();
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Broken::Malformed("field"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        Ok(Head { first, fields })
    }

    /// A field by its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether the sender closes after this message.
    pub fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// A response's status.
    pub fn status(&self) -> Result<u16, Broken> {
        let code = self.first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        code.and_then(|code| code.parse().ok()).ok_or(Broken::Malformed("status line"))
    }
}

/// A connection between two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing came.
    Quiet,
    /// The other side ended it.
    Ended,
    /// Bytes came that nobody asked for.
    Speaks,
}

/// With TLS or without.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream>),
}

/// A connection, and what was read of it beyond the last message.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    seen: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Wire, Broken> {
        Wire::of(TcpStream::connect_timeout(&address, TIMEOUT)?)
    }

    /// Takes a connection over.
    pub fn of(stream: TcpStream) -> Result<Wire, Broken> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream: Stream::Plain(stream), seen: Vec::new() })
    }

    /// Takes a connection with TLS over, its timeouts set.
    pub fn secure(stream: TlsStream) -> Wire {
        Wire { stream: Stream::Secure(Box::new(stream)), seen: Vec::new() }
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Secure(stream) => &stream.sock,
        }
    }

    /// For connections that may rest between messages.
    pub fn wait_for_ever(&self) -> Result<(), Broken> {
        Ok(self.socket().set_read_timeout(None)?)
    }

    /// No read or write takes longer than this from now on.
    pub fn limit(&self, limit: Duration) -> Result<(), Broken> {
        self.socket().set_read_timeout(Some(limit))?;
        Ok(self.socket().set_write_timeout(Some(limit))?)
    }

    /// Writes all.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(bytes)?,
            Stream::Secure(stream) => {
                stream.write_all(bytes)?;
                stream.flush()?;
            }
        }
        Ok(())
    }

    /// Whether nothing came that was not asked for, not even the end.
    pub fn is_quiet(&mut self) -> Result<bool, Broken> {
        Ok(self.rest()? == Rest::Quiet)
    }

    /// What came between two messages.
    pub fn rest(&mut self) -> Result<Rest, Broken> {
        if !self.seen.is_empty() {
            return Ok(Rest::Speaks);
        }
        if let Stream::Secure(stream) = &mut self.stream {
            // What rustls has read already.
            let read = stream.conn.reader().read(&mut [0]);
            if !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock) {
                return Ok(Rest::Ended);
            }
        }
        let socket = self.socket();
        socket.set_nonblocking(true)?;
        let peeked = socket.peek(&mut [0]);
        socket.set_nonblocking(false)?;
        Ok(match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Rest::Quiet,
            Ok(0) | Err(_) => Rest::Ended,
            // Of TLS it is an alert: a peer that closes says so.
            Ok(_) if matches!(self.stream, Stream::Secure(_)) => Rest::Ended,
            Ok(_) => Rest::Speaks,
        })
    }

    /// Whether the other side ends now, with nothing more to say.
    pub fn is_at_end(&mut self) -> Result<bool, Broken> {
        Ok(self.seen.is_empty() && self.fill()? == 0)
    }

    fn fill(&mut self) -> Result<usize, Broken> {
        let start = self.seen.len();
        self.seen.resize(start + READ_BYTES, 0);
        let read = match &mut self.stream {
            Stream::Plain(socket) => socket.read(&mut self.seen[start..]),
            Stream::Secure(stream) => stream.read(&mut self.seen[start..]),
        };
        self.seen.truncate(start + *read.as_ref().unwrap_or(&0));
        Ok(read?)
    }

    fn more(&mut self) -> Result<(), Broken> {
        if self.fill()? > 0 { Ok(()) } else { Err(Broken::Cut) }
    }

    fn take(&mut self, len: usize) -> Result<Vec<u8>, Broken> {
        while self.seen.len() < len {
            self.more()?;
        }
        Ok(self.seen.drain(..len).collect())
    }

    /// Up to and with `end`.
    fn until(&mut self, end: &[u8], limit: usize) -> Result<Vec<u8>, Broken> {
        let mut from = 0;
        loop {
            if let Some(at) = self.seen[from..].windows(end.len()).position(|w| w == end) {
                return self.take(from + at + end.len());
            }
            if self.seen.len() > limit {
                return Err(Broken::Malformed("too long"));
            }
            from = self.seen.len().saturating_sub(end.len() - 1);
            self.more()?;
        }
    }

    /// The next head.
    pub fn head(&mut self) -> Result<Head, Broken> {
        if self.seen.is_empty() && self.fill()? == 0 {
            return Err(Broken::Ended);
        }
        Head::parse(&self.until(b"\r\n\r\n", MAX_HEAD_BYTES)?)
    }

    /// The body that belongs to a head: chunked, of a length, or none.
    pub fn body(&mut self, head: &Head) -> Result<Vec<u8>, Broken> {
        if head.field("transfer-encoding").is_some() {
            return self.chunks();
        }
        let len = head.field("content-length").unwrap_or("0").parse();
        match len {
            Ok(len) if len <= MAX_BODY_BYTES => self.take(len),
            _ => Err(Broken::Malformed("content-length")),
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n", MAX_HEAD_BYTES)?;
            let size = std::str::from_utf8(&line).ok().map(|line| line.trim_end());
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.filter(|size| body.len() + size <= MAX_BODY_BYTES);
            let size = size.ok_or(Broken::Malformed("chunk size"))?;
            let data = self.take(size + 2)?;
            if &data[size..] != b"\r\n" {
                return Err(Broken::Malformed("chunk end"));
            }
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&data[..size]);
        }
    }
}

/// A message: its head's lines without framing, and its body, framed as asked.
pub fn message(lines: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    if !chunked {
        let head = format!("{lines}Content-Length: {}\r\n\r\n", body.len());
        return [head.as_bytes(), body].concat();
    }
    let mut message = format!("{lines}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    // Sizes that fit no buffer of anybody's.
    for piece in body.chunks(4_099) {
        message.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        message.extend_from_slice(piece);
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"0\r\n\r\n");
    message
}
