//! Bodies: how long they are (RFC 9112 section 6.3) and the chunked coding as a state machine.
//!
//! In: a body's framing, then its bytes in pieces of any size. Out: per piece where its payload
//! lies (moved together in place), how many bytes were consumed, and whether the body is whole.
//! Chunk extensions are parsed, bounded and dropped; trailers are parsed, bounded and left where
//! they are, for those who pass them on.

use crate::limits::{MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Until the sender closes (responses only).
    UntilClose,
}

/// What is wrong with a body. The connection cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk's size is missing, has a sign or prefix, or does not fit.
    ChunkSize,
    /// A chunk's line is longer than [`MAX_CHUNK_LINE_BYTES`] or holds a control character.
    ChunkLine,
    /// A chunk's data is not followed by CRLF.
    ChunkEnd,
    /// Trailers are malformed or longer than [`MAX_TRAILER_BYTES`].
    Trailer,
}

/// What one piece of a body contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Where the payload begins in the piece.
    pub start: usize,
    /// Payload bytes, together from `start` on.
    pub len: usize,
    /// Bytes of the piece that belong to this body; what follows is the next message.
    pub consumed: usize,
    /// Where the piece's part of the trailer section begins.
    pub trailer_start: usize,
    /// Bytes of it, up to the CR of the empty line that ends the section.
    pub trailer_len: usize,
    /// The section begins in this piece.
    pub trailer_begins: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    Length,
    UntilClose,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

/// Finds the payload of one body.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Bytes left of the body, of the chunk, or of the size's digits so far.
    left: u64,
    /// Bytes of the current chunk line, or of the trailers.
    line: u32,
    digits: u8,
    state: State,
}

crate::zeroed_enum!(State { Done });
crate::zeroed_struct!(Decoder { left: u64, line: u32, digits: u8, state: State });

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new(Framing::None)
    }
}

impl Decoder {
    /// At the start of a body.
    pub fn new(framing: Framing) -> Self {
        let (state, left) = match framing {
            Framing::None | Framing::Length(0) => (State::Done, 0),
            Framing::Length(n) => (State::Length, n),
            Framing::Chunked => (State::Size, 0),
            Framing::UntilClose => (State::UntilClose, 0),
        };
        Decoder { left, line: 0, digits: 0, state }
    }

    /// Whether the body is whole. Never for a body that ends with the connection.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the body ends when its sender closes.
    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Reads the next piece. Payload of several chunks is moved together inside the piece.
    pub fn decode(&mut self, piece: &mut [u8]) -> Result<Decoded, BodyError> {
        match self.state {
            State::Done => Ok(Decoded::default()),
            State::UntilClose => {
                Ok(Decoded { len: piece.len(), consumed: piece.len(), ..Decoded::default() })
            }
            State::Length => {
                let len = piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= len as u64;
                if self.left == 0 {
                    self.state = State::Done;
                }
                Ok(Decoded { len, consumed: len, ..Decoded::default() })
            }
            _ => self.decode_chunks(piece),
        }
    }

    fn decode_chunks(&mut self, piece: &mut [u8]) -> Result<Decoded, BodyError> {
        let mut out = Decoded::default();
        let mut at = 0;
        while at < piece.len() && self.state != State::Done {
            if self.state != State::Data {
                if self.is_in_trailers() {
                    if out.trailer_len == 0 {
                        out.trailer_start = at;
                        out.trailer_begins = self.state == State::LineStart && self.line == 0;
                    }
                    out.trailer_len = at + 1 - out.trailer_start;
                }
                self.step(piece[at])?;
                at += 1;
                continue;
            }
            let rest = piece.len() - at;
            let take = rest.min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if out.len == 0 {
                out.start = at;
            } else {
                piece.copy_within(at..at + take, out.start + out.len);
            }
            out.len += take;
            at += take;
            self.left -= take as u64;
            if self.left == 0 {
                self.state = State::DataCr;
            }
        }
        assert!(out.start + out.len <= at && at <= piece.len());
        out.consumed = at;
        Ok(out)
    }

