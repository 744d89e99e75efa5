//! Takes a list answer apart while it streams: each element of `items` as one bounded line.
//!
//! In: the body of a list, cut anywhere, larger than any buffer. Out: items one at a time in a
//! [`Line`], and the list's `metadata.resourceVersion` and `metadata.continue` (API concepts,
//! "Retrieving large results sets in chunks").

use super::ResourceVersion;
use super::lines::Line;
use super::scan::{Scanner, Token};
use crate::limits::KUBE_CONTINUE_BYTES;
use crate::stdx::Inline;

/// The body is not a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAList;

/// The member that the string at hand belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    None,
    ResourceVersion,
    Continue,
}

crate::zeroed_enum!(Field { None });

/// The splitter.
#[derive(Debug)]
pub struct ListItems {
    scanner: Scanner,
    field: Field,
    /// Inside the array `items`.
    in_items: bool,
    /// Inside one of its elements.
    in_item: bool,
    /// The outermost object has begun; and ended.
    began: bool,
    ended: bool,
    resource_version: ResourceVersion,
    continue_token: Inline<{ KUBE_CONTINUE_BYTES as usize }>,
    continue_too_long: bool,
}

crate::zeroed_struct!(ListItems {
    scanner: Scanner,
    field: Field,
    in_items: bool,
    in_item: bool,
    began: bool,
    ended: bool,
    resource_version: ResourceVersion,
    continue_token: Inline<{ KUBE_CONTINUE_BYTES as usize }>,
    continue_too_long: bool,
});

impl ListItems {
    /// Begins a new list.
    pub fn clear(&mut self) {
        self.scanner.clear();
        self.field = Field::None;
        (self.in_items, self.in_item) = (false, false);
        (self.began, self.ended) = (false, false);
        self.resource_version.clear();
        self.continue_token.clear();
        self.continue_too_long = false;
    }

