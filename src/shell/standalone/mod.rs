//! Standalone (`serval run`): manifests in a folder instead of an API server.

pub mod check;
pub mod folder;
pub mod main_loop;
pub mod manifests;
