//! Memory of the process.

pub mod region;
