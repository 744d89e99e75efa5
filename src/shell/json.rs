//! JSON text into a [`Document`]: the one file that names serde_json. vopr links it too.
//!
//! serde_json borrows what it can; an escaped string needs its scratch buffer, which is the heap
//! use that a decoder's slot covers (shared/tls-memory: at most 3 x the document).

use super::parse_slot;
use crate::resource::document::{Document, DocumentError, Kind};
use core::cell::Cell;
use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Why a text was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not JSON, at this line and column (1-based).
    Syntax {
        /// Line.
        line: u32,
        /// Column.
        column: u32,
    },
    /// It does not fit a [`Document`].
    Document(DocumentError),
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::Syntax { line, column } => {
                write!(f, "not JSON at line {line}, column {column}")
            }
            JsonError::Document(error) => error.fmt(f),
        }
    }
}

/// Parses one JSON value; `document` holds it, or is to be cleared.
pub fn parse(text: &[u8], document: &mut Document) -> Result<(), JsonError> {
    parse_slot::run(|| parse_inside(text, document))
}

fn parse_inside(text: &[u8], document: &mut Document) -> Result<(), JsonError> {
    document.clear();
    let cause = Cell::new(None);
    // Looked at as a whole, since a look at each string costs more. What is no UTF-8 may be in a
    // part that is skipped; else the other reader says where.
    let ended = match core::str::from_utf8(text) {
        Ok(text) => build(serde_json::Deserializer::from_str(text), document, &cause),
        Err(_) => build(serde_json::Deserializer::from_slice(text), document, &cause),
    };
    ended.map_err(|error| match cause.get() {
        Some(cause) => JsonError::Document(cause),
        None => JsonError::Syntax { line: error.line() as u32, column: error.column() as u32 },
    })
}

fn build<'t, R: serde_json::de::Read<'t>>(
    mut deserializer: serde_json::Deserializer<R>,
    document: &mut Document,
    cause: &Cell<Option<DocumentError>>,
) -> serde_json::Result<()> {
    Build { document, cause }.deserialize(&mut deserializer)?;
    deserializer.end()
}

struct Build<'d> {
    document: &'d mut Document,
    /// Why the document refused, since serde's error can only carry text.
    cause: &'d Cell<Option<DocumentError>>,
}

impl Build<'_> {
    fn told<E: serde::de::Error>(&self, result: Result<(), DocumentError>) -> Result<(), E> {
        result.map_err(|cause| {
            self.cause.set(Some(cause));
            E::custom("")
        })
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        let result = self.document.scalar(Kind::Null, format_args!(""));
        self.told(result)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        let result = self.document.scalar(Kind::Bool, format_args!("{value}"));
        self.told(result)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        let result = self.document.scalar(Kind::Number, format_args!("{value}"));
        self.told(result)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        let result = self.document.scalar(Kind::Number, format_args!("{value}"));
        self.told(result)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        let result = self.document.scalar(Kind::Number, format_args!("{value:?}"));
        self.told(result)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        let result = self.document.string(value);
        self.told(result)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let result = self.document.begin(Kind::Array);
        self.told(result)?;
        let Build { document, cause } = self;
        while items.next_element_seed(Build { document, cause })?.is_some() {}
        document.end();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let result = self.document.begin(Kind::Object);
        self.told(result)?;
        let Build { document, cause } = self;
        while members.next_key_seed(Key { document, cause })?.is_some() {
            if document.prunes_next() {
                // Unread, and without scratch: an annotation may be 256 KiB of escapes.
                members.next_value::<IgnoredAny>()?;
                document.skipped();
            } else {
                members.next_value_seed(Build { document, cause })?;
            }
        }
        document.end();
        Ok(())
    }
}

struct Key<'d> {
    document: &'d mut Document,
    cause: &'d Cell<Option<DocumentError>>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<(), E> {
        self.document.key(name).map_err(|cause| {
            self.cause.set(Some(cause));
            E::custom("")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::place::boxed_zeroed;
    use crate::wire::json::JsonWriter;

    fn round_trip(text: &str) -> Result<std::string::String, JsonError> {
        let mut document = boxed_zeroed::<Document>();
        parse(text.as_bytes(), &mut document)?;
        let mut buffer = std::vec![0; text.len() * 2 + 16];
        let mut json = JsonWriter::new(&mut buffer);
        document.root().write_json(&mut json);
        Ok(json.finish().unwrap().into())
    }

    #[test]
    fn what_goes_in_comes_out() {
        for text in [
            "null",
            "[]",
            r#"{"a":[1,-2,true,false,null,"x\ny",{"b":{}}],"c":18446744073709551615,"d":1.5}"#,
        ] {
            assert_eq!(round_trip(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn bad_text_says_where() {
        let error = JsonError::Syntax { line: 2, column: 1 };
        assert_eq!(round_trip("{\"a\":\n}"), Err(error));
        assert!(round_trip("{} x").is_err());
        assert!(parse(b"\"\xff\"", &mut boxed_zeroed::<Document>()).is_err());
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert_eq!(round_trip(&deep), Err(JsonError::Document(DocumentError::TooDeep)));
        let twice = JsonError::Document(DocumentError::DuplicateKey);
        assert_eq!(round_trip(r#"{"a":1,"a":2}"#), Err(twice));
    }
}
