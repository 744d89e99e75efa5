//! Traffic on real sockets: the mio driver of the router's workers, and the loop around both.
//!
//! In: capacities, a reader of ConfigStorage, orders through [`Control`]. Out: served traffic, and
//! what the admin thread shows ([`Control::status`]).
//!
//! ```text
//! before the seal:  Traffic::new -> (thread) run_worker(traffic, worker, reader, control)
//! after a commit:   control.wake() for each worker
//! at SIGTERM:       control.drain(); at the deadline control.stop()
//! ```
//!
//! After [`Traffic::new`] nothing here allocates: tables and buffers have their size, mio's Events
//! too, and sockets are descriptors.

mod buffers;
mod driver;
mod run;
mod secure;
mod sockets;
mod status;

pub use driver::Driver;
pub use run::{Traffic, run_worker};
pub use sockets::{descriptors_needed, raise_descriptor_limit};
pub use status::{Control, Status};
