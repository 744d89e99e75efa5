//! JSON as the product parses it, in documents that are used again: each is tens of kilobytes, and
//! zeroing one costs more than to parse a status into it.
//!
//! In: JSON text. Out: the document, which comes back here when it is dropped.

use crate::router::parse;
use serval::resource::document::Document;
use serval::stdx::zeroed_box;
use std::cell::RefCell;
use std::ops::Deref;

thread_local! {
    /// Documents that nobody reads any more.
    static SPARE: RefCell<Vec<Box<Document>>> = const { RefCell::new(Vec::new()) };
}

/// A parsed document.
#[derive(Debug)]
pub struct Parsed {
    /// There until it is dropped.
    document: Option<Box<Document>>,
}

impl Parsed {
    /// Parses JSON; None when it is none.
    pub fn of(text: &[u8]) -> Option<Parsed> {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        let mut document = spare.unwrap_or_else(zeroed_box::<Document>);
        let is_json = parse(text, &mut document);
        let parsed = Parsed { document: Some(document) };
        is_json.then_some(parsed)
    }
}

impl Deref for Parsed {
    type Target = Document;

    fn deref(&self) -> &Document {
        self.document.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Parsed {
    fn drop(&mut self) {
        SPARE.with_borrow_mut(|spare| spare.extend(self.document.take()));
    }
}
