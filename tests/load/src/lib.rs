//! What the load generator is made of, for programs that judge answers in their own way
//! (tests/soak).
//!
//! In: routers and backends. Out: requests whose answer is known beforehand, and what came of them.

#![allow(clippy::disallowed_methods, reason = "nothing is sealed here")]

#[path = "../../support/any_certificate.rs"]
mod any_certificate;
pub mod backend;
pub mod expected;
pub mod generations;
pub mod generator;
pub mod hostile;
pub mod http;
pub mod slow;
pub mod stamp;
pub mod summary;
pub mod tls;
