//! The beginning of a TLS connection: the ClientHello and the server name in it (RFC 8446 §4.1.2,
//! RFC 6066 §3), read before a TLS stack is given anything.
//!
//! In: the first bytes of a connection. Out: that more are needed, the server name, or that this is
//! no ClientHello. A hello may be cut into records anywhere. Nothing is verified but what is needed
//! to find the name; the TLS stack reads the same bytes again.

use crate::limits::{MAX_CLIENT_HELLO_BYTES, MAX_NAME_BYTES};

/// Why the bytes are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// They are not a TLS ClientHello (plain HTTP on a TLS port, for example).
    NotTls,
    /// The hello is longer than MAX_CLIENT_HELLO_BYTES.
    TooLong,
}

/// What a ClientHello says, as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello {
    name: [u8; MAX_NAME_BYTES as usize],
    name_len: u8,
}

const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

impl ClientHello {
    /// Reads a hello; None when more bytes are needed.
    pub fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
        let Some(available) = handshake_bytes(bytes)? else { return Ok(None) };
        let mut message = Message { bytes, record_left: 0, left: available };
        if available < 4 {
            return Ok(None);
        }
        if message.u8()? != CLIENT_HELLO {
            return Err(HelloError::NotTls);
        }
        let len = usize::from(message.u8()?) << 16 | usize::from(message.u16()?);
        if len > MAX_CLIENT_HELLO_BYTES as usize {
            return Err(HelloError::TooLong);
        }
        if len > message.left {
            return Ok(None);
        }
        message.left = len;
        read(&mut message).map(Some)
    }

    /// The server name, as sent, without a trailing dot; empty when there is none.
    pub fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }
}

/// Handshake bytes in the records at hand; None when even the first header is not whole.
fn handshake_bytes(bytes: &[u8]) -> Result<Option<usize>, HelloError> {
    let (mut at, mut sum) = (0, 0);
    // Bounded: each turn takes a header.
    while at < bytes.len() {
        let header = &bytes[at..bytes.len().min(at + RECORD_HEADER)];
        if header[0] != HANDSHAKE || header.get(1).is_some_and(|&major| major != 3) {
            // Behind the hello other records may follow.
            return if at > 0 { Ok(Some(sum)) } else { Err(HelloError::NotTls) };
        }
        if header.len() < RECORD_HEADER {
            break;
        }
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if len == 0 || len > 1 << 14 {
            return Err(HelloError::NotTls);
        }
        at += RECORD_HEADER;
        sum += len.min(bytes.len() - at);
        at += len;
        if sum > MAX_CLIENT_HELLO_BYTES as usize + 4 {
            // What follows a hello has no business here yet.
            break;
        }
    }
    Ok(if at == 0 { None } else { Some(sum) })
}

/// A handshake message across records: their headers are stepped over.
struct Message<'b> {
    bytes: &'b [u8],
    record_left: usize,
    left: usize,
}

impl Message<'_> {
    fn u8(&mut self) -> Result<u8, HelloError> {
        if self.left == 0 {
            return Err(HelloError::NotTls);
        }
        if self.record_left == 0 {
            let header = self.bytes.get(3..RECORD_HEADER).ok_or(HelloError::NotTls)?;
            self.record_left = usize::from(u16::from_be_bytes([header[0], header[1]]));
            self.bytes = &self.bytes[RECORD_HEADER..];
        }
        let (&first, rest) = self.bytes.split_first().ok_or(HelloError::NotTls)?;
        (self.bytes, self.record_left, self.left) = (rest, self.record_left - 1, self.left - 1);
        Ok(first)
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn skip(&mut self, len: usize) -> Result<(), HelloError> {
        for _ in 0..len {
            self.u8()?;
        }
        Ok(())
    }
}

fn read(message: &mut Message<'_>) -> Result<ClientHello, HelloError> {
    let mut hello = ClientHello { name: [0; MAX_NAME_BYTES as usize], name_len: 0 };
    // legacy_version, random.
    message.skip(2 + 32)?;
    let session = message.u8()?;
    message.skip(usize::from(session))?;
    let suites = message.u16()?;
    message.skip(usize::from(suites))?;
    let compressions = message.u8()?;
    message.skip(usize::from(compressions))?;
    if message.left == 0 {
        // No extensions: TLS 1.2 and older allow it.
        return Ok(hello);
    }
    let extensions = usize::from(message.u16()?);
    if extensions != message.left {
        return Err(HelloError::NotTls);
    }
    while message.left > 0 {
        let (kind, len) = (message.u16()?, usize::from(message.u16()?));
        if len > message.left {
            return Err(HelloError::NotTls);
        }
        let after = message.left - len;
        if kind == SERVER_NAME && len > 0 {
            server_name(message, &mut hello)?;
        }
        // A list that says it is longer than its extension has read into the next one.
        let rest = message.left.checked_sub(after).ok_or(HelloError::NotTls)?;
        message.skip(rest)?;
    }
    Ok(hello)
}

