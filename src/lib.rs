//! serval: a Kubernetes Gateway API implementation with fixed memory and deterministic logic.
//!
//! The module map is the way of the data:
//!
//! ```text
//! watch (kube) -> decode, store (resource) -> reconcile -> config -> router -> stream
//! ```
//!
//! Everything here but `shell` is `no_std`, without alloc, without IO, clock or randomness of its
//! own: state machines that a driver feeds. The drivers are `shell` (threads, sockets, TLS) and the
//! simulator in `vopr/`. `tests/no_alloc` links this library without an allocator to prove it.
#![no_std]
#![deny(missing_docs)]

#[cfg(any(feature = "std", test))]
extern crate std;

// Test support that integration tests include too calls us by our name.
#[cfg(test)]
extern crate self as serval;

pub mod stdx;

// Loom looks at `stdx` alone (scripts/loom); its kinds of atomics suit nothing else.
#[cfg(not(loom))]
pub mod limits;
#[cfg(not(loom))]
pub mod log_ring;
#[cfg(not(loom))]
pub mod plan;

#[cfg(not(loom))]
pub mod admin;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod controller;
#[cfg(not(loom))]
pub mod kube;
#[cfg(not(loom))]
pub mod metrics;
#[cfg(not(loom))]
pub mod reconcile;
#[cfg(not(loom))]
pub mod resource;
#[cfg(not(loom))]
pub mod router;
#[cfg(not(loom))]
pub mod wire;

#[cfg(feature = "std")]
pub mod shell;
