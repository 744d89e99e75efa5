//! The router role: traffic threads, the admin thread, the file thread.

pub mod served;
pub mod state_file;
