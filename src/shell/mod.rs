//! The only place with threads, system calls, clock and heap: drivers of the machines.

pub mod admin;
pub mod budget;
pub mod capabilities;
pub mod clock;
pub mod controller;
pub mod entropy;
pub mod files;
pub mod health;
pub mod identity;
pub mod json;
pub mod kube;
pub mod log;
pub mod memory;
pub mod net;
pub mod parse_slot;
pub mod place;
pub mod router;
pub mod signals;
pub mod standalone;
pub mod threads;
pub mod tls;
pub mod yaml;
