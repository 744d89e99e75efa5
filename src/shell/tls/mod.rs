//! TLS as byte transformers, without sockets; and on sockets, between controller and routers.
//!
//! | | |
//! |---|---|
//! | `rustls` | the only place that names rustls: clients, servers, certificates |
//! | `source` | PEM files that rotate |
//! | `identity` | who this process is to its peers, read again and again |
//! | `stream` | the server's side of mutual TLS on a socket: the admin port |

pub mod buffer;
pub mod identity;
pub mod rustls;
pub mod source;
pub mod stream;
