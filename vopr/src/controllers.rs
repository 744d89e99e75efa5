//! The controllers of a run.

use crate::controller::Process;

/// Controllers of a run at most.
pub const CONTROLLERS: usize = 2;

/// Each running or not.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "machines are large")]
pub struct Controllers(pub [Option<Process>; CONTROLLERS]);

impl Controllers {
    /// Those that run, paused or not.
    pub fn running(&self) -> Vec<usize> {
        (0..CONTROLLERS).filter(|&i| self.0[i].is_some()).collect()
    }

    /// Their processes.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.0.iter().flatten()
    }

    /// The one that reigns, or the first of several.
    pub fn reigning(&self) -> Option<&Process> {
        self.processes().find(|p| p.lease.reigns)
    }
}