    /// Takes bytes up to the end of the next item: how many were taken, and whether `item` is
    /// whole. The caller clears `item` before it goes on.
    pub fn feed(&mut self, bytes: &[u8], item: &mut Line) -> Result<(usize, bool), NotAList> {
        let mut item_from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let token = self.scanner.step(byte);
            if self.in_item {
                if token == Token::Close && self.scanner.depth() == 2 {
                    self.in_item = false;
                    item.extend(&bytes[item_from..=at]);
                    return Ok((at + 1, true));
                }
                continue;
            }
            if self.in_items {
                match token {
                    Token::Open { object: true } => {
                        self.in_item = true;
                        item_from = at;
                    }
                    Token::Close => self.in_items = false,
                    Token::Other => {}
                    _ => return Err(NotAList),
                }
                continue;
            }
            self.step_outside(byte, token)?;
        }
        if self.in_item {
            item.extend(&bytes[item_from..]);
        }
        Ok((bytes.len(), false))
    }

    fn step_outside(&mut self, byte: u8, token: Token) -> Result<(), NotAList> {
        let depth = self.scanner.depth();
        match token {
            Token::Open { object: true } if depth == 1 && !self.began => self.began = true,
            Token::Bad => return Err(NotAList),
            Token::Open { object: false } if depth == 2 && self.scanner.starts_with(&["items"]) => {
                self.in_items = true;
            }
            Token::Close if depth == 0 => self.ended = true,
            Token::TextStart if self.scanner.is_at(&["metadata", "resourceVersion"]) => {
                self.field = Field::ResourceVersion;
                self.resource_version.clear();
            }
            Token::TextStart if self.scanner.is_at(&["metadata", "continue"]) => {
                self.field = Field::Continue;
                self.continue_token.clear();
            }
            Token::Text | Token::TextEscape => match self.field {
                Field::None => {}
                // Opaque, but without escapes in any server there is.
                Field::ResourceVersion => {
                    let pushed = self.resource_version.push(&[byte]);
                    if token == Token::TextEscape || pushed.is_err() {
                        return Err(NotAList);
                    }
                }
                Field::Continue => {
                    let pushed = self.continue_token.push(&[byte]);
                    self.continue_too_long |= token == Token::TextEscape || pushed.is_err();
                }
            },
            Token::TextEnd => self.field = Field::None,
            _ if !self.began && token != Token::Other => return Err(NotAList),
            _ => {}
        }
        Ok(())
    }

    /// The body has ended: whether the list is whole, with a version to watch from.
    pub fn finish(&self) -> Result<(), NotAList> {
        let whole = self.ended && self.scanner.depth() == 0 && !self.resource_version.is_empty();
        if whole { Ok(()) } else { Err(NotAList) }
    }

    /// `metadata.resourceVersion`, known after [`ListItems::finish`].
    pub fn resource_version(&self) -> &ResourceVersion {
        &self.resource_version
    }

    /// `metadata.continue`, empty on the last page; None when it is too long to be sent back.
    pub fn continue_token(&self) -> Option<&[u8]> {
        if self.continue_too_long { None } else { Some(self.continue_token.as_bytes()) }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::limits::MAX_LINE_SIZE_BYTES;
    use crate::shell::place::boxed_zeroed;
    use std::string::String;
    use std::vec::Vec;

    #[derive(Debug, PartialEq)]
    struct Read {
        items: Vec<String>,
        version: String,
        token: Option<String>,
    }

    fn read(text: &str, piece: usize) -> Result<Read, NotAList> {
        let mut list = boxed_zeroed::<ListItems>();
        let mut line = boxed_zeroed::<Line>();
        list.clear();
        line.clear(false);
        let mut items = Vec::new();
        for mut chunk in text.as_bytes().chunks(piece) {
            while !chunk.is_empty() {
                let (used, ready) = list.feed(chunk, &mut line)?;
                chunk = &chunk[used..];
                if ready {
                    let kept = if line.is_oversized() { b"over" } else { line.as_bytes() };
                    items.push(String::from_utf8(kept.to_vec()).unwrap());
                    line.clear(false);
                }
            }
        }
        list.finish()?;
        let version = list.resource_version().as_str().into();
        let token = list.continue_token().map(|t| String::from_utf8_lossy(t).into());
        Ok(Read { items, version, token })
    }

    fn expected(items: &[&str], version: &str, token: &str) -> Result<Read, NotAList> {
        let items = items.iter().map(|&item| item.into()).collect();
        Ok(Read { items, version: version.into(), token: Some(token.into()) })
    }

    #[test]
    fn both_orders_cut_at_every_position() {
        // Built-in types say metadata first, custom resources last (sorted).
        let first = r#"{"kind":"ServiceList","metadata":{"resourceVersion":"12","continue":"eyJ"},
            "items":[{"metadata":{"name":"a","resourceVersion":"3"}},
            {"x":"}]","y":[[{}]],"items":[{"metadata":{"resourceVersion":"9"}}]}]}"#;
        let last = r#"{"items":[{"ä":"\\\""}],"metadata":{"continue":"","resourceVersion":"5"}}
            "#;
        for piece in 1..=first.len() {
            let items = [
                r#"{"metadata":{"name":"a","resourceVersion":"3"}}"#,
                r#"{"x":"}]","y":[[{}]],"items":[{"metadata":{"resourceVersion":"9"}}]}"#,
            ];
            assert_eq!(read(first, piece), expected(&items, "12", "eyJ"), "{piece}");
            assert_eq!(read(last, piece), expected(&[r#"{"ä":"\\\""}"#], "5", ""), "{piece}");
        }
    }

    #[test]
    fn empty_lists() {
        let text = r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#;
        assert_eq!(read(text, 3), expected(&[], "1", ""));
        let text = r#"{"metadata":{"resourceVersion":"1"},"items":null}"#;
        assert_eq!(read(text, 3), expected(&[], "1", ""));
    }

    #[test]
    fn hostile_bodies() {
        for text in [
            "",
            "[]",
            "null",
            "{}",
            r#"{"metadata":{"resourceVersion":"1"},"items":["x"]}"#,
            r#"{"metadata":{"resourceVersion":"1"},"items":[1]}"#,
            r#"{"metadata":{"resourceVersion":"1"},"items":[[]]}"#,
            r#"{"metadata":{"resourceVersion":"1"},"items":[]"#,
            r#"{"metadata":{"resourceVersion":"1"},"items":[]}}"#,
            r#"{"metadata":{"resourceVersion":"\u0031"},"items":[]}"#,
            r#"{"items":[{"metadata":{"resourceVersion":"1"}}]}"#,
        ] {
            assert_eq!(read(text, 1), Err(NotAList), "{text}");
            assert_eq!(read(text, 1000), Err(NotAList), "{text}");
        }
    }

    #[test]
    fn items_and_tokens_at_max_and_one_more() {
        let max = MAX_LINE_SIZE_BYTES as usize;
        let list = |fill: usize, token: usize| {
            let (fill, token) = ("x".repeat(fill), "t".repeat(token));
            std::format!(
                r#"{{"items":[{{"a":"{fill}"}},{{}}],"metadata":{{"continue":"{token}",
                "resourceVersion":"1"}}}}"#
            )
        };
        let shell = r#"{"a":""}"#.len();
        let fits = read(&list(max - shell, KUBE_CONTINUE_BYTES as usize), 4096).unwrap();
        assert_eq!((fits.items[0].len(), fits.items.len()), (max, 2));
        assert_eq!(fits.token.unwrap().len(), KUBE_CONTINUE_BYTES as usize);
        let over = read(&list(max - shell + 1, KUBE_CONTINUE_BYTES as usize + 1), 4096).unwrap();
        assert_eq!(over.items, ["over", "{}"]);
        assert_eq!(over.token, None);
    }
}
