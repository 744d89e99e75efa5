//! A message put together in place: the head in front of the payload, chunk framing around it, so
//! that one contiguous send suffices and no body byte is copied.
//!
//! In: a buffer with payload somewhere behind its headroom, a rendered head. Out: the range to
//! send.

use super::exchange::Coding;
use crate::wire::http1::body::{CHUNK_CLOSE, CHUNK_OPEN_BYTES, LAST_CHUNK, chunk_open};
use crate::wire::http1::body::{LAST_CHUNK_OPEN, TRAILERS_CLOSE};
use core::ops::Range;

/// Whether a head has room in front of a payload that begins at `start`; edits may make it longer
/// than the headroom allows.
pub fn has_room(start: usize, head_len: usize) -> bool {
    start >= head_len + CHUNK_OPEN_BYTES
}

/// Puts `head` (empty when it is out already) and the framing of a coding around a payload.
/// `is_done`: it is the body's last; trailers follow if there is room for them. None when the
/// headroom does not suffice.
pub fn assemble(
    bytes: &mut [u8],
    payload: Range<usize>,
    coding: Coding,
    is_done: bool,
    head: &[u8],
    trailers: &[u8],
) -> Option<Range<usize>> {
    let (mut start, mut end) = (payload.start, payload.end);
    if coding == Coding::Chunked {
        if !payload.is_empty() {
            if start < CHUNK_OPEN_BYTES {
                return None;
            }
            end = put(bytes, end, CHUNK_CLOSE)?;
            start = chunk_open(bytes, start, payload.len());
        }
        if is_done {
            end = match with_trailers(bytes, end, trailers) {
                Some(end) => end,
                None => put(bytes, end, LAST_CHUNK)?,
            };
        }
    }
    let begin = start.checked_sub(head.len())?;
    bytes.get_mut(begin..start)?.copy_from_slice(head);
    Some(begin..end)
}

/// The last chunk with trailers; None when there are none, or no room for them.
fn with_trailers(bytes: &mut [u8], at: usize, trailers: &[u8]) -> Option<usize> {
    let needed = LAST_CHUNK_OPEN.len() + trailers.len() + TRAILERS_CLOSE.len();
    if trailers.is_empty() || bytes.len() - at < needed {
        return None;
    }
    let at = put(bytes, at, LAST_CHUNK_OPEN)?;
    let at = put(bytes, at, trailers)?;
    put(bytes, at, TRAILERS_CLOSE)
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) -> Option<usize> {
    bytes.get_mut(at..at + part.len())?.copy_from_slice(part);
    Some(at + part.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(coding: Coding, done: bool, payload: &str, head: &str, expected: &str) {
        let mut bytes = [b'.'; 64];
        bytes[30..30 + payload.len()].copy_from_slice(payload.as_bytes());
        let payload = 30..30 + payload.len();
        let range = assemble(&mut bytes, payload, coding, done, head.as_bytes(), b"").unwrap();
        assert_eq!(core::str::from_utf8(&bytes[range]).unwrap(), expected);
    }

    #[test]
    fn around_a_payload() {
        check(Coding::Plain, true, "body", "head|", "head|body");
        check(Coding::Plain, false, "", "head|", "head|");
        check(Coding::UntilClose, false, "body", "", "body");
        check(Coding::Chunked, false, "body", "head|", "head|4\r\nbody\r\n");
        check(Coding::Chunked, true, "body", "", "4\r\nbody\r\n0\r\n\r\n");
        check(Coding::Chunked, true, "", "h", "h0\r\n\r\n");
        check(Coding::Chunked, false, "", "h", "h");
        let mut bytes = [0; 64];
        assert_eq!(assemble(&mut bytes, 4..8, Coding::Plain, true, b"12345", b""), None);
        assert_eq!(assemble(&mut bytes, 60..64, Coding::Chunked, true, b"", b""), None);
    }

    #[test]
    fn trailers_where_there_is_room() {
        for (len, expected) in
            [(64, "4\r\nbody\r\n0\r\nT: x\r\n\r\n"), (45, "4\r\nbody\r\n0\r\n\r\n")]
        {
            let mut bytes = std::vec![b'.'; len];
            bytes[30..34].copy_from_slice(b"body");
            let range = assemble(&mut bytes, 30..34, Coding::Chunked, true, b"", b"T: x\r\n");
            assert_eq!(core::str::from_utf8(&bytes[range.unwrap()]).unwrap(), expected);
        }
    }
}
