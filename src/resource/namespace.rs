//! Namespace (v1): its labels, for allowedRoutes selectors.

use super::decode::{self, Problem, keep, too_large};
use super::document::Value;
use super::{Kind, Meta, Object};
use crate::limits::MAX_LABELS_PER_OBJECT;
use crate::stdx::{Arena, Table, Text};

/// A label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Key.
    pub key: Text,
    /// Value.
    pub value: Text,
}

crate::pack_struct!(Label { key, value });

/// What serval reads of a Namespace.
#[derive(Debug)]
pub struct Namespace {
    /// Who it is.
    pub meta: Meta,
    /// metadata.labels.
    pub labels: Table<Label, { MAX_LABELS_PER_OBJECT as usize }>,
    /// Strings.
    pub text: Arena<8192>,
}

crate::pack_struct!(Namespace { meta, labels, text });
crate::zeroed_struct!(Namespace {
    meta: Meta,
    labels: Table<Label, { MAX_LABELS_PER_OBJECT as usize }>,
    text: Arena<8192>,
});

impl Namespace {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.as_slice().iter().find(|l| self.text.get(l.key) == key)?;
        Some(self.text.get(found.value))
    }
}

impl Object for Namespace {
    const KIND: Kind = Kind::Namespace;

    fn decode(&mut self, value: Value<'_>, _controller: &str) -> Result<(), Problem> {
        self.labels.set_cap_cleared(MAX_LABELS_PER_OBJECT);
        self.text.set_cap_cleared(self.text.ceiling());
        self.meta = decode::meta(value, true)?;
        for label in value.at(&["metadata", "labels"]).iter().flat_map(|l| l.items()) {
            let key = keep(&mut self.text, label.name())?;
            let value = keep(&mut self.text, label.str().unwrap_or(""))?;
            self.labels.push(Label { key, value }).map_err(too_large("MAX_LABELS_PER_OBJECT"))?;
        }
        Ok(())
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}
