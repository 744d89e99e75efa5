//! Standalone (`serval run`): manifests in a folder instead of an API server.

pub mod check;
pub mod folder;
pub mod manifests;
