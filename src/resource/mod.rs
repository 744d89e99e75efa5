//! Typed Gateway API and core objects: decoded, defaulted, validated, stored.
//!
//! In: a [`document::Document`] (from JSON or YAML). Out: objects in a store.

pub mod document;
