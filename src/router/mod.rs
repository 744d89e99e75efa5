//! The data plane: from an accepted connection to a proxied request, as machines without IO.
//!
//! In: events of a driver (bytes, accepted connections, ends) and the current configuration slot.
//! Out: calls of the driver's [`io::Io`] (send, connect, close, pause, resume).
//!
//! ```text
//! driver -> worker -> client   (head judged: route_table, balance, decision) -> exchange
//!                  -> upstream (endpoints: pooled or opened)       -> response
//!                  -> finish   (pooled, answered, cut, timed out)
//!                  -> tunnel   (WebSocket, after 101)
//! ```
//!
//! Architecture invariant: nothing here outlives a turn but by value: no reference into a
//! configuration slot is kept, so that slots can be swapped under running requests.

pub mod balance;
pub mod binds;
mod client;
pub mod connection;
pub mod counters;
mod decision;
pub mod edits;
pub mod endpoints;
pub mod exchange;
mod finish;
mod framing;
mod host_index;
pub mod io;
pub mod route_table;
mod routing;
pub mod timers;
pub mod trailers;
mod tunnel;
pub mod update;
mod upstream;
pub mod worker;

#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod script;
#[cfg(test)]
mod secure_tests;
#[cfg(test)]
mod trailer_tests;
#[cfg(test)]
mod tunnel_tests;
#[cfg(test)]
mod worker_tests;

pub use counters::Counters;
pub use io::{BindId, Buf, Chunk, Close, ConnId, End, Errno, Io, Sent};
pub use worker::{Options, Turn, Worker};
