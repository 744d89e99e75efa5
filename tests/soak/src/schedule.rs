//! Which fault happens when, decided by the seed alone.
//!
//! In: a seed and minutes. Out: rounds, each of three lanes (links of the data plane, routers, the
//! control plane) in which one fault follows another; lanes run beside each other, so faults of
//! different lanes overlap. Each lane draws its faults from a deck of all that it has, shuffled, so
//! that all have their turn. Real time is not deterministic: when a fault truly began and ended is
//! noted by whoever does it.

use crate::prng::Prng;
use std::fmt;

/// Faults happen for so long in each round; then all is healed, settled and measured.
const ROUND_MS: u64 = 38_000;
/// What the rest of a round takes, roughly: how many rounds there are.
const CALM_MS: u64 = 6_000;
/// A pause is shorter than this: a request may meet one in each lane, and then another, and
/// is to end within the client's patience (`client::PATIENCE`).
const PAUSE_MAX_MS: u64 = 4_000;

/// Where a link leads. Routers and backends are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Clients to a router, HTTP and HTTPS.
    Client(usize),
    /// Routers to a backend.
    Backend(usize),
    /// The controller to a router's admin port.
    Admin(usize),
    /// The controller to the API server.
    Api,
}

/// What a relay does to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Every piece comes late.
    Delay,
    /// Nothing moves; all of it moves afterwards.
    Stall,
    /// Connections are reset, again and again.
    Reset,
    /// Pieces of one byte.
    OneByte,
    /// What is sent is lost; afterwards these connections are reset.
    BlackHole,
    /// One direction is ended.
    HalfClose,
    /// Nobody listens.
    Refuse,
    /// A bit is not what it was.
    Corrupt,
}

/// A fault and whom it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A relay's.
    Link(Place, Harm),
    /// SIGSTOP, SIGCONT.
    RouterStop(usize),
    /// SIGKILL, started again.
    RouterKill(usize),
    /// SIGTERM, started again when it has ended.
    RouterDrain(usize),
    /// No more descriptors than it has.
    RouterDescriptors(usize),
    /// The file system of its state is full.
    DiskFull(usize),
    /// The same, and it is killed meanwhile.
    DiskFullKill(usize),
    /// SIGSTOP, SIGCONT.
    ControllerStop,
    /// SIGKILL, started again.
    ControllerKill,
    /// SIGTERM, started again.
    ControllerEnd,
    /// SIGKILL, started again after a while.
    ApiKill,
    /// SIGKILL, started again at once.
    ApiRestart,
    /// SIGSTOP, SIGCONT.
    ApiPause,
    /// New certificates of the routers.
    RouterIdentity,
    /// A new certificate of the controller.
    ControllerIdentity,
    /// Another certificate of the HTTPS listener.
    Certificate,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Client(n) => write!(f, "client->router-{n}"),
            Place::Backend(n) => write!(f, "router->echo-{n}"),
            Place::Admin(n) => write!(f, "controller->router-{n}"),
            Place::Api => write!(f, "controller->API server"),
        }
    }
}

impl Fault {
    /// The kind, whomever it meets: what the report adds up.
    pub fn kind(&self) -> String {
        match self {
            Fault::Link(place, harm) => {
                let link = match place {
                    Place::Client(_) => "client->router",
                    Place::Backend(_) => "router->backend",
                    Place::Admin(_) => "controller->router",
                    Place::Api => "controller->API",
                };
                format!("{link} {harm:?}")
            }
            other => format!("{other:?}").split('(').next().unwrap_or_default().to_string(),
        }
    }

