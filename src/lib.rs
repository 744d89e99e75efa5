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

pub mod limits;
pub mod log_ring;
#[cfg(not(loom))]
pub mod plan;
pub mod stdx;

pub mod admin;
pub mod config;
pub mod controller;
pub mod kube;
pub mod metrics;
pub mod reconcile;
pub mod resource;
#[cfg(not(loom))]
pub mod router;
pub mod wire;

#[cfg(feature = "std")]
pub mod shell;