    fn is_in_trailers(&self) -> bool {
        matches!(
            self.state,
            State::LineStart | State::TrailerName | State::TrailerValue | State::TrailerLf
        )
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> Result<(), BodyError> {
        self.state = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => self.digit(byte)?,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) => {
                self.line += 1;
                if self.line > MAX_CHUNK_LINE_BYTES || is_control(byte) {
                    return Err(BodyError::ChunkLine);
                }
                State::Extension
            }
            (State::SizeLf, b'\n') => {
                (self.line, self.digits) = (0, 0);
                if self.left == 0 { State::LineStart } else { State::Data }
            }
            (State::SizeLf, _) => return Err(BodyError::ChunkLine),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::DataCr | State::DataLf, _) => return Err(BodyError::ChunkEnd),
            (State::LineStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::Done,
            (state, _) => self.trailer(state, byte)?,
        };
        Ok(())
    }

    /// One digit of a chunk's size: hexadecimal, at most 15 of them, so that nothing overflows.
    fn digit(&mut self, byte: u8) -> Result<State, BodyError> {
        let digit = char::from(byte).to_digit(16).ok_or(BodyError::ChunkSize)?;
        if self.digits == 15 {
            return Err(BodyError::ChunkSize);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn trailer(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        self.line += 1;
        if self.line > MAX_TRAILER_BYTES {
            return Err(BodyError::Trailer);
        }
        match (state, byte) {
            (State::LineStart | State::TrailerName, _) if super::field::is_token(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if !is_control(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::LineStart),
            _ => Err(BodyError::Trailer),
        }
    }
}

fn is_control(byte: u8) -> bool {
    byte != b'\t' && (byte < 0x20 || byte == 0x7f)
}

/// Bytes that [`chunk_open`] may need.
pub const CHUNK_OPEN_BYTES: usize = 18;
/// What ends a chunk's data.
pub const CHUNK_CLOSE: &[u8] = b"\r\n";
/// What ends a chunked body: the last chunk and no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The last chunk, when trailers follow it.
pub const LAST_CHUNK_OPEN: &[u8] = b"0\r\n";
/// What ends a trailer section.
pub const TRAILERS_CLOSE: &[u8] = b"\r\n";

/// Writes the line that opens a chunk of `len` bytes so that it *ends* at `end`; where it begins.
pub fn chunk_open(bytes: &mut [u8], end: usize, len: usize) -> usize {
    assert!(len > 0 && end >= CHUNK_OPEN_BYTES);
    bytes[end - 2..end].copy_from_slice(b"\r\n");
    let (mut at, mut rest) = (end - 2, len);
    while rest > 0 {
        at -= 1;
        bytes[at] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Decodes in pieces of `step` bytes; the payload, the bytes left over, whether it is whole.
    fn run(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let mut decoder = Decoder::new(Framing::Chunked);
        let (mut payload, mut at) = (Vec::new(), 0);
        while at < input.len() && !decoder.is_done() {
            let mut piece = input[at..(at + step).min(input.len())].to_vec();
            let decoded = decoder.decode(&mut piece)?;
            payload.extend_from_slice(&piece[decoded.start..decoded.start + decoded.len]);
            at += decoded.consumed;
        }
        Ok((payload, input.len() - at, decoder.is_done()))
    }

    fn check(input: &str, expected: Result<(&str, usize, bool), BodyError>) {
        for step in 1..=input.len().max(1) {
            let got = run(input.as_bytes(), step);
            let expected = expected.map(|(p, rest, done)| (p.as_bytes().to_vec(), rest, done));
            assert_eq!(got, expected, "{input:?} in steps of {step}");
        }
    }

    /// A piece that is payload and nothing else.
    fn plain(len: usize) -> Decoded {
        Decoded { len, consumed: len, ..Decoded::default() }
    }

    #[test]
    fn chunked_in_pieces_of_any_size() {
        check("0\r\n\r\n", Ok(("", 0, true)));
        check(
            "5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\nZ:\r\n\r\nGET /",
            Ok(("hello world", 5, true)),
        );
        check("000a\r\n0123456789\r\n00\r\n\r\n", Ok(("0123456789", 0, true)));
        check("A;x=\"y z\"\r\n0123456789\r\n", Ok(("0123456789", 0, false)));
    }

    #[test]
    fn chunked_that_is_refused() {
        for (input, error) in [
            ("\r\n", BodyError::ChunkSize),
            (";a\r\n", BodyError::ChunkSize),
            ("+5\r\n", BodyError::ChunkSize),
            ("-1\r\n", BodyError::ChunkSize),
            ("0x5\r\n", BodyError::ChunkSize),
            (" 5\r\n", BodyError::ChunkSize),
            ("5 \r\n", BodyError::ChunkSize),
            ("5\n", BodyError::ChunkSize),
            ("1234567890abcdef\r\n", BodyError::ChunkSize),
            ("5\rx", BodyError::ChunkLine),
            ("5;a\nb", BodyError::ChunkLine),
            ("5;\0", BodyError::ChunkLine),
            ("1\r\nab", BodyError::ChunkEnd),
            ("1\r\na\n", BodyError::ChunkEnd),
            ("1\r\na\rb", BodyError::ChunkEnd),
            ("0\r\n\n", BodyError::Trailer),
            ("0\r\n x: y\r\n\r\n", BodyError::Trailer),
            ("0\r\nnocolon\r\n\r\n", BodyError::Trailer),
            ("0\r\nx : y\r\n\r\n", BodyError::Trailer),
            ("0\r\nx: y\n\r\n", BodyError::Trailer),
        ] {
            check(input, Err(error));
        }
    }

    #[test]
    fn chunk_line_and_trailers_at_max_and_one_more() {
        let line = |n: usize| std::format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(n));
        let max = MAX_CHUNK_LINE_BYTES as usize;
        assert!(run(line(max).as_bytes(), 4096).is_ok());
        assert_eq!(run(line(max + 1).as_bytes(), 4096), Err(BodyError::ChunkLine));
        // "a:" + value + CRLF count; the final CRLF does not.
        let trailer = |n: usize| std::format!("0\r\na:{}\r\n\r\n", "x".repeat(n - 4));
        let max = MAX_TRAILER_BYTES as usize;
        assert!(run(trailer(max).as_bytes(), 1 << 20).unwrap().2);
        assert_eq!(run(trailer(max + 1).as_bytes(), 1 << 20), Err(BodyError::Trailer));
    }

    #[test]
    fn lengths_and_until_close() {
        let mut decoder = Decoder::new(Framing::Length(5));
        let mut piece = *b"abc";
        assert_eq!(decoder.decode(&mut piece), Ok(plain(3)));
        let mut piece = *b"deGET";
        assert_eq!(decoder.decode(&mut piece), Ok(plain(2)));
        assert!(decoder.is_done());
        assert!(Decoder::new(Framing::Length(0)).is_done());
        assert!(!Decoder::new(Framing::UntilClose).is_done());
    }

    #[test]
    fn chunk_open_ends_where_told() {
        for (len, text) in [(1, "1\r\n"), (0xfff, "fff\r\n"), (65536, "10000\r\n")] {
            let mut bytes = [b'.'; 32];
            let start = chunk_open(&mut bytes, 20, len);
            assert_eq!(&bytes[start..20], text.as_bytes());
            assert_eq!(bytes[start - 1], b'.');
        }
    }
}
