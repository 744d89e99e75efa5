//! One bounded line: assembled from chunks cut anywhere, or drained and named when too large.
//!
//! In: bytes of a watch stream, of one list item, of one whole answer. Out: a line of at most
//! MAX_LINE_SIZE_BYTES, or the names of the object in a larger one (shared/kube-client.md, 11: a
//! line larger than the buffer is a capacity error of that object; the stream goes on).

use super::ResourceVersion;
use super::scan::{Scanner, Token};
use crate::limits::{KUBE_UID_BYTES, MAX_LABEL_BYTES, MAX_LINE_SIZE_BYTES, MAX_NAME_BYTES};
use crate::stdx::Inline;

/// Who an object is, read without parsing it whole; empty where not found.
#[derive(Debug)]
pub struct Names {
    /// `type` of the watch event.
    pub event: Inline<16>,
    /// `metadata.namespace`
    pub namespace: Inline<{ MAX_LABEL_BYTES as usize }>,
    /// `metadata.name`
    pub name: Inline<{ MAX_NAME_BYTES as usize }>,
    /// `metadata.uid`
    pub uid: Inline<{ KUBE_UID_BYTES as usize }>,
    /// `metadata.resourceVersion`
    pub resource_version: ResourceVersion,
}

crate::zeroed_struct!(Names {
    event: Inline<16>,
    namespace: Inline<{ MAX_LABEL_BYTES as usize }>,
    name: Inline<{ MAX_NAME_BYTES as usize }>,
    uid: Inline<{ KUBE_UID_BYTES as usize }>,
    resource_version: ResourceVersion,
});

impl Names {
    fn clear(&mut self) {
        self.event.clear();
        self.namespace.clear();
        self.name.clear();
        self.uid.clear();
        self.resource_version.clear();
    }
}

/// The name that the string at hand belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    None,
    Event,
    Namespace,
    Name,
    Uid,
    ResourceVersion,
}

crate::zeroed_enum!(Field { None });

/// Finds [`Names`] in bytes that come in pieces.
#[derive(Debug)]
struct Naming {
    scanner: Scanner,
    field: Field,
    names: Names,
}

crate::zeroed_struct!(Naming { scanner: Scanner, field: Field, names: Names });

impl Naming {
    fn clear(&mut self) {
        self.scanner.clear();
        self.field = Field::None;
        self.names.clear();
    }

    fn scan(&mut self, bytes: &[u8], in_event: bool) {
        for &byte in bytes {
            match self.scanner.step(byte) {
                Token::TextStart => {
                    self.field = field_at(&self.scanner, in_event);
                    self.reset_field();
                }
                Token::Text if self.field != Field::None && !self.push_field(byte) => {
                    self.reset_field();
                    self.field = Field::None;
                }
                // Names of Kubernetes need no escapes: whoever sends one is not understood.
                Token::TextEscape => {
                    self.reset_field();
                    self.field = Field::None;
                }
                Token::TextEnd => self.field = Field::None,
                _ => {}
            }
        }
    }

    fn push_field(&mut self, byte: u8) -> bool {
        let names = &mut self.names;
        let pushed = match self.field {
            Field::None => Ok(()),
            Field::Event => names.event.push(&[byte]),
            Field::Namespace => names.namespace.push(&[byte]),
            Field::Name => names.name.push(&[byte]),
            Field::Uid => names.uid.push(&[byte]),
            Field::ResourceVersion => names.resource_version.push(&[byte]),
        };
        pushed.is_ok()
    }

    fn reset_field(&mut self) {
        match self.field {
            Field::None => {}
            Field::Event => self.names.event.clear(),
            Field::Namespace => self.names.namespace.clear(),
            Field::Name => self.names.name.clear(),
            Field::Uid => self.names.uid.clear(),
            Field::ResourceVersion => self.names.resource_version.clear(),
        }
    }
}

fn field_at(scanner: &Scanner, in_event: bool) -> Field {
    let at = |name: &str| {
        if in_event {
            scanner.is_at(&["object", "metadata", name])
        } else {
            scanner.is_at(&["metadata", name])
        }
    };
    match () {
        () if in_event && scanner.is_at(&["type"]) => Field::Event,
        () if at("namespace") => Field::Namespace,
        () if at("name") => Field::Name,
        () if at("uid") => Field::Uid,
        () if at("resourceVersion") => Field::ResourceVersion,
        () => Field::None,
    }
}

/// One line in the making. As large as the largest line: built in place.
#[derive(Debug)]
pub struct Line {
    len: u32,
    /// Bytes seen of this line, kept or not.
    size: u64,
    /// The line is a watch event, the object lies in its member `object`.
    in_event: bool,
    naming: Naming,
    bytes: [u8; MAX_LINE_SIZE_BYTES as usize],
}

crate::zeroed_struct!(Line {
    len: u32,
    size: u64,
    in_event: bool,
    naming: Naming,
    bytes: [u8; MAX_LINE_SIZE_BYTES as usize],
});

impl Line {
    /// Begins an empty line; `in_event` says that it will be a watch event.
    pub fn clear(&mut self, in_event: bool) {
        (self.len, self.size, self.in_event) = (0, 0, in_event);
        self.naming.clear();
    }