/// The first host_name of the list; there may be one at most.
fn server_name(message: &mut Message<'_>, hello: &mut ClientHello) -> Result<(), HelloError> {
    // The list's own length says nothing that the extension's does not.
    message.skip(2)?;
    let kind = message.u8()?;
    let len = usize::from(message.u16()?);
    if kind != HOST_NAME {
        return Ok(());
    }
    if len > hello.name.len() {
        return Err(HelloError::NotTls);
    }
    for place in &mut hello.name[..len] {
        *place = message.u8()?;
    }
    hello.name_len = len as u8;
    if hello.name().ends_with(b".") {
        hello.name_len -= 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::Prng;
    use std::vec;
    use std::vec::Vec;

    fn prefixed(len_bytes: usize, content: &[u8]) -> Vec<u8> {
        let len = (content.len() as u32).to_be_bytes();
        [&len[4 - len_bytes..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &prefixed(2, content)].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        let entry = [&[HOST_NAME][..], &prefixed(2, name)].concat();
        extension(SERVER_NAME, &prefixed(2, &entry))
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(prefixed(1, &[9; 32]));
        body.extend(prefixed(2, &[0x13, 0x01, 0x13, 0x02]));
        body.extend(prefixed(1, &[0]));
        body.extend(prefixed(2, extensions));
        [&[CLIENT_HELLO][..], &prefixed(3, &body)].concat()
    }

    /// Cut into records of `size` bytes.
    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |piece: &[u8]| [&[HANDSHAKE, 3, 1][..], &prefixed(2, piece)].concat();
        message.chunks(size).flat_map(record).collect()
    }

    fn name_of(bytes: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
        Ok(ClientHello::parse(bytes)?.map(|hello| hello.name().to_vec()))
    }

    #[test]
    fn the_name_however_it_is_cut() {
        let extensions =
            [extension(43, &[2, 3, 4]), sni(b"a.example"), extension(10, &[0; 40])].concat();
        let message = message(&extensions);
        for size in [1, 2, 7, 100, 1 << 14] {
            let bytes = records(&message, size);
            for len in 0..bytes.len() {
                assert_eq!(name_of(&bytes[..len]), Ok(None), "{len} of records of {size}");
            }
            assert_eq!(name_of(&bytes), Ok(Some(b"a.example".to_vec())));
            let more = [&bytes[..], &[HANDSHAKE, 3, 3, 0, 1, 0]].concat();
            assert_eq!(name_of(&more), Ok(Some(b"a.example".to_vec())));
        }
    }

    #[test]
    fn names_of_all_kinds() {
        let of = |extensions: &[u8]| name_of(&records(&message(extensions), 1 << 14));
        assert_eq!(of(&[]), Ok(Some(vec![])));
        assert_eq!(of(&extension(43, &[1])), Ok(Some(vec![])));
        assert_eq!(of(&extension(SERVER_NAME, &[])), Ok(Some(vec![])));
        assert_eq!(of(&sni(b"a.example.")), Ok(Some(b"a.example".to_vec())));
        assert_eq!(of(&sni(&[b'a'; 253])), Ok(Some(vec![b'a'; 253])));
        assert_eq!(of(&sni(&[b'a'; 254])), Err(HelloError::NotTls));
        let lies = extension(SERVER_NAME, &[0, 9, HOST_NAME, 0, 9, b'a']);
        assert_eq!(of(&lies), Err(HelloError::NotTls));
        let long = extension(21, &vec![0; MAX_CLIENT_HELLO_BYTES as usize]);
        assert_eq!(of(&long), Err(HelloError::TooLong));
    }

    #[test]
    fn what_is_not_tls() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x80, 46], &[HANDSHAKE, 2, 0]] {
            assert_eq!(name_of(bytes), Err(HelloError::NotTls));
        }
        assert_eq!(name_of(&[HANDSHAKE, 3, 1, 0, 0]), Err(HelloError::NotTls), "an empty record");
        let server = records(&[2, 0, 0, 1, 0], 99);
        assert_eq!(name_of(&server), Err(HelloError::NotTls));
    }

    #[test]
    fn nothing_crashes_it() {
        let mut prng = Prng::new(1);
        let good = records(&message(&sni(b"a.example")), 50);
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..prng.range(1, 4) {
                let at = prng.below(bad.len() as u64) as usize;
                bad[at] = prng.below(256) as u8;
            }
            bad.truncate(prng.below(bad.len() as u64 + 1) as usize);
            let _ = ClientHello::parse(&bad);
        }
    }
}
