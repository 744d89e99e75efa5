//! The data plane: from an accepted connection to a proxied request, as machines without IO.
//!
//! In: events of a driver (bytes, accepted connections, ends) and the current configuration slot.
//! Out: calls of the driver's `io::Io` (send, connect, close, pause, resume).

mod host_index;
pub mod route_table;
pub mod update;
