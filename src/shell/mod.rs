//! The only place with threads, system calls, clock and heap: drivers of the machines.

pub mod clock;
pub mod files;
pub mod json;
pub mod kube;
pub mod place;
pub mod standalone;
pub mod tls;
pub mod yaml;
