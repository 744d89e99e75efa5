//! Bytes only: parsers and writers of the protocols, each a checked view of a caller's buffer.
//!
//! In: bytes from the network. Out: heads, bodies and paths that follow a strict grammar, or a
//! small `Copy` error. Nothing here keeps bytes, reads a clock or panics on what a peer sent.
//!
//! Architecture invariant: wire knows no objects (no routes, listeners, backends).

pub mod base64;
pub mod client_hello;
pub mod http1;
pub mod json;
pub mod pem;
pub mod url;
pub mod x509;
