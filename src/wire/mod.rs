//! Bytes only: protocols and encodings, without sockets and without Kubernetes objects.
//!
//! Architecture invariant: `wire` knows no objects and no configuration.

pub mod base64;
pub mod json;
pub mod pem;
