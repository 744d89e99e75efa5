//! JSON out: writes RFC 8259 text into a fixed buffer. (JSON in goes through shell::json.)
//!
//! In: calls in document order. Out: the text, or [`Full`] once at the end.

use crate::stdx::Full;
use core::fmt::{self, Write};

/// Writes one JSON value; commas are put where they belong.
#[derive(Debug)]
pub struct JsonWriter<'a> {
    out: &'a mut [u8],
    len: usize,
    comma: bool,
    full: bool,
}

impl<'a> JsonWriter<'a> {
    /// Writes from the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        JsonWriter { out, len: 0, comma: false, full: false }
    }

    /// The text so far, or that it did not fit.
    pub fn finish(self) -> Result<&'a str, Full> {
        if self.full {
            return Err(Full);
        }
        let out: &'a [u8] = self.out;
        core::str::from_utf8(&out[..self.len]).map_err(|_| Full)
    }

    /// Number of bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if self.full {
            return;
        }
        let end = self.len + bytes.len();
        match self.out.get_mut(self.len..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len = end;
            }
            _ => self.full = true,
        }
    }

    #[inline]
    fn value(&mut self) {
        if self.comma {
            self.put(b",");
        }
        self.comma = true;
    }

    /// `{`
    #[inline]
    pub fn begin_object(&mut self) -> &mut Self {
        self.value();
        self.put(b"{");
        self.comma = false;
        self
    }

    /// `}`
    #[inline]
    pub fn end_object(&mut self) -> &mut Self {
        self.put(b"}");
        self.comma = true;
        self
    }

    /// `[`
    pub fn begin_array(&mut self) -> &mut Self {
        self.value();
        self.put(b"[");
        self.comma = false;
        self
    }

    /// `]`
    pub fn end_array(&mut self) -> &mut Self {
        self.put(b"]");
        self.comma = true;
        self
    }

    /// A member's name; its value must follow.
    #[inline]
    pub fn key(&mut self, name: &str) -> &mut Self {
        self.string(name);
        self.put(b":");
        self.comma = false;
        self
    }

    /// A string, escaped.
    #[inline]
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.value();
        self.put(b"\"");
        self.escaped(text);
        self.put(b"\"");
        self
    }

    /// A string that `arguments` formats to, escaped.
    pub fn format(&mut self, arguments: fmt::Arguments<'_>) -> &mut Self {
        self.value();
        self.put(b"\"");
        // The writer below never fails; running out of room is kept in `full`.
        let _ = Escaping(self).write_fmt(arguments);
        self.put(b"\"");
        self
    }

    /// An integer.
    pub fn number(&mut self, value: impl Into<i128>) -> &mut Self {
        self.value();
        let value = value.into();
        match u64::try_from(value) {
            Ok(value) => self.digits(value),
            Err(_) => drop(Unescaped(self).write_fmt(format_args!("{value}"))),
        }
        self
    }

    /// As a formatter would, which costs more: most numbers are short.
    fn digits(&mut self, value: u64) {
        let (mut rest, mut digits) = (value, [0; 20]);
        let mut from = digits.len();
        loop {
            from -= 1;
            digits[from] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put(&digits[from..]);
    }

    /// `true` or `false`.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    /// `null`.
    pub fn null(&mut self) -> &mut Self {
        self.raw("null")
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &str) -> &mut Self {
        self.value();
        self.put(json.as_bytes());
        self
    }

    /// `"key":"text"`.
    #[inline]
    pub fn member(&mut self, key: &str, text: &str) -> &mut Self {
        self.key(key).string(text)
    }

    /// `"key":"text"`, left out when empty.
    pub fn member_unless_empty(&mut self, key: &str, text: &str) -> &mut Self {
        if text.is_empty() { self } else { self.member(key, text) }
    }

    #[inline]
    fn escaped(&mut self, text: &str) {
        if self.full {
            return;
        }
        let bytes = text.as_bytes();
        // Mostly nothing is to be escaped. Without a branch per byte, many are looked at at once.
        let is_plain =
            |byte: u8| (byte >= 0x20) & (byte != b'"') & (byte != b'\\') & (byte != 0x7f);
        if bytes.iter().fold(true, |plain, &byte| plain & is_plain(byte)) {
            return self.put(bytes);
        }
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..0x20 | 0x7f => b"",
                _ => continue,
            };
            self.put(&bytes[from..at]);
            from = at + 1;
            if escape.is_empty() {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                self.put(&[b'\\', b'u', b'0', b'0', high, low]);
            } else {
                self.put(escape);
            }
        }
        self.put(&bytes[from..]);
    }
}

struct Escaping<'w, 'a>(&'w mut JsonWriter<'a>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.escaped(text);
        Ok(())
    }
}

struct Unescaped<'w, 'a>(&'w mut JsonWriter<'a>);

impl Write for Unescaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_and_escapes() {
        let mut buffer = [0; 128];
        let mut json = JsonWriter::new(&mut buffer);
        json.begin_object().member("a", "x\"\\\n\u{1}ä").key("b").begin_array();
        json.number(-1).number(u64::MAX).bool(true).null().end_array();
        json.key("c").begin_object().end_object().member("d", "").end_object();
        assert_eq!(
            json.finish(),
            Ok(r#"{"a":"x\"\\\n\u0001ä","b":[-1,18446744073709551615,true,null],"c":{},"d":""}"#)
        );
    }

    #[test]
    fn exactly_full_and_one_more() {
        let mut buffer = [0; 4];
        let mut json = JsonWriter::new(&mut buffer);
        json.string("ab");
        assert_eq!(json.finish(), Ok("\"ab\""));
        let mut json = JsonWriter::new(&mut buffer);
        json.string("abc");
        assert_eq!(json.finish(), Err(Full));
    }
}
