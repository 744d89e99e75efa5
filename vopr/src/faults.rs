//! The faults by name, and how often each happened.

/// What a seed may turn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    TinyPieces,
    Stalls,
    Resets,
    Refusals,
    HalfOpen,
    Partitions,
    RouterCrashes,
    ControllerCrashes,
    ApiRestarts,
    ApiFaults,
    Bookmarks,
    StatusConflicts,
    LostFiles,
    BindFailures,
    BackendFaults,
    ClientFaults,
    Replays,
    OverCapacity,
    Moves,
    Silence,
    SecondControllers,
    ControllerPauses,
    Isolations,
    LeaseFaults,
    Restores,
    Drains,
    ClockSteps,
    RouterPauses,
    Strangers,
    Abandoned,
    LesserRouters,
    StatesRestored,
    Outages,
}

impl Fault {
    /// All, in the order of their numbers.
    pub const ALL: [Fault; 33] = [
        Fault::TinyPieces,
        Fault::Stalls,
        Fault::Resets,
        Fault::Refusals,
        Fault::HalfOpen,
        Fault::Partitions,
        Fault::RouterCrashes,
        Fault::ControllerCrashes,
        Fault::ApiRestarts,
        Fault::ApiFaults,
        Fault::Bookmarks,
        Fault::StatusConflicts,
        Fault::LostFiles,
        Fault::BindFailures,
        Fault::BackendFaults,
        Fault::ClientFaults,
        Fault::Replays,
        Fault::OverCapacity,
        Fault::Moves,
        Fault::Silence,
        Fault::SecondControllers,
        Fault::ControllerPauses,
        Fault::Isolations,
        Fault::LeaseFaults,
        Fault::Restores,
        Fault::Drains,
        Fault::ClockSteps,
        Fault::RouterPauses,
        Fault::Strangers,
        Fault::Abandoned,
        Fault::LesserRouters,
        Fault::StatesRestored,
        Fault::Outages,
    ];

    /// What happens each time.
    pub fn name(self) -> &'static str {
        match self {
            Fault::TinyPieces => "connections in tiny pieces",
            Fault::Stalls => "stalls of a piece",
            Fault::Resets => "resets by the network",
            Fault::Refusals => "connects refused",
            Fault::HalfOpen => "crashes that leave connections half open",
            Fault::Partitions => "partitions",
            Fault::RouterCrashes => "crashes of routers",
            Fault::ControllerCrashes => "crashes of controllers",
            Fault::ApiRestarts => "restarts of the API server",
            Fault::ApiFaults => "errors, cuts, repeats of the API server",
            Fault::Bookmarks => "bookmarks",
            Fault::StatusConflicts => "status writes refused",
            Fault::LostFiles => "state files lost or torn",
            Fault::BindFailures => "binds that failed",
            Fault::BackendFaults => "cuts, resets, slowness of backends",
            Fault::ClientFaults => "clients slow or gone early",
            Fault::Replays => "old pushes replayed or torn",
            Fault::Moves => "routers that came back at another node",
            Fault::Silence => "addresses of silent routers left out",
            Fault::SecondControllers => "controllers started while another one runs",
            Fault::ControllerPauses => "pauses of controllers",
            Fault::Isolations => "controllers cut off from the API server or all routers",
            Fault::LeaseFaults => "errors at the Lease",
            Fault::Restores => "Leases restored to an older state",
            Fault::Drains => "drains of routers",
            Fault::ClockSteps => "steps of wall clocks",
            Fault::RouterPauses => "pauses of routers",
            Fault::Strangers => "clients that break rules or hold on",
            Fault::Abandoned => "control planes that end for good",
            Fault::LesserRouters => "routers with less room than the controller thinks",
            Fault::StatesRestored => "API servers restored to an older state",
            Fault::Outages => "endpoints of a rule that are gone",
            Fault::OverCapacity => "objects refused over capacity",
        }
    }
}

/// How often each fault happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected([u64; Fault::ALL.len()]);

impl Default for Injected {
    fn default() -> Injected {
        Injected([0; Fault::ALL.len()])
    }
}

impl Injected {
    /// It happened once more.
    pub fn add(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// It happened so often.
    pub fn set(&mut self, fault: Fault, times: u64) {
        self.0[fault as usize] = times;
    }

    /// How often.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Both together.
    pub fn merge(&mut self, other: &Injected) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// Of all faults together.
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}
