//! The routing configuration between controller and router.
//!
//! In: what reconcile worked out. Out: a [`snapshot::Snapshot`], the one intermediate form, which
//! `codec` writes as JSON lines and reads back, and `storage` holds in two slots for the workers.
//!
//! Architecture invariant: nothing here knows Kubernetes objects; names are opaque strings.

#[cfg(test)]
pub mod building;
pub mod client;
pub mod codec;
pub mod filter;
pub mod fleet;
pub mod identity;
pub mod local;
pub mod reach;
pub mod report;
pub mod snapshot;
pub mod storage;

pub use identity::{Checksum, Identity, Source};
pub use report::Report;
pub use snapshot::Snapshot;
pub use storage::ConfigStorage;