    /// Appends; what does not fit is only scanned for names and counted.
    pub fn extend(&mut self, bytes: &[u8]) {
        let was_oversized = self.is_oversized();
        self.size += bytes.len() as u64;
        if !self.is_oversized() {
            let start = self.len as usize;
            self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len() as u32;
            assert!(u64::from(self.len) == self.size);
            return;
        }
        if !was_oversized {
            self.naming.scan(&self.bytes[..self.len as usize], self.in_event);
        }
        self.naming.scan(bytes, self.in_event);
    }

    /// Appends up to the first newline: how many bytes were taken, and whether the line ended.
    pub fn extend_to_newline(&mut self, bytes: &[u8]) -> (usize, bool) {
        match bytes.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                self.extend(&bytes[..end]);
                (end + 1, true)
            }
            None => {
                self.extend(bytes);
                (bytes.len(), false)
            }
        }
    }

    /// Whether it does not fit.
    pub fn is_oversized(&self) -> bool {
        self.size > u64::from(MAX_LINE_SIZE_BYTES)
    }

    /// Whether it has nothing but white space.
    pub fn is_blank(&self) -> bool {
        !self.is_oversized() && self.as_bytes().trim_ascii().is_empty()
    }

    /// Size in bytes, whether it fits or not.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The line; its beginning when oversized.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// Finds the names in a line that fits but was refused later; oversized ones have theirs.
    pub fn find_names(&mut self) {
        if !self.is_oversized() {
            self.naming.clear();
            self.naming.scan(&self.bytes[..self.len as usize], self.in_event);
        }
    }

    /// Who it is about: after [`Line::find_names`], or when oversized.
    pub fn names(&self) -> &Names {
        &self.naming.names
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::shell::place::boxed_zeroed;
    use std::string::String;

    const MAX: usize = MAX_LINE_SIZE_BYTES as usize;

    /// Feeds `text` in pieces of `piece` bytes and collects the lines, cut or not.
    fn lines(text: &[u8], piece: usize) -> std::vec::Vec<(u64, String)> {
        let mut line = boxed_zeroed::<Line>();
        line.clear(true);
        let mut all = std::vec![];
        for mut chunk in text.chunks(piece) {
            while !chunk.is_empty() {
                let (used, ended) = line.extend_to_newline(chunk);
                chunk = &chunk[used..];
                if ended {
                    let kept = if line.is_oversized() { b"over" } else { line.as_bytes() };
                    all.push((line.size(), String::from_utf8_lossy(kept).into()));
                    line.clear(true);
                }
            }
        }
        all
    }

    #[test]
    fn cut_at_every_position() {
        let text = "{\"a\":\"ä\"}\n\n{\"b\":1}\r\n{\"cut".as_bytes();
        let expected = [(10, "{\"a\":\"ä\"}"), (0, ""), (8, "{\"b\":1}\r")];
        let expected = expected.map(|(size, text)| (size, String::from(text)));
        for piece in 1..=text.len() {
            assert_eq!(lines(text, piece), expected, "{piece}");
        }
    }

    #[test]
    fn at_max_and_one_more() {
        let text = [std::vec![b'x'; MAX], b"\n".to_vec()].concat();
        assert_eq!(lines(&text, 4096)[0].0, MAX as u64);
        assert_ne!(lines(&text, 4096)[0].1, "over");
        let text = [std::vec![b'x'; MAX + 1], b"\nnext\n".to_vec()].concat();
        for piece in [1, 4095, MAX, MAX + 1, MAX + 7] {
            let all = lines(&text, piece);
            assert_eq!(all[0], (MAX as u64 + 1, "over".into()));
            assert_eq!(all[1], (4, "next".into()), "the stream goes on");
        }
    }

    fn names_of(text: &str, piece: usize) -> [String; 5] {
        let mut line = boxed_zeroed::<Line>();
        line.clear(true);
        text.as_bytes().chunks(piece).for_each(|chunk| line.extend(chunk));
        line.find_names();
        let names = line.names();
        [
            names.event.as_str(),
            names.namespace.as_str(),
            names.name.as_str(),
            names.uid.as_str(),
            names.resource_version.as_str(),
        ]
        .map(String::from)
    }

    #[test]
    fn names_wherever_they_stand() {
        // As custom resources are written: sorted, the name after a large part of the metadata.
        for fill in [10, MAX] {
            let text = std::format!(
                r#"{{"type":"MODIFIED","object":{{"metadata":{{"annotations":{{"name":"{}"}},
                "managedFields":[{{"name":"no"}}],"name":"big","namespace":"ns","resourceVersion":
                "77","uid":"u-1"}},"spec":{{"metadata":{{"name":"no"}}}}}}}}"#,
                "x".repeat(fill)
            );
            for piece in [1, 1000, text.len()] {
                assert_eq!(names_of(&text, piece), ["MODIFIED", "ns", "big", "u-1", "77"]);
            }
        }
    }

    #[test]
    fn hostile_names() {
        let text = std::format!(r#"{{"object":{{"metadata":{{"name":"{}"}}}}}}"#, "n".repeat(254));
        assert_eq!(names_of(&text, 7)[2], "");
        let max = std::format!(r#"{{"object":{{"metadata":{{"name":"{}"}}}}}}"#, "n".repeat(253));
        assert_eq!(names_of(&max, 7)[2].len(), 253);
        let text = r#"{"object":{"metadata":{"name":"a\nb","namespace":"ok"}}}"#;
        assert_eq!(names_of(text, 1), ["", "ok", "", "", ""]);
    }
}
