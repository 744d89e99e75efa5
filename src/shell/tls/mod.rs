//! TLS as byte transformers, without sockets.

pub mod rustls;
