//! PEM in: the blocks of RFC 7468 text, decoded one by one into a fixed buffer.
//!
//! In: a CA bundle, a certificate chain or a key. Out: label and DER bytes of each block. Text
//! between blocks is ignored (RFC 7468 §2); encrypted keys (RFC 1421 header fields) are refused.

use super::base64::{self, Base64Error};

/// Why a block was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemError {
    /// A BEGIN line without its END line, or with another label.
    Unfinished,
    /// The text between is not base64.
    Base64,
    /// `Proc-Type`, `DEK-Info`: an encrypted key.
    Encrypted,
    /// The block is larger than the buffer.
    Full,
}

/// What a block holds, by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// `CERTIFICATE`
    Certificate,
    /// `PRIVATE KEY`: PKCS #8.
    Pkcs8Key,
    /// `RSA PRIVATE KEY`: PKCS #1.
    Pkcs1Key,
    /// `EC PRIVATE KEY`: SEC 1.
    Sec1Key,
    /// `ENCRYPTED PRIVATE KEY`
    EncryptedKey,
    /// Any other: parameters, public keys, requests.
    Other,
}

/// Iterates over the blocks of one text.
#[derive(Debug)]
pub struct Blocks<'t> {
    text: &'t [u8],
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

impl<'t> Blocks<'t> {
    /// Begins at the first block.
    pub fn new(text: &'t [u8]) -> Self {
        Blocks { text }
    }

    /// Decodes the next block into `out`: its label and size. None when there is no further one.
    pub fn next_into(&mut self, out: &mut [u8]) -> Option<Result<(Label, usize), PemError>> {
        let begin = find(self.text, BEGIN)?;
        let rest = &self.text[begin + BEGIN.len()..];
        self.text = b"";
        let Some(label_len) = find(rest, DASHES) else { return Some(Err(PemError::Unfinished)) };
        let (label, rest) = (&rest[..label_len], &rest[label_len + DASHES.len()..]);
        let Some(body_len) = find(rest, END) else { return Some(Err(PemError::Unfinished)) };
        let (body, rest) = (&rest[..body_len], &rest[body_len + END.len()..]);
        let closes = rest.strip_prefix(label).and_then(|rest| rest.strip_prefix(DASHES));
        let Some(rest) = closes else { return Some(Err(PemError::Unfinished)) };
        if body.contains(&b':') {
            return Some(Err(PemError::Encrypted));
        }
        self.text = rest;
        Some(match base64::decode(body, out) {
            Ok(len) => Ok((Label::of(label), len)),
            Err(Base64Error::Invalid) => Err(PemError::Base64),
            Err(Base64Error::Full) => Err(PemError::Full),
        })
    }
}

impl Label {
    fn of(label: &[u8]) -> Label {
        match label {
            b"CERTIFICATE" => Label::Certificate,
            b"PRIVATE KEY" => Label::Pkcs8Key,
            b"RSA PRIVATE KEY" => Label::Pkcs1Key,
            b"EC PRIVATE KEY" => Label::Sec1Key,
            b"ENCRYPTED PRIVATE KEY" => Label::EncryptedKey,
            _ => Label::Other,
        }
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn read(text: &str) -> Vec<Result<(Label, Vec<u8>), PemError>> {
        let mut out = [0; 8];
        let mut blocks = Blocks::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(block) = blocks.next_into(&mut out) {
            all.push(block.map(|(label, len)| (label, out[..len].to_vec())));
        }
        all
    }

    #[test]
    fn blocks_and_text_between() {
        let text = "subject=x\n-----BEGIN CERTIFICATE-----\nZm9v\nYmFy\n-----END CERTIFICATE-----\n\
            key:\r\n-----BEGIN PRIVATE KEY-----\r\nZg==\r\n-----END PRIVATE KEY-----";
        let expected =
            [Ok((Label::Certificate, b"foobar".to_vec())), Ok((Label::Pkcs8Key, b"f".to_vec()))];
        assert_eq!(read(text), expected);
        assert_eq!(read("no block"), []);
    }

    #[test]
    fn hostile_text_cut_anywhere() {
        let text = "-----BEGIN EC PRIVATE KEY-----\nZm9v\n-----END EC PRIVATE KEY-----";
        assert_eq!(read(text), [Ok((Label::Sec1Key, b"foo".to_vec()))]);
        for cut in 11..text.len() {
            assert_eq!(read(&text[..cut]), [Err(PemError::Unfinished)], "{cut}");
        }
        let other = text.replace("END EC", "END RSA");
        assert_eq!(read(&other), [Err(PemError::Unfinished)]);
        assert_eq!(read(&text.replace("Zm9v", "Zm9")), [Err(PemError::Base64)]);
        assert_eq!(
            read(&text.replace("Zm9v", "Proc-Type: 4,ENCRYPTED\n\nZm9v")),
            [Err(PemError::Encrypted)]
        );
        assert_eq!(read(&text.replace("Zm9v", "Zm9vZm9vZm9v")), [Err(PemError::Full)]);
    }
}
