//! HTTP/1.1 as clients, backends and the API server of the simulator read it: slow and obvious,
//! apart from the product's own reader.
//!
//! In: bytes, cut anywhere. Out: messages, with their bodies decoded.

use crate::marks::sometimes;
use serval::stdx::Prng;

/// A message.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    /// Fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body so far.
    pub body: Vec<u8>,
    /// The fields behind a chunked body, names in lower case.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a field, joined by commas; None when it is not there.
    pub fn joined(&self, name: &str) -> Option<String> {
        let values = self.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let values: Vec<&str> = values.collect();
        if values.is_empty() { None } else { Some(values.join(",")) }
    }

    /// A word of the start line.
    pub fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or("")
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Head,
    Length(usize),
    Chunk,
    UntilClose,
}

/// What comes next.
#[derive(Clone, Debug)]
pub enum Next {
    More,
    /// A head is read ([`Reader::message`]); its body follows.
    Head,
    /// A message is whole.
    Done(Message),
    /// Not HTTP.
    Bad(String),
}

/// Chunk extensions that a recipient ignores (RFC 9112 section 7.1.1).
const EXTENSIONS: [&str; 4] = [
    ";x",
    ";name=value",
    "; q=\"a b; c\"",
    ";long=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
];

/// A body in chunks, in some messages with extensions, and a section of trailers behind it.
pub fn chunked(body: &[u8], most: u64, section: &str, prng: &mut Prng) -> Vec<u8> {
    let extended = prng.chance(1, 4);
    if extended {
        sometimes("a chunk has an extension");
    }
    let mut extension = || match extended {
        true => EXTENSIONS[prng.below(EXTENSIONS.len() as u64) as usize],
        false => "",
    };
    let mut out = Vec::new();
    for piece in body.chunks(most as usize) {
        out.extend(format!("{:x}{}\r\n", piece.len(), extension()).bytes());
        out.extend(piece);
        out.extend(b"\r\n");
    }
    out.extend(format!("0{}\r\n{section}\r\n", extension()).bytes());
    out
}

/// Reads messages one after the other.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    mode: Mode,
    message: Message,
    is_response: bool,
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

impl Reader {
    /// Of requests or of responses.
    pub fn new(is_response: bool) -> Reader {
        let message = Message::default();
        Reader { buffer: Vec::new(), mode: Mode::Head, message, is_response }
    }

    /// Bytes came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether it stands between two messages with nothing left.
    pub fn is_idle(&self) -> bool {
        self.mode == Mode::Head && self.buffer.is_empty()
    }

    /// The next step. `bodiless`: the next response has no body (HEAD). `ended`: no byte follows.
    pub fn next(&mut self, bodiless: bool, ended: bool) -> Next {
        match self.mode {
            Mode::Head => self.head(bodiless),
            Mode::Length(len) => {
                let take = (len - self.message.body.len()).min(self.buffer.len());
                self.message.body.extend(self.buffer.drain(..take));
                if self.message.body.len() == len { self.done() } else { Next::More }
            }
            Mode::UntilClose => {
                let all = self.buffer.len();
                self.message.body.extend(self.buffer.drain(..all));
                if ended { self.done() } else { Next::More }
            }
            Mode::Chunk => self.chunk(),
        }
    }

    fn done(&mut self) -> Next {
        self.mode = Mode::Head;
        Next::Done(core::mem::take(&mut self.message))
    }

    fn head(&mut self, bodiless: bool) -> Next {
        let Some(end) = find(&self.buffer, b"\r\n\r\n") else { return Next::More };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let Ok(text) = String::from_utf8(head) else { return Next::Bad("not text".into()) };
        let (start, rest) = text.split_once("\r\n").unwrap_or((&text, ""));
        let (start, fields) = (
            start.to_string(),
            match fields(rest) {
                Ok(fields) => fields,
                Err(bad) => return bad,
            },
        );
        self.message = Message { start, fields, ..Message::default() };
        let (length, coding) =
            (self.message.field("content-length"), self.message.field("transfer-encoding"));
        if length.is_some() && coding.is_some() {
            return Next::Bad("two framings".into());
        }
        let status = self.message.status();
        let none = self.is_response && (bodiless || matches!(status, 100..=199 | 204 | 304));
        self.mode = match (length.map(str::parse), coding) {
            _ if none => Mode::Length(0),
            (Some(Ok(len)), _) => Mode::Length(len),
            (Some(Err(_)), _) => return Next::Bad("content-length".into()),
            (None, Some("chunked")) => Mode::Chunk,
            (None, Some(other)) => return Next::Bad(format!("coding {other}")),
            (None, None) if self.is_response => Mode::UntilClose,
            (None, None) => Mode::Length(0),
        };
        Next::Head
    }

    /// The message that is read.
    pub fn message(&self) -> &Message {
        &self.message
    }

    fn chunk(&mut self) -> Next {
        loop {
            let Some(line) = find(&self.buffer, b"\r\n") else { return Next::More };
            let text = String::from_utf8_lossy(&self.buffer[..line]).to_string();
            let size = text.split(';').next().unwrap_or("");
            let Ok(size) = usize::from_str_radix(size, 16) else {
                return Next::Bad(format!("chunk size {text:?}"));
            };
            if size == 0 {
                return self.trailers(line + 2);
            }
            if self.buffer.len() < line + 2 + size + 2 {
                return Next::More;
            }
            let data = line + 2..line + 2 + size;
            if &self.buffer[data.end..data.end + 2] != b"\r\n" {
                return Next::Bad("no end of a chunk".into());
            }
            self.message.body.extend_from_slice(&self.buffer[data.clone()]);
            self.buffer.drain(..data.end + 2);
        }
    }

    /// The section behind the last chunk, which begins at `from`.
    fn trailers(&mut self, from: usize) -> Next {
        let rest = &self.buffer[from..];
        let len = match find(rest, b"\r\n\r\n") {
            _ if rest.starts_with(b"\r\n") => 2,
            Some(end) => end + 4,
            None => return Next::More,
        };
        let text = String::from_utf8_lossy(&rest[..len]).to_string();
        match fields(&text) {
            Ok(fields) => self.message.trailers = fields,
            Err(bad) => return bad,
        }
        self.buffer.drain(..from + len);
        self.done()
    }

    /// What was read and belongs to no message: all that follows one that switched protocols.
    pub fn rest(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.buffer)
    }
}

/// Lines of fields, up to an empty one.
fn fields(text: &str) -> Result<Vec<(String, String)>, Next> {
    let mut fields = Vec::new();
    for line in text.split("\r\n").take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(Next::Bad(format!("no field: {line}")));
        };
        fields.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    Ok(fields)
}