    /// Whether the way of a change to the routers is disturbed.
    pub fn is_of_control(&self) -> bool {
        !matches!(self, Fault::Link(Place::Client(_) | Place::Backend(_), _))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Link(place, harm) => write!(f, "{place} {harm:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A fault that is planned.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// From the round's start.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
    /// For how long; what cannot last has its own time.
    pub lasts_ms: u64,
}

/// Lanes: the data plane's links, routers, the control plane.
pub type Round = [Vec<Event>; 3];

const EVERYWHERE: [Harm; 7] = [
    Harm::Delay,
    Harm::Stall,
    Harm::Reset,
    Harm::OneByte,
    Harm::BlackHole,
    Harm::HalfClose,
    Harm::Refuse,
];

/// All faults of a lane, each as often as it is to be among the others.
fn deck(lane: usize) -> Vec<Fault> {
    let link = |place, harm| Fault::Link(place, harm);
    match lane {
        0 => (0..2)
            .map(Place::Client)
            .chain((0..4).map(Place::Backend))
            .flat_map(|place| EVERYWHERE.map(|harm| link(place, harm)))
            .collect(),
        1 => (0..2)
            .flat_map(|n| {
                [
                    Fault::RouterStop(n),
                    Fault::RouterKill(n),
                    Fault::RouterDrain(n),
                    Fault::RouterDescriptors(n),
                    Fault::DiskFull(n),
                    Fault::DiskFullKill(n),
                ]
            })
            .collect(),
        _ => {
            let places = [Place::Admin(0), Place::Admin(1), Place::Api];
            let harms = EVERYWHERE.into_iter().chain([Harm::Corrupt]);
            let mut all: Vec<Fault> =
                harms.flat_map(|harm| places.map(|place| link(place, harm))).collect();
            let processes = [
                Fault::ControllerStop,
                Fault::ControllerKill,
                Fault::ControllerEnd,
                Fault::ApiKill,
                Fault::ApiRestart,
                Fault::ApiPause,
                Fault::RouterIdentity,
                Fault::ControllerIdentity,
                Fault::Certificate,
            ];
            all.extend(processes.iter().chain(&processes));
            all
        }
    }
}

/// How long a fault lasts.
fn lasts(fault: Fault, prng: &mut Prng) -> u64 {
    match fault {
        Fault::Link(_, Harm::Stall | Harm::BlackHole) => prng.range(300, PAUSE_MAX_MS),
        Fault::Link(..) => prng.range(500, 4_000),
        Fault::RouterStop(_) => prng.range(100, PAUSE_MAX_MS),
        Fault::RouterDescriptors(_) | Fault::DiskFull(_) | Fault::DiskFullKill(_) => {
            prng.range(1_500, 5_000)
        }
        Fault::ControllerStop | Fault::ApiPause | Fault::ApiKill => prng.range(500, 10_000),
        Fault::ControllerKill | Fault::ControllerEnd => prng.range(0, 4_000),
        _ => 0,
    }
}

/// All rounds.
pub fn plan(seed: u64, minutes: u64) -> Vec<Round> {
    let rounds = (minutes * 60_000 / (ROUND_MS + CALM_MS)).max(1);
    let mut plan: Vec<Round> = (0..rounds).map(|_| Round::default()).collect();
    for lane in 0..3 {
        let mut prng = Prng::new(seed, ["links", "routers", "control"][lane]);
        let mut cards: Vec<Fault> = Vec::new();
        for round in &mut plan {
            let mut at_ms = prng.range(500, 2_500);
            loop {
                if cards.is_empty() {
                    cards = deck(lane);
                    prng.shuffle(&mut cards);
                }
                let fault = *cards.last().expect("a deck is not empty");
                let lasts_ms = lasts(fault, &mut prng);
                if at_ms + lasts_ms > ROUND_MS {
                    break;
                }
                cards.pop();
                round[lane].push(Event { at_ms, fault, lasts_ms });
                at_ms += lasts_ms + prng.range(500, 3_000);
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_plan_and_all_faults_come() {
        let text = |seed| format!("{:?}", plan(seed, 10));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
        let plan = plan(1, 10);
        for lane in 0..3 {
            let met: Vec<Fault> =
                plan.iter().flat_map(|round| round[lane].iter().map(|e| e.fault)).collect();
            for fault in deck(lane) {
                assert!(met.contains(&fault), "{fault}");
            }
        }
        for events in plan.iter().flatten() {
            for pair in events.windows(2) {
                assert!(pair[0].at_ms + pair[0].lasts_ms < pair[1].at_ms);
            }
        }
    }
}
