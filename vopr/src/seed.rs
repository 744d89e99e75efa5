//! What a seed means: the swarm of options, each fault off, rare or heavy, all by child seeds.
//!
//! In: a number. Out: options, and generators by name of their subsystem.

use crate::faults::Fault;
use crate::network::NetworkFaults;
use serval::stdx::Prng;

/// Faults and changes end then, if nothing else is said.
const UNTIL_MS: u64 = 42_000;

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Off,
    Rare,
    Heavy,
}

impl Rate {
    fn pick(prng: &mut Prng) -> Rate {
        match prng.below(5) {
            0 | 1 => Rate::Off,
            2 | 3 => Rate::Rare,
            _ => Rate::Heavy,
        }
    }

    /// One of 20, or one of 4.
    pub fn happens(self, prng: &mut Prng) -> bool {
        match self {
            Rate::Off => false,
            Rate::Rare => prng.chance(1, 20),
            Rate::Heavy => prng.chance(1, 4),
        }
    }

    /// Five of six, or always: for what is asked a few times in a run.
    pub fn happens_mostly(self, prng: &mut Prng) -> bool {
        match self {
            Rate::Off => false,
            Rate::Rare => prng.chance(5, 6),
            Rate::Heavy => true,
        }
    }

    /// One of 800, or one of 80: for what is asked very often.
    pub fn happens_rarely(self, prng: &mut Prng) -> bool {
        match self {
            Rate::Off => false,
            Rate::Rare => prng.chance(1, 800),
            Rate::Heavy => prng.chance(1, 80),
        }
    }
}

/// The swarm.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    pub network: NetworkFaults,
    pub partitions: Rate,
    pub router_crashes: Rate,
    pub controller_crashes: Rate,
    pub api_restarts: Rate,
    /// Errors, cuts, duplicates of the API server.
    pub api_faults: Rate,
    /// The API server knows WatchList.
    pub has_watch_list: bool,
    pub bookmarks: Rate,
    pub status_conflicts: Rate,
    /// State files lost or torn at a crash.
    pub lost_files: Rate,
    pub bind_failures: Rate,
    pub backend_faults: Rate,
    pub client_faults: Rate,
    /// Pushes of the past come again.
    pub replays: Rate,
    /// A second controller starts while the first one runs.
    pub several: Rate,
    /// Controllers stop for a while.
    pub pauses: Rate,
    /// Controllers lose the API server but not the routers, or the other way round.
    pub isolations: Rate,
    /// The Lease is as it was before.
    pub restores: Rate,
    /// All objects are as they were before, once.
    pub restored: bool,
    /// Routers are told to end.
    pub drains: Rate,
    /// Wall clocks are set to another time.
    pub clock_steps: Rate,
    pub router_pauses: Rate,
    pub strangers: Rate,
    /// Routers have room for little at once.
    pub tight: bool,
    /// Some processes of routers have less room for a Snapshot than the controller thinks.
    pub mixed: bool,
    /// Controllers make Snapshots that not all routes fit.
    pub cramped: bool,
    /// Steps of wall clocks change no clock: the twin of a run, for D14.
    pub still_clocks: bool,
    pub over_capacity: bool,
    /// The endpoints of a rule go now and then.
    pub outages: bool,
    /// The control plane ends for good, where else all is healed.
    pub abandoned: bool,
    /// Routers are found by endpoints, and Gateways have the addresses of their nodes.
    pub in_nodes: bool,
    /// Client connections at once.
    pub clients: usize,
    /// Longest pause of a client before its next request.
    pub think_ms: u64,
    /// Mean pause between changes of objects.
    pub change_ms: u64,
    pub canary: bool,
    /// Faults and changes end then.
    pub until_ms: u64,
}

/// What switches a fault off.
pub type Switch = fn(&mut Options);

/// Faults by the names of `--without`.
pub const SWITCHES: &[(&str, Switch)] = &[
    ("tiny_pieces", |o| o.network.tiny_pieces = Rate::Off),
    ("stalls", |o| o.network.stalls = Rate::Off),
    ("resets", |o| o.network.resets = Rate::Off),
    ("refusals", |o| o.network.refusals = Rate::Off),
    ("half_open", |o| o.network.half_open = Rate::Off),
    ("partitions", |o| o.partitions = Rate::Off),
    ("router_crashes", |o| o.router_crashes = Rate::Off),
    ("controller_crashes", |o| o.controller_crashes = Rate::Off),
    ("api_restarts", |o| o.api_restarts = Rate::Off),
    ("api_faults", |o| o.api_faults = Rate::Off),
    ("bookmarks", |o| o.bookmarks = Rate::Off),
    ("status_conflicts", |o| o.status_conflicts = Rate::Off),
    ("lost_files", |o| o.lost_files = Rate::Off),
    ("bind_failures", |o| o.bind_failures = Rate::Off),
    ("backend_faults", |o| o.backend_faults = Rate::Off),
    ("client_faults", |o| o.client_faults = Rate::Off),
    ("replays", |o| o.replays = Rate::Off),
    ("several", |o| o.several = Rate::Off),
    ("pauses", |o| o.pauses = Rate::Off),
    ("isolations", |o| o.isolations = Rate::Off),
    ("restores", |o| o.restores = Rate::Off),
    ("restored", |o| o.restored = false),
    ("drains", |o| o.drains = Rate::Off),
    ("clock_steps", |o| o.clock_steps = Rate::Off),
    ("router_pauses", |o| o.router_pauses = Rate::Off),
    ("strangers", |o| o.strangers = Rate::Off),
    ("tight", |o| o.tight = false),
    ("mixed", |o| o.mixed = false),
    ("cramped", |o| o.cramped = false),
    ("outages", |o| o.outages = false),
    ("over_capacity", |o| o.over_capacity = false),
    ("abandoned", |o| o.abandoned = false),
    ("clock_effects", |o| o.still_clocks = true),
];

