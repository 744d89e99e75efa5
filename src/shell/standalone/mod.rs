//! Standalone (`serval run`): manifests in a folder instead of an API server.

pub mod folder;
pub mod manifests;