impl Options {
    /// What the seed chooses.
    pub fn of(seed: u64, canary: bool) -> Options {
        let mut prng = Prng::new(seed).child("options");
        let p = &mut prng;
        let network = NetworkFaults {
            tiny_pieces: Rate::pick(p),
            stalls: Rate::pick(p),
            resets: Rate::pick(p),
            refusals: Rate::pick(p),
            half_open: Rate::pick(p),
        };
        Options {
            seed,
            network,
            partitions: Rate::pick(p),
            router_crashes: Rate::pick(p),
            controller_crashes: Rate::pick(p),
            api_restarts: Rate::pick(p),
            api_faults: Rate::pick(p),
            has_watch_list: p.chance(2, 3),
            bookmarks: Rate::pick(p),
            status_conflicts: Rate::pick(p),
            lost_files: Rate::pick(p),
            bind_failures: Rate::pick(p),
            backend_faults: Rate::pick(p),
            client_faults: Rate::pick(p),
            replays: Rate::pick(p),
            over_capacity: p.chance(1, 2),
            clients: p.range(4, 14) as usize,
            think_ms: [20, 100, 400][p.below(3) as usize],
            change_ms: [60, 300, 1000][p.below(3) as usize],
            in_nodes: p.chance(1, 2),
            several: Rate::pick(p),
            pauses: Rate::pick(p),
            isolations: Rate::pick(p),
            restores: Rate::pick(p),
            drains: Rate::pick(p),
            clock_steps: Rate::pick(p),
            router_pauses: Rate::pick(p),
            strangers: Rate::pick(p),
            tight: p.chance(1, 2),
            mixed: p.chance(1, 4),
            cramped: p.chance(1, 4),
            // What is planted shows by answers: they must come.
            abandoned: p.chance(1, 6) && !canary,
            restored: p.chance(1, 6),
            outages: p.chance(2, 3),
            still_clocks: false,
            canary,
            until_ms: UNTIL_MS,
        }
    }

    /// Without these faults, by name, with commas between them; None: there is no such fault.
    pub fn without(mut self, names: &str) -> Option<Options> {
        for name in names.split(',').filter(|name| !name.is_empty()) {
            SWITCHES.iter().find(|switch| switch.0 == name)?.1(&mut self);
        }
        Some(self)
    }

    /// Whether a fault can happen.
    pub fn is_on(&self, fault: Fault) -> bool {
        let on = |rate: Rate| rate != Rate::Off;
        let restarts = [self.router_crashes, self.controller_crashes, self.api_restarts];
        match fault {
            Fault::TinyPieces => on(self.network.tiny_pieces),
            Fault::Stalls => on(self.network.stalls),
            Fault::Resets => on(self.network.resets),
            Fault::Refusals => on(self.network.refusals),
            Fault::HalfOpen => on(self.network.half_open) && restarts.into_iter().any(on),
            Fault::Partitions => on(self.partitions),
            Fault::RouterCrashes => on(self.router_crashes),
            Fault::ControllerCrashes => on(self.controller_crashes),
            Fault::ApiRestarts => on(self.api_restarts),
            Fault::ApiFaults => on(self.api_faults),
            Fault::Bookmarks => on(self.bookmarks),
            Fault::StatusConflicts => on(self.status_conflicts),
            Fault::LostFiles => on(self.lost_files) && on(self.router_crashes),
            Fault::BindFailures => on(self.bind_failures),
            Fault::BackendFaults => on(self.backend_faults),
            Fault::ClientFaults => on(self.client_faults),
            Fault::Replays => on(self.replays),
            Fault::OverCapacity => self.over_capacity,
            Fault::Moves => self.in_nodes && on(self.router_crashes),
            Fault::Silence => self.in_nodes && !self.abandoned,
            Fault::SecondControllers => on(self.several),
            Fault::ControllerPauses => on(self.pauses),
            Fault::Isolations => on(self.isolations),
            Fault::LeaseFaults => on(self.api_faults),
            Fault::Restores => on(self.restores),
            Fault::StatesRestored => self.restored,
            Fault::Drains => on(self.drains),
            Fault::ClockSteps => on(self.clock_steps),
            Fault::RouterPauses => on(self.router_pauses),
            Fault::Strangers => on(self.strangers),
            Fault::Abandoned => self.abandoned,
            Fault::LesserRouters => self.mixed,
            Fault::Outages => self.outages,
        }
    }

    /// The generator of a subsystem.
    pub fn child(&self, name: &str) -> Prng {
        Prng::new(self.seed).child(name)
    }
}
